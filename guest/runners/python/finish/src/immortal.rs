//! Has nobody count the references to objects of the image.
//!
//! The interpreter writes the count of an object whenever it touches the object, mostly to take the same away again. Such a
//! page of the image is shared no longer: an agent that has started would own 319 pages of 4 KiB, of which 165 are as they were.
//! CPython does not count for objects that are immortal, which their count says. Until CPython 3.15 no function makes one so.
//!
//! `bulkhead.image` leaves a list of the objects, and behind a mark where that list and `None` are. Objects as CPython 3.14 has
//! them on 32 bits: count, type; a list goes on with its length and the address of its items.
//!
//! Instructions that had loaded a constant before still count it, upwards as a rule; that they are told otherwise saves no page.

use anyhow::{Result, bail, ensure};

use crate::image::Image;

pub const MARK: &[u8] = b"bulkhead objects";

/// CPython's counts of immortal objects: the least one, one that is made, one that it was built with, such as `None`.
const LEAST: u32 = 1 << 30;
pub const MADE: u32 = 5 << 28;
pub const STATIC: u32 = 7 << 28;

/// Fewer are not the whole image.
pub const MIN_OBJECTS: u32 = 50_000;

pub fn change(image: &mut Image) -> Result<()> {
    let [mark] = image.find(MARK)[..] else {
        bail!("the image has not one mark of its objects");
    };
    let behind = mark.wrapping_add(MARK.len() as u32);
    let (list, none) = (image.word(behind), image.word(behind.wrapping_add(4)));
    ensure!(image.word(none) == STATIC, "None is no object as CPython 3.14 has them");
    let (length, items) = (image.word(list.wrapping_add(8)), image.word(list.wrapping_add(12)));
    ensure!(
        length >= MIN_OBJECTS,
        "the image lists {length} objects, not the {MIN_OBJECTS} that there are at least"
    );
    let mut made = 0;
    for number in 0..length {
        let item = items.wrapping_add(number.wrapping_mul(4));
        let object = image.word(item);
        ensure!(
            image.word(object) != 0 && image.word(object.wrapping_add(4)) != 0,
            "there is no object at {object:#x}"
        );
        if image.word(object) < LEAST {
            made += u32::from(image.set_word(object, MADE));
        }
        image.clear_word(item);
    }
    image.clear_word(list.wrapping_add(8));
    ensure!(made >= length / 2, "of {length} objects of the image {made} could be made immortal");
    Ok(())
}

//! On components of a few lines. That CPython runs as one module, the tests of the host show.

use anyhow::Result;
use expect_test::expect_file;

use crate::component::Component;
use crate::image::Image;
use crate::link::Linker;
use crate::{free_lists, immortal};

const COMPONENT: &str = include_str!("tests/component.wat");

/// The text of a component after it was linked.
fn linked(text: &str) -> Result<String> {
    let component = wat::parse_str(text)?;
    wasmparser::validate(&component)?;
    let component = Component::parse(&component)?;
    let mut linker = Linker::new(&component)?;
    free_lists::change(&mut linker.program)?;
    wasmprinter::print_bytes(linker.finish()?)
}

/// Why it is not linked after a change of its text.
fn refused(from: &str, to: &str) -> String {
    assert!(COMPONENT.contains(from), "{from}");
    match linked(&COMPONENT.replace(from, to)) {
        Ok(_) => panic!("{to} is linked"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn modules_become_one_in_which_addresses_are_numbers_and_lists_are_freed() {
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/linked.wat");
    expect_file![text].assert_eq(&linked(COMPONENT).unwrap());
}

#[test]
fn what_is_not_known_is_refused() {
    let cases = [
        ("$imports", "$others", "0 modules have a table $imports, and not two"),
        ("wit_dylib_pop_list", "pop", "not one module exports wit_dylib_pop_list"),
        ("wit_dylib_dealloc_bytes", "free", "exports no wit_dylib_dealloc_bytes"),
        (
            "\"wit_dylib_dealloc_bytes\") (param i32 i32 i32 i32 i32)",
            "\"wit_dylib_dealloc_bytes\") (param i32)",
            "wit_dylib_dealloc_bytes has another type",
        ),
        (
            "(global (export \"table base\") i32 (i32.const 2))",
            "(global (export \"table base\") i32 (i32.sub (i32.const 2) (i32.const 1)))",
            "a place in the table is not a number",
        ),
        ("(data (i32.const 16) \"hello\")", "(data \"hello\")", "data that is not at an address"),
        ("(data (i32.const 36)", "(data (i32.const 20)", "there is data twice at 0x14"),
        ("(data (i32.const 36)", "(data (i32.const 13)", "there is data twice at 0xd"),
        ("(func $start (", "(memory 1) (func $start (", "there are 2 memories"),
        (
            "(func $start (",
            "(start $start) (func $start (",
            "a section that is not known: StartSection",
        ),
        (
            "(canon lower (func $log) (",
            "(canon lower (func $log) string-encoding=utf16 (",
            "a canonical option that is not known",
        ),
        (
            "(core instance $shim",
            "(component (alias outer 1 $second (core module))) (core instance $shim",
            "the component that was made is not valid",
        ),
    ];
    for (from, to, why) in cases {
        let error = refused(from, to);
        assert!(error.contains(why), "{to}: {error}");
    }
}

/// `None`, a list, its items, objects, the mark.
struct Objects<'a> {
    none: u32,
    length: u32,
    counts: &'a [u32],
}

const AT: u32 = 1000;
const COUNT: u32 = immortal::MIN_OBJECTS;

impl Objects<'_> {
    fn image(&self) -> Image {
        let (of_type, objects) = (7, AT + 28);
        let items = objects + 8 * self.counts.len() as u32;
        let mut words = vec![self.none, of_type, 1, of_type, self.length, items, COUNT];
        words.extend(self.counts.iter().flat_map(|count| [*count, of_type]));
        // One object many times is as good as many.
        words.extend((0..COUNT).map(|n| objects + 8 * (n % self.counts.len() as u32)));
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(immortal::MARK);
        bytes.extend([AT + 8, AT].iter().flat_map(|word| word.to_le_bytes()));
        let mut image = Image::default();
        image.add(AT, &bytes).unwrap();
        image
    }
}

#[test]
fn objects_are_made_immortal_and_the_list_is_emptied() {
    let mut counts = vec![1; COUNT as usize];
    counts[7] = 6 << 28;
    let mut image = Objects { none: immortal::STATIC, length: COUNT, counts: &counts }.image();
    immortal::change(&mut image).unwrap();
    for (at, count) in (AT + 28..).step_by(8).zip(&counts) {
        let made = if *count == 1 { immortal::MADE } else { *count };
        assert_eq!(image.word(at), made);
    }
    assert_eq!([0, 8, 16].map(|at| image.word(AT + at)), [immortal::STATIC, 1, 0]);
    assert_eq!(image.word(AT + 28 + 8 * COUNT), 0, "an item");
}

#[test]
fn an_image_of_other_objects_is_refused() {
    let whole = Objects { none: immortal::STATIC, length: COUNT, counts: &[1] };
    let cases = [
        (Objects { none: 3, ..whole }, "None is no object"),
        (Objects { length: 9, ..whole }, "lists 9 objects"),
        (Objects { counts: &[0], ..whole }, "no object at"),
        (Objects { counts: &[6 << 28], ..whole }, "could be made immortal"),
    ];
    for (objects, why) in cases {
        let error = immortal::change(&mut objects.image()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let error = immortal::change(&mut Image::default()).unwrap_err().to_string();
    assert!(error.contains("not one mark"), "{error}");
}

#[test]
fn a_word_is_set_where_there_is_room_for_it() {
    let mut image = Image::default();
    for (address, data) in [(16, &[5, 6][..]), (8, &[1, 2, 3, 4]), (12, &[]), (7, &[0])] {
        image.add(address, data).unwrap();
    }
    for (address, data) in [(8, &[0; 1][..]), (11, &[0]), (17, &[0]), (7, &[0; 2]), (15, &[0; 9])] {
        assert!(image.add(address, data).is_none(), "{address}");
    }
    assert_eq!(
        [6, 8, 10, 16, 100].map(|at| image.word(at)),
        [0x0201_0000, 0x0403_0201, 0x0403, 0x0605, 0]
    );
    assert!(!image.set_word(14, 0x0001_0100), "a byte before the segment");
    assert!(image.set_word(14, 0x0009_0000) && image.set_word(10, 0));
    assert_eq!([8, 16].map(|at| image.word(at)), [0x0201, 9]);
}

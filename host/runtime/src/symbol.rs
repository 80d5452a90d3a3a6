//! Symbols as a person reads them. The guest chose them.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Bytes of a name that are shown. The guest chose it, and a few bytes of a mangled name can stand for
/// very many.
const MAX_NAME_BYTES: usize = 1024;

/// Bytes of a symbol that are read at all. Toolchains make symbols of some kilobytes at most; one that is cut is no
/// mangled name any more, and is shown as it is.
const MAX_SYMBOL_BYTES: usize = 16 * 1024;

/// A symbol as a person reads it, and as it stays when other code is rebuilt: without the hash of its
/// crate and without the number that the linker gives to copies.
pub(crate) fn demangle(symbol: &str) -> String {
    let symbol = without_copy_numbers(truncated_symbol(symbol));
    let mut name = Bounded(String::new());
    // An error says that the name is full.
    let _ = write!(name, "{:#}", rustc_demangle::demangle(symbol));
    // Some tools demangle the name section in the long form.
    without_crate_hashes(without_hash(&name.0))
}

/// `mayor::step::h0123456789abcdef` without its end.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && is_hash(hash) => path,
        _ => name,
    }
}

/// `mayor[d1b5a19fa6fbb236]::step` without its brackets.
fn without_crate_hashes(name: &str) -> String {
    let mut shown = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('[') {
        shown.push_str(before);
        let of_a_crate = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        match after.split_once("]::") {
            Some((hash, path)) if of_a_crate && hash.len() <= 16 && is_hash(hash) => {
                shown.push_str("::");
                rest = path;
            }
            _ => {
                shown.push('[');
                rest = after;
            }
        }
    }
    shown.push_str(rest);
    shown
}

fn is_hash(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `name.123`, `name.llvm.123`: the second of two local functions with one name, as often as it was copied.
fn without_copy_numbers(mut symbol: &str) -> &str {
    while let Some((name, number)) = symbol.rsplit_once('.') {
        if name.is_empty() || !is_number(number) {
            break;
        }
        symbol = name.strip_suffix(".llvm").unwrap_or(name);
    }
    symbol
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// As much of a text as is shown.
pub(crate) fn truncated(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_NAME_BYTES)]
}

/// As much of a symbol as is read.
pub(crate) fn truncated_symbol(symbol: &str) -> &str {
    &symbol[..symbol.floor_char_boundary(MAX_SYMBOL_BYTES)]
}

/// The same of one that may be no text.
pub(crate) fn symbol_of(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_SYMBOL_BYTES)])
}

/// Takes [`MAX_NAME_BYTES`], then no more.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_NAME_BYTES - self.0.len();
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_depend_on_the_build() {
        for (name, symbols) in [
            // The legacy scheme ends with a hash of everything that the crate is built from.
            (
                "mayor::step",
                ["_ZN5mayor4step17h0123456789abcdefE", "_ZN5mayor4step17hfedcba9876543210E"],
            ),
            // The v0 scheme has it in the name of each crate.
            ("mayor::step", ["_RNvCs9ltgdHTiPiY_5mayor4step", "_RNvCs1234567890a_5mayor4step"]),
            (
                "<str as core::fmt::Display>::fmt",
                [
                    "_RNvXsi_NtCs9pv848UzQwQ_4core3fmteNtB5_7Display3fmt",
                    "_RNvXs3_NtCs1pv848UzQwR_4core3fmteNtB5_7Display3fmt",
                ],
            ),
            // Demangled by the tool that wrote the component.
            ("mayor::step", ["mayor::step::h0123456789abcdef", "mayor::step::hfedcba9876543210"]),
            (
                "<mayor::A as core::fmt::Debug>::fmt",
                [
                    "<mayor[d1b5a19fa6fbb236]::A as core[8]::fmt::Debug>::fmt",
                    "<mayor[9f]::A as core[7abc]::fmt::Debug>::fmt",
                ],
            ),
            // Copies that the linker and LLVM made.
            (
                "mayor::step",
                ["_RNvCs9ltgdHTiPiY_5mayor4step.7", "_RNvCs9ltgdHTiPiY_5mayor4step.llvm.123"],
            ),
            ("step", ["step.llvm.123456789", "step.llvm.987.6"]),
        ] {
            assert_eq!(symbols.map(demangle), [name, name]);
        }
    }

    #[test]
    fn names_without_a_hash_stay_as_they_are() {
        for name in [
            "_start",
            ".1",
            "a.b",
            "mayor::h0123456789abcde",
            "<[u8]>::len",
            "<[u8; 3] as mayor::A>::f",
            "mayor::step::<[u8]>::f",
            "bulkhead:agent/lifecycle@0.2.0#handle",
        ] {
            assert_eq!(demangle(name), name);
        }
    }

    /// On a stack that a call for each piece of the symbol would not fit into.
    #[test]
    fn a_symbol_of_any_length_is_read_on_a_small_stack_and_in_no_time() {
        let pieces = ["a.1", "a.llvm.1", "_RNvC1a1b", "a[0]::", "_ZN1a"];
        // As long as one that is read whole, and much longer.
        let symbols = [MAX_SYMBOL_BYTES, 8 * 1024 * 1024].map(|bytes| {
            pieces.map(|piece| {
                let rest = &piece[1..];
                format!("{piece}{}", rest.repeat((bytes - piece.len()) / rest.len()))
            })
        });
        let lengths =
            |symbols: &[String; 5]| symbols.each_ref().map(|symbol| demangle(symbol).len());
        let read = move || symbols.each_ref().map(lengths);
        let thread = std::thread::Builder::new().stack_size(128 * 1024).spawn(read).unwrap();
        let lengths = thread.join().unwrap();
        assert!(lengths.iter().flatten().all(|length| *length <= MAX_NAME_BYTES));
        assert_eq!(symbol_of(&[0xff; 1 << 20]).chars().count(), MAX_SYMBOL_BYTES);
    }

    #[test]
    fn a_name_is_shown_as_far_as_it_is_bounded() {
        let long = "x".repeat(5000);
        assert_eq!(demangle(&long).len(), MAX_NAME_BYTES);
        assert_eq!(truncated("äöü"), "äöü");
        let mut name = Bounded(String::new());
        assert!(write!(name, "{}", "ä".repeat(600)).is_err());
        assert_eq!(name.0.len(), MAX_NAME_BYTES);
    }
}

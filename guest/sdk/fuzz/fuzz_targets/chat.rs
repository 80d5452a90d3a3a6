//! Any bytes as an answer of a model.

#![no_main]

use bulkhead_guest::chat::read_answer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The first byte says how it comes in parts.
    let Some((part, bytes)) = bytes.split_first() else { return };
    let _ = read_answer(bytes, usize::from(*part));
});

//! Any bytes as an answer of a model.

#![no_main]

use bulkhead_llm::read_any;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The first byte says how it comes in pieces.
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let _ = read_any(bytes, usize::from(*piece));
});

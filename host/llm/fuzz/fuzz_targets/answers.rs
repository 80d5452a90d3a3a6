//! Any bytes as an answer of a model.
//!
//! Bounded, beside the other tests: `noise_in_answers_is_survived` in `src/wire/noise.rs`.

#![no_main]

use bulkhead_llm::read_any;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The first byte says how it comes in pieces.
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let _ = read_any(bytes, usize::from(*piece));
});

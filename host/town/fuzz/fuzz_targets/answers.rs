//! Any bytes as an answer of the town.
//!
//! Bounded, beside the other tests: `noise_in_answers_is_survived` in `src/answers.rs`.

#![no_main]

use bulkhead_town::read_any;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| read_any(bytes));

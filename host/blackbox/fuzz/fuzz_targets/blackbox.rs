//! Any bytes as what a run left.
//!
//! Bounded, beside the other tests: `noise_with_checksums_that_are_right_is_survived` in `src/tests.rs`.

#![no_main]

use bulkhead_blackbox::read_any;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| read_any(bytes));

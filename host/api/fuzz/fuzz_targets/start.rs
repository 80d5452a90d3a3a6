//! Any bytes as the body of a start.
//!
//! Bounded, beside the other tests: `noise_in_a_start_is_survived` in `src/start.rs`.

#![no_main]

use bulkhead_api::StartRequest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| StartRequest::read_any(bytes));

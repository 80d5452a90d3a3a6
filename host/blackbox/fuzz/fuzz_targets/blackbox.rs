//! Any bytes as what a run left.

#![no_main]

use bulkhead_blackbox::read_any;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| read_any(bytes));

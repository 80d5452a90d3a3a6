//! Any bytes as the body of a start.

#![no_main]

use bulkhead_api::StartRequest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| StartRequest::read_any(bytes));

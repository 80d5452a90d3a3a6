//! Any bytes as a log.
//!
//! Bounded, beside the other tests: `a_log_with_anything_in_it_is_survived` in `tests/robust.rs`.

#![no_main]

use bulkhead_diagnose::{Input, Options, diagnose};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let inputs = vec![Input::new("fuzz", std::io::Cursor::new(bytes.to_vec()))];
    if let Ok(report) = diagnose(inputs, &Options::default(), |_| {}) {
        let _ = (report.json(), report.text(80), report.html());
    }
});

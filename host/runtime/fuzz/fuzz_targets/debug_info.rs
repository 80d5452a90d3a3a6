//! Any bytes as the debug information of a component, and as a symbol.
//!
//! Bounded, beside the other tests: `noise_in_debug_information_is_survived` in `src/symbolizer/tests.rs`.

#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/symbol.rs"]
mod symbol;
mod symbolizer;

fuzz_target!(|bytes: &[u8]| {
    symbolizer::noise::read_any(bytes);
    let _ = symbol::demangle(&symbol::symbol_of(bytes));
});

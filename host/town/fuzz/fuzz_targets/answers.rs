//! Any bytes as an answer of the town.
//!
//! Bounded, beside the other tests: `noise_in_answers_is_survived` in `src/answers.rs`.

#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/answers.rs"]
mod answers;
#[path = "../../src/fault.rs"]
mod fault;
#[path = "../../src/nudge.rs"]
mod nudge;
#[path = "../../src/token.rs"]
mod token;

fuzz_target!(|bytes: &[u8]| answers::read_any(bytes));

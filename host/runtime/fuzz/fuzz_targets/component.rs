//! Any bytes as a component, before it is compiled.
//!
//! Bounded, beside the other tests: `noise_in_components_is_survived` in `src/needs.rs`.

#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/bounds.rs"]
mod bounds;
#[path = "../../src/compile/size.rs"]
mod size;
#[path = "../../src/features.rs"]
mod features;
#[path = "../../src/names.rs"]
mod names;
#[path = "../../src/needs.rs"]
mod needs;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(needs) = needs::Needs::of(bytes) {
        let _ = bounds::InstanceBounds::default().passed_by(&needs);
        let _ = needs.beyond(&needs::Needs::default());
    }
    let _ = size::CodeSize::of(bytes).beyond(&size::CodeBounds::default());
    let _ = features::missing(bytes);
    assert_eq!(names::without_long(bytes).len(), bytes.len());
});

//! The host's own readers.

#[path = "../../../src/symbolizer/component.rs"]
mod component;
#[path = "../../../src/symbolizer/dwarf.rs"]
mod dwarf;
#[path = "../../../src/symbolizer/noise.rs"]
pub mod noise;
#[path = "../../../src/symbolizer/source.rs"]
mod source;
#[path = "../../../src/symbolizer/vet.rs"]
mod vet;

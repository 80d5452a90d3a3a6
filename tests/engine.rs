//! Tests that have the WebAssembly engine in their own process.

mod conformance;
mod crashes;

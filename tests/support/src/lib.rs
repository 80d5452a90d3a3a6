//! What tests of all crates share. It depends on nothing of the host.
//!
//! - [`Need`], [`skip`]: what a test needs that a machine may lack
//! - [`launcher`]: processes that end with the test run

pub mod launcher;
mod need;

pub use need::{Need, REQUIRE, skip};

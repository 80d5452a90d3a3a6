//! What tests of all crates share. It depends on nothing of the host.
//!
//! - [`Need`], [`skip`]: what a test needs that a machine may lack
//! - [`free_address`]: where a server that is started later can listen
//! - [`launcher`]: processes that end with the test run

pub mod launcher;
mod need;
mod port;

pub use need::{Need, REQUIRE, skip};
pub use port::free_address;

/// Pages whose examples in Rust are compiled, by `cargo test --doc`. Not in the SDK: that is built for components as well.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../docs/writing-agents.md")]
    struct WritingAgents;

    #[doc = include_str!("../../../guest/sdk/README.md")]
    struct Sdk;
}

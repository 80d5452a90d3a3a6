//! What an agent of Bulkhead is written with.
//!
//! An agent is a WebAssembly component of the world `bulkhead:agent/agent`. This crate holds that
//! world's bindings and a small layer over them:
//!
//! - [`Agent`] and [`export!`]: the trait to implement and the macro that makes it a component
//! - [`chat`]: agents that talk with a model: tools, a conversation, a state that is kept by itself
//! - [`host`]: what the host offers: events, messages, settings, memory, deadline, active tools
//! - [`model`]: language models, asked through the host
//! - [`tools`]: native programs, run by the host under limits
//! - [`workspace`]: the repository that the agent works on
//! - [`config`]: configuration values as typed structs
//! - [`mod@log`] and the macros [`trace!`], [`debug!`], [`info!`], [`warn!`], [`error!`]
//! - [`http`]: an HTTP client over `wasi:http`, [`sse`]: server-sent events
//! - [`state`]: versioned snapshots
//!
//! What is not used is not linked: an agent that never calls [`http`] does not import `wasi:http`.
//!
//! ```no_run
//! use bulkhead_guest::{Agent, AgentError, Message, Outcome};
//!
//! #[derive(Default)]
//! struct Greeter;
//!
//! impl Agent for Greeter {
//!     fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
//!         bulkhead_guest::info!("greeted", length = message.body.len());
//!         Ok(Outcome::reply(format!("hello, {}", message.body)))
//!     }
//! }
//!
//! bulkhead_guest::export!(Greeter);
//! # fn main() {}
//! ```
//!
//! The crate also compiles for the machine that builds it, so that an agent's pure parts can be
//! tested with `cargo test`. Calls that need a host panic there.

mod agent;
pub mod chat;
pub mod config;
mod error;
pub mod host;
pub mod http;
pub mod log;
pub mod model;
pub mod sse;
pub mod state;
pub mod tools;
pub mod workspace;

/// The contract's types and calls, as wit-bindgen generates them: `host/scaffold` has how, and checks that they are current.
/// [`export!`](crate::export) needs their names in public.
#[doc(hidden)]
#[rustfmt::skip]
#[allow(
    warnings, missing_docs, unsafe_code, unsafe_op_in_unsafe_fn, clippy::all, clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used, reason = "generated code follows its generator's rules"
)]
pub mod bindings;

pub use agent::{Agent, Slot};
pub use bindings::bulkhead::agent::agent_types::{
    AgentError, Message, Next, Outcome, Sender, ShutdownReason, StartRequest,
};

impl ShutdownReason {
    /// The contract's word: `stopped`, `drained`, `superseded`, `evicted` or `idle`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Drained => "drained",
            Self::Superseded => "superseded",
            Self::Evicted => "evicted",
            Self::Idle => "idle",
        }
    }
}

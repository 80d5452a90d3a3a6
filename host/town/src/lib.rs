//! The town API: what the container calls.
//!
//! ```text
//!   Supervisor ◀── Container ──┐             ┌──▶ client ─▶ transport ─▶ the town
//!   Sink ─▶ Handle::hear ──────┼─▶ loops ────┤      │
//!   control ─▶ Handle ─────────┘             └──────┴─ token, fence, figures, lines
//! ```
//!
//! All of it runs on a thread of its own, `bulkhead-town`: no guest can stall it, and nothing that the town
//! does or does not do reaches an agent. Every call has a deadline, every answer a bound, every queue
//! too; what is lost is counted and logged. A failed call is one line of the log. What the calls about one agent meet
//! is no other agent's business: each has its own backoff, and an end of it.
//!
//! - `address`, `transport`, `fault`: one exchange, and why it failed
//! - `token`, `client`, `call`: a call with its token, its tries, its fence and its lines
//! - `answers`, `nudge`: what the town says, read
//! - `optional`: the calls that a town need not have
//! - `heard`: what happened in the container, until a loop takes it
//! - `loops`: what is sent, one loop a file
//! - `container`: what the loops need from below

mod address;
mod answers;
mod call;
mod client;
mod config;
mod container;
mod fault;
mod figures;
mod heard;
mod loops;
mod nudge;
mod optional;
mod service;
mod supervisor;
mod token;
mod transport;

#[cfg(test)]
mod tests;

pub use answers::read_any;
pub use config::{ConfigError, TownConfig};
pub use container::{AgentReport, Container, Listed, Remembered, TownCopy};
pub use fault::{Cause, Fault};
pub use service::{Handle, Town};
pub use token::{MAX_TOKEN_BYTES, TokenError};

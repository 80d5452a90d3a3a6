//! NATS for tests.
//!
//! - [`Real`]: a process of `nats-server` with JetStream, that may be killed and started again
//! - [`Fake`]: as much of JetStream as the host asks for, on a real socket
//! - [`make_bucket`]: what `nats kv add` does

mod fake;
mod real;

pub use fake::Fake;
pub use real::{Real, make_bucket};

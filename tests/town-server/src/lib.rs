//! A stand-in for the town API: the remote service that sends a host the agents to run, and to which
//! the host reports how they are.
//!
//! It speaks the whole API over real HTTP/1, with or without TLS, keeps what it is sent for a test to look at,
//! writes down every call, and misbehaves on demand in every way that a network and a service can.
//!
//! - [`call`]: the calls of the API and their paths
//! - [`town`]: what the stand-in keeps of a town
//! - [`tokens`]: tokens, which of them is good, and who used an old one
//! - [`answer`](mod@answer): what a well-behaved town answers to a call
//! - [`fault`]: the ways to misbehave
//! - [`log`]: what was called
//! - `connection`: one connection, with the faults that show on the wire
//! - `listener`: accepts connections, or refuses them
//! - `server`: a server on a thread of its own, for tests
//! - [`admin`]: the same from outside, for use by hand

pub mod admin;
pub mod answer;
pub mod call;
mod connection;
pub mod fault;
mod kept;
mod listener;
pub mod log;
mod server;
mod shared;
mod tls;
pub mod tokens;
pub mod town;

pub use call::Call;
pub use fault::{Fault, Which};
pub use kept::Kept;
pub use log::Record;
pub use server::{Options, TownServer};
pub use tls::CERTIFICATE;
pub use town::Town;

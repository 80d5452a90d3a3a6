//! Small documents in a key-value bucket of NATS JetStream.
//!
//! ```text
//!   lease ─┐                                              a request at a time on each connection
//!   ship ──┴─▶ Bucket: get, list, put on a condition, remove ─▶ Connection ─▶ net ─▶ server
//! ```
//!
//! A request is sent once, on a connection that belongs to it until it is answered. One that its caller gives up closes the
//! connection: nothing is kept and sent later. Documents are read from the leader of the bucket's stream, and from no replica.
//!
//! - `address`: `nats://host:4222/BUCKET`
//! - `login`: users, tokens, keys (nkeys) and credential files
//! - `wire`: the protocol of clients, as bytes
//! - `connection`: one connection
//! - `bucket`: the calls
//! - `fault`: why one failed

mod address;
mod bucket;
mod connection;
mod fault;
mod login;
mod wire;

pub use address::{Nats, NatsError};
pub use bucket::{Bucket, Document, Keys, Put};
pub use fault::{Cause, Fault};
pub use login::{Login, LoginError};

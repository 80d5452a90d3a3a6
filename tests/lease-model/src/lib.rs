//! The protocol of the lease in all interleavings of small worlds.
//!
//! [`versions`] includes the source of `host/lease/src/protocol.rs`, as it is and broken on purpose. `world.rs`, included
//! beside each of them, plays what is around it: processes with clocks of unequal speed, requests and answers that are
//! late, lost, or arrive after their sender gave up, processes that stop for any time, crash, or give the lease back, a
//! register that compares and swaps, and somebody who receives what holders send. [`search`] goes through every state that
//! a [`scenario`] can come to.
//!
//! The search is our own, and exhaustive: worlds are small, and the real source runs in them as it is. stateright does the
//! same, and brings a web server for its explorer; shuttle schedules threads, and there are none here.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is their failure")]

pub mod scenario;
pub mod search;
pub mod versions;

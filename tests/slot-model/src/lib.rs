//! The start slot under a scheduler that goes through the interleavings.
//!
//! [`versions`] includes the source of `host/agent/src/slot.rs` on primitives of the checker ([`sync`]), as
//! it is and broken on purpose. `world.rs`, included beside each of them, plays what is around a slot:
//! starts, stops, a drain, and actors that keep to the slot's protocol as `host/agent/src/actor` does, crash,
//! and are restarted.
//!
//! The checker is shuttle and not loom: the slot's steps are critical sections of one lock and wakes, so
//! the memory orderings that loom explores have no part in it, while the interleavings of half a dozen
//! actors are far too many for an exhaustive search. Shuttle does both: schedules of small scenarios one by
//! one, and random ones of large scenarios, each of which it can play again.

#![expect(
    clippy::disallowed_types,
    reason = "a panic under a lock is a failure of the model, and ends it"
)]
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is their failure")]

pub mod bounded;
pub mod scenario;
pub mod sync;
pub mod versions;

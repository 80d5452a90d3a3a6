//! What happens, for those who follow it.
//!
//! ```text
//!  guest `emit`, life cycle ─▶ Ring (one per agent) ─┐
//!                                                    ├─▶ Feed: number, file, recent events ────┐
//!  container events ─────────────────────────────────┘                                         │
//!  text of a model, tools ───▶ Live (one per agent) ───────────────────────────────────────────┤
//!                                                                                              ▼
//!                                                     Subscription ◀── Feed::relay wakes those who follow
//! ```
//!
//! Every event has a number. Numbers rise over all agents and over all runs: a run begins with the microseconds of the
//! clock, or above what the one before left. So "what came after N" has one answer for all callers, also after a restart.
//!
//! The [event file](Problem) is a mapped file, which outlives SIGKILL: an event is in it before anybody sees it. Rings
//! are per agent, so that a loud one pushes out nobody else's events.
//!
//! Nobody who publishes waits for those who follow, nor wakes them: it marks what changed, and wakes [`Feed::relay`].

mod entry;
mod feed;
mod journal;
mod live;
mod ring;
mod subscription;
mod watch;

#[cfg(test)]
mod tests;

pub use entry::Entry;
pub use feed::{Feed, FeedPage};
pub use journal::Problem;
pub use live::{Delta, DeltaFrame};
pub use ring::{Ring, RingLimits};
pub use subscription::{Batch, Follow, Item, Subscription};

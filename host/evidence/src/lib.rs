//! Evidence of a run that outlives its disk: what a later run, on an empty disk, needs to say why this one ended.
//!
//! ```text
//!   crash record ──▶ the newest 64 ──┐
//!   black box, agents, runs ─────────┼──▶ thread `bulkhead-evidence` ──▶ documents at the sink
//!     (read at each heartbeat)       ┘          │                              │
//!                                               └◀── at boot, within a deadline ┘
//! ```
//!
//! Nobody waits for the sink but a boot, within [`Settings::fetch`], and an end, within what it grants. A sink that
//! hangs, refuses, is full or away is a [`Notice`] and a count.
//!
//! A run has two documents, below the container's [`Name`]:
//!
//! | document | written | content |
//! | --- | --- | --- |
//! | `run-0.json`, `run-1.json` | every heartbeat, and when something important changed | the black box in short, numbers and histories of agents, ends of earlier runs that are not reported yet |
//! | `crashes-0.json`, `crashes-1.json` | at once | the newest crash records, those of earlier runs included |
//!
//! Runs are numbered by an *epoch*, which is higher than every one that the sink or the disk knows. An even one has the
//! documents with 0, an odd one those with 1. So the first word of a run does not take the place of the last word of the
//! run before, and a run that outlives its successor's start does not overwrite it.
//!
//! - `document`: a document's envelope: version, checksum, bound; one that is half-written is not believed
//! - `digest`: the black box in short
//! - `agents`: numbers and histories of agents, as many as fit
//! - `sink`: put and get, by HTTP, S3 or a directory
//! - `left`: what the documents say together
//! - `outbox`: what waits to be stored, and when it is due
//! - `worker`: the thread

mod agents;
mod digest;
mod document;
mod fault;
mod left;
mod outbox;
mod settings;
mod sink;
mod worker;

pub use agents::{AgentHistory, ROOM};
pub use bulkhead_bucket::{Name, NameError, S3};
pub use fault::{Cause, Fault};
pub use left::look;
pub use left::{Left, LeftRun};
pub use outbox::Figures;
pub use settings::{Address, AddressError, Settings};
pub use worker::{Content, Evidence, Notice, ThisRun};

#[cfg(test)]
mod tests;

//! Named tasks of the host.
//!
//! - [`Spawner`]: every background task has a name and a span, and its failure is logged. Migrations and name lookups have
//!   no name of their own: their caller awaits them and reports failures
//! - [`containment`]: a panic becomes a value
//! - [`Switch`]: a task that migrates between the fast and the slow lane, by the CPU time in its
//!   [bucket](BucketRules)
//! - [`ask_for_short_slices`]: a thread that has a core as soon as it wakes

mod bucket;
pub mod containment;
mod migrate;
mod slice;
mod task;

pub use bucket::BucketRules;
pub use migrate::Switch;
pub use slice::ask_for_short_slices;
pub use task::{Spawner, report_unhandled};

//! Named tasks of the host.
//!
//! - [`Spawner`]: every background task has a name and a span, and its failure is logged
//! - [`containment`]: a panic becomes a value
//! - [`Switch`]: a task that migrates between the fast and the slow lane, by the CPU time in its
//!   [bucket](BucketRules)

mod bucket;
pub mod containment;
mod migrate;
mod task;

pub use bucket::BucketRules;
pub use migrate::Switch;
pub use task::{Spawner, report_unhandled};

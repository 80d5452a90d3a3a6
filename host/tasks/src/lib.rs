//! Named tasks of the host.
//!
//! - [`Spawner`]: every background task has a name and a span, and its failure is logged. Migrations and name lookups have
//!   no name of their own: their caller awaits them and reports failures
//! - [`containment`]: a panic becomes a value
//! - [`Switch`]: a task that migrates between the fast and the slow lane, by the CPU time in its
//!   [bucket](BucketRules)
//! - [`limit_load_of_this_thread`]: what the tasks of a thread may use together
//! - [`Throttle`]: a bound on the CPU time of a task over time
//! - [`watched`]: channels that mostly nobody waits at
//! - [`ask_for_short_slices`]: a thread that has a core as soon as it wakes

mod bucket;
pub mod containment;
mod load;
mod migrate;
mod slice;
mod task;
mod throttle;
pub mod watched;

pub use bucket::BucketRules;
pub use load::limit_load_of_this_thread;
pub use migrate::Switch;
pub use slice::ask_for_short_slices;
pub use task::{Spawner, report_unhandled};
pub use throttle::{CpuMax, Throttle, Throttled};

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

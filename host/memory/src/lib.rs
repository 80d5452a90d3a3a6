//! Memory of the container and of its agents: what the kernel says, samples over time, trends.
//!
//! - [`kernel`]: control groups, the machine, pressure, this process, and what is wrong with their files
//! - [`reading`]: all of it at one moment, and the smallest limit that holds
//! - [`heap`]: the allocator of this process
//! - [`wait`], [`pressure`]: the kernel's trigger, and when memory counts as short
//! - [`sampler`], [`series`], [`trend`]: every agent and the container over time
//! - [`shedding`], [`relief`], [`admission`]: who goes when memory is short, how, and who may come
//! - [`shared`]: what the other parts of the host ask
//! - [`watch`]: the thread that does all of it; the other modules start none, and read no clock but the one that
//!   [`Memory`] is given

pub mod admission;
pub mod heap;
pub mod kernel;
pub mod pressure;
pub mod reading;
pub mod relief;
pub mod sampler;
pub mod series;
pub mod shared;
pub mod shedding;
pub mod trend;
mod view;
pub mod wait;
pub mod watch;

pub use admission::{Admission, Shortage};
pub use heap::Heap;
pub use kernel::{Fault, Faults, Kernel};
pub use reading::{Limit, LimitSource, Reading};
pub use relief::{Guard, Relief};
pub use sampler::{AgentReading, AgentsMemory, Sampler, Totals};
pub use shared::{Clock, Memory, MemoryConfig, Now, PollOutcome, Snapshot};
pub use shedding::{Candidate, Shedder, Step};
pub use wait::{Caller, PressureWait, Woken};
pub use watch::MemoryWatch;

//! Native programs ("tools") that agents run through the host, in a sandbox and under limits.
//!
//! ```text
//! host ── Tools ──▶ socket ──▶ worker ──▶ init of a sandbox ──▶ tool
//!           ▲                    │ ▲            │
//!           └──── Ended ◀────────┘ └── status ◀─┘
//! ```
//!
//! The *launcher* is a process of its own, started before the host has threads and before it confines itself: it may
//! mount, and it has one thread, so that it can clone itself. Its *monitor* does nothing but start a new *worker* when
//! one dies. The worker clones an *init* for each tool, which makes the sandbox, gives up all rights, starts the tool,
//! and reports its end; with the init the kernel ends everything in the sandbox. The worker holds deadlines and
//! cgroups, and says why a tool ended.
//!
//! Whatever dies, nothing is left: tools die with their init, inits with the worker, the worker when the host's end of
//! the socket closes. Cgroups that a killed launcher left are removed by the next one.

mod cgroup;
mod child;
mod command;
mod end;
mod launcher;
mod layers;
mod link;
mod sandbox;
mod serve;
mod settings;
mod system;
mod tools;
mod wire;

pub use child::{Child, Handle, Output};
pub use command::{Bind, Command, DiskLimit, Limits, Network, Sandbox};
pub use end::{End, Ended, Finished, KillReason, SpawnError, Usage};
pub use launcher::Launcher;
pub use layers::{Cgroup, Identity, Layer, Layers};
pub use sandbox::{CALLS_INTO_PROCESSES, REFUSED_CALLS, exceeds};
pub use serve::serve;
pub use settings::Settings;
pub use tools::Tools;

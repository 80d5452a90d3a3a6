//! The only crate that knows the engine.
//!
//! ```text
//!  Loader ── file ─▶ digest ─▶ AOT cache | compile (a process of its own) ─▶ world check ─▶ Loaded
//!  Runtime::instantiate(Loaded) ─▶ Call ─▶ Incarnation ── start / handle / ... ─▶ Call ─▶ Incarnation
//!                                                                                  └──▶ Exit
//! ```
//!
//! Every call takes the [`Incarnation`] by value and gives it back only when the guest returned. After
//! a trap, a deadline or a host panic there is an [`bulkhead_types::Exit`] and no incarnation any more:
//! a store that trapped cannot be entered again, because nobody has it.
//!
//! - `engine`, `needs`, `bounds`, `ceilings`: engine settings, the pool, what a component needs of it and may be made
//!   of, how many agents fit
//! - [`loader`], `loading`, `names`, `aot`, `world`: from a file to something that can be instantiated
//! - [`Vouched`]: which files need somebody's word
//! - `cpu`: which processors machine code is for
//! - `compile`: machine code from a process of its own, which has bounds
//! - `pool`: gives back what unused slots of the pool keep
//! - `ticker`, `lanes`, `call`, `blocking`, `meter`: how a call runs, what it may use, how it is interrupted
//! - `memory`, `limiter`, `resources`: what an agent holds, in its guest and in the host
//! - `descriptors`: what all guests may have open
//! - `quota`: what an agent may have on disk
//! - `shares`: an agent's part of what all have in common
//! - [`GrowthBudget`]: what is left for all guests together
//! - `interfaces`: one file for each host interface
//! - [`HostCallNames`]: which host function a guest is in
//! - `exit`, `backtrace`, `symbol`: why it ended
//! - [`symbolizer`]: in which file and line, looked up afterwards
//! - `source_maps`: the same for the code of bundlers
//! - `core_dump`: what it had in memory, for roles that ask for it

mod aot;
mod aot_seed;
mod backtrace;
mod bindings;
mod blocking;
mod bounds;
mod call;
mod capacity;
mod ceilings;
mod compile;
mod config;
mod core_dump;
mod cpu;
mod descriptors;
mod engine;
mod executor;
mod exit;
mod features;
mod growth_budget;
mod guest_instance;
mod host_call;
mod incarnation;
mod instance_context;
mod interfaces;
mod interrupt;
mod lanes;
mod lifecycle;
mod limiter;
mod load_error;
mod loaded;
pub mod loader;
mod loading;
mod logs;
mod may_block;
mod memory;
mod meter;
mod names;
mod needs;
mod pool;
mod port;
mod quota;
mod resources;
mod runtime;
mod shares;
mod source_maps;
mod state;
mod symbol;
pub mod symbolizer;
#[cfg(test)]
mod tests;
mod throttle_wait;
mod ticker;
mod vouched;
mod world;

pub use bounds::InstanceBounds;
pub use call::{Call, CallEnd};
pub use capacity::{Allocator, Capacity};
pub use compile::{CodeBounds, compile_component};
pub use config::{CompileConfig, CompilerProgram, CoreDumpRules, RuntimeConfig};
pub use core_dump::{
    CoreDumpError, CoreDumpFigures, CoreDumps, KeptCoreDump, PendingDump, TrappedStore,
};
pub use cpu::Cpu;
pub use engine::{EngineError, open_own_page_map};
pub use exit::WORKSPACE_UNUSABLE;
pub use growth_budget::GrowthBudget;
pub use guest_instance::{AgentFailure, Thrown};
pub use host_call::HostCallNames;
pub use incarnation::{Incarnation, ShutdownReason, Snapshot, StartInfo};
pub use instance_context::InstanceContext;
pub use interfaces::http::{HttpSecret, HttpSecrets};
pub use interfaces::tools::{Exec, ExecError, Executed, Tools};
pub use load_error::LoadError;
pub use loaded::{Loaded, Source};
pub use logs::Logs;
pub use meter::{CallLimits, Meter, Usage};
pub use port::{ModelStep, Nudge, Port, PortError, ToolProcess};
pub use quota::{DiskFigures, DiskFloor};
pub use runtime::{Runtime, RuntimeError};
pub use symbolizer::{
    Symbolization, Symbolizer, SymbolizerConfig, SymbolizerFigures, Symbolizing, Unavailable,
};
pub use vouched::Vouched;

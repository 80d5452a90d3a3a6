//! The order to a compiler process, in its one argument.

use serde::{Deserialize, Serialize};

use crate::engine::CodeSettings;

/// The order to a compiler process. Nothing in it is secret: the process list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Order {
    /// Whose child it is. It ends when that one does.
    pub parent: u32,
    /// The engine that is to load the code.
    pub settings: CodeSettings,
    /// The same in a number, which has to come out at the child as well.
    pub engine_hash: u64,
    /// Threads, at most.
    pub threads: usize,
    /// Bytes that its address space may grow by.
    pub memory_bytes: u64,
    /// CPU time of all its threads, in whole seconds.
    pub cpu_seconds: u64,
    /// Largest component, in bytes.
    pub max_component_bytes: u64,
}

/// Exit codes of a compiler process. Beside 0 each comes with a text on stdout.
pub(super) mod code {
    /// Stdout has the entry.
    pub const COMPILED: i32 = 0;
    /// Stdout has the engine's words.
    pub const REFUSED: i32 = 10;
    /// Stdout has the features that the engine lacks.
    pub const UNSUPPORTED: i32 = 11;
    /// It could not begin: stdout says why.
    pub const CANNOT: i32 = 12;
}

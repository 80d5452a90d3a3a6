//! How a tool ended, and what it used.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::path;

/// The end of a tool: each that was started has exactly one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Why.
    pub end: End,
    /// Until then.
    pub usage: Usage,
}

/// Why a tool ended: the first cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal, which nothing here sent.
    Signalled(i32),
    /// [`Limits::wall`](crate::Limits) passed.
    WallDeadline,
    /// [`Limits::cpu`](crate::Limits) was used.
    CpuDeadline,
    /// It wanted more than [`Limits::memory_bytes`](crate::Limits).
    MemoryLimit,
    /// It wrote more than [`Limits::output_bytes`](crate::Limits).
    OutputLimit,
    /// It failed after it wanted more than [`Limits::pids`](crate::Limits).
    PidsLimit,
    /// A writable bind had more than its [`DiskLimit`](crate::DiskLimit), or it died for wanting a larger file.
    DiskLimit,
    /// Its caller ended it, or is gone.
    Cancelled,
    /// The container's memory was short.
    Shed,
    /// Its launcher died, and it was killed with that.
    LauncherDied,
}

/// Why a caller kills a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum KillReason {
    /// Nobody wants its result any more: SIGTERM, and SIGKILL after [`Settings::grace`](crate::Settings).
    Cancelled = 1,
    /// It writes too much: SIGKILL.
    OutputLimit = 2,
    /// The container's memory is short: SIGKILL.
    Shed = 3,
}

/// What a tool and all that it started used together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Since its start.
    pub wall: Duration,
    /// Time of processors.
    pub cpu: Duration,
    /// At the last look. 0 without cgroups, and at the end.
    pub memory_bytes: u64,
    /// Without cgroups the largest process's, and known at the end only.
    pub peak_memory_bytes: u64,
    /// What it wrote to stdout, as far as it was read.
    pub stdout_bytes: u64,
    /// What it wrote to stderr, as far as it was read.
    pub stderr_bytes: u64,
}

/// A tool that ran to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Why, and what it used.
    pub ended: Ended,
    /// At most [`Limits::output_bytes`](crate::Limits) with `stderr`.
    pub stdout: Vec<u8>,
    /// At most [`Limits::output_bytes`](crate::Limits) with `stdout`.
    pub stderr: Vec<u8>,
    /// There was more output than is here.
    pub cut: bool,
}

/// Why a tool was not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpawnError {
    /// Neither it nor, for a script, its interpreter is in the sandbox.
    #[error("no such program in the sandbox: {}", .0.display())]
    NotFound(#[serde(with = "path")] PathBuf),
    /// It is there, and the kernel does not run it.
    #[error("cannot execute {}: {reason}", program.display())]
    NotExecutable {
        /// As the command names it.
        #[serde(with = "path")]
        program: PathBuf,
        /// The kernel's.
        reason: String,
    },
    /// The command cannot be.
    #[error("invalid command: {0}")]
    Invalid(String),
    /// There is no launcher, or this machine cannot do it now.
    #[error("cannot launch tools: {0}")]
    Unavailable(String),
    /// As many run already.
    #[error("too many tools: {0} run already")]
    TooMany(u32),
}

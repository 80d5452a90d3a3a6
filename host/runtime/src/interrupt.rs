//! Ends that the host imposes on a running guest. They travel as errors through the engine.

use std::path::PathBuf;

use bulkhead_types::{ExitReason, HostKind};

/// What it means when a call's wall time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum WallEnd {
    /// A turn took too long.
    Turn = 0,
    /// The grace of a stop is over.
    Grace = 1,
    /// The start's deadline passed.
    Start = 2,
}

impl WallEnd {
    pub(crate) fn from_u8(code: u8) -> Self {
        match code {
            1 => Self::Grace,
            2 => Self::Start,
            _ => Self::Turn,
        }
    }
}

/// What the host interrupted, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Interrupt {
    #[error("used {used_ms} ms of CPU time, {limit_ms} ms are allowed")]
    Cpu { used_ms: u64, limit_ms: u64 },
    #[error("its turns for one message used {used_ms} ms of CPU time, {limit_ms} ms are allowed")]
    MessageCpu { used_ms: u64, limit_ms: u64 },
    #[error("took longer than {limit_ms} ms")]
    Wall { limit_ms: u64 },
    #[error("one host call took longer than {limit_ms} ms")]
    HostCall { limit_ms: u64 },
    #[error("did not end within its grace")]
    Grace,
    #[error("did not start within its deadline")]
    StartDeadline,
    #[error("was killed")]
    Killed,
    #[error("memory growth by {requested_bytes} bytes denied: the container has no room for it")]
    NoRoom { requested_bytes: u64 },
    #[error(
        "memory growth by {requested_bytes} bytes denied: {used_bytes} of {limit_bytes} bytes are in \
         use, {host_bytes} of them by the host for it"
    )]
    Memory { requested_bytes: u64, used_bytes: u64, host_bytes: u64, limit_bytes: u64 },
    #[error(
        "the host may hold no more for it: {requested_bytes} bytes more for {} denied, which have \
         {kind_bytes} bytes: {used_bytes} of {limit_bytes} bytes are in use",
        kind.as_str()
    )]
    HostMemory {
        kind: HostKind,
        requested_bytes: u64,
        kind_bytes: u64,
        used_bytes: u64,
        limit_bytes: u64,
    },
}

impl Interrupt {
    pub(crate) fn reason(&self) -> ExitReason {
        match self {
            Self::Cpu { .. } | Self::MessageCpu { .. } => ExitReason::CpuDeadline,
            Self::Wall { .. } => ExitReason::WallDeadline,
            Self::HostCall { .. } => ExitReason::HostCallTimeout,
            Self::Grace | Self::Killed => ExitReason::Killed,
            Self::StartDeadline => ExitReason::StartFailed,
            Self::Memory { .. } | Self::HostMemory { .. } => ExitReason::MemoryLimit,
            // It is within its own limit: others have the memory.
            Self::NoRoom { .. } => ExitReason::EvictedMemoryPressure,
        }
    }
}

/// The workspace could be neither made nor opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open its workspace {}", path.display())]
pub(crate) struct WorkspaceFault {
    pub path: PathBuf,
    #[source]
    pub why: std::io::Error,
}

/// A host function failed in a way that is the host's fault.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct HostFault(pub String);

//! Ends that the host imposes on a running guest. They travel as errors through the engine.

use bulkhead_model::ExitReason;

/// Why the host ends an incarnation from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum KillCause {
    /// The grace of a stop is over.
    Grace = 1,
    /// The start's deadline passed.
    StartDeadline = 2,
}

impl KillCause {
    pub(crate) fn from_u8(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Grace),
            2 => Some(Self::StartDeadline),
            _ => None,
        }
    }
}

/// What the host cut off, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cut {
    #[error("used {used_ms} ms of CPU time, {limit_ms} ms are allowed")]
    Cpu { used_ms: u64, limit_ms: u64 },
    #[error("took longer than {limit_ms} ms")]
    Wall { limit_ms: u64 },
    #[error("one host call took longer than {limit_ms} ms")]
    HostCall { limit_ms: u64 },
    #[error("did not end within its grace")]
    Grace,
    #[error("did not start within its deadline")]
    StartDeadline,
    #[error(
        "memory growth by {requested_bytes} bytes denied: {used_bytes} of {limit_bytes} bytes are in use"
    )]
    Memory { requested_bytes: u64, used_bytes: u64, limit_bytes: u64 },
}

impl Cut {
    pub(crate) fn reason(&self) -> ExitReason {
        match self {
            Self::Cpu { .. } => ExitReason::CpuDeadline,
            Self::Wall { .. } => ExitReason::WallDeadline,
            Self::HostCall { .. } => ExitReason::HostCallTimeout,
            Self::Grace => ExitReason::Killed,
            Self::StartDeadline => ExitReason::StartFailed,
            Self::Memory { .. } => ExitReason::MemoryLimit,
        }
    }
}

impl From<KillCause> for Cut {
    fn from(cause: KillCause) -> Self {
        match cause {
            KillCause::Grace => Self::Grace,
            KillCause::StartDeadline => Self::StartDeadline,
        }
    }
}

/// A host function failed in a way that is the host's fault.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct HostFault(pub String);

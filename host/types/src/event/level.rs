//! How much a line matters.

use schemars::JsonSchema;
use serde::Serialize;

use super::Event;
use crate::names::names;
use crate::{ExitReason, ToolEnd};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Every step.
    Trace,
    /// For developers.
    Debug,
    /// A fact worth keeping.
    Info,
    /// Something is not as it should be; nothing was lost.
    Warn,
    /// Something was lost.
    Error,
    /// The process ends.
    Fatal,
}

names! {
    /// The word for it in a line.
    Level::as_str {
        Trace => "trace",
        Debug => "debug",
        Info => "info",
        Warn => "warn",
        Error => "error",
        Fatal => "fatal",
    }
}

impl Event {
    /// How much the line matters.
    pub fn level(&self) -> Level {
        match self {
            Self::PreviousRun { level, .. }
            | Self::HostLog { level, .. }
            | Self::LinePart { level, .. }
            | Self::AgentLog { level, .. } => *level,
            Self::AgentMessage { .. } => Level::Debug,
            Self::AgentTurn { error, .. } => {
                if error.is_some() {
                    Level::Warn
                } else {
                    Level::Debug
                }
            }
            Self::ToolStarted { .. } => Level::Debug,
            Self::ToolExited(exited) => match exited.end {
                ToolEnd::Exited | ToolEnd::Cancelled => Level::Debug,
                _ => Level::Warn,
            },
            Self::HydrationFinished(finished) => {
                if finished.failed + finished.late > 0 {
                    Level::Warn
                } else {
                    Level::Info
                }
            }
            Self::RoleUpgrade { phase, problem, .. } => match (*phase, problem) {
                ("failed", _) => Level::Error,
                (_, Some(_)) => Level::Warn,
                (_, None) => Level::Info,
            },
            // It is what somebody asked for.
            Self::RestartScheduled(scheduled) => match scheduled.reason {
                ExitReason::Upgraded => Level::Info,
                _ => Level::Warn,
            },
            Self::ShipRestored(restored) => {
                if restored.complete {
                    Level::Info
                } else {
                    Level::Warn
                }
            }
            Self::StoreOff {}
            | Self::CapacityLimited { .. }
            | Self::CacheEntryRejected { .. }
            | Self::MemoryPressure { .. }
            | Self::MemoryUsageFailed { .. }
            | Self::RequestRefused { .. }
            | Self::EvidenceFailed { .. }
            | Self::ShipFailed { .. }
            | Self::EvidenceLate { .. }
            | Self::TownConfigIgnored { .. }
            | Self::TownCallFailed { .. }
            | Self::TownUnreachable { .. }
            | Self::TownDropped { .. }
            | Self::TownCallGivenUp { .. }
            | Self::TownCallSwitchedOff { .. }
            | Self::ModelBudget { .. }
            | Self::AgentStuck { .. }
            | Self::SnapshotSetAside { .. }
            | Self::SnapshotNotKept { .. }
            | Self::WorkNotSaved { .. }
            | Self::WorkspaceNotShipped { .. }
            | Self::AgentUnhandledRejection { .. }
            | Self::WorkspacesFull { .. }
            | Self::AgentCpuThrottled { .. }
            | Self::MemorySoftLimit { .. } => Level::Warn,
            Self::UnhandledRejection { .. }
            | Self::TownFenced { .. }
            | Self::HydrationFailed { .. }
            | Self::StoreSetAside { .. }
            | Self::StoreUnavailable { .. }
            | Self::AgentStartFailed { .. }
            | Self::AgentQuarantined { .. }
            | Self::MessageSetAside { .. }
            | Self::AgentCrash(_) => Level::Error,
            Self::UncaughtException { .. } => Level::Fatal,
            Self::ColdStart { .. }
            | Self::HydrationStarted { .. }
            | Self::StoreAvailable { .. }
            | Self::ComponentLoaded { .. }
            | Self::StopIntent { .. }
            | Self::Draining { .. }
            | Self::Drained { .. }
            | Self::Stopped { .. }
            | Self::TownReachable { .. }
            | Self::TownTokenRefreshed { .. }
            | Self::RefreshTokenReceived { .. }
            | Self::MemoryUsage(_)
            | Self::SecretUsed { .. }
            | Self::WorkspacePrepared { .. }
            | Self::WorkspaceArrived { .. }
            | Self::WorkspaceShipped { .. }
            | Self::WorkSaved { .. }
            | Self::WorkspaceRemoved { .. }
            | Self::RestartCancelled { .. }
            | Self::CrashSymbolized { .. }
            | Self::CoreDumpKept { .. }
            | Self::EvidenceFound { .. }
            | Self::EvidenceAvailable { .. }
            | Self::ShipAvailable { .. }
            | Self::AgentStart { .. }
            | Self::AgentStartJoined { .. }
            | Self::AgentStartSuperseded { .. }
            | Self::AgentExit { .. } => Level::Info,
        }
    }
}

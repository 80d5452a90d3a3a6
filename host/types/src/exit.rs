//! Why an incarnation ended.

mod fingerprint;

pub use fingerprint::exception_parts;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crash::Frames;
use crate::exception::Exception;
use crate::names::names;
use crate::time::Timestamp;

/// The taxonomy of ends. `runtime::exit` alone decides which one applies to a guest's own end; the
/// ends that the host asked for carry the reason it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// The guest reported that it is done, or its idle timer fired.
    Completed,
    /// Somebody asked.
    Stopped,
    /// The container is going away.
    Drained,
    /// A newer start took over.
    Superseded,
    /// The same agent goes on with newer code.
    Upgraded,
    /// WASI exit, with a status.
    GuestExit,
    /// `lifecycle` returned a fatal error.
    GuestError,
    /// An exception left the agent's code, in a language that has them.
    Exception,
    /// A wasm trap.
    Trap,
    /// A trap after the guest wrote a panic message.
    Panic,
    /// The wasm stack, or the guest's own stack in linear memory, ran out.
    StackExhausted,
    /// Growth past its own hard limit.
    MemoryLimit,
    /// The guest burned its CPU time.
    CpuDeadline,
    /// The turn took too long.
    WallDeadline,
    /// One host call took too long.
    HostCallTimeout,
    /// It did not get to running.
    StartFailed,
    /// A host function failed in a way that is the host's fault.
    HostError,
    /// Forced end after the grace.
    Killed,
    /// Shed to save the rest, or ended because the container had no room for its growth.
    EvictedMemoryPressure,
    /// The host died while it was at work, of something that an agent can do.
    HostDeath,
    /// A budget for language models was used up, and its role ends the agent then.
    BudgetExceeded,
    /// It repeated itself as often as its role allows, without anything new.
    Stuck,
}

/// Whose doing an end was. What follows from an end (a record, a restart, a quarantine, a report to the town)
/// asks for this and not for the reason, so a new reason is classified once, in [`ExitReason::class`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitClass {
    /// The agent's own, and intended.
    Done,
    /// Somebody asked for it, and the agent went.
    Asked,
    /// Somebody asked for it, and the agent did not go by itself.
    Forced,
    /// A fault of the agent.
    Fault,
    /// A fault of the host.
    Host,
    /// The agent had to go for the others.
    Evicted,
    /// The agent ran into a bound of its role that a restart does not lift. It does not come back by itself.
    Halted,
}

impl ExitClass {
    /// Whether such an end counts when a crash looper is searched for. What the host, its disk or the neighbours
    /// did to an agent says nothing about the agent.
    pub fn counts_against_the_agent(self) -> bool {
        match self {
            // One that is to run always and ends at once, as intended, loops as well.
            Self::Done | Self::Fault => true,
            Self::Asked | Self::Forced | Self::Host | Self::Evicted | Self::Halted => false,
        }
    }
}

impl ExitReason {
    /// Whose doing it was.
    pub fn class(self) -> ExitClass {
        match self {
            Self::Completed => ExitClass::Done,
            Self::Stopped | Self::Drained | Self::Superseded | Self::Upgraded => ExitClass::Asked,
            Self::Killed => ExitClass::Forced,
            Self::GuestExit
            | Self::GuestError
            | Self::Exception
            | Self::Trap
            | Self::Panic
            | Self::StackExhausted
            | Self::MemoryLimit
            | Self::CpuDeadline
            | Self::WallDeadline
            | Self::HostCallTimeout
            | Self::StartFailed
            // The agent is a suspect, and twice in a row it is the one.
            | Self::HostDeath => ExitClass::Fault,
            Self::HostError => ExitClass::Host,
            Self::EvictedMemoryPressure => ExitClass::Evicted,
            Self::BudgetExceeded | Self::Stuck => ExitClass::Halted,
        }
    }

    /// Whether the end was intended. Everything else gets a crash record.
    pub fn is_normal(self) -> bool {
        match self.class() {
            ExitClass::Done | ExitClass::Asked => true,
            ExitClass::Forced
            | ExitClass::Fault
            | ExitClass::Host
            | ExitClass::Evicted
            | ExitClass::Halted => false,
        }
    }
}

names! {
    /// The word for it in answers and records.
    ExitReason::as_str {
        Completed => "completed",
        Stopped => "stopped",
        Drained => "drained",
        Superseded => "superseded",
        Upgraded => "upgraded",
        GuestExit => "guest_exit",
        GuestError => "guest_error",
        Exception => "exception",
        Trap => "trap",
        Panic => "panic",
        StackExhausted => "stack_exhausted",
        MemoryLimit => "memory_limit",
        CpuDeadline => "cpu_deadline",
        WallDeadline => "wall_deadline",
        HostCallTimeout => "host_call_timeout",
        StartFailed => "start_failed",
        HostError => "host_error",
        Killed => "killed",
        EvictedMemoryPressure => "evicted_memory_pressure",
        HostDeath => "host_death",
        BudgetExceeded => "budget_exceeded",
        Stuck => "stuck",
    }
}

/// How an incarnation ended, for those that look later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitSummary {
    /// Why.
    pub reason: ExitReason,
    /// One sentence for a person.
    pub message: String,
    /// When.
    pub at: Timestamp,
    /// Its crash record. Present when the end was abnormal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash_id: Option<String>,
}

/// Where in the guest's contract a call was when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Before there was an instance: its workspace was made.
    Workspace,
    /// Before any export ran: instantiation.
    Instantiate,
    /// `lifecycle.restore`.
    Restore,
    /// `lifecycle.start`.
    Start,
    /// `lifecycle.handle`.
    Handle,
    /// `lifecycle.snapshot`.
    Snapshot,
    /// `lifecycle.shutdown`.
    Shutdown,
    /// `wasi:cli/run` of a stock component.
    Run,
    /// Between calls.
    Idle,
}

names! {
    /// The word for it in a line.
    Phase::as_str {
        Workspace => "workspace",
        Instantiate => "instantiate",
        Restore => "restore",
        Start => "start",
        Handle => "handle",
        Snapshot => "snapshot",
        Shutdown => "shutdown",
        Run => "run",
        Idle => "idle",
    }
}

impl Phase {
    /// Whether the agent has never been running by then.
    pub fn is_of_start(self) -> bool {
        matches!(self, Self::Workspace | Self::Instantiate | Self::Restore | Self::Start)
    }
}

/// Where a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartPhase {
    /// Not let in: capacity, drain, quarantine, another start.
    Admission,
    /// The component could not be read or is of another world.
    Component,
    /// The engine refused to compile it.
    Compile,
    /// Its workspace could not be made.
    Workspace,
    /// No instance could be made.
    Instantiate,
    /// `lifecycle.restore` failed.
    Restore,
    /// `lifecycle.start` failed.
    GuestStart,
    /// The start's deadline passed.
    Deadline,
    /// A newer start took over.
    Superseded,
}

/// Whether a retry can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Determinism {
    /// The same input leads to the same end.
    True,
    /// It may go well next time.
    False,
    /// One case is not enough to decide.
    Unknown,
}

/// Where in its sources a guest panicked, or threw an exception.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Location {
    /// As the guest's compiler wrote it.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

/// Why and where an incarnation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Why.
    pub reason: ExitReason,
    /// In which call.
    pub phase: Phase,
    /// One sentence for a person.
    pub message: String,
    /// The wasm trap in kebab case.
    pub trap: Option<&'static str>,
    /// Where a guest panic happened, or an exception was thrown.
    pub location: Option<Location>,
    /// What was thrown, then what caused it, and what caused that. Bounded, see [`crate::exception`].
    pub exceptions: Vec<Exception>,
    /// WASI exit status: 0 or 1, more is lost on the way (WASI 0.2 has only ok and err).
    pub status: Option<i32>,
    /// The agent's own code of a [`ExitReason::GuestError`].
    pub code: Option<String>,
    /// The denied growth of a [`ExitReason::MemoryLimit`].
    pub requested_bytes: Option<u64>,
    /// The host function that was in flight, or whose failure this is.
    pub host_call: Option<String>,
    /// Innermost first. Empty when the end was not inside wasm.
    pub frames: Frames,
    /// Whether a retry can help.
    pub deterministic: Determinism,
}

impl Exit {
    /// An end without a backtrace.
    pub fn new(reason: ExitReason, phase: Phase, message: impl Into<String>) -> Self {
        Self {
            reason,
            phase,
            message: message.into(),
            trap: None,
            location: None,
            exceptions: Vec::new(),
            status: None,
            code: None,
            requested_bytes: None,
            host_call: None,
            frames: Frames::default(),
            deterministic: Determinism::Unknown,
        }
    }
}

impl Exit {
    /// An end by an exception, which comes first, with what caused it.
    pub fn thrown(exceptions: Vec<Exception>, phase: Phase) -> Self {
        let message = exceptions.first().map(Exception::summary).unwrap_or_default();
        Self::new(ExitReason::Exception, phase, message).with_exceptions(exceptions)
    }

    /// With other exceptions, and the place where the first was thrown.
    pub fn with_exceptions(self, exceptions: Vec<Exception>) -> Self {
        let frame = exceptions.first().and_then(|it| it.frames.first());
        let location = frame.and_then(|frame| {
            let file = frame.file.clone();
            frame.column.map(|column| Location { file, line: frame.line, column })
        });
        Self { location, exceptions, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_intended_is_normal_and_only_an_own_fault_is_one() {
        let is = |reason: ExitReason| (reason.is_normal(), reason.class() == ExitClass::Fault);
        assert_eq!(is(ExitReason::Completed), (true, false));
        assert_eq!(is(ExitReason::Superseded), (true, false));
        assert_eq!(is(ExitReason::HostCallTimeout), (false, true));
        assert_eq!(is(ExitReason::HostError), (false, false));
        assert_eq!(is(ExitReason::Killed), (false, false));
        assert_eq!(is(ExitReason::EvictedMemoryPressure), (false, false));
        assert_eq!(is(ExitReason::BudgetExceeded), (false, false));
    }
}

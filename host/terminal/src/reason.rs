//! Reasons, phases and causes in words.

use bulkhead_types::{Cause, Confidence, ExitReason, Phase, Sender, StartPhase};

/// How an incarnation ended, behind its id or behind "it".
pub(crate) fn ended(reason: ExitReason) -> &'static str {
    match reason {
        ExitReason::Completed => "is done",
        ExitReason::Stopped => "was stopped",
        ExitReason::Drained => "ended for the shutdown",
        ExitReason::Superseded => "made way for a newer start",
        ExitReason::GuestExit => "exited by itself",
        ExitReason::GuestError => "gave up with an error",
        ExitReason::Trap => "trapped",
        ExitReason::Panic => "panicked",
        ExitReason::StackExhausted => "ran out of stack",
        ExitReason::MemoryLimit => "hit its memory limit",
        ExitReason::CpuDeadline => "used up its CPU time",
        ExitReason::WallDeadline => "took too long",
        ExitReason::HostCallTimeout => "waited too long in a host call",
        ExitReason::StartFailed => "did not start",
        ExitReason::HostError => "ended by a fault of the host",
        ExitReason::Killed => "was killed",
        ExitReason::EvictedMemoryPressure => "was ended to free memory",
        ExitReason::HostDeath => "was at work when the host died",
        ExitReason::BudgetExceeded => "used up its model budget",
        ExitReason::Stuck => "went in circles",
    }
}

/// In which call an incarnation was when it ended.
pub(crate) fn during(phase: Phase) -> &'static str {
    match phase {
        Phase::Instantiate => "while it was instantiated",
        Phase::Restore => "while it restored its snapshot",
        Phase::Start => "while it started",
        Phase::Handle => "while it handled a message",
        Phase::Snapshot => "while it took a snapshot",
        Phase::Shutdown => "while it shut down",
        Phase::Run => "while it ran",
        Phase::Idle => "while it was idle",
    }
}

/// Where a start failed.
pub(crate) fn failed_at(phase: StartPhase) -> &'static str {
    match phase {
        StartPhase::Admission => "was not admitted",
        StartPhase::Component => "did not start: its component is unusable",
        StartPhase::Compile => "did not start: its component does not compile",
        StartPhase::Instantiate => "did not start: no instance could be made",
        StartPhase::Restore => "did not start: it failed to restore its snapshot",
        StartPhase::GuestStart => "did not start: it failed by itself",
        StartPhase::Deadline => "did not start in time",
        StartPhase::Superseded => "did not start: a newer start took over",
    }
}

/// How a run of the host ended.
pub(crate) fn run_ended(cause: Cause) -> &'static str {
    match cause {
        Cause::Clean => "ended cleanly",
        Cause::UncaughtException => "ended by a panic of the host",
        Cause::OomKill => "was killed by the kernel because memory ran out",
        Cause::MemoryThrash => "was killed while it did little but wait for memory",
        Cause::NativeFault => "died of a fault in native code",
        Cause::OrchestratorStop => "was stopped from outside before its drain was through",
        Cause::VmReplaced => "ended with its machine",
        Cause::InitFailure => "failed in its boot",
        Cause::ExternalSigkill => "was killed from outside (SIGKILL)",
        Cause::None => "did not exist",
        Cause::Lost => "left nothing behind",
        Cause::Unknown => "ended for an unknown reason",
    }
}

/// How sure a cause is.
pub(crate) fn sure(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Low => "a guess",
        Confidence::Medium => "probably",
        Confidence::High => "certainly",
    }
}

/// Where a message comes from.
pub(crate) fn sender(sender: &Sender) -> String {
    match sender {
        Sender::Operator => "the control API".to_owned(),
        Sender::Agent(id) => id.to_string(),
        Sender::Prompt => "its start request".to_owned(),
        Sender::Nudge(_) => "a nudge".to_owned(),
        Sender::Continuation => "its last turn".to_owned(),
    }
}

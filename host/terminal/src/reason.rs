//! Reasons, phases and causes in words, and what helps against each reason: the same on a terminal, in the console and
//! in the tools for models.

use bulkhead_types::{
    Cause, Confidence, Consequence, CrashRecord, ExitReason, Phase, RunningTool, Sender, StartPhase,
};

use crate::words::{bytes, command_line, millis};

/// How an incarnation ended, behind its id or behind "it".
pub fn ended(reason: ExitReason) -> &'static str {
    match reason {
        ExitReason::Completed => "completed",
        ExitReason::Stopped => "was stopped",
        ExitReason::Drained => "was shut down with the host",
        ExitReason::Superseded => "was replaced by a newer start",
        ExitReason::Upgraded => "left for newer code",
        ExitReason::GuestExit => "exited by itself",
        ExitReason::GuestError => "reported a fatal error",
        ExitReason::Exception => "threw an exception",
        ExitReason::Trap => "trapped",
        ExitReason::Panic => "panicked",
        ExitReason::StackExhausted => "ran out of stack",
        ExitReason::MemoryLimit => "hit its memory limit",
        ExitReason::CpuDeadline => "exceeded its CPU time",
        ExitReason::WallDeadline => "exceeded its wall time",
        ExitReason::HostCallTimeout => "timed out in a host call",
        ExitReason::StartFailed => "did not start",
        ExitReason::HostError => "ended by a fault of the host",
        ExitReason::Killed => "was killed",
        ExitReason::EvictedMemoryPressure => "was evicted to free memory",
        ExitReason::HostDeath => "was at work when the host died",
        ExitReason::BudgetExceeded => "used up its model budget",
        ExitReason::Stuck => "went in circles",
    }
}

/// The native programs that were killed with an incarnation: what ran, for how long, with how much memory. The agent chose
/// the words.
pub fn programs_in_flight(record: &CrashRecord) -> impl Iterator<Item = String> {
    record.tools_in_flight.iter().map(|tool| {
        let RunningTool { program, arguments, started_at, memory_bytes, .. } = tool;
        let lasted = record.crashed_at.0.saturating_sub(started_at.0);
        let lasted = u64::try_from(lasted).unwrap_or(0);
        let line = format!("{} for {}", command_line(program, arguments), millis(lasted));
        match memory_bytes {
            0 => line,
            used => format!("{line}, with {} of memory", bytes(*used)),
        }
    })
}

/// What to do about such an end, the most promising step first. Empty for an end that was intended. Names of
/// configuration keys and of other code stand between backticks.
pub fn advice(reason: ExitReason) -> &'static [&'static str] {
    match reason {
        ExitReason::Completed
        | ExitReason::Stopped
        | ExitReason::Drained
        | ExitReason::Superseded
        | ExitReason::Upgraded => &[],
        ExitReason::GuestExit => &[
            "Find out what the exit status means to this component: its last log lines may say.",
            "An agent that has finished its work returns `done` from its turn. A call of `exit` is a fault, also with \
             status 0: `transient` and `permanent` restart it.",
        ],
        ExitReason::GuestError => &[
            "Read the message and the agent's own error code: the agent chose both.",
            "Check the values and the secrets that it was started with.",
        ],
        ExitReason::Exception => &[
            "Open the first of its frames: the exception was thrown there, and nothing in the agent caught it.",
            "If bad input can cause this, catch it, and answer or throw an `AgentError` that is not fatal: only the turn \
             fails then.",
        ],
        ExitReason::Trap => &[
            "Open the agent's first own frame: there it divided by zero, accessed memory out of bounds, or reached code \
             marked as unreachable.",
            "If the frames have no files and lines, build the component with line tables (`debug = \
             \"line-tables-only\"`).",
        ],
        ExitReason::Panic => &[
            "Read the message, and open the place of the panic.",
            "If bad input can cause this, return an error that is not fatal: only the turn fails then.",
        ],
        ExitReason::StackExhausted => &[
            "Look for unbounded recursion: the same functions again and again in the frames.",
            "If the depth is needed, use a loop with a list in memory, or a larger stack of the component itself: the \
             host's bound is fixed.",
        ],
        ExitReason::MemoryLimit => &[
            "Compare the memory samples: a steady rise is a leak, one step is one large allocation.",
            "If the agent needs that much, raise `memory_limit_mb` of its role.",
            "If not, let it keep less: waiting messages, events and open requests count against the same limit.",
        ],
        ExitReason::CpuDeadline => &[
            "Look for an endless loop at the agent's first own frame.",
            "Split long work into several turns, or raise `cpu_ms` of its role (`message_cpu_ms` for all turns of one \
             message).",
        ],
        ExitReason::WallDeadline => &[
            "Find out what the turn waited for: a host call, or a slow language model.",
            "If such turns are normal, raise `wall_ms` of its role.",
        ],
        ExitReason::HostCallTimeout => &[
            "Check the other side of the host call: a server, a model endpoint, a disk.",
            "Set a shorter timeout in the agent, so that it gets an error instead, or raise `host_call_ms` of its role.",
        ],
        ExitReason::StartFailed => &[
            "Read the message: it says what was missing.",
            "Start the agent again when that is fixed.",
        ],
        ExitReason::HostError => &[
            "Read the host's log around this time: the agent is not at fault.",
            "Report it, with this crash record.",
        ],
        ExitReason::Killed => &[
            "Let the agent return from its turn when it is asked to shut down, or raise `shutdown_ms` of its role.",
        ],
        ExitReason::EvictedMemoryPressure => &[
            "Give the container more memory, or run fewer agents in it.",
            "Lower `eviction_weight_percent` of roles that must stay, and raise it for those that may go first.",
        ],
        ExitReason::HostDeath => &[
            "Read why the last run of the host ended: `bulkhead diagnose` finds it in the log.",
            "If the same agent was at work each time, suspect it.",
        ],
        ExitReason::BudgetExceeded => &[
            "See which budget is used up. Budgets of a day begin again at midnight UTC.",
            "Raise the `budget` of its role, or stop what uses it.",
        ],
        ExitReason::Stuck => &[
            "Read its last events: the same question or the same tool call, again and again.",
            "Start it with clearer instructions or another model.",
        ],
    }
}

/// What was decided about an incarnation that ended. The message of a quarantine is the host's.
pub fn decided(consequence: &Consequence) -> String {
    match consequence {
        Consequence::None => "not restarted".to_owned(),
        Consequence::Restart { backoff_ms, attempts_in_window, .. } => {
            let backoff = millis(*backoff_ms);
            format!("restart after {backoff} (exit {attempts_in_window} in its restart window)")
        }
        Consequence::Quarantined { message, .. } => format!("quarantine: {message}"),
    }
}

/// In which call an incarnation was when it ended.
pub fn during(phase: Phase) -> &'static str {
    match phase {
        Phase::Workspace => "while its workspace was made",
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
        StartPhase::Workspace => "did not start: its workspace could not be made",
        StartPhase::Instantiate => "did not start: no instance could be made",
        StartPhase::Restore => "did not start: it failed to restore its snapshot",
        StartPhase::GuestStart => "did not start: it failed by itself",
        StartPhase::Deadline => "did not start in time",
        StartPhase::Superseded => "did not start: a newer start took over",
    }
}

/// How a run of the host ended.
pub fn run_ended(cause: Cause) -> &'static str {
    match cause {
        Cause::Clean => "ended cleanly",
        Cause::UncaughtException => "ended by a panic of the host",
        Cause::OomKill => "was killed by the kernel because memory ran out",
        Cause::MemoryThrash => "was killed while it did little but wait for memory",
        Cause::NativeFault => "died of a fault in native code",
        Cause::OrchestratorStop => "was stopped from outside before its drain was through",
        Cause::VmReplaced => "ended with its machine",
        Cause::InitFailure => "failed in its boot",
        Cause::LeaseLost => "lost the lease of its town",
        Cause::ExternalSigkill => "was killed from outside (SIGKILL)",
        Cause::None => "did not exist",
        Cause::Lost => "left nothing behind",
        Cause::Unknown => "ended for an unknown reason",
    }
}

/// How sure a cause is.
pub fn confidence(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Low => "low confidence",
        Confidence::Medium => "medium confidence",
        Confidence::High => "high confidence",
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

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURATION: &str = include_str!("../../../docs/configuration.md");

    fn reasons() -> impl Iterator<Item = ExitReason> {
        ExitReason::NAMES.iter().map(|name| serde_json::from_value((*name).into()).unwrap())
    }

    #[test]
    fn advice_names_keys_that_the_configuration_has() {
        for advice in reasons().flat_map(advice) {
            // A key of a role: a word with an underscore.
            for key in advice.split('`').skip(1).step_by(2).filter(|code| code.contains('_')) {
                assert!(CONFIGURATION.contains(&format!("\n| `{key}` |")), "{key}: {advice}");
            }
            assert_eq!(advice.matches('`').count() % 2, 0, "{advice}");
            assert!(advice.ends_with('.') && !advice.contains('\n'), "{advice}");
        }
    }

    #[test]
    fn each_abnormal_end_has_advice_and_no_other_has() {
        for reason in reasons() {
            assert_eq!(advice(reason).is_empty(), reason.is_normal(), "{}", reason.as_str());
        }
    }
}

//! Figures and times in words and elements.

use std::time::Duration;

use bulkhead_printable as printable;
use bulkhead_terminal::words::{bytes, duration, millis};
use bulkhead_types::memory::MemoryTrend;
use bulkhead_types::previous::Cause;
use bulkhead_types::{Consequence, ExitReason, Timestamp};
use maud::{Markup, html};

/// A text of others as one line, with no character in it that cannot be seen.
pub(crate) fn line(text: &str) -> Markup {
    html! { (printable::line(text)) }
}

/// The same with its line breaks.
pub(crate) fn lines(text: &str) -> Markup {
    html! { (printable::lines(text)) }
}

/// `2026-01-15 09:30:00 UTC`
pub(crate) fn time(at: Timestamp) -> Markup {
    let exact = at.to_string();
    let second = exact.split('.').next().unwrap_or_default().replace('T', " ");
    html! { time datetime=(exact) { (second) " UTC" } }
}

/// `3 min 2 s ago`
pub(crate) fn ago(now: Timestamp, at: Timestamp) -> Markup {
    // Milliseconds of the past would change with every look at the page.
    let passed = Duration::from_secs(now.since(at).as_secs());
    let text =
        if passed.is_zero() { "now".to_owned() } else { format!("{} ago", duration(passed)) };
    html! { time datetime=(at.to_string()) { (text) } }
}

/// The clock's part of a time, for an axis.
pub(crate) fn clock(at: Timestamp) -> String {
    at.to_string().get(11..16).unwrap_or_default().to_owned()
}

/// Billionths of a unit, with four decimals.
pub(crate) fn cost(nano: u64) -> String {
    format!("{:.4}", nano as f64 / 1e9)
}

/// How memory goes on.
pub(crate) fn trend(trend: Option<&MemoryTrend>) -> String {
    let Some(trend) = trend else { return "not known yet".to_owned() };
    if !trend.grows {
        return "steady".to_owned();
    }
    let rate = bytes(trend.bytes_per_minute.unsigned_abs());
    match trend.time_left_ms {
        Some(left) => format!("+{rate} a minute, full in {}", millis(left)),
        None => format!("+{rate} a minute"),
    }
}

/// An end in words. The word of the API stands beside it.
pub(crate) fn reason(reason: ExitReason) -> &'static str {
    match reason {
        ExitReason::Completed => "finished its work",
        ExitReason::Stopped => "was stopped",
        ExitReason::Drained => "ended with the container",
        ExitReason::Superseded => "was replaced by a newer start",
        ExitReason::GuestExit => "exited by itself with a status",
        ExitReason::GuestError => "reported a fatal error",
        ExitReason::Trap => "trapped: it executed an illegal instruction",
        ExitReason::Panic => "panicked",
        ExitReason::StackExhausted => "ran out of stack",
        ExitReason::MemoryLimit => "reached its memory limit",
        ExitReason::CpuDeadline => "used up its CPU time in one call",
        ExitReason::WallDeadline => "took too long for one turn",
        ExitReason::HostCallTimeout => "waited too long for one call into the host",
        ExitReason::StartFailed => "did not start",
        ExitReason::HostError => "was ended by a failure of the host",
        ExitReason::Killed => "was killed, because it did not end when asked to",
        ExitReason::EvictedMemoryPressure => {
            "was evicted, because the container ran short of memory"
        }
        ExitReason::HostDeath => "was at work when the host process died",
        ExitReason::BudgetExceeded => "used up a budget for language models",
        ExitReason::Stuck => "repeated itself without anything new",
    }
}

/// What a person can do about an end, most promising first.
pub(crate) fn advice(reason: ExitReason) -> &'static [&'static str] {
    match reason {
        ExitReason::Completed
        | ExitReason::Stopped
        | ExitReason::Drained
        | ExitReason::Superseded => &["Nothing: this end was intended."],
        ExitReason::GuestExit => &[
            "Find out what the exit status means to this component; its last log lines may say.",
            "If status 0 means that it is done, use the restart policy “transient” or “temporary”.",
        ],
        ExitReason::GuestError => &[
            "Read the message and the agent's own error code: the agent chose both.",
            "Check the values and the secrets that it was started with.",
        ],
        ExitReason::Trap => &[
            "Open the agent's first own frame: there it divided by zero, accessed memory out of bounds, or reached code \
             marked as unreachable.",
            "Without files and lines, build the component with line tables (debug = \"line-tables-only\").",
        ],
        ExitReason::Panic => &[
            "Read the panic message and open the place that it names.",
            "Return an error from the turn where bad input can come in: the agent keeps running then.",
        ],
        ExitReason::StackExhausted => &[
            "Look for a recursion without an end: one function again and again in the frames.",
            "If the depth is needed, raise max_wasm_stack_kb of the host.",
        ],
        ExitReason::MemoryLimit => &[
            "Compare the curve: a steady rise is a leak, one step is one large thing.",
            "Raise memory_limit_mb of the role if the agent needs that much.",
            "Keep less: conversations, caches and mail count against the same limit.",
        ],
        ExitReason::CpuDeadline => &[
            "Look for a loop without an end at the agent's first own frame.",
            "Split long work over several turns, or raise the CPU deadline of the role.",
        ],
        ExitReason::WallDeadline => &[
            "Find out what the turn waited for: the host call below, or a slow language model.",
            "Raise the turn deadline of the role if such turns are normal.",
        ],
        ExitReason::HostCallTimeout => &[
            "Check the other side of the host call below: a server, a model endpoint, a disk.",
            "Set a shorter timeout in the agent, so that it gets an error in place of an end.",
        ],
        ExitReason::StartFailed => &[
            "Read the message: it names the phase and what was missing.",
            "Start the agent again when that is mended.",
        ],
        ExitReason::HostError => &[
            "Read the host's log around this time: the agent is not at fault.",
            "Report it with the Markdown below.",
        ],
        ExitReason::Killed => {
            &["Let the agent return from its turn when the host asks it to end (shutdown)."]
        }
        ExitReason::EvictedMemoryPressure => &[
            "Open the container's page: give it more memory, or run fewer agents in it.",
            "Raise eviction_weight of roles that may go first, lower it for those that must stay.",
        ],
        ExitReason::HostDeath => &[
            "Open the container's page: it says why the run before ended.",
            "If the same agent was at work twice, suspect it, and start it again by itself.",
        ],
        ExitReason::BudgetExceeded => &[
            "Open the container's page: it shows which budget is used up. Budgets of a day begin again at midnight UTC.",
            "Raise the budget of the role, or stop what spends it.",
        ],
        ExitReason::Stuck => &[
            "Read the last events: the same question or the same tool, again and again.",
            "Send a clearer task after a start, or use another model.",
        ],
    }
}

/// What the supervisor decided, in a sentence.
pub(crate) fn consequence(consequence: &Consequence) -> String {
    match consequence {
        Consequence::None => {
            "It stays down: its restart policy does not restart this end.".to_owned()
        }
        Consequence::Restart { restart_at, backoff_ms, attempts_in_window } => format!(
            "It is restarted at {restart_at}, {} after this end, which is number {attempts_in_window} in its window.",
            millis(*backoff_ms)
        ),
        Consequence::Quarantined { message, attempts_in_window, .. } => format!(
            "It is quarantined and stays down until it is started by hand: {} (end {attempts_in_window} in its window)",
            printable::line(message)
        ),
    }
}

/// Why the host process of a run ended.
pub(crate) fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Clean => "ended as intended",
        Cause::UncaughtException => "a panic that nothing contained",
        Cause::OomKill => "killed by the kernel for want of memory",
        Cause::MemoryThrash => "ended while it did little but wait for memory",
        Cause::NativeFault => "a native fault (a machine instruction failed)",
        Cause::OrchestratorStop => "asked to end, and its drain was not over in time",
        Cause::VmReplaced => "the machine was replaced or booted again",
        Cause::InitFailure => "did not get through its own boot",
        Cause::ExternalSigkill => "killed from outside",
        Cause::None => "there was no earlier run",
        Cause::Lost => "nothing is left that would say",
        Cause::Unknown => "not known",
    }
}

//! Why an agent is not up, in plain words: what ended it, where, with how much memory, what was decided, what to do.

use std::fmt::Write as _;

use bulkhead_api::AgentView;
use bulkhead_printable as printable;
use bulkhead_terminal::reason::{advice, decided, during, ended, programs_in_flight};
use bulkhead_terminal::words::{bytes, millis, quoted};
use bulkhead_types::restart::QuarantineReason;
use bulkhead_types::{
    CrashRecord, Determinism, Exception, ExitReason, Frame, RestartPolicy, Symbolized,
};

/// Frames that are named at most.
const MAX_FRAMES: usize = 12;

/// Log lines that are quoted at most.
const MAX_LINES: usize = 10;

/// The page. `agent` is `None` when the host does not know it any more, `record` when no end of it was abnormal or the
/// record is not kept any more.
pub(crate) fn page(id: &str, agent: Option<&AgentView>, record: Option<&CrashRecord>) -> String {
    let mut page = String::new();
    match agent {
        Some(agent) => now(&mut page, agent),
        None => say(&mut page, &format!("The host does not know the agent {id} now.")),
    }
    match record {
        Some(record) => {
            say(&mut page, "");
            crash(&mut page, record);
        }
        None => say(&mut page, "There is no crash record of it."),
    }
    let next = next(agent, record);
    if !next.is_empty() {
        say(&mut page, "");
        say(&mut page, "What to do next:");
        next.iter().for_each(|step| say(&mut page, &format!("- {step}")));
    }
    page
}

fn say(page: &mut String, line: &str) {
    let _ = writeln!(page, "{line}");
}

fn now(page: &mut String, agent: &AgentView) {
    let AgentView { agent_id, role, component, status, incarnation, restart, .. } = agent;
    let (role, component, status) = (quoted(role), quoted(component), &**status);
    let then = match (status, &restart.next_restart_at, &restart.quarantine) {
        ("backoff", Some(at), _) => format!("; it is restarted at {at}"),
        ("quarantined", _, Some(why)) => format!(
            " since {} and not restarted automatically: {}",
            why.since,
            quoted(&why.message)
        ),
        ("running", _, _) => ": it is up".to_owned(),
        _ => String::new(),
    };
    say(
        page,
        &format!(
            "Agent {agent_id} (role {role}, component {component}), incarnation {incarnation}, is {status}{then}."
        ),
    );
    match &agent.exit {
        Some(exit) => say(
            page,
            &format!(
                "Last exit: {} at {}, saying {}.",
                word(&exit.reason),
                exit.at,
                quoted(&exit.message)
            ),
        ),
        None => say(page, "It has not ended since it was started."),
    }
    if let Some(message) = &agent.set_aside {
        say(
            page,
            &format!(
                "Message {} was set aside at {}: the agent ended in each of {} deliveries.",
                quoted(&message.message_id),
                message.at,
                message.attempts
            ),
        );
    }
}

/// A word of the host, as long as it is one.
fn word(text: &str) -> String {
    let is_word = |found: char| found.is_ascii_alphanumeric() || found == '_' || found == '-';
    if text.chars().all(is_word) { text.to_owned() } else { quoted(text) }
}

fn crash(page: &mut String, record: &CrashRecord) {
    let CrashRecord { crash_id, reason, message, crashed_at, agent_uptime_ms, phase, .. } = record;
    say(
        page,
        &format!(
            "Crash {}: incarnation {} ended as {} at {crashed_at}, after {}, in the phase {}.",
            word(crash_id),
            record.incarnation,
            reason.as_str(),
            millis(*agent_uptime_ms),
            phase.as_str()
        ),
    );
    say(page, &format!("Meaning: it {} {}.", ended(*reason), during(*phase)));
    say(page, &format!("Message: {}", quoted(message)));
    let details = [
        ("Trap", record.trap.as_deref().map(word)),
        (
            "Panic at",
            record
                .location
                .as_ref()
                .filter(|_| record.exceptions.is_empty())
                .map(|at| quoted(&format!("{}:{}", at.file, at.line))),
        ),
        ("Exit status", record.status.map(|status| status.to_string())),
        ("Error code", record.code.as_deref().map(quoted)),
        ("Denied growth", record.requested_bytes.map(bytes)),
        ("Host call", record.host_call.as_deref().map(quoted)),
        ("Message in work", record.message_id.as_deref().map(quoted)),
    ];
    for (name, value) in details {
        if let Some(value) = value {
            say(page, &format!("{name}: {value}"));
        }
    }
    exceptions(page, &record.exceptions);
    frames(page, record);
    memory(page, record);
    for program in programs_in_flight(record) {
        say(page, &format!("Program killed with it: {}", quoted(&program)));
    }
    say(page, &format!("Decision: {}.", printable::line(&decided(&record.consequence))));
    if let Determinism::True = record.deterministic {
        say(page, "A retry cannot help: the same start ends in the same way.");
    }
    let lines = &record.last_log_lines;
    if !lines.is_empty() {
        say(page, "Its last log lines:");
        let skipped = lines.len().saturating_sub(MAX_LINES);
        lines[skipped..].iter().for_each(|line| say(page, &format!("  {}", quoted(line))));
    }
}

fn exceptions(page: &mut String, chain: &[Exception]) {
    for (index, exception) in chain.iter().enumerate() {
        if index > 0 {
            say(page, &format!("Caused by: {}", quoted(&exception.summary())));
        }
        say(page, "Thrown at, innermost first:");
        for frame in exception.frames.iter().take(MAX_FRAMES) {
            let function = quoted(frame.function.as_deref().unwrap_or("top level"));
            say(page, &format!("  {} in {function}", quoted(&frame.place())));
        }
        if exception.frames.len() > MAX_FRAMES {
            say(page, &format!("  and {} more", exception.frames.len() - MAX_FRAMES));
        }
    }
}

fn frames(page: &mut String, record: &CrashRecord) {
    let place = |frame: &Frame| {
        let function = quoted(frame.function.as_deref().unwrap_or("no name"));
        match (&frame.file, frame.line) {
            (Some(file), Some(line)) => {
                format!("{} in {function}", quoted(&format!("{file}:{line}")))
            }
            _ => function,
        }
    };
    let own: Vec<_> = record.frames.iter().filter(|frame| frame.in_app).collect();
    let all: Vec<_> = record.frames.iter().collect();
    let (title, frames) = match (own.is_empty(), all.is_empty()) {
        (false, _) => ("Frames of its own code, innermost first:", own),
        (true, false) => ("Frames (none is known to be of its own code), innermost first:", all),
        (true, true) => return,
    };
    say(page, title);
    frames.iter().take(MAX_FRAMES).for_each(|frame| say(page, &format!("  {}", place(frame))));
    if frames.len() > MAX_FRAMES {
        say(page, &format!("  and {} more", frames.len() - MAX_FRAMES));
    }
    match record.symbolized {
        Symbolized::Done => {}
        Symbolized::Pending => say(page, "Files and lines are still being resolved: ask again."),
        Symbolized::Unavailable => {
            say(page, "The component has no debug information, so files and lines are missing.");
        }
    }
}

fn memory(page: &mut String, record: &CrashRecord) {
    let used = &record.resources;
    let mut line = format!(
        "Memory: {} of {} at the end, {} at most",
        bytes(used.memory_bytes),
        bytes(used.memory_limit_bytes),
        bytes(used.memory_peak_bytes)
    );
    if used.denied_growths > 0 {
        let _ = write!(line, "; {} growths were denied", used.denied_growths);
    }
    if let Some(eviction) = &record.eviction {
        let _ = write!(
            line,
            "; the container used {} of {}",
            bytes(eviction.container_used_bytes),
            bytes(eviction.container_limit_bytes)
        );
    }
    say(page, &format!("{line}."));
}

/// The tool that shows more of such an end.
fn tool(reason: ExitReason) -> Option<&'static str> {
    match reason {
        ExitReason::MemoryLimit | ExitReason::EvictedMemoryPressure => Some("memory"),
        ExitReason::HostError | ExitReason::HostDeath => Some("diagnose_log"),
        ExitReason::BudgetExceeded => Some("usage"),
        ExitReason::WallDeadline | ExitReason::Stuck => Some("events"),
        ExitReason::Completed
        | ExitReason::Stopped
        | ExitReason::Drained
        | ExitReason::Superseded
        | ExitReason::Upgraded
        | ExitReason::GuestExit
        | ExitReason::GuestError
        | ExitReason::Exception
        | ExitReason::Trap
        | ExitReason::Panic
        | ExitReason::StackExhausted
        | ExitReason::CpuDeadline
        | ExitReason::HostCallTimeout
        | ExitReason::StartFailed
        | ExitReason::Killed => None,
    }
}

fn next(agent: Option<&AgentView>, record: Option<&CrashRecord>) -> Vec<String> {
    let mut steps = Vec::new();
    if let Some(reason) = record.map(|record| record.reason) {
        steps.extend(advice(reason).iter().map(|step| (*step).to_owned()));
        steps.extend(tool(reason).map(|tool| format!("The tool `{tool}` shows more of it.")));
    }
    let restart = agent.map(|agent| (&*agent.status, &agent.restart));
    match restart {
        Some(("backoff", _)) => {
            steps.push("Nothing is needed for the restart: the host does it.".to_owned());
        }
        Some(("quarantined", restart)) => {
            let why = restart.quarantine.as_ref().map(|quarantine| quarantine.why);
            let first = match why {
                Some(QuarantineReason::Intensity) => "It ended too often",
                Some(QuarantineReason::SameFault) => "Each of its starts ended in the same fault",
                Some(QuarantineReason::Deterministic) => "The fault recurs at each start",
                Some(QuarantineReason::HostDeath) => "The host died twice with it at work",
                None => "It is quarantined",
            };
            steps.push(format!(
                "{first}. When the cause is fixed, start it with another spec or component, or with `force`."
            ));
        }
        Some(("exited" | "failed", restart)) => {
            let policy = match restart.policy {
                RestartPolicy::Temporary => "temporary: nothing restarts it",
                RestartPolicy::Transient => "transient: an end that was intended is not restarted",
                RestartPolicy::Permanent => "permanent",
            };
            steps
                .push(format!("Start it again when it is wanted; its restart policy is {policy}."));
        }
        None if record.is_some() => {
            steps.push("Start it again when it is wanted.".to_owned());
        }
        _ => {}
    }
    if let Some(record) = record {
        steps.push(format!("The tool `crash_record` has all of crash {}.", word(&record.crash_id)));
    }
    steps
}

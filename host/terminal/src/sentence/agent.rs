//! Sentences about agents. A crash is a block of its own: see [`crate::crash`].

use std::fmt::Write as _;

use bulkhead_types::event::{
    AgentMessage, AgentQuarantined, AgentStuck, MemorySoftLimit, MessageSetAside, ModelBudget,
    RestartCancelled, RestartScheduled, SnapshotNotKept, StartTimings, ToolExited, ToolStarted,
    WorkNotSaved, WorkSaved, WorkspaceArrived, WorkspaceNotShipped, WorkspacePrepared,
    WorkspaceShipped,
};
use bulkhead_types::{Event, ExitReason, Next, ToolEnd};

use super::tool;
use super::{Sentence, Who, and, ms, quoted};
use crate::reason::{ended, failed_at, sender};
use crate::words::{bytes, command_line, counted, micros as us, percent, word};

/// Of a commit's id, in characters.
const SHORT_COMMIT: usize = 10;

pub(super) fn of(event: &Event) -> Option<Sentence<'_>> {
    let sentence = match event {
        Event::AgentStart { agent, timings, .. } => {
            let (number, took) = (agent.incarnation, us(total(timings)));
            Sentence::new(
                Who::Agent(&agent.agent_id),
                format!("runs (incarnation {number}), started in {took}"),
            )
        }
        Event::AgentStartJoined { agent_id, running, .. } => {
            let text = if *running {
                "runs already: a start joined it"
            } else {
                "is starting already: a start joined it"
            };
            Sentence::new(Who::Agent(agent_id), text).detail()
        }
        Event::AgentStartSuperseded { agent_id, by, .. } => {
            let by = by.as_deref().unwrap_or("somebody");
            Sentence::new(
                Who::Agent(agent_id),
                format!("was not started after all: {by} took over"),
            )
        }
        Event::AgentStartFailed { agent_id, phase, error, action, .. } => Sentence::new(
            Who::Agent(agent_id),
            format!("{}: {}; {action}", failed_at(*phase), quoted(error)),
        ),
        Event::AgentExit {
            agent,
            reason,
            message,
            by,
            agent_uptime_ms,
            turns,
            undelivered,
            crash_id,
            ..
        } => {
            let by = by.as_ref().map_or_else(String::new, |by| format!(" ({by})"));
            let lost = and(*undelivered, "messages undelivered");
            let mut text = format!(
                "{}{by} after {}, {}{lost}",
                ended(*reason),
                ms(*agent_uptime_ms),
                counted(*turns as usize, "turn")
            );
            if *reason == ExitReason::Completed && !message.is_empty() {
                let _ = write!(text, ": {}", quoted(message));
            }
            // The crash says more, and at a shutdown all of them end.
            Sentence::new(Who::Agent(&agent.agent_id), text)
                .detail_if(crash_id.is_some() || *reason == ExitReason::Drained)
        }
        Event::AgentCrash(record) => {
            let text = format!("crashed: it {}: {}", ended(record.reason), quoted(&record.message));
            Sentence::new(Who::Agent(&record.agent_id), text)
        }
        Event::CrashSymbolized { agent, crash_id, .. } => {
            let text =
                format!("has files and lines of its crash now: bulkhead crashes show {crash_id}");
            Sentence::new(Who::Agent(&agent.agent_id), text).detail()
        }
        Event::CoreDumpKept { agent, core_dump, .. } => {
            let text = format!("left a core dump of {}: {}", bytes(core_dump.bytes), core_dump.id);
            Sentence::new(Who::Agent(&agent.agent_id), text)
        }
        Event::RestartScheduled(RestartScheduled {
            agent,
            reason,
            backoff_ms,
            attempts_in_window,
            max_restarts,
            window_ms,
            ..
        }) => {
            let window = ms(*window_ms);
            let text = format!(
                "restarts in {} (end {attempts_in_window} in {window}, {max_restarts} are allowed)",
                ms(*backoff_ms)
            );
            // The block of the crash says it as well.
            let is_in_crash = !reason.is_normal() && *reason != ExitReason::StartFailed;
            Sentence::new(Who::Agent(&agent.agent_id), text).detail_if(is_in_crash)
        }
        Event::RestartCancelled(RestartCancelled { agent, by }) => {
            Sentence::new(Who::Agent(&agent.agent_id), format!("is not restarted: {by} came first"))
        }
        Event::AgentQuarantined(AgentQuarantined { agent, message, crash_id, action, .. }) => {
            Sentence::new(
                Who::Agent(&agent.agent_id),
                format!("is in quarantine: {}; {action}", quoted(message)),
            )
            .detail_if(crash_id.is_some())
        }
        _ => return work(event),
    };
    Some(sentence)
}

/// What an agent does while it runs.
fn work(event: &Event) -> Option<Sentence<'_>> {
    let sentence = match event {
        Event::ModelBudget(ModelBudget { agent, budget, scope, used, bound, exhausted, ends }) => {
            let then = match (exhausted, ends) {
                (_, true) => "; it is ended",
                (true, false) => "; its calls are refused",
                (false, false) => "",
            };
            let text = format!(
                "has used {} of {budget} of the {scope} ({used} of {bound}){then}",
                percent(*used, *bound)
            );
            Sentence::new(Who::Agent(&agent.agent_id), text)
        }
        Event::AgentStuck(AgentStuck { agent, message, .. }) => Sentence::new(
            Who::Agent(&agent.agent_id),
            format!("goes in circles, and is ended: {}", quoted(message)),
        ),
        Event::SnapshotSetAside { agent, bytes: size, taken_at, failures, reason, .. } => {
            let (size, times) = (bytes(*size as u64), counted(*failures as usize, "time"));
            let text = format!(
                "lost its snapshot of {taken_at} ({size}), which is set aside: {reason} ({times})"
            );
            Sentence::new(Who::Agent(&agent.agent_id), text)
        }
        Event::SnapshotNotKept(SnapshotNotKept { agent, code, message, .. }) => {
            let text = format!("its state is not saved: {} ({})", quoted(message), word(code));
            Sentence::new(Who::Agent(&agent.agent_id), text)
        }
        Event::MemorySoftLimit(MemorySoftLimit { agent, used_bytes, limit_bytes, .. }) => {
            let text =
                format!("uses {} of its {} of memory", bytes(*used_bytes), bytes(*limit_bytes));
            Sentence::new(Who::Agent(&agent.agent_id), text)
        }
        Event::AgentCpuThrottled { agent, cpu_max_percent, .. } => {
            let text = format!("is throttled: its role may use {cpu_max_percent} % of a core");
            Sentence::new(Who::Agent(&agent.agent_id), text)
        }
        Event::SecretUsed { agent, secret, destination } => {
            let text = format!("sent secret {secret} to {destination}");
            Sentence::new(Who::Agent(&agent.agent_id), text).detail()
        }
        Event::WorkspacePrepared(WorkspacePrepared {
            agent,
            rig,
            branch,
            reused,
            duration_ms,
            ..
        }) => {
            let how = if *reused { "goes on in" } else { "has a new" };
            let (rig, branch, took) = (word(rig), word(branch), ms(*duration_ms));
            let text = format!("{how} repository of {rig}, on {branch}, after {took}");
            Sentence::new(Who::Agent(&agent.agent_id), text)
        }
        Event::WorkspaceArrived(WorkspaceArrived {
            agent_id,
            bytes: size,
            duration_ms,
            kept_as,
            ..
        }) => {
            let (size, took) = (bytes(*size), ms(*duration_ms));
            let older = kept_as.as_ref().map_or_else(String::new, |path| {
                format!("; the one of this disk is kept as {}", quoted(path))
            });
            let text = format!("has its workspace from another machine, {size} in {took}{older}");
            Sentence::new(Who::Agent(agent_id), text)
        }
        Event::WorkspaceShipped(WorkspaceShipped {
            agent_id,
            bytes: size,
            skipped,
            duration_ms,
            ..
        }) => {
            let without = match *skipped {
                0 => String::new(),
                some => format!(", {some} skipped"),
            };
            let text =
                format!("workspace shipped, {} in {}{without}", bytes(*size), ms(*duration_ms));
            Sentence::new(Who::Agent(agent_id), text).detail()
        }
        Event::WorkspaceNotShipped(WorkspaceNotShipped { agent_id, message, .. }) => {
            let text = format!("its workspace is not shipped: {}", quoted(message));
            Sentence::new(Who::Agent(agent_id), text)
        }
        Event::WorkSaved(WorkSaved { agent, rig, branch, commit, duration_ms }) => {
            let commit = &commit[..commit.floor_char_boundary(SHORT_COMMIT)];
            let (rig, branch, took) = (word(rig), word(branch), ms(*duration_ms));
            let text =
                format!("left its work at {rig}, as {} on {branch}, after {took}", word(commit));
            Sentence::new(Who::Agent(&agent.agent_id), text)
        }
        Event::WorkNotSaved(WorkNotSaved { agent, rig, branch, message, .. }) => {
            let (rig, branch) = (word(rig), word(branch));
            let text = format!("did not leave all of its work at {rig}, on {branch}: {message}");
            Sentence::new(Who::Agent(&agent.agent_id), text)
        }
        Event::AgentUnhandledRejection { agent, message, exceptions, .. } => {
            let place = exceptions.first().and_then(|it| it.frames.first());
            let at =
                place.map_or_else(String::new, |frame| format!(" ({}:{})", frame.file, frame.line));
            let text = format!("has an exception that nobody caught: {message}{at}");
            Sentence::new(Who::Agent(&agent.agent_id), text)
        }
        Event::ToolStarted(ToolStarted { agent, program, arguments, .. }) => {
            let text = format!("runs {}", command_line(program, arguments));
            Sentence::new(Who::Agent(&agent.agent_id), text).detail()
        }
        Event::ToolExited(ToolExited { agent, program, end, .. }) => {
            let text = format!("ran {}, which {}", word(program), tool::ended(event));
            let is_usual = matches!(end, ToolEnd::Exited | ToolEnd::Cancelled);
            Sentence::new(Who::Agent(&agent.agent_id), text).detail_if(is_usual)
        }
        Event::AgentLog { agent, dropped, message, fields, .. } => {
            let mut text = format!("> {message}");
            for (name, value) in fields {
                let name = name.strip_prefix("guest.").unwrap_or(name);
                let _ = write!(text, " {}={}", word(name), word(value));
            }
            if *dropped > 0 {
                text = format!("lost {dropped} lines before this one {text}");
            }
            // A blank line is of no use without those around it.
            let is_blank = message.trim().is_empty() && fields.is_empty() && *dropped == 0;
            Sentence::new(Who::Agent(&agent.agent_id), text).detail_if(is_blank)
        }
        Event::AgentMessage(AgentMessage { agent, sender: from, bytes: size, attempt, .. }) => {
            let again = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
            let text =
                format!("got a message of {} from {}{again}", bytes(*size as u64), sender(from));
            Sentence::new(Who::Agent(&agent.agent_id), text)
        }
        Event::MessageSetAside(MessageSetAside {
            agent,
            message_id,
            sender: from,
            attempts,
            ..
        }) => {
            let (from, times) = (sender(from), counted(*attempts as usize, "delivery"));
            let times = times.replace("deliverys", "deliveries");
            let text = format!(
                "ended in each of {times} of message {message_id} from {from}: the message is set aside"
            );
            Sentence::new(Who::Agent(&agent.agent_id), text)
        }
        Event::AgentTurn { agent, outcome, error, cpu_us, wall_ms, .. } => {
            let (took, cpu) = (ms(*wall_ms), us(*cpu_us));
            let text = match (error, outcome) {
                (Some(error), _) => format!("failed in a turn, after {took}: {}", quoted(error)),
                (None, Some(Next::Continue)) => {
                    format!("ended a turn after {took} ({cpu} CPU), and goes on")
                }
                (None, Some(Next::Done)) => format!("ended its last turn after {took} ({cpu} CPU)"),
                (None, _) => format!("ended a turn after {took} ({cpu} CPU)"),
            };
            Sentence::new(Who::Agent(&agent.agent_id), text)
        }
        _ => return None,
    };
    Some(sentence)
}

fn total(timings: &StartTimings) -> u64 {
    let StartTimings { wait_us, compile_us, instantiate_us, restore_us, guest_start_us } = timings;
    wait_us + compile_us + instantiate_us + restore_us + guest_start_us
}

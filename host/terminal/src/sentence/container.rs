//! Sentences about the host itself.

use std::fmt::Write as _;

use bulkhead_types::event::{
    ColdStart, DrainPhase, Drained, Draining, HydrationFailed, HydrationFinished, HydrationStarted,
    MemoryPressure, MemoryUsageFailed, Stopped, StoreAvailable, StoreSetAside, StoreUnavailable,
    WorkspaceRemoved, WorkspacesFull,
};
use bulkhead_types::memory::{LargeAgent, MemoryUsage};
use bulkhead_types::previous::NOTHING_NAMES_A_CAUSE;
use bulkhead_types::{Cause, Event, Level, PreviousRun};

use super::{Sentence, Who, agents, and, ms, quoted};
use crate::reason::{confidence, run_ended};
use crate::words::{bytes, counted, word};

pub(super) fn of(event: &Event) -> Option<Sentence<'_>> {
    let said = |text: String| Sentence::new(Who::Host, text);
    let sentence = match event {
        Event::ColdStart(ColdStart { version, pid, boot_agents, max_agents, listen, .. }) => {
            let agents = agents(*boot_agents);
            said(format!("starts: version {version}, process {pid}, {agents} configured, at most {max_agents}, listens on {listen}")).detail()
        }
        Event::PreviousRun { run, earlier, earlier_forgotten, .. } => {
            let unreported = earlier.len() as u64 + earlier_forgotten;
            said(previous_run(run, unreported))
                .detail_if(matches!(run.cause, Cause::Clean | Cause::None) && unreported == 0)
        }
        Event::StoreSetAside(StoreSetAside { reason, kept_as, removed }) => {
            let removed = removed
                .as_ref()
                .map_or_else(String::new, |old| format!("; {old} was removed for it"));
            said(match kept_as {
                Some(kept_as) => format!(
                    "begins with a new database, because the old one is damaged ({reason}); it is kept as {kept_as}{removed}"
                ),
                None => {
                    format!("begins with a new database, because the old one is gone: {reason}")
                }
            })
        }
        Event::StoreUnavailable(StoreUnavailable { reason, retries }) => {
            let then = if *retries { "; it tries again" } else { "" };
            said(format!("stores nothing: {reason}{then}"))
        }
        Event::StoreOff {} => said("stores nothing, because of --without-store".to_owned()),
        Event::StoreAvailable(StoreAvailable { crash_records_written, crash_records_dropped }) => {
            let written = counted(*crash_records_written as usize, "crash record");
            said(format!(
                "stores again: {written} written{}",
                and(*crash_records_dropped, "dropped")
            ))
        }
        Event::CapacityLimited { requested, granted, reason } => {
            said(format!("has room for {granted} agents and not for {requested}: {reason}"))
        }
        Event::ComponentLoaded { component, bytes: size, source, duration_ms, .. } => {
            let is_cached = *source != "compiled";
            let verb = if is_cached { "loaded" } else { "compiled" };
            said(format!("{verb} component {component} ({}) in {}", bytes(*size), ms(*duration_ms)))
                .detail_if(is_cached)
        }
        Event::CacheEntryRejected { path, reason } => {
            said(format!("compiles a component again: {reason} ({path})"))
        }
        Event::UnhandledRejection { task, message, stack, repeated, .. } => {
            let stack = stack.as_ref().map_or_else(String::new, |stack| format!(" at {stack}"));
            said(format!(
                "lost its task {task}, which panicked{stack}: {}{}",
                quoted(message),
                and(*repeated, "times before")
            ))
        }
        Event::UncaughtException { message, stack, .. } => {
            let stack = stack.as_ref().map_or_else(String::new, |stack| format!(" {stack}"));
            said(format!("panicked{stack}: {}; the process ends", quoted(message)))
        }
        Event::RequestRefused { method, path, status, error, suppressed } => {
            let more = and(*suppressed, "more like it");
            said(format!("refused {method} {path} ({status}): {}{more}", quoted(error)))
                .detail_if(is_probe(path, *status))
        }
        Event::HostLog { level, target: _, message, fields } => {
            let mut text = message.clone();
            for (name, value) in fields {
                let _ = write!(text, " {name}={}", word(value));
            }
            said(text).detail_if(*level <= Level::Info)
        }
        Event::MemoryUsage(usage) => said(memory_usage(usage)).detail(),
        Event::MemoryUsageFailed(MemoryUsageFailed { source, error }) => {
            said(format!("cannot read {source}: {error}"))
        }
        Event::WorkspaceRemoved(WorkspaceRemoved { agent_id, why, bytes: size, left, .. }) => {
            let why = match *why {
                "expired" => "nobody used it for long",
                "pushed" => "all of it is on the remote",
                "space" => "workspaces took too much space",
                _ => "somebody asked for it",
            };
            let mut text = format!("its workspace was removed, {}: {why}", bytes(*size));
            if let Some(left) = left {
                let _ = write!(text, "; something is left ({left})");
            }
            Sentence::new(Who::Agent(agent_id), text)
        }
        Event::RoleUpgrade { role, phase, agents, upgraded, problem, .. } => {
            let how_far = format!("{upgraded} of {agents} agents have the new code");
            let upgrade = format!("upgrade of role {role}");
            said(match (*phase, problem) {
                ("loading", _) => format!("{upgrade}: the new code is loaded"),
                ("rolling", _) => {
                    format!("{upgrade}: one agent after the other leaves for the new code")
                }
                ("proving", _) => format!("{upgrade}: {how_far}, and have to come through a turn"),
                ("reverting", Some(problem)) => format!("{upgrade} goes back: {problem}"),
                ("reverting", None) => format!("{upgrade} goes back: somebody took it back"),
                ("aborted", _) => {
                    format!("{upgrade} was taken back: all agents have the code before")
                }
                (_, Some(problem)) if *phase == "done" => {
                    format!("{upgrade} is done, but {problem}")
                }
                (_, Some(problem)) => {
                    format!("{upgrade} failed: {problem}; all agents have the code before")
                }
                _ => format!("{upgrade} is done: {how_far}"),
            })
        }
        Event::WorkspacesFull(WorkspacesFull { excess_bytes, max_bytes }) => said(format!(
            "workspaces of agents that do not run take {} more than {}, and hold work that is nowhere else",
            bytes(*excess_bytes),
            bytes(*max_bytes)
        )),
        Event::MemoryPressure(MemoryPressure {
            state,
            psi,
            used_bytes,
            limit_bytes,
            largest,
            action,
            ..
        }) => {
            let figure = |figure: &Option<u64>| figure.map_or_else(|| "?".to_owned(), bytes);
            let mut figures = format!("{} of {} used", figure(used_bytes), figure(limit_bytes));
            if let Some(psi) = psi {
                let _ =
                    write!(figures, ", {:.1} % of the time spent waiting for it", psi.some_avg10);
            }
            said(memory_pressure(state, &figures, largest, action))
        }
        _ => return boot_and_end(event),
    };
    Some(sentence)
}

fn boot_and_end(event: &Event) -> Option<Sentence<'_>> {
    let said = |text: String| Sentence::new(Who::Host, text);
    let sentence = match event {
        Event::HydrationStarted(HydrationStarted {
            agents: count,
            from_store,
            from_town,
            quarantined,
            town_error,
            ..
        }) => {
            let town = and(*from_town as u64, "wanted by the town");
            let failed = town_error.as_ref().map_or_else(String::new, |error| {
                format!("; the town did not answer: {}", quoted(error))
            });
            let quarantined = and(*quarantined as u64, "in quarantine");
            said(format!(
                "starts {}: {from_store} of an earlier run{town}{quarantined}{failed}",
                agents(*count)
            ))
            .detail_if(town_error.is_none())
        }
        Event::HydrationFinished(HydrationFinished {
            running,
            failed,
            late,
            quarantined,
            duration_ms,
            ..
        }) => {
            let (failed, late) =
                (and(*failed as u64, "failed"), and(*late as u64, "still starting"));
            let quarantined = and(*quarantined as u64, "in quarantine");
            let runs = if *running == 1 { "runs" } else { "run" };
            said(format!(
                "is ready after {}: {} {runs}{failed}{late}{quarantined}",
                ms(*duration_ms),
                agents(*running)
            ))
        }
        Event::HydrationFailed(HydrationFailed { error, action }) => {
            said(format!("could not start the agents: {error}; {action}"))
        }
        Event::StopIntent { by, reason, drain_ms } => {
            let within = drain_ms
                .map_or_else(String::new, |limit| format!("; it takes {} at most", ms(limit)));
            said(format!("shuts down ({by}): {reason}{within}"))
        }
        Event::Draining(Draining { phase, agents: count, busy, limit_ms }) => {
            let busy_ones = and(*busy as u64, "of them busy");
            let (count, limit) = (agents(*count), ms(*limit_ms));
            let text = match phase {
                DrainPhase::Settling => {
                    format!("lets {count} finish{busy_ones}; they have {limit}")
                }
                DrainPhase::Stopping => {
                    format!("asks {count} to end{busy_ones}; they have {limit}")
                }
                DrainPhase::Killing => format!("kills {count} that did not end"),
            };
            said(text).detail_if(*phase != DrainPhase::Killing && *busy == 0)
        }
        Event::Drained(Drained { duration_ms, .. }) => {
            said(format!("has no agents any more, after {}", ms(*duration_ms))).detail()
        }
        Event::Stopped(Stopped { stopped, killed, duration_ms, dropped_lines }) => {
            let killed = and(*killed as u64, "had to be killed");
            let dropped = and(*dropped_lines, "log lines were dropped");
            said(format!(
                "stopped after {}: {} ended{killed}{dropped}",
                ms(*duration_ms),
                agents(*stopped)
            ))
        }
        _ => return None,
    };
    Some(sentence)
}

fn previous_run(run: &PreviousRun, unreported: u64) -> String {
    let mut text = match run.cause {
        Cause::None => "has no run before it".to_owned(),
        // Of what is not known there is no confidence.
        Cause::Unknown => format!("its last run {}", run_ended(run.cause)),
        cause => format!("its last run {} ({})", run_ended(cause), confidence(run.confidence)),
    };
    let is_news =
        |reason: &&String| run.cause != Cause::Unknown || **reason != NOTHING_NAMES_A_CAUSE;
    let evidence: Vec<&str> = run.evidence.iter().filter(is_news).map(String::as_str).collect();
    if !evidence.is_empty() {
        let _ = write!(text, ": {}", evidence.join("; "));
    }
    if unreported > 0 {
        let _ =
            write!(text, "; {} before it ended unreported", counted(unreported as usize, "run"));
    }
    text
}

fn memory_usage(usage: &MemoryUsage) -> String {
    let MemoryUsage { used_mb, limit_mb, rss_mb, active_agents, .. } = usage;
    let mib = |figure: &Option<f64>| {
        figure.map_or_else(|| "?".to_owned(), |figure| format!("{figure:.0} MiB"))
    };
    let active = agents(*active_agents);
    format!(
        "uses {} of {} memory, {} of it by the process; {active} active",
        mib(used_mb),
        mib(limit_mb),
        mib(rss_mb)
    )
}

fn memory_pressure(state: &str, figures: &str, largest: &[LargeAgent], action: &str) -> String {
    if state != "high" {
        return format!("has enough memory again: {figures}");
    }
    let largest = largest.first().map_or_else(String::new, |agent| {
        format!("; the largest agent is {} with {}", agent.agent_id, bytes(agent.used_bytes))
    });
    let then = if action == "shed" { "; agents are ended until there is enough" } else { "" };
    format!("is short of memory: {figures}{largest}{then}")
}

/// A probe of a host that boots or drains: the answer is what it asked for.
fn is_probe(path: &str, status: u16) -> bool {
    status == 503 && matches!(path, "/health" | "/livez" | "/readyz")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_without_a_cause_is_said_once() {
        let run = |cause| -> PreviousRun {
            serde_json::from_value(serde_json::json!({
                "previousRunId": "r", "cause": cause, "confidence": "low",
                "evidence": [NOTHING_NAMES_A_CAUSE, "nobody saw how the process ended"], "excluded": [],
                "lastState": null, "lastSeq": null, "lastTs": null, "lastMemory": null, "inFlight": [],
                "exitCode": null, "signal": null,
            }))
            .expect("a previous run")
        };
        assert_eq!(
            previous_run(&run("unknown"), 0),
            "its last run ended for an unknown reason: nobody saw how the process ended"
        );
        let told = previous_run(&run("vm_replaced"), 0);
        assert!(
            told.starts_with("its last run ended with its machine (low confidence): it"),
            "{told}"
        );
    }
}

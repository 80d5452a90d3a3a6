//! What an agent's task tells: to the log, and to those who follow the agent.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bulkhead_api::ExitView;
use bulkhead_events::now;
use bulkhead_model::event::StartTimings;
use bulkhead_model::time::millis;
use bulkhead_model::{
    Consequence, CrashRecord, Digest, Event, Exit, ExitReason, Outcome, Phase, Resources,
    StartPhase,
};
use bulkhead_runtime::{AgentFailure, Birth};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::handle::Shared;
use crate::refusal::{StartError, StartFailure};

/// Frames that take part in a fingerprint.
const FINGERPRINT_FRAMES: usize = 3;

/// Reply text that an `agent.turn` event shows.
const EVENT_REPLY_BYTES: usize = 16 * 1024;

pub(crate) struct Reporter {
    shared: Arc<Shared>,
    birth: Arc<Birth>,
    digest: Digest,
    /// Made when it is needed: most incarnations end well.
    crash_id: OnceLock<String>,
}

/// The event of a turn, as followers read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TurnEvent<'a> {
    message_id: &'a str,
    outcome: Option<bulkhead_model::Next>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    wall_ms: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StartEvent {
    incarnation: u64,
}

impl Reporter {
    pub(crate) fn new(shared: Arc<Shared>, birth: Arc<Birth>, digest: Digest) -> Self {
        Self { shared, birth, digest, crash_id: OnceLock::new() }
    }

    /// The id that this incarnation's crash record has, if it comes to that.
    fn crash_id(&self) -> &str {
        self.crash_id.get_or_init(|| Uuid::now_v7().to_string())
    }

    pub(crate) fn running(&self, timings: StartTimings) {
        let shared = &self.shared;
        let incarnation = shared.tag.incarnation.0;
        shared.ring.push_value("agent.start", &StartEvent { incarnation });
        let (agent, component) = (shared.tag.clone(), Arc::clone(&shared.spec.component));
        shared.sink.record(Event::AgentStart { agent, component, timings });
    }

    pub(crate) fn not_started(&self, error: &StartError) {
        let agent = self.shared.tag.clone();
        if error.kind == StartFailure::Superseded {
            let by = self.shared.stop.borrow().as_ref().map(|order| order.by.clone());
            self.shared.sink.record(Event::AgentStartSuperseded { agent, by });
            return;
        }
        self.shared.sink.record(Event::AgentStartFailed {
            agent_id: agent.agent_id,
            role: agent.role.to_string(),
            incarnation: Some(agent.incarnation),
            phase: error.phase,
            error_type: error.kind.as_str().to_owned(),
            error: error.message.clone(),
            action: error.kind.action().to_owned(),
        });
    }

    pub(crate) fn turn(
        &self,
        message_id: &str,
        result: &Result<Outcome, AgentFailure>,
        cpu_us: u64,
        wall: Duration,
    ) {
        let outcome = result.as_ref().ok().map(|outcome| outcome.next);
        let reply = result.as_ref().ok().and_then(|outcome| outcome.reply.as_deref());
        let error =
            result.as_ref().err().map(|failure| format!("{}: {}", failure.code, failure.message));
        let wall_ms = millis(wall);
        let reply = reply.map(|reply| &reply[..reply.floor_char_boundary(EVENT_REPLY_BYTES)]);
        let event = TurnEvent { message_id, outcome, reply, error: error.as_deref(), wall_ms };
        self.shared.ring.push_value("agent.turn", &event);
        let agent = self.shared.tag.clone();
        let message_id = message_id.to_owned();
        self.shared.sink.record(Event::AgentTurn {
            agent,
            message_id,
            outcome,
            error,
            cpu_us,
            wall_ms,
        });
    }

    /// Tells the end, once. Returns the crash record's id when there is one.
    pub(crate) fn ended(
        &self,
        exit: &Exit,
        by: Option<String>,
        message_id: Option<String>,
        active_agents: usize,
    ) -> Option<String> {
        let shared = &self.shared;
        let crash_id = (!exit.reason.is_normal()).then(|| self.crash_id().to_owned());
        let usage = shared.meter.usage();
        let agent_uptime_ms =
            now().0.saturating_sub(shared.board.started_at().0).max(0).unsigned_abs();
        if crash_id.is_some() {
            let record = self.crash_record(exit, message_id, active_agents, agent_uptime_ms);
            shared.sink.record(Event::AgentCrash(Box::new(record)));
        }
        shared.sink.record(Event::AgentExit {
            agent: shared.tag.clone(),
            reason: exit.reason,
            phase: exit.phase,
            message: exit.message.clone(),
            by,
            agent_uptime_ms,
            turns: shared.board.turns(),
            cpu_us: usage.cpu_us,
            undelivered: shared.mailbox.depth() as u64,
            dropped_log_lines: self.birth.logs.lost(),
            crash_id: crash_id.clone(),
        });
        let view = ExitView {
            reason: exit.reason.as_str().to_owned(),
            message: exit.message.clone(),
            at: now(),
            crash_id: crash_id.clone(),
        };
        shared.ring.push_value("agent.exit", &view);
        shared.board.set_exit(view);
        crash_id
    }

    fn crash_record(
        &self,
        exit: &Exit,
        message_id: Option<String>,
        active_agents: usize,
        agent_uptime_ms: u64,
    ) -> CrashRecord {
        let Shared { tag, spec, mailbox, board, meter, .. } = &*self.shared;
        let usage = meter.usage();
        CrashRecord {
            crash_id: self.crash_id().to_owned(),
            agent_id: tag.agent_id.clone(),
            role: Arc::clone(&tag.role),
            name: spec.name.clone(),
            rig_id: spec.rig_id.clone(),
            incarnation: tag.incarnation,
            component: Arc::clone(&spec.component),
            component_sha256: Some(self.digest),
            reason: exit.reason,
            trap: exit.trap,
            message: exit.message.clone(),
            location: exit.location.clone(),
            status: exit.status,
            code: exit.code.clone(),
            requested_bytes: exit.requested_bytes,
            fingerprint: fingerprint(exit),
            deterministic: exit.deterministic,
            frames: exit.frames.clone(),
            started_at: board.started_at(),
            crashed_at: now(),
            agent_uptime_ms,
            phase: exit.phase,
            message_id,
            host_call: exit.host_call.clone(),
            resources: Resources {
                memory_bytes: usage.memory_bytes,
                memory_peak_bytes: usage.memory_peak_bytes,
                memory_limit_bytes: usage.memory_limit_bytes,
                denied_growths: usage.denied_growths,
                cpu_us: usage.cpu_us,
                turns: board.turns(),
                host_calls: usage.host_calls,
                mailbox_depth: mailbox.depth(),
            },
            last_log_lines: self.birth.logs.tail(),
            active_tools: board.active_tools(),
            active_agents,
            consequence: Consequence::None,
        }
    }
}

/// Groups ends of one cause: the reason, and where it happened by name. Offsets and messages are left
/// out, because a rebuild of other code moves the ones and data changes the others.
fn fingerprint(exit: &Exit) -> String {
    let mut hash = Sha256::new();
    hash.update(exit.reason.as_str());
    for part in [exit.trap, exit.code.as_deref()].into_iter().flatten() {
        hash.update([0]);
        hash.update(part);
    }
    if let Some(location) = &exit.location {
        hash.update([0]);
        hash.update(&location.file);
    }
    let functions = exit.frames.iter().filter_map(|frame| frame.function.as_deref());
    for function in functions.filter(|name| is_of_the_agent(name)).take(FINGERPRINT_FRAMES) {
        hash.update([0]);
        hash.update(function);
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a function is the agent's own, and not the standard library's way into a panic.
fn is_of_the_agent(function: &str) -> bool {
    let library =
        ["std::", "core::", "alloc::", "<core::", "<alloc::", "<std::", "__rust", "rust_"];
    function != "abort"
        && !library.iter().any(|prefix| function.starts_with(prefix))
        && !function.contains("rust_panic")
}

/// The answer to whoever asked for a start that did not work out.
pub(crate) fn start_error(exit: &Exit, deadline: Instant, crash_id: Option<String>) -> StartError {
    let phase = match exit.phase {
        Phase::Instantiate => StartPhase::Instantiate,
        Phase::Restore => StartPhase::Restore,
        _ => StartPhase::GuestStart,
    };
    let (phase, kind) = match exit.reason {
        ExitReason::Stopped | ExitReason::Drained | ExitReason::Superseded => {
            (StartPhase::Superseded, StartFailure::Superseded)
        }
        ExitReason::StartFailed if exit.code.is_some() => (phase, StartFailure::GuestError),
        ExitReason::StartFailed => (StartPhase::Deadline, StartFailure::Deadline),
        ExitReason::CpuDeadline if Instant::now() >= deadline => {
            (StartPhase::Deadline, StartFailure::Deadline)
        }
        ExitReason::MemoryLimit if phase == StartPhase::Instantiate => {
            (phase, StartFailure::MemoryMinimum)
        }
        ExitReason::HostError => (phase, StartFailure::Host),
        _ if phase == StartPhase::Instantiate => (phase, StartFailure::Instantiate),
        _ => (phase, StartFailure::GuestCrashed),
    };
    let message = match &exit.code {
        Some(code) => format!("{code}: {}", exit.message),
        None => exit.message.clone(),
    };
    StartError { phase, kind, message, crash_id }
}

#[cfg(test)]
mod tests {
    use bulkhead_model::Frame;

    use super::*;

    fn panic_at(functions: &[&str]) -> Exit {
        let mut exit = Exit::new(ExitReason::Panic, Phase::Handle, "message");
        exit.frames = functions
            .iter()
            .enumerate()
            .map(|(index, name)| Frame {
                index,
                function: Some((*name).to_owned()),
                module: None,
                function_index: index as u32,
                module_offset: Some(index as u64),
            })
            .collect();
        exit
    }

    #[test]
    fn a_fingerprint_tells_causes_apart_and_nothing_else() {
        let here =
            fingerprint(&panic_at(&["core::panicking::panic_fmt", "mayor::step", "mayor::run"]));
        let mut again = panic_at(&["std::rt::begin_panic", "mayor::step", "mayor::run"]);
        again.message = "another message".into();
        again.frames[1].module_offset = Some(99);
        assert_eq!(here, fingerprint(&again));
        assert_ne!(here, fingerprint(&panic_at(&["mayor::other", "mayor::run"])));
        assert_eq!(here.len(), 16);
    }

    #[test]
    fn a_start_that_ran_out_of_time_says_so() {
        let exit =
            Exit::new(ExitReason::StartFailed, Phase::Start, "did not start within its deadline");
        let error = start_error(&exit, Instant::now(), None);
        assert_eq!((error.phase, error.kind), (StartPhase::Deadline, StartFailure::Deadline));
        let mut exit = Exit::new(ExitReason::StartFailed, Phase::Start, "no");
        exit.code = Some("bad-prompt".into());
        let error = start_error(&exit, Instant::now(), None);
        assert_eq!((error.phase, error.kind), (StartPhase::GuestStart, StartFailure::GuestError));
        assert_eq!(error.message, "bad-prompt: no");
    }
}

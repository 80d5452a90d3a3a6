//! What an agent's task reports: to the log, and to followers of the agent's events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_log::now;
use bulkhead_runtime::AgentFailure;
use bulkhead_types::event::{AgentQuarantined, AgentTag, RestartScheduled, StartTimings};
use bulkhead_types::memory::Eviction;
use bulkhead_types::memory::mebibytes;
use bulkhead_types::restart::{Decision, QuarantineReason};
use bulkhead_types::time::millis;
use bulkhead_types::{
    AgentState, Consequence, CrashRecord, Determinism, Event, Exit, ExitClass, ExitReason,
    ExitSummary, Input, Outcome, Phase, Resources, RestartState, StartPhase, Symbolized, Timestamp,
};
use futures_util::FutureExt;
use serde::Serialize;
use uuid::Uuid;

use crate::crash_follow_up::CrashFollowUp;
use crate::engine::Component;
use crate::incarnation::{IncarnationState, StartContext};
use crate::refusal::{PROMPT_TOO_LARGE, StartError, StartFailure};

/// Events that a crash record names.
const LAST_EVENTS: usize = 20;

/// Samples of its memory that a crash record has.
const LAST_SAMPLES: usize = 10;

/// Instead of what an agent says of a turn that failed, when it says more than its rate of log lines.
const NOT_AFFORDED: &str = "left out: the agent's rate of log lines is used up";

/// Reply text that an `agent.turn` event shows.
const EVENT_REPLY_BYTES: usize = 16 * 1024;

pub(crate) struct Reporter {
    state: Arc<IncarnationState>,
    component: Option<Arc<dyn Component>>,
}

/// The event of a turn, as followers read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TurnEvent<'a> {
    message_id: &'a str,
    outcome: Option<bulkhead_types::Next>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<&'a str>,
    /// There was more of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reply_cut: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    wall_ms: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StartEvent {
    incarnation: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RestartEvent {
    restart_at: Timestamp,
    backoff_ms: u64,
}

impl Reporter {
    pub(crate) fn new(state: Arc<IncarnationState>) -> Self {
        Self { state, component: None }
    }

    /// The component is known now.
    pub(crate) fn is_made_from(&mut self, component: &Arc<dyn Component>) {
        self.component = Some(Arc::clone(component));
    }

    /// An id for the end's crash record, if it has one.
    pub(crate) fn crash_id(&self, exit: &Exit) -> Option<String> {
        (!exit.reason.is_normal()).then(|| Uuid::now_v7().to_string())
    }

    /// It runs now: in this order the state, the line and the answer to callers that wait for the start.
    pub(crate) fn running(&self, timings: StartTimings) {
        let state = &self.state;
        state.publisher.transition(Input::Started);
        let incarnation = state.incarnation().0;
        state.start.ring.push_value("agent.start", &StartEvent { incarnation });
        let (agent, component) = (state.tag(), Arc::clone(&state.start.spec.component));
        state.record(Event::AgentStart { agent, component, timings });
        state.answer(Ok(None));
    }

    pub(crate) fn not_started(&self, error: &StartError) {
        let AgentTag { agent_id, role, .. } = self.state.tag();
        let incarnation = self.state.publisher.incarnation();
        if error.kind == StartFailure::Superseded {
            let by = self.state.stop.borrow().as_ref().map(|order| order.by.clone());
            self.state.record(Event::AgentStartSuperseded { agent_id, role, incarnation, by });
            return;
        }
        self.state.record(Event::AgentStartFailed {
            agent_id,
            role: role.to_string(),
            incarnation,
            phase: error.phase,
            error_type: error.kind.as_str().to_owned(),
            error: error.message.clone(),
            action: error.kind.action().to_owned(),
        });
    }

    /// A start that failed is made again.
    pub(crate) fn start_scheduled(&self, at: Timestamp, backoff: Duration, past: &RestartState) {
        let StartContext { spec, ring, container, .. } = &*self.state.start;
        let backoff_ms = millis(backoff);
        ring.push_value("agent.restart_scheduled", &RestartEvent { restart_at: at, backoff_ms });
        let uptime = Some(container.context.uptime());
        self.state.record(Event::RestartScheduled(RestartScheduled {
            agent: self.state.tag(),
            reason: ExitReason::StartFailed,
            restart_at: at,
            backoff_ms,
            attempts_in_window: past.attempts_in_window(&spec.restart, now(), uptime),
            max_restarts: spec.restart.max_restarts,
            window_ms: millis(spec.restart.window),
        }));
    }

    pub(crate) fn turn(
        &self,
        message_id: &str,
        result: &Result<Outcome, AgentFailure>,
        cpu_us: u64,
        wall: Duration,
    ) {
        let outcome = result.as_ref().ok().map(|outcome| outcome.next);
        let (reply, is_cut) = match result {
            Ok(outcome) => (outcome.reply.as_deref(), outcome.reply_cut),
            Err(_) => (None, false),
        };
        let error =
            result.as_ref().err().map(|failure| format!("{}: {}", failure.code, failure.message));
        let wall_ms = millis(wall);
        let shown = reply.map(|reply| &reply[..reply.floor_char_boundary(EVENT_REPLY_BYTES)]);
        let reply_cut = is_cut || shown.map(str::len) < reply.map(str::len);
        let error_text = error.as_deref();
        let event =
            TurnEvent { message_id, outcome, reply: shown, reply_cut, error: error_text, wall_ms };
        self.state.start.ring.push_value("agent.turn", &event);
        self.state.start.container.context.counts().turn_took(wall);
        let (agent, message_id) = (self.state.tag(), message_id.to_owned());
        let error = error.map(|text| self.affordable(text));
        self.state.record(Event::AgentTurn { agent, message_id, outcome, error, cpu_us, wall_ms });
    }

    /// A text of the agent in a line of the host's: as fast as turns can fail, it is bounded like the agent's own lines.
    pub(crate) fn affordable(&self, text: String) -> String {
        if self.state.instance_context.logs.affords(&text) { text } else { NOT_AFFORDED.to_owned() }
    }

    /// Reports the end of an incarnation that did not return when it was killed. Yields it, and its crash record.
    pub(crate) fn abandoned(&self, waited: Duration) -> (Exit, Option<String>) {
        let IncarnationState { start, publisher, instance_context, .. } = &*self.state;
        let phase = match publisher.state() {
            AgentState::Starting => Phase::Start,
            AgentState::Running { busy: true } => Phase::Handle,
            AgentState::Running { busy: false } => Phase::Idle,
            AgentState::Stopping => Phase::Shutdown,
            // Not reached: what has ended is reported already.
            AgentState::Backoff
            | AgentState::Quarantined
            | AgentState::Exited
            | AgentState::Failed => Phase::Idle,
        };
        let waited_ms = millis(waited);
        let text = format!(
            "was killed and did not return within {waited_ms} ms: the host ends without it"
        );
        let mut exit = Exit::new(ExitReason::Killed, phase, text);
        exit.host_call = instance_context.meter.host_call().map(str::to_owned);
        let (at, crash_id) = (now(), self.crash_id(&exit));
        self.ended(&EndReport {
            exit: &exit,
            at,
            lived: publisher.age(),
            crash_id: crash_id.clone(),
            fingerprint: exit.fingerprint(),
            message_id: start.mailbox.in_hand().map(|it| it.message.id),
            decision: Decision::Stay,
            attempts_in_window: 0,
            leaves_mail: false,
        });
        (exit, crash_id)
    }

    /// Reports the end, and what follows from it, once. Returns what is still to be found out about it.
    pub(crate) fn ended(&self, end: &EndReport<'_>) -> Option<CrashFollowUp> {
        let EndReport { exit, lived, crash_id, decision, .. } = end;
        let IncarnationState { start, publisher, instance_context, .. } = &*self.state;
        let follow_up = crash_id.as_ref().map(|crash_id| {
            let mut record = self.crash_record(end, crash_id.clone());
            let mut follow_up = self.symbolize(&mut record);
            let record = Arc::new(record);
            // Can be read from now on, and is on the disk soon, also if its places are to come.
            start.container.crashes.put(Arc::clone(&record));
            let component = self.component.as_ref().filter(|_| !exit.exceptions.is_empty());
            match component.and_then(|it| it.mapped_to_sources(&exit.exceptions)) {
                Some(mapping) => follow_up.map(record, Exit::clone(exit), mapping),
                None => self.state.record(Event::AgentCrash(record)),
            }
            follow_up
        });
        let waiting = start.mailbox.depth() + start.mailbox.nudges();
        self.state.record(Event::AgentExit {
            agent: self.state.tag(),
            reason: exit.reason,
            phase: exit.phase,
            message: exit.message.clone(),
            by: self.state.stop_order().map(|order| order.by),
            agent_uptime_ms: millis(*lived),
            turns: publisher.turns(),
            cpu_us: instance_context.meter.usage().cpu_us,
            undelivered: match decision {
                Decision::Retry { .. } => 0,
                _ if end.leaves_mail => 0,
                Decision::Stay | Decision::Quarantine(_) => waiting as u64,
            },
            dropped_log_lines: instance_context.logs.lost(),
            crash_id: crash_id.clone(),
        });
        start.ring.push_value("agent.exit", &end.summary());
        self.log_consequence(end);
        follow_up
    }

    /// Asks for the files and lines of a record's frames. Those that were seen before are there at once.
    fn symbolize(&self, record: &mut CrashRecord) -> CrashFollowUp {
        let mut follow_up = CrashFollowUp::of(Arc::clone(&self.state), record.crash_id.clone());
        let component = self.component.as_ref().filter(|_| !record.frames.is_empty());
        if let Some(mut symbolizing) = component.and_then(|it| it.symbolize(&record.frames)) {
            match (&mut symbolizing).now_or_never() {
                Some(found) => {
                    record.symbolized = found.status;
                    record.frames = found.frames.clone();
                }
                None => {
                    record.symbolized = Symbolized::Pending;
                    follow_up.symbolizing = Some(symbolizing);
                }
            }
        }
        follow_up
    }

    fn log_consequence(&self, end: &EndReport<'_>) {
        let EndReport { exit, crash_id, decision, attempts_in_window, .. } = end;
        let (agent, attempts_in_window) = (self.state.tag(), *attempts_in_window);
        let StartContext { spec, ring, .. } = &*self.state.start;
        match decision {
            Decision::Stay => {}
            Decision::Retry { at, backoff } => {
                let event = RestartEvent { restart_at: *at, backoff_ms: millis(*backoff) };
                ring.push_value("agent.restart_scheduled", &event);
                self.state.record(Event::RestartScheduled(RestartScheduled {
                    agent,
                    reason: exit.reason,
                    restart_at: *at,
                    backoff_ms: millis(*backoff),
                    attempts_in_window,
                    max_restarts: spec.restart.max_restarts,
                    window_ms: millis(spec.restart.window),
                }));
            }
            Decision::Quarantine(quarantine) => {
                ring.push_value("agent.quarantined", quarantine);
                self.state.record(Event::AgentQuarantined(AgentQuarantined {
                    agent,
                    why: quarantine.why,
                    message: quarantine.message.clone(),
                    reason: exit.reason,
                    attempts_in_window,
                    crash_id: crash_id.clone(),
                    action: StartFailure::Quarantined.action(),
                }));
            }
        }
    }

    fn eviction(&self, exit: &Exit) -> Option<Eviction> {
        let order = self.state.stop_order();
        let eviction = order.and_then(|order| order.eviction);
        eviction
            .filter(|_| exit.reason == ExitReason::EvictedMemoryPressure)
            .map(|eviction| Eviction::clone(&eviction))
    }

    fn crash_record(&self, end: &EndReport<'_>, crash_id: String) -> CrashRecord {
        let EndReport { exit, at, lived, message_id, decision, attempts_in_window, .. } = end;
        let IncarnationState { start, publisher, instance_context, .. } = &*self.state;
        let StartContext { spec, mailbox, container, .. } = &**start;
        let usage = instance_context.meter.usage();
        let memory = container.memory.reading().unwrap_or_default();
        CrashRecord {
            crash_id,
            agent_id: spec.id.clone(),
            role: Arc::clone(&spec.role),
            name: spec.name.clone(),
            rig_id: spec.rig_id.clone(),
            town_id: container.context.town_id().map(str::to_owned),
            run_id: container.context.run_id().to_owned(),
            incarnation: self.state.incarnation(),
            start_attempt: self.state.attempt,
            component: Arc::clone(&spec.component),
            component_sha256: self.component.as_ref().map(|component| component.digest()),
            source_sha256: self.component.as_ref().and_then(|component| component.source_digest()),
            reason: exit.reason,
            trap: exit.trap.map(Into::into),
            message: exit.message.clone(),
            location: exit.location.clone(),
            exceptions: exit.exceptions.clone(),
            status: exit.status,
            code: exit.code.clone(),
            requested_bytes: exit.requested_bytes,
            fingerprint: end.fingerprint.clone(),
            deterministic: determinism(exit, decision),
            frames: exit.frames.clone(),
            symbolized: Symbolized::Unavailable,
            started_at: publisher.started_at(),
            crashed_at: *at,
            agent_uptime_ms: millis(*lived),
            phase: exit.phase,
            message_id: message_id.clone(),
            host_call: exit.host_call.clone(),
            resources: Resources {
                memory_bytes: usage.memory_bytes,
                memory_peak_bytes: usage.memory_peak_bytes,
                memory_limit_bytes: usage.memory_limit_bytes,
                host_bytes: usage.host,
                soft_limit_crossed: usage.soft_limit_crossed,
                denied_growths: usage.denied_growths,
                cpu_us: usage.cpu_us,
                turns: publisher.turns(),
                host_calls: usage.host_calls,
                mailbox_depth: mailbox.depth(),
                samples: container.memory.samples(&spec.id, LAST_SAMPLES),
                models: self.state.model_use.counts(),
            },
            last_log_lines: instance_context.logs.tail(),
            last_events: start.ring.last(LAST_EVENTS),
            active_tools: publisher.active_tools(),
            tools_in_flight: publisher.tools().in_flight(),
            active_agents: container.context.active_agents(),
            rss_mb: memory.rss_bytes.map(mebibytes),
            pressure: memory.psi.map(|psi| psi.some_avg10),
            eviction: self.eviction(exit),
            consequence: consequence(decision, *attempts_in_window),
            core_dump: None,
        }
    }
}

/// Everything about an end that is reported.
pub(crate) struct EndReport<'a> {
    pub exit: &'a Exit,
    pub at: Timestamp,
    /// How long the incarnation was there.
    pub lived: Duration,
    pub crash_id: Option<String>,
    pub fingerprint: String,
    /// The message whose turn it was.
    pub message_id: Option<String>,
    /// What follows from it.
    pub decision: Decision,
    /// Ends in the window of the restart rules, this one included.
    pub attempts_in_window: u32,
    /// What waits is for the next start.
    pub leaves_mail: bool,
}

impl EndReport<'_> {
    /// What is kept of it.
    pub(crate) fn summary(&self) -> ExitSummary {
        ExitSummary {
            reason: self.exit.reason,
            message: self.exit.message.clone(),
            at: self.at,
            crash_id: self.crash_id.clone(),
        }
    }
}

fn consequence(decision: &Decision, attempts_in_window: u32) -> Consequence {
    match decision {
        Decision::Stay => Consequence::None,
        Decision::Retry { at, backoff } => Consequence::Restart {
            restart_at: *at,
            backoff_ms: millis(*backoff),
            attempts_in_window,
        },
        Decision::Quarantine(quarantine) => Consequence::Quarantined {
            why: quarantine.why,
            message: quarantine.message.clone(),
            attempts_in_window,
        },
    }
}

/// What one end cannot show, several of the same can.
fn determinism(exit: &Exit, decision: &Decision) -> Determinism {
    match decision {
        Decision::Quarantine(quarantine) if quarantine.why != QuarantineReason::Intensity => {
            Determinism::True
        }
        Decision::Quarantine(_) | Decision::Retry { .. } | Decision::Stay => exit.deterministic,
    }
}

/// What a failure of [`bulkhead_workspace`] is to the caller of a start.
fn workspace_failure(code: Option<&str>) -> StartFailure {
    match code {
        Some("clone-failed" | "unauthorized" | "not-found" | "branch-missing" | "timeout") => {
            StartFailure::CloneFailed
        }
        Some("invalid") => StartFailure::InvalidRequest,
        Some("too-large") => StartFailure::RepositoryTooLarge,
        _ => StartFailure::Workspace,
    }
}

/// The answer to the caller of a start that failed.
pub(crate) fn start_error(exit: &Exit, deadline: Instant, crash_id: Option<String>) -> StartError {
    let phase = match exit.phase {
        Phase::Workspace => StartPhase::Workspace,
        Phase::Instantiate => StartPhase::Instantiate,
        Phase::Restore => StartPhase::Restore,
        _ => StartPhase::GuestStart,
    };
    let (phase, kind) = match exit.reason.class() {
        ExitClass::Asked => (StartPhase::Superseded, StartFailure::Superseded),
        // A disk that did not answer until then.
        ExitClass::Host if Instant::now() >= deadline => {
            (StartPhase::Deadline, StartFailure::Deadline)
        }
        ExitClass::Host => (phase, StartFailure::Host),
        ExitClass::Evicted => (phase, StartFailure::Memory),
        // It asked a model, or had one call tools, before it was through.
        ExitClass::Halted => (phase, StartFailure::GuestError),
        ExitClass::Done | ExitClass::Forced | ExitClass::Fault => match exit.reason {
            ExitReason::StartFailed
                if phase == StartPhase::Instantiate
                    && exit.code.as_deref() == Some(PROMPT_TOO_LARGE) =>
            {
                (StartPhase::Admission, StartFailure::PromptTooLarge)
            }
            ExitReason::StartFailed if phase == StartPhase::Workspace => {
                (phase, workspace_failure(exit.code.as_deref()))
            }
            ExitReason::StartFailed if exit.code.is_some() => (phase, StartFailure::GuestError),
            ExitReason::StartFailed => (StartPhase::Deadline, StartFailure::Deadline),
            ExitReason::CpuDeadline if Instant::now() >= deadline => {
                (StartPhase::Deadline, StartFailure::Deadline)
            }
            ExitReason::MemoryLimit if phase == StartPhase::Instantiate => {
                (phase, StartFailure::MemoryMinimum)
            }
            _ if phase == StartPhase::Instantiate => (phase, StartFailure::Instantiate),
            _ => (phase, StartFailure::GuestCrashed),
        },
    };
    let message = match &exit.code {
        Some(code) => format!("{code}: {}", exit.message),
        None => exit.message.clone(),
    };
    StartError { crash_id, ..StartError::new(phase, kind, message) }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_start_that_was_not_at_fault_says_whose_doing_its_end_was() {
        for (reason, kind) in [
            (ExitReason::HostError, StartFailure::Host),
            (ExitReason::EvictedMemoryPressure, StartFailure::Memory),
            (ExitReason::Drained, StartFailure::Superseded),
            (ExitReason::Panic, StartFailure::GuestCrashed),
        ] {
            let exit = Exit::new(reason, Phase::Start, "x");
            let in_time = Instant::now() + Duration::from_secs(60);
            assert_eq!(start_error(&exit, in_time, None).kind, kind, "{reason:?}");
        }
        // The host's own disk did not answer until the deadline.
        let exit = Exit::new(ExitReason::HostError, Phase::Restore, "x");
        assert_eq!(start_error(&exit, Instant::now(), None).kind, StartFailure::Deadline);
    }
}

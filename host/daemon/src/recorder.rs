//! What is written to the black box: every fact on its way to the log that a later run may want to know.

use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bulkhead_account::Account;
use bulkhead_blackbox::BlackBox;
use bulkhead_blackbox::{AgentEnd, AgentStart, ColdStart, Draining, Fact, StateError, StopIntent};
use bulkhead_evidence::Evidence;
use bulkhead_feed::Feed;
use bulkhead_log::{Log, Sink};
use bulkhead_town::Handle;
use bulkhead_types::Event;
use bulkhead_types::event;
use bulkhead_types::previous::{MemoryFigures, RunState};

/// The log with the black box before it. Costs a match for most lines and a microsecond for some; waits for
/// nothing.
pub struct Recorder {
    log: Arc<Log>,
    blackbox: BlackBox,
    town: OnceLock<Handle>,
    feed: OnceLock<Arc<Feed>>,
    evidence: OnceLock<Evidence>,
}

impl Recorder {
    /// Facts go to `blackbox`, lines to `log`.
    pub fn new(log: Arc<Log>, blackbox: BlackBox) -> Self {
        Self {
            log,
            blackbox,
            town: OnceLock::new(),
            feed: OnceLock::new(),
            evidence: OnceLock::new(),
        }
    }

    /// From now on the town's client hears every fact as well.
    pub fn report_to_town(&self, town: Handle) {
        let _ = self.town.set(town);
    }

    /// From now on events of the container are published.
    pub fn publish_to(&self, feed: Arc<Feed>) {
        let _ = self.feed.set(feed);
    }

    /// From now on evidence of what matters goes to this sink.
    pub fn leave_evidence_at(&self, evidence: Evidence) {
        let _ = self.evidence.set(evidence);
    }

    /// A later run need not report earlier ones any more.
    pub fn earlier_runs_are_reported(&self) {
        if let Some(evidence) = self.evidence.get() {
            evidence.reported();
        }
    }

    /// Waits until the evidence sink has all, or `patience` is over. Says whether it has, if there is one.
    pub fn leave_evidence(&self, patience: Duration) -> bool {
        self.evidence.get().is_none_or(|evidence| evidence.flush(patience))
    }

    /// Where the lines go.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Where the facts go.
    pub fn blackbox(&self) -> &BlackBox {
        &self.blackbox
    }

    /// Writes down that the run came so far.
    pub fn reached(&self, state: RunState) {
        if let Err(error) = self.blackbox.reached(state) {
            tracing::warn!(%error, state = state.as_str(), "the black box did not record a state");
        }
        if let Some(evidence) = self.evidence.get() {
            evidence.changed();
        }
    }

    /// Writes down that the run came to its end, as it was asked to.
    pub fn mark_clean(&self) {
        if let Err(error @ StateError::Sync(_)) = self.blackbox.reached(RunState::Clean) {
            // The log is closed.
            let _ = writeln!(std::io::stderr(), "bulkhead: {error}");
        }
    }

    /// Writes down how memory is now, which is a heartbeat as well.
    pub fn sample(&self, figures: MemoryFigures) {
        self.blackbox.note(&Fact::Memory(figures));
        self.alive();
    }

    fn alive(&self) {
        let mut written = None;
        // Another thread may have come between the look and the word: the newest number is the last one.
        while let Some(seq) = self.log.last_seq().filter(|seq| written != Some(*seq)) {
            self.blackbox.alive(seq);
            written = Some(seq);
        }
    }
}

impl Sink for Recorder {
    fn record(&self, event: Event) {
        // First of all: it may be the last thing that this process does.
        if let Some(fact) = fact_of(&event) {
            self.blackbox.note(&fact);
        }
        if let Some(town) = self.town.get() {
            town.hear(&event);
        }
        if let Some(evidence) = self.evidence.get() {
            leave(evidence, &event);
        }
        if let Some(feed) = self.feed.get().filter(|_| is_published(&event)) {
            match event {
                // A component that is compiled for a start that was stopped may still come.
                Event::Stopped(_) => feed.end(event.name(), event.fields()),
                _ => {
                    feed.publish(event.name(), event.fields());
                }
            }
        }
        self.log.record(event);
        self.alive();
    }

    fn record_for(&self, event: Event, account: &Arc<Account>) {
        if let Some(fact) = fact_of(&event) {
            self.blackbox.note(&fact);
        }
        self.log.record_for(event, account);
        self.alive();
    }
}

/// What of a line a run on an empty disk has to know soon.
fn leave(evidence: &Evidence, event: &Event) {
    match event {
        Event::AgentStart { .. }
        | Event::AgentStartFailed { .. }
        | Event::AgentStartSuperseded { .. } => evidence.numbered(),
        Event::ColdStart { .. } | Event::StopIntent { .. } | Event::AgentQuarantined { .. } => {
            evidence.changed();
        }
        _ => {}
    }
}

/// Events of the container are published here; those of an agent have been, by itself. Refused requests are not: callers
/// without a token could push out all others.
fn is_published(event: &Event) -> bool {
    let is_of_agent = event.name().starts_with("agent.");
    !is_of_agent && !matches!(event, Event::HostLog { .. } | Event::RequestRefused { .. })
}

/// What the black box keeps of a line. A panic is noted by the hook, which knows more of it.
fn fact_of(event: &Event) -> Option<Fact<'_>> {
    Some(match event {
        Event::ColdStart(event::ColdStart { version, .. }) => {
            Fact::ColdStart(ColdStart { version: (*version).into() })
        }
        Event::StopIntent { by, reason, drain_ms } => Fact::StopIntent(StopIntent {
            by: by.into(),
            reason: reason.into(),
            drain_ms: *drain_ms,
        }),
        Event::Draining(event::Draining { phase, agents, .. }) => {
            Fact::Draining(Draining { phase: phase.as_str().into(), agents: *agents })
        }
        Event::AgentStart { agent, .. } => Fact::AgentStart(AgentStart {
            agent_id: agent.agent_id.as_str().into(),
            role: (&*agent.role).into(),
            incarnation: agent.incarnation.0,
        }),
        // The line of the crash record says the same once more.
        Event::AgentExit { agent, reason, crash_id, .. } => {
            let end = AgentEnd {
                agent_id: agent.agent_id.as_str().into(),
                incarnation: agent.incarnation.0,
                reason: reason.as_str().into(),
                crash_id: crash_id.as_deref().map(Into::into),
            };
            if crash_id.is_some() { Fact::AgentCrash(end) } else { Fact::AgentExit(end) }
        }
        _ => return None,
    })
}

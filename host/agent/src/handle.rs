//! An agent, as everyone but its own task sees it.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_api::{AgentView, MemoryView};
use bulkhead_events::{Ring, SharedSink};
use bulkhead_model::event::AgentTag;
use bulkhead_model::{AgentSpec, Body, Event, Message, Sender};
use bulkhead_runtime::{Meter, ShutdownReason};
use tokio::sync::{oneshot, watch};

use crate::board::{Board, Published};
use crate::mailbox::{Envelope, Mailbox};
use crate::refusal::{Delivery, SendError, StartError, TurnReport};
use crate::settings::LiveSettings;
use crate::slot::Slot;

/// Why and by whom an agent is asked to end. The first order counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StopOrder {
    pub reason: ShutdownReason,
    pub by: String,
    pub grace: Duration,
    /// There is no grace left. Comes over an earlier order.
    pub now: bool,
}

/// One incarnation. Cheap to clone.
#[derive(Clone)]
pub struct AgentHandle {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub tag: AgentTag,
    pub spec: Arc<AgentSpec>,
    pub mailbox: Mailbox,
    pub board: Arc<Board>,
    pub meter: Arc<Meter>,
    pub stop: watch::Sender<Option<StopOrder>>,
    pub slot: Slot,
    pub sink: SharedSink,
    pub ring: Arc<Ring>,
    pub settings: Arc<LiveSettings>,
}

impl Shared {
    /// Tells that a message is in the mailbox.
    pub(crate) fn tell_message(&self, message_id: String, sender: Sender, bytes: usize) {
        let agent = self.tag.clone();
        self.sink.record(Event::AgentMessage { agent, message_id, sender, bytes });
    }
}

impl AgentHandle {
    /// Puts a message into the mailbox.
    pub fn send(&self, id: String, sender: Sender, body: Body) -> Result<Delivery, SendError> {
        let shared = &self.shared;
        let state = shared.board.state();
        let not_running = || SendError::NotRunning { id: shared.spec.id.clone(), state };
        if !state.accepts_messages() {
            return Err(not_running());
        }
        let (report, delivery) = oneshot::channel::<TurnReport>();
        let bytes = body.len();
        let message = Message { id: id.clone(), sender: sender.clone(), body };
        let envelope = Envelope { message, report: Some(report) };
        shared.mailbox.push(envelope).map_err(|full| match full.closed {
            true => not_running(),
            false => SendError::MailboxFull {
                id: shared.spec.id.clone(),
                messages: full.messages,
                bytes: full.bytes,
            },
        })?;
        shared.tell_message(id.clone(), sender, bytes);
        Ok(Delivery { message_id: id, report: delivery })
    }

    /// Asks the agent to end, within its role's grace. The first order counts; later ones wait for
    /// the same end.
    pub fn stop(&self, reason: ShutdownReason, by: &str) {
        let grace = self.shared.spec.limits.shutdown;
        self.shared.stop.send_if_modified(|order| {
            let first = order.is_none();
            if first {
                *order = Some(StopOrder { reason, by: by.to_owned(), grace, now: false });
            }
            first
        });
    }

    /// Ends the agent without any grace. It still leaves its records.
    pub fn kill(&self, by: &str) {
        self.shared.stop.send_if_modified(|order| {
            let already = order.as_ref().is_some_and(|order| order.now);
            if !already {
                let reason = order.as_ref().map_or(ShutdownReason::Drained, |order| order.reason);
                let by = by.to_owned();
                *order = Some(StopOrder { reason, by, grace: Duration::ZERO, now: true });
            }
            !already
        });
    }

    /// Asks the agent to end in favour of a newer start, and returns whom that one has to wait for.
    pub fn supersede(&self, by: &str) -> Self {
        let predecessor = self.shared.slot.succeed(self);
        self.stop(ShutdownReason::Superseded, by);
        predecessor
    }

    /// Resolves when the agent is running, or with the reason why it is not.
    pub async fn started(&self) -> Result<(), StartError> {
        self.shared.slot.answered().await
    }

    /// Which agent, and which life.
    pub fn tag(&self) -> AgentTag {
        self.shared.tag.clone()
    }

    /// Resolves when the incarnation is gone.
    pub async fn ended(&self) -> Published {
        let mut watch = self.shared.board.watch();
        let ended = watch.wait_for(|published| !published.state.is_live()).await;
        ended.map_or_else(|_| self.shared.board.published(), |published| published.clone())
    }

    /// What it shows.
    pub fn board(&self) -> &Board {
        &self.shared.board
    }

    /// What it was asked to be.
    pub fn spec(&self) -> &Arc<AgentSpec> {
        &self.shared.spec
    }

    /// Whether an incarnation exists or is being made.
    pub fn is_live(&self) -> bool {
        self.shared.board.state().is_live()
    }

    /// The answer of `GET /agents/{id}/status`.
    pub fn view(&self) -> AgentView {
        let Shared { tag, spec, mailbox, board, meter, settings, .. } = &*self.shared;
        let published = board.published();
        let usage = meter.usage();
        AgentView {
            agent_id: spec.id.clone(),
            name: spec.name.clone(),
            role: Arc::clone(&spec.role),
            component: Arc::clone(&spec.component),
            town_id: spec.town_id.clone(),
            rig_id: spec.rig_id.clone(),
            model: settings.model(),
            status: published.state.as_str(),
            busy: published.state == bulkhead_model::AgentState::Running { busy: true },
            incarnation: tag.incarnation,
            started_at: board.started_at(),
            last_activity_at: board.last_activity_at(),
            active_tools: board.active_tools(),
            message_count: board.messages(),
            mailbox_depth: mailbox.depth(),
            cpu_us: usage.cpu_us,
            memory: MemoryView {
                used_bytes: usage.memory_bytes,
                peak_bytes: usage.memory_peak_bytes,
                limit_bytes: usage.memory_limit_bytes,
            },
            exit_reason: published.exit.as_ref().map(|exit| exit.reason.clone()),
            exit: published.exit,
        }
    }
}

//! One incarnation, and the start that it belongs to: what its task, its handles and its guest share.

use std::path::PathBuf;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU8};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bulkhead_account::Account;
use bulkhead_feed::Ring;
use bulkhead_runtime::{InstanceContext, ShutdownReason};
use bulkhead_store::journal::JournalSlot;
use bulkhead_types::event::{AgentMessage, AgentTag};
use bulkhead_types::{
    AgentId, AgentSpec, Digest, Event, Incarnation, Message, MessageSetAside, Sender,
};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::container::Container;
use crate::credentials::Credentials;
use crate::left_mail::LeftMail;
use crate::mailbox::Mailbox;
use crate::model_use::ModelUse;
use crate::probation::Probation;
use crate::refusal::StartError;
use crate::settings::LiveSettings;
use crate::slot::{Slot, SlotEntry};
use crate::state_publisher::StatePublisher;
use crate::stop_order::StopOrder;
use crate::upgrade::Upgrade;

/// How a start ended: the agent runs, or the start joined an incarnation that was up.
pub(crate) type Answer = Result<Option<Arc<IncarnationState>>, StartError>;

/// What callers that wait for a start are answered.
#[derive(Default)]
struct Answered {
    answer: Option<Answer>,
    /// Some caller was answered that it goes on.
    goes_on: bool,
    /// The answer is about to be given.
    closing: bool,
}

/// How far a start is.
#[derive(Default)]
pub(crate) struct Progress {
    /// Since when it waits for its component, and the file of that.
    pub loading: Option<(Instant, PathBuf)>,
    /// When it has to be through, as far as that is known.
    pub deadline: Option<Instant>,
}

impl Progress {
    /// It waits for its component from now on.
    pub(crate) fn loads(&mut self, path: PathBuf) {
        *self = Self { loading: Some((Instant::now(), path)), deadline: None };
    }

    /// It waits for that no more, and has to be through by then.
    pub(crate) fn loaded(&mut self, deadline: Instant) {
        *self = Self { loading: None, deadline: Some(deadline) };
    }
}

/// What the incarnations of one start have in common.
pub(crate) struct StartContext {
    pub spec: Arc<AgentSpec>,
    /// Its code as it was last loaded.
    pub code: Mutex<Option<Digest>>,
    /// What its incarnations are made from, and what they are to be made from.
    pub upgrade: Upgrade,
    pub mailbox: Mailbox,
    /// Where the message in its turn is written down; from the moment on at which the start has its turn.
    pub journal: OnceLock<Arc<JournalSlot>>,
    /// Until then, that of the start whose mail it took over: what was delivered before has its record there.
    pub adopted: OnceLock<Arc<JournalSlot>>,
    /// What its starts leave to the next one.
    pub left_mail: Arc<LeftMail>,
    /// It replaces another one or has taken over what one left, and has not been running since.
    pub inherits: AtomicBool,
    /// The last message that was set aside.
    pub set_aside: Mutex<Option<MessageSetAside>>,
    pub settings: LiveSettings,
    pub credentials: Credentials,
    /// The agent's events, over all its incarnations.
    pub ring: Arc<Ring>,
    /// Of all its starts.
    pub probation: Arc<Probation>,
    /// The host died while the agent was at work, and it has not come through a turn since.
    pub is_suspect: AtomicBool,
    /// What it holds, over all its incarnations.
    pub account: Arc<Account>,
    pub container: Arc<Container>,
}

impl StartContext {
    /// What its component and its source code are, once they are loaded.
    pub(crate) fn code(&self) -> Option<Digest> {
        *self.code.lock()
    }

    /// They are loaded, perhaps once more.
    pub(crate) fn set_code(&self, digest: Digest) {
        *self.code.lock() = Some(digest);
    }

    /// Names an incarnation of it. One that has no number yet is number 0.
    pub(crate) fn tag(&self, publisher: &StatePublisher) -> AgentTag {
        AgentTag {
            agent_id: self.spec.id.clone(),
            role: Arc::clone(&self.spec.role),
            incarnation: publisher.incarnation().unwrap_or(Incarnation(0)),
        }
    }
}

/// What is logged of a message that is in the mailbox: not its text.
pub(crate) struct Announced {
    pub message_id: String,
    pub sender: Sender,
    pub bytes: usize,
    pub attempt: u32,
}

impl From<&Message> for Announced {
    fn from(message: &Message) -> Self {
        let Message { id, sender, body, attempt } = message;
        Self {
            message_id: id.clone(),
            sender: sender.clone(),
            bytes: body.len(),
            attempt: *attempt,
        }
    }
}

/// Where the report of an incarnation's end stands.
#[repr(u8)]
enum EndReport {
    /// It is not active yet, and may never be.
    NotOwed,
    Owed,
    Claimed,
}

/// One incarnation.
pub(crate) struct IncarnationState {
    /// 1 for what a caller asked for, more for each restart of it.
    pub attempt: u32,
    pub start: Arc<StartContext>,
    pub publisher: Arc<StatePublisher>,
    pub instance_context: Arc<InstanceContext>,
    pub stop: watch::Sender<Option<StopOrder>>,
    pub model_use: Arc<ModelUse>,
    answer: watch::Sender<Answered>,
    progress: Mutex<Progress>,
    /// An `EndReport`.
    end_report: AtomicU8,
}

impl IncarnationState {
    pub(crate) fn new(
        attempt: u32,
        start: Arc<StartContext>,
        publisher: Arc<StatePublisher>,
        instance_context: InstanceContext,
        model_use: Arc<ModelUse>,
    ) -> Self {
        let (stop, answer) = (model_use.stop.clone(), watch::Sender::new(Answered::default()));
        let (instance_context, end_report) =
            (Arc::new(instance_context), AtomicU8::new(EndReport::NotOwed as u8));
        let progress = Mutex::default();
        Self {
            attempt,
            start,
            publisher,
            instance_context,
            stop,
            model_use,
            answer,
            progress,
            end_report,
        }
    }

    pub(crate) fn id(&self) -> &AgentId {
        &self.start.spec.id
    }

    /// Its number; 0 while it has none.
    pub(crate) fn incarnation(&self) -> Incarnation {
        self.publisher.incarnation().unwrap_or(Incarnation(0))
    }

    /// Which agent, and which incarnation of it.
    pub(crate) fn tag(&self) -> AgentTag {
        self.start.tag(&self.publisher)
    }

    /// It becomes active: from now on an end is owed.
    pub(crate) fn begin(&self) {
        self.start.container.ended.revive(self.id());
        self.publisher.begin();
        self.end_report.store(EndReport::Owed as u8, Release);
    }

    /// Whether its end is still to be reported. Says so once: the caller that gets a yes reports it.
    pub(crate) fn claim_end_report(&self) -> bool {
        let (owed, claimed) = (EndReport::Owed as u8, EndReport::Claimed as u8);
        self.end_report.compare_exchange(owed, claimed, AcqRel, Acquire).is_ok()
    }

    /// Whether its end is reported, or about to be. What is left of it, like a core dump, may still be there.
    pub(crate) fn is_end_claimed(&self) -> bool {
        self.end_report.load(Acquire) == EndReport::Claimed as u8
    }

    /// The agent may be down for good: then what is kept of it counts among what is kept of ended agents. To be
    /// called when its slot may have become vacant.
    pub(crate) fn retire<T: SlotEntry, P>(&self, slot: &Slot<T, P>) {
        if !slot.is_vacant() {
            return;
        }
        let (id, ended) = (self.id(), &self.start.container.ended);
        let quarantined = slot.with_restarts(|restarts| restarts.quarantine.is_some());
        ended.retire(id, &self.start.ring, self.start.spec.text_bytes(), quarantined);
        // A start may have come in between, and checked before there was anything to revive.
        if !slot.is_vacant() {
            ended.revive(id);
        }
    }

    /// Logs a fact.
    pub(crate) fn record(&self, event: Event) {
        self.start.container.sink.record(event);
    }

    /// Logs a fact, and has it among the agent's events.
    pub(crate) fn publish(&self, event: Event) {
        self.start.ring.push(event.name(), event.fields());
        self.record(event);
    }

    /// Logs that a message is in the mailbox.
    pub(crate) fn log_message(&self, message: Announced) {
        let agent = self.tag();
        let Announced { message_id, sender, bytes, attempt } = message;
        self.record(Event::AgentMessage(AgentMessage {
            agent,
            message_id,
            sender,
            bytes,
            attempt,
        }));
    }

    /// Answers all callers that wait for the start. The first answer counts; says whether this was it.
    pub(crate) fn answer(&self, answer: Answer) -> bool {
        self.answer.send_if_modified(|given| {
            let first = given.answer.is_none();
            if first {
                given.answer = Some(answer);
            }
            first
        })
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.answer.borrow().answer.is_some()
    }

    /// The start is about to be answered: no caller is answered any more that it goes on. Says whether any was.
    pub(crate) fn closes(&self) -> bool {
        let mut goes_on = false;
        self.answer.send_if_modified(|given| {
            given.closing = true;
            goes_on = given.goes_on;
            false
        });
        goes_on
    }

    /// A caller is answered that the start goes on without it. `false`: it is about to be answered.
    pub(crate) fn lets_go(&self) -> bool {
        let mut goes_on = false;
        self.answer.send_if_modified(|given| {
            goes_on = given.answer.is_none() && !given.closing;
            given.goes_on |= goes_on;
            false
        });
        goes_on
    }

    /// How far the start is.
    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock()
    }

    /// Another start replaces it in this run, and takes over what waits for it.
    pub(crate) fn is_replaced(&self) -> bool {
        let order = self.stop_order().map(|order| order.reason);
        order == Some(ShutdownReason::Superseded) && !self.start.container.is_draining()
    }

    /// What waits for it is to wait for the next run.
    pub(crate) fn is_for_next_run(&self) -> bool {
        match self.stop_order().map(|order| order.reason) {
            Some(ShutdownReason::Drained) => true,
            Some(ShutdownReason::Stopped | ShutdownReason::Superseded | ShutdownReason::Idle) => {
                false
            }
            // It was to be restarted in this run, unless the container goes away.
            Some(ShutdownReason::Evicted) | None => self.start.container.is_draining(),
        }
    }

    /// Why and by whom it was asked to end.
    pub(crate) fn stop_order(&self) -> Option<StopOrder> {
        self.stop.borrow().clone()
    }

    /// Resolves with the answer of the start.
    pub(crate) async fn answered(&self) -> Answer {
        let mut answer = self.answer.subscribe();
        let given = answer.wait_for(|given| given.answer.is_some()).await;
        match given.map(|given| given.answer.clone()) {
            Ok(Some(answer)) => answer,
            // The sender is ours: it cannot be gone while this waits.
            _ => std::future::pending().await,
        }
    }
}

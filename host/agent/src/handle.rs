//! An agent, as everyone but its own task sees it.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Release};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bulkhead_account::Account;
use bulkhead_api::{AgentView, MemoryView, RestartView, SetAsideView};
use bulkhead_log::Ring;
use bulkhead_runtime::{InstanceContext, Nudge, ShutdownReason};
use bulkhead_store::journal::JournalSlot;
use bulkhead_types::event::AgentTag;
use bulkhead_types::memory::Eviction;
use bulkhead_types::{
    AgentId, AgentSpec, AgentState, Body, Digest, Event, Incarnation, Message, RestartState, Sender,
};
use tokio::sync::{oneshot, watch};

use crate::actor::Probation;
use crate::agent::AgentSlot;
use crate::container::Container;
use crate::credentials::Credentials;
use crate::loading::Progress;
use crate::mailbox::{Envelope, Mailbox, MailboxFull, NotTaken};
use crate::refusal::{Delivery, SendError, StartError, TurnReport};
use crate::report::Reporter;
use crate::settings::LiveSettings;
use crate::slot::SlotEntry;
use crate::state_publisher::{Published, StatePublisher};

/// Who ends agents for want of memory.
const MEMORY: &str = "memory";

/// How a start ended: the agent runs, or the start joined an incarnation that was up.
type Answer = Result<Option<AgentHandle>, StartError>;

/// What callers that wait for a start are answered.
#[derive(Default)]
struct Answered {
    answer: Option<Answer>,
    /// Some caller was answered that it goes on.
    goes_on: bool,
    /// The answer is about to be given.
    closing: bool,
}

/// Why and by whom an agent is asked to end. The first order counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StopOrder {
    pub reason: ShutdownReason,
    pub by: String,
    pub grace: Duration,
    /// There is no grace left. Comes over an earlier order.
    pub now: bool,
    /// Why this agent, when it is ended for want of memory.
    pub eviction: Option<Arc<Eviction>>,
}

/// One incarnation. Cheap to clone.
#[derive(Clone)]
pub struct AgentHandle {
    pub(crate) state: Arc<IncarnationState>,
}

/// What the incarnations of one start have in common.
pub(crate) struct StartContext {
    pub spec: Arc<AgentSpec>,
    /// What its component is, once it is loaded.
    pub component: OnceLock<Digest>,
    pub mailbox: Mailbox,
    /// Where the message in its turn is written down; from the moment on at which the start has its turn.
    pub journal: OnceLock<Arc<JournalSlot>>,
    /// Until then, that of the start whose mail it took over: what was delivered before has its record there.
    pub adopted: OnceLock<Arc<JournalSlot>>,
    /// The last message that was set aside.
    pub set_aside: Mutex<Option<SetAsideView>>,
    pub settings: LiveSettings,
    pub credentials: Credentials,
    /// The agent's events, over all its incarnations.
    pub ring: Arc<Ring>,
    pub probation: Probation,
    /// The host died while the agent was at work, and it has not come through a turn since.
    pub is_suspect: AtomicBool,
    /// What it holds, over all its incarnations.
    pub account: Arc<Account>,
    pub container: Arc<Container>,
}

impl StartContext {
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
    message_id: String,
    sender: Sender,
    bytes: usize,
    attempt: u32,
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

/// One incarnation.
pub(crate) struct IncarnationState {
    /// 1 for what a caller asked for, more for each restart of it.
    pub attempt: u32,
    pub start: Arc<StartContext>,
    pub publisher: Arc<StatePublisher>,
    pub birth: Arc<InstanceContext>,
    pub stop: watch::Sender<Option<StopOrder>>,
    answer: watch::Sender<Answered>,
    progress: Mutex<Progress>,
    /// It lives, and its end is not reported.
    end_is_unreported: AtomicBool,
}

impl IncarnationState {
    pub(crate) fn new(
        attempt: u32,
        start: Arc<StartContext>,
        publisher: Arc<StatePublisher>,
        birth: InstanceContext,
    ) -> Self {
        let (stop, answer) = (watch::Sender::new(None), watch::Sender::new(Answered::default()));
        let (birth, end_is_unreported) = (Arc::new(birth), AtomicBool::new(false));
        let progress = Mutex::default();
        Self { attempt, start, publisher, birth, stop, answer, progress, end_is_unreported }
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

    /// It begins to live: from now on an end is owed.
    pub(crate) fn begin(&self) {
        self.start.container.ended.revive(self.id());
        self.publisher.begin();
        self.end_is_unreported.store(true, Release);
    }

    /// Whether its end is still to be reported. Says so once: the caller that gets a yes reports it.
    pub(crate) fn claim_end_report(&self) -> bool {
        self.end_is_unreported.swap(false, AcqRel)
    }

    /// The agent may be down for good: then what is kept of it counts among what is kept of ended agents. To be
    /// called when its slot may have become vacant.
    pub(crate) fn retire(&self, slot: &AgentSlot) {
        if !slot.is_vacant() {
            return;
        }
        let (id, ended) = (self.id(), &self.start.container.ended);
        let quarantined = slot.look_at_restarts(|restarts| restarts.quarantine.is_some());
        ended.retire(id, &self.start.ring, self.start.spec.text_bytes(), quarantined);
        // A start may have come in between, and looked before there was anything to revive.
        if !slot.is_vacant() {
            ended.revive(id);
        }
    }

    /// Logs a fact.
    pub(crate) fn record(&self, event: Event) {
        self.start.container.sink.record(event);
    }

    /// Logs that a message is in the mailbox.
    pub(crate) fn log_message(&self, message: Announced) {
        let agent = self.tag();
        let Announced { message_id, sender, bytes, attempt } = message;
        self.record(Event::AgentMessage { agent, message_id, sender, bytes, attempt });
    }

    /// Answers everyone who waits for the start. The first answer counts; says whether this was it.
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
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
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
}

impl SlotEntry for AgentHandle {
    type Spec = AgentSpec;

    fn incarnation(&self) -> Option<Incarnation> {
        self.state.publisher.incarnation()
    }

    fn assign(&self, number: Incarnation) {
        self.state.publisher.assign(number);
    }

    fn spec(&self) -> &AgentSpec {
        &self.state.start.spec
    }

    fn is_same(&self, spec: &AgentSpec) -> bool {
        self.state.start.spec.is_same_as(spec)
    }

    fn component(&self) -> Option<Digest> {
        self.state.start.component.get().copied()
    }

    fn is_up(&self) -> bool {
        let is_up = match self.state.publisher.state() {
            AgentState::Starting | AgentState::Running { .. } => true,
            AgentState::Stopping
            | AgentState::Backoff
            | AgentState::Quarantined
            | AgentState::Exited
            | AgentState::Failed => false,
        };
        is_up && !self.is_asked_to_end()
    }

    fn is_starting(&self) -> bool {
        self.state.publisher.state() == AgentState::Starting
    }
}

impl fmt::Debug for AgentHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AgentHandle").field(&self.tag()).finish()
    }
}

impl AgentHandle {
    /// Puts a message into the mailbox.
    pub fn send(&self, id: String, sender: Sender, body: Body) -> Result<Delivery, SendError> {
        let state = &self.state;
        self.check_accepts()?;
        let (report, delivery) = oneshot::channel::<TurnReport>();
        let (bytes, max_bytes) = (body.len(), state.start.mailbox.max_bytes());
        if bytes > max_bytes {
            return Err(SendError::TooLarge { id: state.id().clone(), bytes, max_bytes });
        }
        let message = Message::new(id.clone(), sender, body);
        let announced = Announced::from(&message);
        let envelope = Envelope::new(message, Some(report));
        state.start.mailbox.push(envelope).map_err(|refused| self.refused(refused))?;
        state.log_message(announced);
        Ok(Delivery { message_id: id, report: delivery })
    }

    /// Leaves a nudge: a message that comes when no other does. `id` names it, `source` says who sent it.
    pub fn nudge(&self, id: String, source: String, body: String) -> Result<(), SendError> {
        self.check_accepts()?;
        let (bytes, sender) = (body.len(), Sender::Nudge(id.clone()));
        let announced = Announced { message_id: id.clone(), sender, bytes, attempt: 1 };
        let nudge = Nudge { id, body, source };
        self.state.start.mailbox.push_nudge(nudge).map_err(|refused| self.refused(refused))?;
        self.state.log_message(announced);
        Ok(())
    }

    fn check_accepts(&self) -> Result<(), SendError> {
        let state = self.state.publisher.state();
        if state.accepts_messages() {
            return Ok(());
        }
        Err(SendError::NotRunning { id: self.state.id().clone(), state })
    }

    fn refused(&self, not_taken: NotTaken) -> SendError {
        let id = self.state.id().clone();
        let MailboxFull { messages, bytes, closed } = match not_taken {
            NotTaken::Full(full) => full,
            NotTaken::OverLimit(over) => return SendError::NoMemory { id, over },
        };
        match closed {
            // Closed before its state says so: it is about to.
            true => SendError::NotRunning { id, state: AgentState::Stopping },
            false => SendError::MailboxFull { id, messages, bytes },
        }
    }

    /// Asks the agent to end, within its role's grace. The first order counts; later ones wait for
    /// the same end.
    pub(crate) fn stop(&self, reason: ShutdownReason, by: &str) {
        let grace = self.state.start.spec.limits.shutdown;
        self.state.stop.send_if_modified(|order| {
            let first = order.is_none();
            if first {
                *order = Some(StopOrder {
                    reason,
                    by: by.to_owned(),
                    grace,
                    now: false,
                    eviction: None,
                });
            }
            first
        });
    }

    /// Whether somebody asked it to end.
    pub fn is_asked_to_end(&self) -> bool {
        self.state.stop.borrow().is_some()
    }

    /// Whether it holds memory that nobody has asked it to give back.
    pub(crate) fn keeps_its_memory(&self) -> bool {
        self.is_live() && !self.is_asked_to_end()
    }

    /// Ends the agent for want of memory, within `grace` and its role's. Unlike after a stop it is restarted,
    /// when its restart rules say so and memory is there again.
    pub fn evict(&self, eviction: Eviction, grace: Duration) {
        let grace = self.state.start.spec.limits.shutdown.min(grace);
        self.state.stop.send_if_modified(|order| {
            let first = order.is_none();
            if first {
                *order = Some(StopOrder {
                    reason: ShutdownReason::Evicted,
                    by: MEMORY.to_owned(),
                    grace,
                    now: grace.is_zero(),
                    eviction: Some(Arc::new(eviction)),
                });
            }
            first
        });
    }

    /// Ends the agent without any grace. It still leaves its records.
    pub(crate) fn kill(&self, by: &str) {
        self.state.stop.send_if_modified(|order| {
            let already = order.as_ref().is_some_and(|order| order.now);
            if !already {
                let reason = order.as_ref().map_or(ShutdownReason::Drained, |order| order.reason);
                let eviction = order.as_ref().and_then(|order| order.eviction.clone());
                let by = by.to_owned();
                *order = Some(StopOrder { reason, by, grace: Duration::ZERO, now: true, eviction });
            }
            !already
        });
    }

    /// Resolves with the incarnation that runs, or with the reason why none does. It is another one when the
    /// start joined that.
    pub async fn started(&self) -> Result<Self, StartError> {
        let mut agent = self.clone();
        while let Some(joined) = agent.outcome().await? {
            agent = joined;
        }
        Ok(agent)
    }

    /// Resolves when the start is through: with the incarnation that it joined, or nothing when it began this
    /// one and it runs, or the reason why it does not.
    pub async fn outcome(&self) -> Result<Option<Self>, StartError> {
        let mut answer = self.state.answer.subscribe();
        let given = answer.wait_for(|given| given.answer.is_some()).await;
        match given.map(|given| given.answer.clone()) {
            Ok(Some(answer)) => answer,
            // The sender is ours: it cannot be gone while this waits.
            _ => std::future::pending().await,
        }
    }

    /// Which agent, and which incarnation; number 0 while it has none.
    pub fn tag(&self) -> AgentTag {
        self.state.tag()
    }

    /// Tells it from every other incarnation whose handle is held, also before it has a number.
    pub fn identity(&self) -> usize {
        Arc::as_ptr(&self.state).addr()
    }

    /// Resolves when the incarnation has ended and is not restarted. Only for one that was asked to end:
    /// another that was restarted stays in backoff for ever.
    pub(crate) async fn down(&self) {
        self.until(|published| published.state.is_down()).await;
    }

    /// Resolves when the incarnation has ended, or has neither a turn nor mail, in hand or waiting.
    pub async fn settled(&self) {
        self.until(|published| self.is_settled_in(published.state)).await;
    }

    /// Whether the incarnation has ended, or has neither a turn nor mail, in hand or waiting.
    pub fn is_settled(&self) -> bool {
        self.is_settled_in(self.state.publisher.state())
    }

    fn is_settled_in(&self, state: AgentState) -> bool {
        match state {
            AgentState::Running { busy } => !busy && self.state.start.mailbox.is_settled(),
            AgentState::Starting | AgentState::Stopping => false,
            AgentState::Backoff
            | AgentState::Quarantined
            | AgentState::Exited
            | AgentState::Failed => true,
        }
    }

    async fn until(&self, wanted: impl FnMut(&Published) -> bool) -> Published {
        let mut watch = self.state.publisher.watch();
        let there = watch.wait_for(wanted).await.map(|published| published.clone());
        there.unwrap_or_else(|_| self.state.publisher.published())
    }

    /// What it shows.
    pub fn publisher(&self) -> &StatePublisher {
        &self.state.publisher
    }

    /// What it was asked to be.
    pub fn spec(&self) -> &Arc<AgentSpec> {
        &self.state.start.spec
    }

    /// Reports the end of an incarnation that the host waits for no longer: it was killed, and did not return
    /// from where it is for `waited`. Its task may still end later, and then reports nothing; its state stays as
    /// it is, because that is the task's. Does nothing for one that never lived, or whose end is reported.
    pub fn abandon(&self, waited: Duration) {
        if self.state.claim_end_report() {
            let (exit, crash_id) = Reporter::new(Arc::clone(&self.state)).abandoned(waited);
            self.state.abandoned_in(&exit, crash_id.as_deref());
        }
    }

    /// Whether an incarnation exists or is being made.
    pub fn is_live(&self) -> bool {
        self.state.publisher.state().is_live()
    }

    /// What waits for it.
    pub fn mailbox(&self) -> &Mailbox {
        &self.state.start.mailbox
    }

    /// The answer of `GET /agents/{id}/status`. `restarts` is what the agent's slot keeps of them.
    pub fn view(&self, restarts: RestartState) -> AgentView {
        let IncarnationState { start, publisher, birth, .. } = &*self.state;
        let StartContext { spec, mailbox, .. } = &**start;
        let published = publisher.published();
        let usage = birth.meter.usage();
        let rules = &spec.restart;
        AgentView {
            agent_id: spec.id.clone(),
            name: spec.name.clone(),
            role: Arc::clone(&spec.role),
            component: Arc::clone(&spec.component),
            town_id: spec.town_id.clone(),
            rig_id: spec.rig_id.clone(),
            model: start.settings.model(),
            status: published.state.as_str().into(),
            busy: published.state == AgentState::Running { busy: true },
            incarnation: self.state.incarnation(),
            started_at: publisher.started_at(),
            last_activity_at: publisher.last_activity_at(),
            active_tools: publisher.active_tools(),
            message_count: publisher.messages(),
            mailbox_depth: mailbox.depth(),
            nudges: mailbox.nudges(),
            cpu_us: usage.cpu_us,
            memory: MemoryView {
                used_bytes: usage.memory_bytes,
                guest_bytes: usage.guest_bytes,
                host_bytes: usage.host.total(),
                host: usage.host,
                peak_bytes: usage.memory_peak_bytes,
                soft_bytes: usage.memory_soft_bytes,
                limit_bytes: usage.memory_limit_bytes,
                denied_growths: usage.denied_growths,
                refused: usage.refused,
            },
            restart: RestartView::new(
                rules,
                restarts,
                published.restart_at,
                bulkhead_log::now(),
                Some(start.container.context.uptime()),
            ),
            exit_reason: published.exit.as_ref().map(|exit| exit.reason.clone()),
            exit: published.exit,
            set_aside: start.set_aside.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

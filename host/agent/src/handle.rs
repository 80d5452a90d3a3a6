//! An agent, as everyone but its own task sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_runtime::{InstanceContext, Nudge, ShutdownReason, Usage};
use bulkhead_store::database::Private;
use bulkhead_telemetry::TraceContext;
use bulkhead_types::event::AgentTag;
use bulkhead_types::memory::Eviction;
use bulkhead_types::{
    AgentSpec, AgentState, Body, Digest, Incarnation, Message, MessageSetAside, ModelCounts,
    Secret, Sender,
};
use tokio::sync::oneshot;

use crate::credentials::Credentials;
use crate::engine::Component;
use crate::incarnation::{Announced, IncarnationState};
use crate::mailbox::{Envelope, Mailbox, MailboxFull, NotTaken};
use crate::refusal::{Delivery, SendError, StartError, TurnReport};
use crate::settings::{SettingsChange, SettingsError, is_changeable};
use crate::slot::SlotEntry;
use crate::state_publisher::{Published, StatePublisher};
use crate::stop_order::StopOrder;
use crate::upgrade::{NewCode, UpgradeStage};

/// Who ends agents for want of memory.
const MEMORY: &str = "memory";

/// One incarnation. Cheap to clone.
#[derive(Clone)]
pub struct AgentHandle {
    pub(crate) state: Arc<IncarnationState>,
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
        self.state.start.code()
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
    /// Puts a message into the mailbox. `trace` is the span that caused it.
    pub fn send(
        &self,
        id: String,
        sender: Sender,
        body: Body,
        trace: Option<TraceContext>,
    ) -> Result<Delivery, SendError> {
        let state = &self.state;
        self.check_accepts()?;
        let (report, delivery) = oneshot::channel::<TurnReport>();
        let (bytes, max_bytes) = (body.len(), state.start.mailbox.max_bytes());
        if bytes > max_bytes {
            return Err(SendError::TooLarge { id: state.id().clone(), bytes, max_bytes });
        }
        let message = Message::new(id.clone(), sender, body);
        let announced = Announced::from(&message);
        let envelope = Envelope { trace, ..Envelope::new(message, Some(report)) };
        let taken = state.start.mailbox.push(envelope, || state.log_message(announced));
        taken.map_err(|refused| self.refused(refused))?;
        Ok(Delivery { message_id: id, report: delivery })
    }

    /// Leaves a nudge: a message that comes when no other does. `id` names it, `source` says who sent it.
    pub fn nudge(&self, id: String, source: String, body: String) -> Result<(), SendError> {
        self.check_accepts()?;
        let (bytes, sender) = (body.len(), Sender::Nudge(id.clone()));
        let announced = Announced { message_id: id.clone(), sender, bytes, attempt: 1 };
        let nudge = Nudge { id, body, source };
        let state = &self.state;
        let taken = state.start.mailbox.push_nudge(nudge, || state.log_message(announced));
        taken.map_err(|refused| self.refused(refused))
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

    /// Gives an order, and has a guest that computes yield for it: on the slow lane its slice is ten times as long as
    /// an order should wait.
    fn order(&self, change: impl FnOnce(&mut Option<StopOrder>) -> bool) {
        if self.state.stop.send_if_modified(change) {
            self.state.instance_context.meter.ask_to_yield();
        }
    }

    /// Asks the agent to end, within its role's grace. The first order counts; later ones wait for
    /// the same end.
    pub(crate) fn stop(&self, reason: ShutdownReason, by: &str) {
        let grace = self.state.start.spec.limits.shutdown;
        self.order(|order| {
            let first = order.is_none();
            if first {
                *order = Some(StopOrder {
                    reason,
                    by: by.to_owned(),
                    grace,
                    now: false,
                    eviction: None,
                    halt: None,
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
        self.order(|order| {
            let first = order.is_none();
            if first {
                *order = Some(StopOrder {
                    reason: ShutdownReason::Evicted,
                    by: MEMORY.to_owned(),
                    grace,
                    now: grace.is_zero(),
                    eviction: Some(Arc::new(eviction)),
                    halt: None,
                });
            }
            first
        });
    }

    /// Ends the agent without any grace. It still leaves its records.
    pub(crate) fn kill(&self, by: &str) {
        self.order(|order| {
            let already = order.as_ref().is_some_and(|order| order.now);
            if !already {
                let reason = order.as_ref().map_or(ShutdownReason::Drained, |order| order.reason);
                let eviction = order.as_ref().and_then(|order| order.eviction.clone());
                let halt = order.as_ref().and_then(|order| order.halt.clone());
                let (by, grace) = (by.to_owned(), Duration::ZERO);
                *order = Some(StopOrder { reason, by, grace, now: true, eviction, halt });
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
        let joined = self.state.answered().await?;
        Ok(joined.map(|state| Self { state }))
    }

    /// Which agent, and which incarnation; number 0 while it has none.
    pub fn tag(&self) -> AgentTag {
        self.state.tag()
    }

    /// Distinguishes it from every other incarnation whose handle is held, also before it has a number.
    pub fn identity(&self) -> usize {
        Arc::as_ptr(&self.state).addr()
    }

    /// Resolves when the incarnation has ended and is not restarted. Only for one that was asked to end:
    /// another that was restarted stays in backoff for ever.
    pub(crate) async fn down(&self) {
        self.until(|published| published.state.is_down()).await;
    }

    /// Resolves when there is no incarnation any more.
    pub async fn gone(&self) {
        self.until(|published| !published.state.is_live()).await;
    }

    /// What its instance has of the host, while there is one.
    pub fn instance_context(&self) -> Result<&InstanceContext, SendError> {
        match self.state.publisher.state() {
            AgentState::Running { .. } => Ok(&self.state.instance_context),
            state => Err(SendError::NotRunning { id: self.state.id().clone(), state }),
        }
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

    /// Whether its end is in the log, or about to be. It may still be live then, until what it left is copied.
    pub fn is_end_reported(&self) -> bool {
        self.state.is_end_claimed()
    }

    /// Whether an incarnation exists or is being made.
    pub fn is_live(&self) -> bool {
        self.state.publisher.state().is_live()
    }

    /// What waits for it.
    pub fn mailbox(&self) -> &Mailbox {
        &self.state.start.mailbox
    }

    /// Changes what the agent goes by from its next turn on. One in backoff restarts
    /// with the change.
    pub fn change_settings(&self, change: SettingsChange) -> Result<(), SettingsError> {
        let (id, state) = (self.state.start.spec.id.clone(), self.state.publisher.state());
        if !is_changeable(state) {
            return Err(SettingsError::NotRunning { id, state });
        }
        let revision = self.state.start.settings.change(change);
        self.state.persist_settings();
        tracing::info!(agent = %id, revision, "settings were changed");
        Ok(())
    }

    /// Its start as it was written down, with the credentials that hold now.
    pub fn record(&self) -> Private {
        self.state.start.credentials.now().1
    }

    /// Takes over the credentials of an equal start that joins it. The agent has them from its next question on;
    /// its environment has them from the next incarnation on.
    pub fn take_credentials(&self, spec: &AgentSpec, record: &Private) {
        self.swap_credentials(Arc::new(spec.secrets.clone()), record.clone());
    }

    /// The same, of a start that was let in and has an incarnation of its own that does not begin.
    pub(crate) fn take_credentials_of(&self, joining: &Credentials) {
        let (secrets, record) = joining.now();
        self.swap_credentials(secrets, record);
    }

    fn swap_credentials(&self, secrets: Arc<BTreeMap<String, Secret>>, record: Private) {
        let note = |incarnation, order| self.state.persist_order(incarnation, order);
        if self.state.start.credentials.swap(secrets, record, note) {
            tracing::info!(agent = %self.state.id(), "credentials were swapped");
        }
    }

    /// Has it go on with other code, as soon as it has come to the end of a message. The newest order counts.
    pub fn upgrade(&self, new: NewCode) {
        self.state.start.upgrade.order(new);
    }

    /// Takes the last order back, unless it leaves for it already.
    pub fn cancel_upgrade(&self, why: &str) {
        self.state.start.upgrade.cancel(why);
    }

    /// Whether it is a stock component, which has no turns to be upgraded between.
    pub fn is_program(&self) -> bool {
        self.state.start.upgrade.is_program()
    }

    /// How far its last upgrade is.
    pub fn upgrade_stage(&self) -> UpgradeStage {
        self.state.start.upgrade.stage()
    }

    /// Resolves when that is one of these.
    pub async fn upgrade_reaches(&self, wanted: impl Fn(&UpgradeStage) -> bool) -> UpgradeStage {
        self.state.start.upgrade.reaches(wanted).await
    }

    /// What its incarnations are made from, once it is loaded.
    pub fn made_from(&self) -> Option<Arc<dyn Component>> {
        self.state.start.upgrade.current()
    }

    /// The language model in use.
    pub fn model(&self) -> Option<String> {
        self.state.start.settings.model()
    }

    /// What the incarnation uses, or used last.
    pub fn usage(&self) -> Usage {
        self.state.instance_context.meter.usage()
    }

    /// What the incarnation used of language models.
    pub fn model_counts(&self) -> ModelCounts {
        self.state.model_use.counts()
    }

    /// The last message that was set aside.
    pub fn message_set_aside(&self) -> Option<MessageSetAside> {
        self.state.start.set_aside.lock().clone()
    }
}

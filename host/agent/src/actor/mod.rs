//! The task of a start: one incarnation, and the next ones that its restart policy makes of it.
//!
//! ```text
//!   reserve ─ load ─ acquire the slot ─┐   ┌──────────────── back_off ◀── a restart is due
//!    ▲ │ gave up                       ▼   ▼                              ▲
//!    │ ▼                          instantiate ─ restore ─ start ─▶ serve ─ turn ─ ... ─▶ wind_down
//!   answered, and again when it is due   │                          │                     │
//!                                        └────────── Exit ──────────┴─────────────────────┴──▶ finish
//! ```
//!
//! Each step consumes the incarnation and returns it or the exit. The loop acts on what the steps
//! return; nothing else ends it.

mod awake;
mod backoff;
mod delivery;
mod end;
mod reserve;
mod serve;
mod snapshot;
mod starting;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use bulkhead_account::Account;
use bulkhead_blackbox::{Marker, Work};
use bulkhead_log::{Budget, Ring};
use bulkhead_runtime::{
    AgentFailure, Incarnation, InstanceContext, Loaded, Logs, ShutdownReason, TrappedStore,
};
use bulkhead_tasks::Spawner;
use bulkhead_types::event::StartTimings;
use bulkhead_types::{Exit, ExitReason, Incarnation as Number, Input, Phase};
use tokio::sync::watch;

use crate::container::Container;
use crate::credentials::Credentials;
use crate::handle::AgentHandle;
use crate::incarnation::{IncarnationState, StartContext, StopOrder};
use crate::mailbox::{Envelope, Mailbox};
use crate::order::{AgentSlot, StartOrder};
use crate::port::AgentPort;
use crate::probation::Probation;
use crate::refusal::{StartError, TurnReport};
use crate::report::Reporter;
use crate::settings::LiveSettings;
use crate::slot::{RestartIntent, Ticket};
use crate::state_publisher::StatePublisher;
use delivery::First;
use end::SlotGuard;
use reserve::Reserved;
use snapshot::Snapshots;

/// A start: what its incarnations are made from.
pub(crate) struct StartTask {
    start: Arc<StartContext>,
    slot: Arc<AgentSlot>,
    component: PathBuf,
    workspace: Option<PathBuf>,
    /// Shared by all incarnations: an agent that dies in a loop cannot flood the log.
    log_budget: Arc<Mutex<Budget>>,
    /// The host is to have it there: a start that comes to nothing shows, and is made again.
    stays: bool,
    /// What it wants of the slot when it is made again.
    restart_intent: RestartIntent,
    prompt_message_id: String,
    /// It goes on with what an earlier run of the host began.
    resumes: bool,
    /// What it begins with.
    first: Mutex<First>,
}

/// One incarnation at work.
struct Actor<'a> {
    task: &'a StartTask,
    container: &'a Container,
    state: Arc<IncarnationState>,
    reporter: Reporter,
    deadline: Instant,
    timings: StartTimings,
    stop: watch::Receiver<Option<StopOrder>>,
    /// Something was asked to end for this start.
    displaces: bool,
    snapshots: Snapshots,
    guard: SlotGuard,
    /// Says in the black box that this was under way, should the process end now.
    in_flight_marker: Option<Marker>,
}

/// What a step leaves: an incarnation to go on with, or the end.
type Step<T> = Result<(Incarnation, T), Ended>;

/// An end, with the message whose turn it was.
struct Ended {
    exit: Box<Exit>,
    in_flight: Option<Envelope>,
    /// The store, when its role wants a core dump of it.
    remains: Option<Box<TrappedStore>>,
}

impl From<Exit> for Ended {
    fn from(exit: Exit) -> Self {
        Self { exit: Box::new(exit), in_flight: None, remains: None }
    }
}

impl From<(Exit, Option<Box<TrappedStore>>)> for Ended {
    fn from((exit, remains): (Exit, Option<Box<TrappedStore>>)) -> Self {
        Self { remains, ..exit.into() }
    }
}

impl StartTask {
    pub(crate) fn new(
        order: StartOrder,
        ring: &Arc<Ring>,
        account: &Arc<Account>,
        slot: &Arc<AgentSlot>,
        container: &Arc<Container>,
    ) -> Self {
        let StartOrder { spec, component, workspace, prompt_message_id, record, .. } = order;
        let (changed, resumes, stays) = (order.settings, order.resumes, order.stays);
        let restart_intent = RestartIntent { force: order.force, resumes };
        let limits = &spec.limits;
        let log_budget = Arc::new(Mutex::new(Logs::budget(limits.log_lines_per_second)));
        let start = Arc::new(StartContext {
            mailbox: Mailbox::new(
                limits.mailbox_messages,
                limits.mailbox_bytes,
                Arc::clone(account),
            ),
            journal: OnceLock::new(),
            adopted: OnceLock::new(),
            set_aside: Mutex::default(),
            credentials: Credentials::new(&spec, record),
            settings: LiveSettings::new(&spec, Arc::clone(&container.town_values), changed),
            spec,
            component: OnceLock::new(),
            ring: Arc::clone(ring),
            probation: Probation::new(container.runtime.bucket()),
            is_suspect: AtomicBool::new(slot.look_at_restarts(|it| it.host_deaths > 0)),
            account: Arc::clone(account),
            container: Arc::clone(container),
        });
        let slot = Arc::clone(slot);
        let first = Mutex::default();
        Self {
            start,
            slot,
            component,
            workspace,
            log_budget,
            stays,
            restart_intent,
            prompt_message_id,
            resumes,
            first,
        }
    }

    /// An incarnation in `starting`, without a number until the slot gives it one. It does nothing by itself.
    /// `attempt` is 1 for the first of the start.
    pub(crate) fn incarnation(&self, number: Option<Number>, attempt: u32) -> AgentHandle {
        let publisher = Arc::new(StatePublisher::new(number, self.start.container.changes.clone()));
        let port = AgentPort::new(Arc::clone(&publisher), Arc::clone(&self.start));
        let (spec, log_budget) = (Arc::clone(&self.start.spec), Arc::clone(&self.log_budget));
        let account = Arc::clone(&self.start.account);
        let switch = self.start.probation.switch();
        let birth = InstanceContext::new(
            spec,
            Arc::new(port),
            self.workspace.clone(),
            log_budget,
            account,
            switch,
        );
        let state = IncarnationState::new(attempt, Arc::clone(&self.start), publisher, birth);
        AgentHandle { state: Arc::new(state) }
    }

    /// Begins with `first`, which has the slot's reservation.
    pub(crate) fn spawn(
        self,
        first: AgentHandle,
        ticket: Ticket,
        deadline: Instant,
        spawner: &Spawner,
    ) {
        // First of all: a task that is lost at once still gives the reservation back.
        let guard = SlotGuard::new(&first, ticket, &self.slot);
        let name = format!("agent {}", first.state.id());
        let away = self.start.container.runtime.slow_lane().clone();
        let switch = self.start.probation.switch();
        let task = async move {
            self.run(first, deadline, guard).await;
            Ok::<_, std::convert::Infallible>(())
        };
        spawner.spawn_migrating(name, away, switch, task);
    }

    async fn run(self, first: AgentHandle, deadline: Instant, guard: SlotGuard) {
        let mut actor = Actor::new(&self, first, deadline, guard);
        let mut failures = 0;
        let (loaded, _commitment) = loop {
            let again_at = match actor.reserve(&self.component, failures).await {
                Reserved::Ready(loaded, commitment) => break (loaded, commitment),
                Reserved::Over => return,
                Reserved::Again(at) => at,
            };
            failures = failures.saturating_add(1);
            let Some((next, guard)) = actor.back_off_from_start(again_at).await else { return };
            let deadline = Instant::now() + self.start.spec.limits.start;
            actor = Actor::new(&self, next, deadline, guard);
        };
        while let Some(restart_at) = actor.live(&loaded).await {
            let Some((next, guard)) = actor.back_off(restart_at).await else { return };
            next.state.persist_restart().await;
            let deadline = Instant::now() + self.start.spec.limits.start;
            next.state.progress().loaded(deadline);
            actor = Actor::new(&self, next, deadline, guard);
        }
    }
}

impl<'a> Actor<'a> {
    fn new(task: &'a StartTask, agent: AgentHandle, deadline: Instant, guard: SlotGuard) -> Self {
        let state = agent.state;
        Self {
            task,
            container: &task.start.container,
            reporter: Reporter::new(Arc::clone(&state)),
            deadline,
            timings: StartTimings::default(),
            stop: state.stop.subscribe(),
            displaces: false,
            snapshots: Snapshots::default(),
            guard,
            in_flight_marker: None,
            state,
        }
    }

    /// Writes down what is begun now, until something else is begun or [`Self::clear_in_flight`] is called.
    fn mark_in_flight(&mut self, phase: &str, message_id: Option<&str>) {
        // First of all: what was before it ended.
        self.in_flight_marker = None;
        let work = Work {
            agent_id: self.state.id().as_str().into(),
            incarnation: self.number().0,
            phase: phase.into(),
            message_id: message_id.map(Into::into),
        };
        self.in_flight_marker = Some(self.container.in_flight.begin(&work));
    }

    fn clear_in_flight(&mut self) {
        self.in_flight_marker = None;
    }

    fn number(&self) -> Number {
        self.state.incarnation()
    }

    /// The incarnation from its instance to its end. Yields when the next one is due, if one is.
    async fn live(&mut self, loaded: &Arc<Loaded>) -> Option<Instant> {
        self.reporter.is_made_from(loaded);
        let ended = match self.start_instance(loaded).await {
            Ok((incarnation, ())) => {
                self.clear_in_flight();
                self.state.publisher.transition(Input::Started);
                self.reporter.running(self.timings);
                self.state.answer(Ok(None));
                self.serve(incarnation).await
            }
            Err(ended) => ended,
        };
        self.finish(ended).await
    }

    /// Answers all callers that wait for the start that it did not work out, and logs it, once.
    fn refuse(&self, error: StartError) {
        if !self.state.is_answered() {
            self.reporter.not_started(&error);
            self.state.answer(Err(error));
        }
    }
}

async fn stop_ordered(stop: &mut watch::Receiver<Option<StopOrder>>) -> StopOrder {
    next_order(stop, false).await
}

/// The stop order; when there is one already, only the one that leaves no grace.
async fn next_order(stop: &mut watch::Receiver<Option<StopOrder>>, ordered: bool) -> StopOrder {
    let is_news =
        |order: &Option<StopOrder>| order.as_ref().is_some_and(|order| !ordered || order.now);
    match stop.wait_for(is_news).await.map(|order| order.clone()) {
        Ok(Some(order)) => order,
        // The sender lives in `IncarnationState`, which the actor holds: this cannot happen.
        _ => std::future::pending().await,
    }
}

fn answer(envelope: &mut Envelope, report: TurnReport) {
    if let Some(waiting) = envelope.report.take() {
        let _ = waiting.send(report);
    }
}

fn failed(failure: AgentFailure, phase: Phase) -> Exit {
    let mut exit = Exit::new(ExitReason::GuestError, phase, failure.message);
    exit.code = Some(failure.code);
    exit
}

fn exit_reason(reason: ShutdownReason) -> ExitReason {
    match reason {
        ShutdownReason::Stopped => ExitReason::Stopped,
        ShutdownReason::Drained => ExitReason::Drained,
        ShutdownReason::Superseded => ExitReason::Superseded,
        ShutdownReason::Evicted => ExitReason::EvictedMemoryPressure,
        ShutdownReason::Idle => ExitReason::Completed,
    }
}

//! The task of an agent: its life from instantiation to its exit record.
//!
//! ```text
//!   be_born ── instantiate ─ start ──▶ serve ── turn ─ turn ─ ... ──▶ wind_down ──▶ report::ended
//!      │                                 │        stop order, done       │
//!      └───────────────── Exit ──────────┴────────── Exit ───────────────┘
//! ```
//!
//! Each step consumes the incarnation and returns it or the exit. The loop acts on what the steps
//! return; nothing else ends it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_events::task::Spawner;
use bulkhead_events::{Ring, RunContext, SharedSink};
use bulkhead_model::event::{AgentTag, StartTimings};
use bulkhead_model::{
    AgentSpec, Body, Exit, ExitReason, Incarnation as Number, Input, Message, Next, Outcome, Phase,
    Sender,
};
use bulkhead_runtime::{
    AgentFailure, Birth, Call, CallEnd, CallLimits, Incarnation, Loaded, Runtime, ShutdownReason,
    StartInfo,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use crate::board::Board;
use crate::handle::{AgentHandle, Shared, StopOrder};
use crate::mailbox::{Envelope, Mailbox};
use crate::port::{AgentPort, Peers};
use crate::refusal::{StartError, TurnReport};
use crate::report::{Reporter, start_error};

/// Everything that an incarnation is made from.
pub struct Setup {
    /// What the agent is asked to be.
    pub spec: Arc<AgentSpec>,
    /// Which life.
    pub incarnation: Number,
    /// Its component.
    pub loaded: Arc<Loaded>,
    /// When the start has to be through.
    pub deadline: Instant,
    /// Where the start spent its time so far.
    pub timings: StartTimings,
    /// A directory that becomes its `/workspace`.
    pub workspace: Option<std::path::PathBuf>,
    /// The agent's place among all agents; given back when it has ended.
    pub place: OwnedSemaphorePermit,
    /// The engine.
    pub runtime: Arc<Runtime>,
    /// The other agents.
    pub peers: Arc<dyn Peers>,
    /// Takes facts.
    pub sink: SharedSink,
    /// The agent's events, over all its lives.
    pub ring: Arc<Ring>,
    /// This run.
    pub context: Arc<RunContext>,
    /// Names the prompt's message.
    pub prompt_message_id: String,
}

/// A start under way.
pub struct AgentStart {
    /// The agent, in `starting`.
    pub handle: AgentHandle,
    /// Resolves when it is running, or why it is not.
    pub running: oneshot::Receiver<Result<(), StartError>>,
}

struct Actor {
    shared: Arc<Shared>,
    birth: Arc<Birth>,
    runtime: Arc<Runtime>,
    loaded: Arc<Loaded>,
    deadline: Instant,
    timings: StartTimings,
    stop: watch::Receiver<Option<StopOrder>>,
    context: Arc<RunContext>,
    reporter: Arc<Reporter>,
}

/// What a step leaves: an incarnation to go on with, or the end.
type Step<T> = Result<(Incarnation, T), Ended>;

/// An end, with the message whose turn it was.
struct Ended {
    exit: Exit,
    in_flight: Option<Envelope>,
}

impl From<Exit> for Ended {
    fn from(exit: Exit) -> Self {
        Self { exit, in_flight: None }
    }
}

impl Setup {
    /// Spawns the agent's task.
    pub fn spawn(self, spawner: &Spawner) -> AgentStart {
        let Self { spec, incarnation, loaded, deadline, timings, workspace, place, .. } = self;
        let Self { runtime, peers, sink, ring, context, prompt_message_id, .. } = self;
        let tag = AgentTag { agent_id: spec.id.clone(), role: Arc::clone(&spec.role), incarnation };
        let board = Arc::new(Board::new());
        let port = AgentPort::new(
            tag.clone(),
            Arc::clone(&board),
            Arc::clone(&ring),
            Arc::clone(&sink),
            peers,
        );
        let birth = Arc::new(Birth::new(Arc::clone(&spec), Arc::new(port), workspace));
        let limits = &spec.limits;
        let shared = Arc::new(Shared {
            tag,
            spec: Arc::clone(&spec),
            mailbox: Mailbox::new(limits.mailbox_messages, limits.mailbox_bytes),
            board,
            meter: Arc::clone(&birth.meter),
            stop: watch::Sender::new(None),
            sink,
            ring,
        });
        let reporter = Reporter::new(Arc::clone(&shared), Arc::clone(&birth), loaded.digest);
        let reporter = Arc::new(reporter);
        let actor = Actor {
            stop: shared.stop.subscribe(),
            reporter: Arc::clone(&reporter),
            shared: Arc::clone(&shared),
            birth,
            runtime,
            loaded,
            deadline,
            timings,
            context: Arc::clone(&context),
        };
        actor.queue_prompt(prompt_message_id);
        let (started, running) = oneshot::channel();
        let name = format!("agent {} #{incarnation}", spec.id);
        let guard = EndGuard::new(Arc::clone(&shared), reporter, context, place);
        let task = async move {
            actor.live(started, guard).await;
            Ok::<_, std::convert::Infallible>(())
        };
        spawner.spawn(name, task);
        AgentStart { handle: AgentHandle { shared }, running }
    }
}

impl Actor {
    /// A prompt is the first message. The mailbox is empty and takes it, unless its role allows none.
    fn queue_prompt(&self, id: String) {
        let prompt = &self.shared.spec.prompt;
        if prompt.is_empty() {
            return;
        }
        let body: Body = prompt.as_str().into();
        let bytes = body.len();
        let message = Message { id: id.clone(), sender: Sender::Prompt, body };
        match self.shared.mailbox.push(Envelope { message, report: None }) {
            Ok(()) => self.shared.tell_message(id, Sender::Prompt, bytes),
            Err(full) => {
                let agent = &self.shared.spec.id;
                tracing::warn!(%agent, ?full, "mailbox has no room for the prompt");
            }
        }
    }

    async fn live(mut self, started: oneshot::Sender<Result<(), StartError>>, guard: EndGuard) {
        let ended = match self.be_born().await {
            Ok((incarnation, ())) => {
                self.shared.board.transition(Input::Started);
                self.reporter.running(self.timings);
                let _ = started.send(Ok(()));
                self.serve(incarnation).await
            }
            Err(ended) => {
                // Told after the record is written, so that whoever asked can read it.
                let error = start_error(&ended.exit, self.deadline, self.reporter.crash_id());
                self.finish(ended, guard);
                let _ = started.send(Err(error));
                return;
            }
        };
        self.finish(ended, guard);
    }

    /// Writes the record, publishes the end, and answers everyone who still waits.
    fn finish(&mut self, ended: Ended, guard: EndGuard) {
        let by = self.stop.borrow().as_ref().map(|order| order.by.clone());
        let message_id = ended.in_flight.as_ref().map(|envelope| envelope.message.id.clone());
        let active_agents = self.context.active_agents();
        let crash_id = self.reporter.ended(&ended.exit, by, message_id, active_agents);
        let report = TurnReport::Ended {
            reason: ended.exit.reason,
            message: ended.exit.message.clone(),
            crash_id,
        };
        let waiting = self.shared.mailbox.close();
        // Given back before the end is published: whoever waits for the end may start at once.
        let EndGuard { place, publish: _publish } = guard;
        drop(place);
        self.shared.board.transition(Input::Ended { normal: ended.exit.reason.is_normal() });
        for mut envelope in ended.in_flight.into_iter().chain(waiting) {
            answer(&mut envelope, report.clone());
        }
    }

    // ---- birth ----

    async fn be_born(&mut self) -> Step<()> {
        let began = Instant::now();
        let limits = self.start_limits();
        let call = self.runtime.instantiate(&self.loaded, Arc::clone(&self.birth), limits);
        let (incarnation, ()) = self.begin(call, Phase::Instantiate).await?;
        self.timings.instantiate_us = micros(began.elapsed());
        let began = Instant::now();
        let info = StartInfo {
            incarnation: self.shared.tag.incarnation.0,
            restored: false,
            town_id: self.context.town_id(),
        };
        let call = incarnation.start(info, self.start_limits());
        let born = self.begin(call, Phase::Start).await?;
        self.timings.guest_start_us = micros(began.elapsed());
        Ok(born)
    }

    /// A start has one deadline for all its calls, and no other limit.
    fn start_limits(&self) -> CallLimits {
        let left = self.deadline.saturating_duration_since(Instant::now());
        CallLimits { cpu: left, wall: left, host_call: left + Duration::from_secs(1) }
    }

    /// Drives a call of the start. A stop order ends it at once: there is nothing to save yet.
    async fn begin(&mut self, mut call: Call<()>, phase: Phase) -> Step<()> {
        let mut ordered = false;
        let end = loop {
            tokio::select! {
                biased;
                end = &mut call => break end,
                order = stop_ordered(&mut self.stop), if !ordered => {
                    ordered = true;
                    self.shared.board.transition(Input::StopRequested);
                    tracing::debug!(agent = %self.shared.spec.id, by = order.by, "start was cancelled");
                    call.kill();
                }
            }
        };
        match end {
            CallEnd::Returned(..) if ordered => Err(self.stopped_at_start(phase).into()),
            CallEnd::Ended(exit) if ordered && exit.reason == ExitReason::Killed => {
                Err(self.stopped_at_start(phase).into())
            }
            CallEnd::Returned(incarnation, Ok(())) => Ok((incarnation, ())),
            CallEnd::Returned(_, Err(failure)) => {
                let mut exit = failed(failure, phase);
                exit.reason = ExitReason::StartFailed;
                Err(exit.into())
            }
            CallEnd::Ended(exit) => Err(exit.into()),
        }
    }

    fn stopped_at_start(&self, phase: Phase) -> Exit {
        let order = self.stop.borrow();
        let reason = order.as_ref().map_or(ShutdownReason::Stopped, |order| order.reason);
        Exit::new(exit_reason(reason), phase, "was stopped before it was running")
    }

    // ---- service ----

    async fn serve(&mut self, incarnation: Incarnation) -> Ended {
        if incarnation.is_command() {
            return self.run_command(incarnation).await;
        }
        let mut incarnation = incarnation;
        loop {
            let envelope = tokio::select! {
                biased;
                order = stop_ordered(&mut self.stop) => {
                    return self.wind_down(incarnation, order.grace, order.reason).await;
                }
                envelope = self.shared.mailbox.next() => envelope,
            };
            match self.work_on(incarnation, envelope).await {
                Ok((next, ())) => incarnation = next,
                Err(ended) => return ended,
            }
        }
    }

    /// Works on one message: a turn, and more as long as the agent says `continue`.
    async fn work_on(&mut self, mut incarnation: Incarnation, mut envelope: Envelope) -> Step<()> {
        self.shared.board.count_message();
        loop {
            let (alive, outcome, grace) = self.turn(incarnation, &mut envelope).await?;
            let next = outcome.as_ref().map_or(Next::Idle, |outcome| outcome.next);
            if let (Next::Continue, None) = (next, grace) {
                envelope.message.sender = Sender::Continuation;
                envelope.message.body = "".into();
                incarnation = alive;
                continue;
            }
            match outcome {
                Ok(outcome) => answer(&mut envelope, TurnReport::Finished(outcome)),
                Err(AgentFailure { code, message, .. }) => {
                    answer(&mut envelope, TurnReport::Failed { code, message });
                }
            }
            if next == Next::Done {
                return Err(
                    Exit::new(ExitReason::Completed, Phase::Idle, "the agent said done").into()
                );
            }
            if let Some((grace, reason)) = grace {
                return Err(self.wind_down(alive, grace, reason).await);
            }
            return Ok((alive, ()));
        }
    }

    /// One turn. Returns what is left of the grace when a stop was ordered meanwhile.
    async fn turn(
        &mut self,
        incarnation: Incarnation,
        envelope: &mut Envelope,
    ) -> Result<
        (Incarnation, Result<Outcome, AgentFailure>, Option<(Duration, ShutdownReason)>),
        Ended,
    > {
        self.shared.board.transition(Input::TurnBegan);
        let began = Instant::now();
        let cpu_before = self.shared.meter.usage().cpu_us;
        let mut call = incarnation.handle(&envelope.message, self.turn_limits());
        let mut grace: Option<(Instant, ShutdownReason)> = None;
        let end = loop {
            tokio::select! {
                biased;
                end = &mut call => break end,
                order = stop_ordered(&mut self.stop), if grace.is_none() => {
                    grace = Some((Instant::now() + order.grace, order.reason));
                    self.shared.board.transition(Input::StopRequested);
                    call.end_within(order.grace);
                }
            }
        };
        match end {
            CallEnd::Returned(_, Err(failure)) if failure.fatal => {
                Err(self.died_in_turn(failed(failure, Phase::Handle), envelope))
            }
            CallEnd::Returned(incarnation, result) => {
                if grace.is_none() {
                    self.shared.board.transition(Input::TurnEnded);
                }
                let cpu_us = self.shared.meter.usage().cpu_us - cpu_before;
                self.reporter.turn(&envelope.message.id, &result, cpu_us, began.elapsed());
                let left = grace.map(|(until, reason)| {
                    (until.saturating_duration_since(Instant::now()), reason)
                });
                Ok((incarnation, result, left))
            }
            CallEnd::Ended(exit) => Err(self.died_in_turn(exit, envelope)),
        }
    }

    fn died_in_turn(&self, exit: Exit, envelope: &mut Envelope) -> Ended {
        let message = envelope.message.clone();
        let in_flight = Envelope { message, report: envelope.report.take() };
        Ended { exit, in_flight: Some(in_flight) }
    }

    fn turn_limits(&self) -> CallLimits {
        let limits = &self.shared.spec.limits;
        CallLimits { cpu: limits.cpu, wall: limits.wall, host_call: limits.host_call }
    }

    /// A stock component: one call, its whole life.
    async fn run_command(&mut self, incarnation: Incarnation) -> Ended {
        self.shared.board.transition(Input::TurnBegan);
        let mut call = incarnation.run(self.turn_limits());
        let mut ordered = None;
        let end = loop {
            tokio::select! {
                biased;
                end = &mut call => break end,
                order = stop_ordered(&mut self.stop), if ordered.is_none() => {
                    ordered = Some(order.reason);
                    self.shared.board.transition(Input::StopRequested);
                    // It has no `shutdown` to be asked with.
                    call.kill();
                }
            }
        };
        let exit = match (end, ordered) {
            (CallEnd::Ended(exit), Some(reason)) if exit.reason == ExitReason::Killed => {
                Exit::new(exit_reason(reason), Phase::Run, "a program without shutdown was stopped")
            }
            (CallEnd::Ended(exit), _) if exit.status == Some(0) => {
                Exit::new(ExitReason::Completed, Phase::Run, exit.message)
            }
            (CallEnd::Ended(exit), _) => exit,
            (CallEnd::Returned(_, Ok(())), _) => {
                Exit::new(ExitReason::Completed, Phase::Run, "the program ran to its end")
            }
            (CallEnd::Returned(_, Err(failure)), _) => {
                let mut exit = Exit::new(ExitReason::GuestExit, Phase::Run, failure.message);
                exit.status = Some(1);
                exit
            }
        };
        exit.into()
    }

    // ---- end ----

    /// Calls the guest's `shutdown` with what is left of the grace.
    async fn wind_down(
        &mut self,
        incarnation: Incarnation,
        grace: Duration,
        reason: ShutdownReason,
    ) -> Ended {
        self.shared.board.transition(Input::StopRequested);
        let limits =
            CallLimits { cpu: grace, wall: grace, host_call: grace + Duration::from_secs(1) };
        let exit = match incarnation.shutdown(reason, limits).await {
            CallEnd::Returned(_, Ok(())) => {
                Exit::new(exit_reason(reason), Phase::Shutdown, "ended when asked to")
            }
            CallEnd::Returned(_, Err(failure)) => {
                let text =
                    format!("ended when asked to, saying {}: {}", failure.code, failure.message);
                Exit::new(exit_reason(reason), Phase::Shutdown, text)
            }
            // CPU time and wall time of a shutdown are one grace.
            CallEnd::Ended(mut exit) => {
                if exit.reason == ExitReason::CpuDeadline {
                    exit.reason = ExitReason::Killed;
                }
                exit
            }
        };
        exit.into()
    }
}

/// Counts the agent among the live ones, and publishes an end that the task itself could not: a panic
/// of the host in it, or a task that never ran.
struct EndGuard {
    place: Counted,
    publish: PublishEnd,
}

/// One live agent, and its place among all.
struct Counted {
    context: Arc<RunContext>,
    _place: OwnedSemaphorePermit,
}

struct PublishEnd {
    shared: Arc<Shared>,
    reporter: Arc<Reporter>,
    context: Arc<RunContext>,
}

impl EndGuard {
    fn new(
        shared: Arc<Shared>,
        reporter: Arc<Reporter>,
        context: Arc<RunContext>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        context.agent_began();
        let publish = PublishEnd { shared, reporter, context: Arc::clone(&context) };
        Self { place: Counted { context, _place: place }, publish }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.context.agent_ended();
    }
}

impl Drop for PublishEnd {
    fn drop(&mut self) {
        if !self.shared.board.state().is_live() {
            return;
        }
        let text = "the agent's task ended before its agent; the log has its panic";
        let exit = Exit::new(ExitReason::HostError, Phase::Idle, text);
        let crash_id = self.reporter.ended(&exit, None, None, self.context.active_agents());
        let waiting = self.shared.mailbox.close();
        self.shared.board.transition(Input::Ended { normal: false });
        let (reason, message) = (exit.reason, exit.message);
        for mut envelope in waiting {
            let (message, crash_id) = (message.clone(), crash_id.clone());
            answer(&mut envelope, TurnReport::Ended { reason, message, crash_id });
        }
    }
}

async fn stop_ordered(stop: &mut watch::Receiver<Option<StopOrder>>) -> StopOrder {
    match stop.wait_for(Option::is_some).await.map(|order| order.clone()) {
        Ok(Some(order)) => order,
        // The sender lives in `Shared`, which the actor holds: this cannot happen.
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
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

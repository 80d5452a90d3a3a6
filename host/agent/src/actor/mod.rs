//! The task of an agent: its life from instantiation to its exit record.
//!
//! ```text
//!   be_born ── take_turn ─ instantiate ─ start ──▶ serve ── turn ─ turn ─ ... ──▶ wind_down ──▶ finish
//!      │                                             │       stop order, done        │
//!      └───────────────────── Exit ──────────────────┴─────────── Exit ──────────────┘
//! ```
//!
//! Each step consumes the incarnation and returns it or the exit. The loop acts on what the steps
//! return; nothing else ends it.

mod birth;
mod end;
mod serve;

use std::sync::Arc;
use std::time::Instant;

use bulkhead_events::task::Spawner;
use bulkhead_events::{Ring, RunContext, SharedSink};
use bulkhead_model::event::{AgentTag, StartTimings};
use bulkhead_model::{
    AgentSpec, Body, Exit, ExitReason, Incarnation as Number, Input, Message, Phase, Sender,
};
use bulkhead_runtime::{AgentFailure, Birth, Incarnation, Loaded, Runtime, ShutdownReason};
use tokio::sync::{Semaphore, watch};

use crate::board::Board;
use crate::handle::{AgentHandle, Shared, StopOrder};
use crate::mailbox::{Envelope, Mailbox};
use crate::port::{AgentPort, Peers};
use crate::refusal::TurnReport;
use crate::report::Reporter;
use crate::settings::LiveSettings;
use crate::slot::Slot;
use end::EndGuard;

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
    /// The incarnation that has to be gone first. It was asked to end.
    pub predecessor: Option<AgentHandle>,
    /// Places of all agents of the container.
    pub places: Arc<Semaphore>,
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
    /// What may change about it. The same for all incarnations of one start.
    pub settings: Arc<LiveSettings>,
}

struct Actor {
    shared: Arc<Shared>,
    birth: Arc<Birth>,
    runtime: Arc<Runtime>,
    loaded: Arc<Loaded>,
    deadline: Instant,
    timings: StartTimings,
    stop: watch::Receiver<Option<StopOrder>>,
    places: Arc<Semaphore>,
    context: Arc<RunContext>,
    reporter: Arc<Reporter>,
    guard: EndGuard,
}

/// What a step leaves: an incarnation to go on with, or the end.
type Step<T> = Result<(Incarnation, T), Ended>;

/// An end, with the message whose turn it was.
struct Ended {
    exit: Box<Exit>,
    in_flight: Option<Envelope>,
}

impl From<Exit> for Ended {
    fn from(exit: Exit) -> Self {
        Self { exit: Box::new(exit), in_flight: None }
    }
}

impl Setup {
    /// Spawns the agent's task. Returns at once: the agent is in `starting`.
    pub fn spawn(self, spawner: &Spawner) -> AgentHandle {
        let Self { spec, incarnation, loaded, deadline, timings, workspace, predecessor, .. } =
            self;
        let Self {
            places, runtime, peers, sink, ring, context, prompt_message_id, settings, ..
        } = self;
        let tag = AgentTag { agent_id: spec.id.clone(), role: Arc::clone(&spec.role), incarnation };
        let board = Arc::new(Board::new());
        let port = AgentPort::new(
            tag.clone(),
            Arc::clone(&board),
            Arc::clone(&ring),
            Arc::clone(&sink),
            peers,
            Arc::clone(&settings),
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
            slot: Slot::new(predecessor),
            sink,
            ring,
            settings,
        });
        let reporter = Reporter::new(Arc::clone(&shared), Arc::clone(&birth), loaded.digest);
        let reporter = Arc::new(reporter);
        let actor = Actor {
            stop: shared.stop.subscribe(),
            guard: EndGuard::new(Arc::clone(&shared), Arc::clone(&reporter), Arc::clone(&context)),
            reporter,
            shared: Arc::clone(&shared),
            birth,
            runtime,
            loaded,
            deadline,
            timings,
            places,
            context,
        };
        actor.queue_prompt(prompt_message_id);
        let name = format!("agent {} #{incarnation}", spec.id);
        let task = async move {
            actor.live().await;
            Ok::<_, std::convert::Infallible>(())
        };
        spawner.spawn(name, task);
        AgentHandle { shared }
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

    async fn live(mut self) {
        let ended = match self.be_born().await {
            Ok((incarnation, ())) => {
                self.shared.board.transition(Input::Started);
                self.reporter.running(self.timings);
                self.shared.slot.answer(Ok(()));
                self.serve(incarnation).await
            }
            Err(ended) => ended,
        };
        self.finish(ended);
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
        ShutdownReason::Idle => ExitReason::Completed,
    }
}

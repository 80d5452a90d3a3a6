use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use bulkhead_events::{SharedSink, Sink};
use bulkhead_memory::{Kernel, Memory, MemoryConfig, Now};
use bulkhead_model::{
    AgentId, AgentSpec, Body, Event, HttpPolicy, Incarnation, Limits, Message, RestartPolicy,
    RestartRules, Sender, SnapshotRules,
};
use bulkhead_runtime::{Runtime, RuntimeConfig};
use bulkhead_store::blackbox::InFlightTable;
use bulkhead_store::crashes::Crashes;
use bulkhead_store::database::Private;
use bulkhead_store::{Database, Journal};

use super::*;
use crate::actor::Life;
use crate::agent::{Agent, StartOrder};
use crate::container::{Container, Stores};
use crate::mailbox::Envelope;
use crate::port::Peers;
use crate::refusal::SendError;
use crate::slot::{Admitted, Slot, Turn, Wish};
use bulkhead_api::IfRunning;

#[derive(Default)]
struct Kept(Mutex<Vec<Event>>);

impl Sink for Kept {
    fn record(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Kept {
    fn count(&self, is: impl Fn(&Event) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|event| is(event)).count()
    }
}

struct Nobody;

impl Peers for Nobody {
    fn send(&self, to: &AgentId, _: Sender, _: Body) -> Result<String, SendError> {
        Err(SendError::NoSuchAgent(to.clone()))
    }
}

fn spec() -> Arc<AgentSpec> {
    Arc::new(AgentSpec {
        id: AgentId::parse("a").unwrap(),
        role: "r".into(),
        component: "c".into(),
        name: "a".into(),
        town_id: None,
        rig_id: None,
        prompt: String::new(),
        system_prompt: None,
        model: None,
        small_model: None,
        config: BTreeMap::new(),
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        limits: Limits::default(),
        http: HttpPolicy::default(),
        snapshots: SnapshotRules::default(),
        restart: RestartRules { policy: RestartPolicy::Permanent, ..RestartRules::default() },
        fault_injection: false,
        core_dump: false,
        eviction_weight_percent: 100,
    })
}

/// Of a component that there is not.
fn order(deadline: Instant) -> StartOrder {
    StartOrder {
        record: Private::default(),
        settings: None,
        stays: false,
        resumes: false,
        spec: spec(),
        component: PathBuf::from("c.wasm"),
        workspace: None,
        if_running: IfRunning::Join,
        force: false,
        deadline,
        prompt_message_id: "p".into(),
    }
}

struct Bench {
    kept: Arc<Kept>,
    container: Arc<Container>,
    slot: Arc<AgentSlot>,
}

impl Bench {
    /// Room for one agent.
    fn new() -> Self {
        let kept = Arc::new(Kept::default());
        let sink = Arc::clone(&kept) as SharedSink;
        let config = RuntimeConfig { max_agents: 1, ..RuntimeConfig::default() };
        let runtime = Arc::new(Runtime::new(&config, Arc::clone(&sink)).unwrap());
        let context = Arc::new(RunContext::new("run".into(), None));
        let crashes = Arc::new(Crashes::in_memory());
        let database = Arc::new(Database::absent());
        let config = MemoryConfig::default();
        let memory = Arc::new(Memory::new(Kernel::here(), config, Now::clock()));
        let (in_flight, journal) = (InFlightTable::absent(), Journal::absent());
        let stores = Stores { crashes, database, in_flight, journal };
        let container = Container::new(runtime, Arc::new(Nobody), sink, stores, context, memory);
        let container = Arc::new(container);
        Self { kept, container, slot: Arc::new(Slot::new(Incarnation(0))) }
    }

    /// An agent in `starting` that has the reservation, without a task.
    fn reserved(&self) -> (AgentHandle, Tenure) {
        let order = order(Instant::now());
        let if_running = IfRunning::Join;
        let wish = Wish { spec: &*spec(), if_running, force: false, resumes: false };
        let life = Life::new(order, &Arc::default(), &Arc::default(), &self.slot, &self.container);
        let may_begin = || Ok::<_, StartError>(());
        let admitted = self.slot.admit(&wish, may_begin, || life.incarnation(None, 1));
        let Ok(Admitted::Reserved { ticket, tenant, .. }) = admitted else { panic!("not let in") };
        let tenure = Tenure::new(&tenant, ticket, &self.slot);
        (tenant, tenure)
    }

    /// The same, and it holds the slot.
    async fn holding(&self) -> (AgentHandle, Tenure) {
        let (agent, mut tenure) = self.reserved();
        let ticket = tenure.ticket().unwrap();
        self.slot.ready(ticket).unwrap();
        let places = &self.container.places;
        let turn = self.slot.turn(ticket, || Arc::clone(places).try_acquire_owned().ok()).await;
        assert_eq!(turn, Turn::Mine);
        tenure.begins();
        (agent, tenure)
    }

    fn live_and_free(&self) -> (usize, usize) {
        (self.container.context.active_agents(), self.container.places.available_permits())
    }
}

/// The engine's lanes end with the bench, which has to happen outside of any other lane.
fn on_a_bench(test: impl AsyncFnOnce(&Bench)) {
    let bench = Bench::new();
    let lane = tokio::runtime::Builder::new_current_thread().build().unwrap();
    lane.block_on(test(&bench));
}

fn mail(agent: &AgentHandle) -> tokio::sync::oneshot::Receiver<TurnReport> {
    let (report, sender) = tokio::sync::oneshot::channel();
    let message = Message::new("m", Sender::Operator, "hi");
    let envelope = Envelope::new(message, Some(report));
    agent.shared.start.mailbox.push(envelope).unwrap();
    sender
}

#[test]
fn a_task_that_is_lost_answers_everyone_leaves_its_records_and_gives_its_place_back() {
    on_a_bench(async |bench| {
        let (agent, tenure) = bench.holding().await;
        let sender = mail(&agent);
        assert_eq!(bench.live_and_free(), (1, 0));

        drop(tenure);

        assert!(!agent.is_live() && bench.slot.is_vacant());
        assert_eq!(bench.live_and_free(), (0, 1));
        assert!(agent.shared.is_answered(), "whoever waits for the start waits for ever");
        let error = agent.started().await.unwrap_err();
        assert_eq!(error.kind, StartFailure::Host);
        assert!(matches!(
            sender.await.unwrap(),
            TurnReport::Ended { reason: ExitReason::HostError, crash_id: Some(_), .. }
        ));
        assert_eq!(bench.kept.count(|event| matches!(event, Event::AgentExit { .. })), 1);
        assert_eq!(bench.kept.count(|event| matches!(event, Event::AgentCrash(_))), 1);
        assert_eq!(bench.kept.count(|event| matches!(event, Event::RestartScheduled { .. })), 0);
    });
}

#[test]
fn a_task_that_is_lost_before_its_turn_gives_the_reservation_back() {
    on_a_bench(async |bench| {
        let (agent, tenure) = bench.reserved();
        drop(tenure);
        assert!(bench.slot.is_vacant() && bench.slot.shown().is_none());
        assert_eq!(agent.started().await.unwrap_err().kind, StartFailure::Host);
        assert_eq!(bench.kept.count(|event| matches!(event, Event::AgentExit { .. })), 0);
    });
}

#[test]
fn a_task_that_is_lost_in_its_rest_is_no_agent_that_comes_back() {
    on_a_bench(async |bench| {
        let (agent, mut tenure) = bench.holding().await;
        let reporter = Reporter::new(Arc::clone(&agent.shared));
        let exit = Exit::new(ExitReason::Trap, Phase::Handle, "x");
        let told = Told { crash_id: None, in_flight: None, may_restart: true };
        tenure.tell(&reporter, &exit, told);
        assert!(tenure.release(None).backoff.is_some());
        assert_eq!(agent.board().state().as_str(), "backoff");
        // The place is kept for the next incarnation; nothing lives.
        assert_eq!(bench.live_and_free(), (0, 0));
        let sender = mail(&agent);

        drop(tenure);

        assert_eq!(agent.board().state().as_str(), "exited");
        assert_eq!(bench.live_and_free(), (0, 1));
        assert!(matches!(sender.await.unwrap(), TurnReport::Ended { .. }));
    });
}

#[test]
fn a_record_waits_for_no_core_dump_and_the_slot_for_the_store() {
    on_a_bench(async |bench| {
        let (agent, mut tenure) = bench.holding().await;
        let reporter = Reporter::new(Arc::clone(&agent.shared));
        let exit = Exit::new(ExitReason::Trap, Phase::Handle, "x");
        let crash_id = Some("crash".to_owned());
        let told = Told { crash_id: crash_id.clone(), in_flight: None, may_restart: true };
        tenure.tell(&reporter, &exit, told);

        assert!(bench.container.crashes.get("crash").is_some());
        assert_eq!(bench.kept.count(|event| matches!(event, Event::AgentCrash(_))), 1);
        assert!(agent.is_live() && bench.slot.occupant().is_some(), "its store is still there");
        assert_eq!(agent.board().published().exit, None);

        // A task that is lost now leaves no second end, and nobody who is waited for.
        drop(tenure);

        let exit = agent.board().published().exit.expect("an end");
        assert_eq!((exit.reason.as_str(), exit.crash_id), ("trap", crash_id));
        assert!(!agent.is_live() && bench.slot.is_vacant());
        assert_eq!(bench.live_and_free(), (0, 1));
        assert_eq!(bench.kept.count(|event| matches!(event, Event::AgentExit { .. })), 1);
    });
}

#[test]
fn while_agents_are_ended_for_want_of_memory_a_start_does_not_even_load() {
    on_a_bench(async |bench| {
        for (held, kind) in
            [(false, StartFailure::ComponentUnreadable), (true, StartFailure::Memory)]
        {
            bench.container.hold_starts(held);
            let agent = Agent::new(spec().id.clone(), Incarnation(0), Arc::clone(&bench.container));
            let order = order(Instant::now() + Duration::from_secs(60));
            let (_, handle) = agent.start(order, &bench.container.spawner()).unwrap();
            assert_eq!(handle.started().await.unwrap_err().kind, kind);
        }
    });
}

#[test]
fn a_task_that_is_lost_when_its_restart_has_begun_gives_the_slot_back() {
    on_a_bench(async |bench| {
        let order = order(Instant::now());
        let life =
            Life::new(order, &Arc::default(), &Arc::default(), &bench.slot, &bench.container);
        let (agent, mut tenure) = bench.holding().await;
        let reporter = Reporter::new(Arc::clone(&agent.shared));
        let exit = Exit::new(ExitReason::Trap, Phase::Handle, "x");
        let told = Told { crash_id: None, in_flight: None, may_restart: true };
        tenure.tell(&reporter, &exit, told);
        assert!(tenure.release(None).backoff.is_some());
        let mut actor = Actor::new(&life, agent, Instant::now(), tenure);

        let next = actor.rest(Instant::now()).await;
        assert!(next.is_some() && !bench.slot.is_vacant());
        drop(next);
        drop(actor);

        assert!(bench.slot.is_vacant(), "nobody holds the slot, and it is held for ever");
        assert_eq!(bench.live_and_free(), (0, 1));
    });
}

//! An agent on an engine that follows a script, with everything around it that a host has.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bulkhead_blackbox::InFlightTable;
use bulkhead_log::{RunContext, SharedSink, Sink};
use bulkhead_memory::{Kernel, Memory, MemoryConfig, Now};
use bulkhead_store::crashes::Crashes;
use bulkhead_store::database::{Config, Private, Snapshot};
use bulkhead_store::journal;
use bulkhead_store::{Database, Journal};
use bulkhead_telemetry::TraceContext;
use bulkhead_types::{
    AgentId, AgentSpec, AgentState, Body, Digest, Event, IfRunning, Incarnation, RestartPolicy,
    RestartRules, Sender, Timestamp,
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::fake::FakeEngine;
use crate::agent::{Admission, Agent};
use crate::container::{Container, Stores};
use crate::handle::AgentHandle;
use crate::order::StartOrder;
use crate::peers::Peers;
use crate::refusal::{Delivery, SendError, StartError};

type Look = Box<dyn Fn(&Event) + Send + Sync>;

/// Keeps what is logged, and on which thread.
#[derive(Default)]
pub(crate) struct Kept {
    events: Mutex<Vec<(Event, Option<String>)>>,
    look: OnceLock<Look>,
}

impl Sink for Kept {
    fn record(&self, event: Event) {
        if let Some(look) = self.look.get() {
            look(&event);
        }
        let thread = std::thread::current().name().map(str::to_owned);
        self.events.lock().push((event, thread));
    }
}

impl Kept {
    /// Looks at each event from now on, at the moment at which it is logged.
    pub(crate) fn look_at(&self, look: impl Fn(&Event) + Send + Sync + 'static) {
        assert!(self.look.set(Box::new(look)).is_ok(), "one looks already");
    }

    pub(crate) fn count(&self, is: impl Fn(&Event) -> bool) -> usize {
        self.events.lock().iter().filter(|(event, _)| is(event)).count()
    }

    /// Threads that logged such events.
    pub(crate) fn threads(&self, is: impl Fn(&Event) -> bool) -> Vec<String> {
        let kept = self.events.lock();
        let such = kept.iter().filter(|(event, _)| is(event));
        such.filter_map(|(_, thread)| thread.clone()).collect()
    }
}

struct Nobody;

impl Peers for Nobody {
    fn send(
        &self,
        to: &AgentId,
        _: Sender,
        _: Body,
        _: Option<TraceContext>,
    ) -> Result<String, SendError> {
        Err(SendError::NoSuchAgent(to.clone()))
    }
}

/// An agent that is restarted whatever it ends by.
pub(crate) fn spec() -> AgentSpec {
    let restart = RestartRules { policy: RestartPolicy::Permanent, ..RestartRules::default() };
    let id = AgentId::parse("a").unwrap();
    AgentSpec { restart, ..AgentSpec::new(id, "r".into(), "c".into()) }
}

pub(crate) fn order(spec: AgentSpec, deadline: Instant) -> StartOrder {
    StartOrder {
        record: Private::default(),
        settings: None,
        trace: None,
        stays: false,
        resumes: false,
        patience: spec.limits.start,
        spec: Arc::new(spec),
        code: PathBuf::from("c.wasm").into(),
        workspace: None,
        if_running: IfRunning::Join,
        force: false,
        deadline: deadline.into_std(),
        prompt_message_id: "p".into(),
    }
}

/// A container with room for one agent. Made on the runtime that its tasks run on.
pub(crate) fn container(
    engine: Arc<FakeEngine>,
    database: Database,
    journal: Journal,
) -> (Arc<Container>, Arc<Kept>) {
    let kept = Arc::new(Kept::default());
    let sink = Arc::clone(&kept) as SharedSink;
    let context = Arc::new(RunContext::new("run".into(), None));
    let crashes = Arc::new(Crashes::in_memory());
    let memory = Arc::new(Memory::new(Kernel::here(), MemoryConfig::default(), Now::clock()));
    let in_flight = InFlightTable::absent();
    let stores =
        Stores { crashes, database: Arc::new(database), in_flight, journal, feed: Arc::default() };
    let container = Container::new(engine, Arc::new(Nobody), sink, stores, context, memory);
    (Arc::new(container), kept)
}

/// One agent, by its id.
pub(crate) struct Rig {
    pub engine: Arc<FakeEngine>,
    pub container: Arc<Container>,
    pub kept: Arc<Kept>,
    pub agent: Agent,
    dir: PathBuf,
}

impl Rig {
    pub(crate) fn new() -> Self {
        // The tasks run on this thread, and backoffs are random.
        fastrand::seed(7);
        let dir = tempfile::tempdir().unwrap();
        let config = Config { dir: Some(dir.path().join("db")), ..Config::default() };
        std::fs::create_dir_all(dir.path().join("db")).unwrap();
        let (path, journal) = (dir.path().to_owned(), journal::open(dir.path(), 4).journal);
        // The folder goes with the database, which outlives the rig in tasks of the runtime, and would make a new one.
        let (database, _) = Database::open(config, move |_| {
            let _ = &dir;
        });
        let engine = Arc::new(FakeEngine::default());
        let (container, kept) = container(Arc::clone(&engine), database, journal);
        let agent = Agent::new(spec().id, Incarnation(0), Arc::clone(&container));
        Self { engine, container, kept, agent, dir: path }
    }

    /// Lets a start in that has as much time as its role gives it.
    pub(crate) fn admit(&self, spec: AgentSpec) -> Result<(Admission, AgentHandle), StartError> {
        let deadline = Instant::now() + spec.limits.start;
        self.agent.start(order(spec, deadline))
    }

    pub(crate) fn start(&self, spec: AgentSpec) -> AgentHandle {
        self.admit(spec).unwrap().1
    }

    /// The same with a workspace.
    pub(crate) fn start_in_a_workspace(&self, spec: AgentSpec) -> AgentHandle {
        let deadline = Instant::now() + spec.limits.start;
        let workspace = Some(self.dir.join("workspace"));
        self.agent.start(StartOrder { workspace, ..order(spec, deadline) }).unwrap().1
    }

    /// The same, and it runs.
    pub(crate) async fn running(&self, spec: AgentSpec) -> AgentHandle {
        self.start(spec).started().await.unwrap()
    }

    pub(crate) fn send(&self, agent: &AgentHandle, id: &str) -> Delivery {
        agent.send(id.into(), Sender::Operator, "hi".into(), None).unwrap()
    }

    /// Resolves with the incarnation that shows this state.
    pub(crate) async fn shows(&self, state: AgentState) -> AgentHandle {
        loop {
            let shown = self.agent.current().filter(|agent| agent.publisher().state() == state);
            match shown {
                Some(agent) => return agent,
                None => sleep(Duration::from_millis(1)).await,
            }
        }
    }

    /// What an earlier incarnation of the same code left.
    pub(crate) fn keep_snapshot(&self) {
        self.keep_snapshot_of(Some(7));
    }

    /// What an earlier incarnation of the code with a digest of such bytes left.
    pub(crate) fn keep_snapshot_of(&self, code: Option<u8>) {
        let (agent, bytes) = (spec().id, Arc::from(*b"state"));
        let (incarnation, taken_at) = (Incarnation(1), Timestamp(1));
        let code = code.map(|byte| Digest([byte; 32]));
        let snapshot = Snapshot { agent, incarnation, taken_at, code, bytes };
        self.container.database.keep_snapshot(snapshot).unwrap();
    }

    /// What is in the database can be neither read nor written any more.
    pub(crate) fn block_database(&self) {
        assert!(self.container.database.flush(Duration::from_secs(30)));
        let file = self.dir.join("db/bulkhead.db");
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
    }
}

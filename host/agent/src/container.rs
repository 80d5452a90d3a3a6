//! What all agents of the container share.

use std::sync::Arc;

use bulkhead_blackbox::InFlightTable;
use bulkhead_feed::Feed;
use bulkhead_log::{RunContext, SharedSink};
use bulkhead_memory::{Memory, Shortage};
use bulkhead_ship::Archives;
use bulkhead_store::crashes::CrashStore;
use bulkhead_store::database::Newest;
use bulkhead_store::{Database, Journal};
use bulkhead_tasks::Spawner;
use bulkhead_telemetry::{Figures, Telemetry};
use bulkhead_types::AgentId;
use bulkhead_usage::Ledger;
use bulkhead_workspace::{Inventory, Workspaces};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Semaphore, watch};

use crate::admission::{Commitment, Committed, short_of};
use crate::changes::Changes;
use crate::ended_agents::EndedAgents;
use crate::engine::{Code, Component, Engine, EngineFacts};
use crate::peers::Peers;
use crate::refusal::StartError;
use crate::tools_in_use::ToolCounts;
use crate::town_values::TownValues;
use crate::workspace_use::WorkspaceUse;

/// What is kept for those who come later.
pub struct Stores {
    /// Keeps crash records.
    pub crashes: Arc<dyn CrashStore>,
    /// Keeps what has to survive the process.
    pub database: Arc<Database>,
    /// Where the black box has what agents are at.
    pub in_flight: InFlightTable,
    /// Keeps the messages whose turn is not over.
    pub journal: Journal,
    /// Numbers and keeps all events.
    pub feed: Arc<Feed>,
}

/// What all agents of the container share.
pub struct Container {
    /// Runs the guests.
    pub(crate) engine: Arc<dyn Engine>,
    /// What that was built for.
    pub(crate) engine_facts: EngineFacts,
    /// The way from one agent to another.
    pub peers: Arc<dyn Peers>,
    /// Takes facts.
    pub sink: SharedSink,
    /// Keeps crash records.
    pub crashes: Arc<dyn CrashStore>,
    /// Keeps what has to survive the process.
    pub database: Arc<Database>,
    /// Where the black box has what agents are at.
    pub in_flight: InFlightTable,
    /// Keeps the messages whose turn is not over.
    pub journal: Journal,
    /// All events.
    pub feed: Arc<Feed>,
    /// This run.
    pub context: Arc<RunContext>,
    /// The memory of the container, and of each agent over time.
    pub memory: Arc<Memory>,
    /// Permits of all agents: one for each that is active or in backoff.
    pub permits: Arc<Semaphore>,
    /// Rises when an incarnation becomes active or ends.
    pub changes: Changes,
    /// What is kept of those that ended.
    pub ended: EndedAgents,
    /// Makes repositories for those that work on one. `None`: this host makes none.
    pub workspaces: Option<Workspaces>,
    /// Who is at the workspaces.
    pub workspace_use: WorkspaceUse,
    /// Notes when workspaces are used, if that matters.
    pub(crate) inventory: Option<Inventory>,
    /// Brings workspaces here that another machine has shipped, and ships them. `None`: they stay on this disk.
    pub archives: Option<Archives>,
    /// The native programs of all of them, counted.
    pub tools: ToolCounts,
    /// Records turns, if somebody wants to see them.
    pub(crate) telemetry: Option<Telemetry>,
    /// What may change about all of them.
    pub town_values: Arc<TownValues>,
    /// What all of them use of language models.
    ledger: Mutex<Ledger>,
    /// What all agents may take together, if each goes to its limit.
    pub(crate) committed: Committed,
    /// Agents are ended for want of memory.
    held: watch::Sender<bool>,
    draining: watch::Sender<bool>,
    /// Crashes of which something is still to be found out.
    crash_follow_ups: watch::Sender<usize>,
    /// One for each snapshot that may be read at once.
    readers: Arc<Semaphore>,
}

/// Snapshots that are read at once. A disk that does not answer keeps as many threads and no more: other starts
/// wait, each until its deadline.
const READERS: usize = 16;

/// Counts one follow-up until it is dropped.
pub(crate) struct CrashFollowUpGuard(Arc<Container>);

impl Drop for CrashFollowUpGuard {
    fn drop(&mut self) {
        self.0.crash_follow_ups.send_modify(|count| *count -= 1);
    }
}

impl Container {
    /// A container that takes starts.
    pub fn new(
        engine: Arc<dyn Engine>,
        peers: Arc<dyn Peers>,
        sink: SharedSink,
        stores: Stores,
        context: Arc<RunContext>,
        memory: Arc<Memory>,
    ) -> Self {
        let Stores { crashes, database, in_flight, journal, feed } = stores;
        let engine_facts = engine.facts();
        let max_agents = engine_facts.max_agents.min(Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(max_agents));
        let (draining, crash_follow_ups) = (watch::Sender::new(false), watch::Sender::new(0));
        Self {
            engine,
            engine_facts,
            peers,
            sink,
            crashes,
            database,
            in_flight,
            journal,
            feed,
            context,
            memory,
            permits,
            changes: Changes::default(),
            ended: EndedAgents::default(),
            workspaces: None,
            workspace_use: WorkspaceUse::default(),
            inventory: None,
            archives: None,
            tools: ToolCounts::default(),
            telemetry: None,
            town_values: Arc::default(),
            ledger: Mutex::new(Ledger::new(Default::default(), Default::default())),
            committed: Committed::default(),
            held: watch::Sender::new(false),
            draining,
            crash_follow_ups,
            readers: Arc::new(Semaphore::new(READERS)),
        }
    }

    /// Reads, checks and compiles what agents are to be made from, within the time that a start has for it. An error
    /// is one sentence for a person.
    pub async fn load(&self, name: Arc<str>, code: Code) -> Result<Arc<dyn Component>, String> {
        let (engine, limit) = (Arc::clone(&self.engine), self.engine_facts.compile_limit);
        match tokio::time::timeout(limit, engine.load(name, code)).await {
            Ok(loaded) => loaded.map_err(|error| error.to_string()),
            Err(_) => Err(format!("it was not compiled within {} ms", limit.as_millis())),
        }
    }

    /// Reads the newest snapshot of an agent on a thread that may wait. Takes as long as the disk does: bound it.
    /// Dropping the future leaves the thread to the disk.
    pub(crate) async fn read_snapshot(&self, id: &AgentId) -> Result<Newest, String> {
        // The semaphore is never closed.
        let reader = Arc::clone(&self.readers).acquire_owned().await.ok();
        let (database, id) = (Arc::clone(&self.database), id.clone());
        let read = tokio::task::spawn_blocking(move || {
            let newest = database.newest_snapshot(&id);
            drop(reader);
            newest
        });
        let read = read.await.map_err(|error| error.to_string())?;
        read.map_err(|error| error.to_string())
    }

    /// The same with other bounds for agents that ended.
    #[must_use]
    pub fn keeping(self, ended: EndedAgents) -> Self {
        Self { ended, ..self }
    }

    /// The same with what agents may use of language models, and with what was used before.
    #[must_use]
    pub fn measured_by(self, ledger: Ledger) -> Self {
        Self { ledger: Mutex::new(ledger), ..self }
    }

    /// What all agents use of language models. Nobody holds it while waiting.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock()
    }

    /// The same with what makes repositories.
    #[must_use]
    pub fn with_workspaces(self, workspaces: Option<Workspaces>) -> Self {
        Self { workspaces, ..self }
    }

    /// The same with notes of when workspaces are used.
    #[must_use]
    pub fn noting_uses(self, inventory: Option<Inventory>) -> Self {
        Self { inventory, ..self }
    }

    /// The same with workspaces that travel.
    #[must_use]
    pub fn with_archives(self, archives: Option<Archives>) -> Self {
        Self { archives, ..self }
    }

    /// The same with turns recorded.
    #[must_use]
    pub fn traced(self, telemetry: Option<Telemetry>) -> Self {
        Self { telemetry, ..self }
    }

    /// What became of spans. Nothing while telemetry is off.
    pub fn spans(&self) -> Figures {
        self.telemetry.as_ref().map(Telemetry::figures).unwrap_or_default()
    }

    /// Spawns on the next thread of the fast lane.
    pub fn spawner(&self) -> Spawner {
        Spawner::new(self.engine.fast_lane(), Arc::clone(&self.sink), Arc::clone(&self.context))
    }

    /// Spawns on the slow lane.
    pub(crate) fn slow_spawner(&self) -> Spawner {
        let lane = self.engine_facts.slow_lane.clone();
        Spawner::new(lane, Arc::clone(&self.sink), Arc::clone(&self.context))
    }

    pub(crate) fn crash_follow_up_begins(self: &Arc<Self>) -> CrashFollowUpGuard {
        self.crash_follow_ups.send_modify(|count| *count += 1);
        CrashFollowUpGuard(Arc::clone(self))
    }

    /// Resolves when everything that was to be found out about crashes is logged.
    pub async fn crash_follow_ups_are_done(&self) {
        let mut crash_follow_ups = self.crash_follow_ups.subscribe();
        // An error would say that the sender is gone, which is ours.
        let _ = crash_follow_ups.wait_for(|count| *count == 0).await;
    }

    /// While agents are ended for want of memory, nothing new comes.
    pub fn hold_starts(&self, held: bool) {
        self.held.send_if_modified(|before| std::mem::replace(before, held) != held);
    }

    /// Whether agents are ended for want of memory.
    pub fn holds_starts(&self) -> bool {
        *self.held.borrow()
    }

    /// Resolves when nobody is ended for want of memory.
    pub(crate) async fn takes_starts(&self) {
        let mut held = self.held.subscribe();
        // An error would say that the sender is gone, which is ours.
        let _ = held.wait_for(|held| !*held).await;
    }

    /// What all agents may take together if each goes to its limit, in bytes.
    pub fn committed_bytes(&self) -> u64 {
        self.committed.bytes()
    }

    /// Refuses a start while agents are ended for want of memory, unless it gives back before it takes.
    pub(crate) fn check_held(&self, gives_back: bool) -> Result<(), StartError> {
        if gives_back || !self.holds_starts() {
            return Ok(());
        }
        let reading = self.memory.reading().unwrap_or_default();
        Err(short_of(
            &self.memory,
            &Shortage::Used {
                used_bytes: reading.used_bytes.unwrap_or_default(),
                limit_bytes: reading.limit.map_or(0, |limit| limit.bytes),
            },
        ))
    }

    /// Commits `bytes` for a start, or says why there is no memory for it. `replaced` are those of the agent
    /// that it replaces.
    pub(crate) fn commit(&self, bytes: u64, replaced: u64) -> Result<Commitment, StartError> {
        // A compiler may go to its limit as well.
        let compiling = self.engine.compiling_bytes();
        let admits = |others: u64| self.memory.admit(others.saturating_add(compiling), bytes);
        let committed = self.committed.commit(bytes, replaced, admits);
        committed.map_err(|shortage| short_of(&self.memory, &shortage))
    }

    /// From now on nothing starts or restarts, and idle agents have little patience.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Whether the container is going away.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Resolves when the container is going away.
    pub async fn drains(&self) {
        let mut draining = self.draining.subscribe();
        if draining.wait_for(|draining| *draining).await.is_err() {
            // The sender is ours: it cannot be gone while this waits.
            std::future::pending().await
        }
    }
}

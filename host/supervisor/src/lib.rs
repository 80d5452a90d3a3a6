//! All agents.
//!
//! ```text
//!   start ─▶ Catalog::resolve ─▶ Registry ─▶ Agent::start ─▶ join | keep | a task for the next incarnation
//!   memory ─▶ the container's samples, and every agent's meter
//!   stop, send, nudge, status ─▶ Registry ─▶ Agent ─▶ AgentHandle
//!   drain ─▶ every Agent
//! ```
//!
//! Everything about one id is decided by its slot (`bulkhead_agent`, module `slot`). A start that fails
//! before it is its turn leaves whatever runs alone: a bad request, an unknown role, a component that does
//! not load.

mod catalog;
mod drain;
mod earlier;
mod host_death;
mod hydrate;
mod kept_rows;
mod memory;
mod metrics;
mod missing;
mod order;
mod peers;
mod registry;
mod relief;
mod retention;
mod settings;
mod start;
mod town;
mod upgrade;
mod usage;
mod view;
mod workspaces;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bulkhead_agent::AgentHandle;
use bulkhead_agent::{Container, EndedAgents};
pub use bulkhead_agent::{
    Delivery, FinishedTurn, SendError, SettingsError, StartError, StartFailure, StopError, Stores,
    TownConfigError, TurnReport,
};
use bulkhead_api::{AgentList, AgentView, EventsPage, Health, NudgeRequest, StopAnswer};
use bulkhead_feed::{Feed, Ring};
use bulkhead_log::{RunContext, SharedSink};
use bulkhead_memory::Memory;
pub use bulkhead_memory::Snapshot as MemorySnapshot;
pub use bulkhead_runtime::ExecError;
use bulkhead_runtime::{Runtime, ShutdownReason};
pub use bulkhead_ship::ArchiveFigures;
use bulkhead_ship::Archives;
pub use bulkhead_store::crashes::{CrashStore, Filter as CrashFilter, Page as CrashPage};
use bulkhead_store::database::Durability;
pub use bulkhead_store::database::FollowerFigures;
use bulkhead_telemetry::{Telemetry, TraceContext};
use bulkhead_types::time::millis;
use bulkhead_types::{AgentId, Body, CrashRecord, Durable, ExitReason, Sender, Timestamp};
pub use bulkhead_workspace::Error as GitError;
use bulkhead_workspace::{Inventory, Policy, Workspaces};
pub use catalog::{Catalog, RigUrl, Role};
pub use drain::{DrainPlan, DrainReport};
pub use earlier::{Earlier, HostDeath, Suspect};
pub use hydrate::{HydrationReport, HydrationRules};
use hydrate::{Pending, Plan};
use kept_rows::KeptRows;
pub use metrics::{
    CoreDumpFigures, CrashStats, DiskFigures, DurationFigures, EndpointFigures, Metrics,
    ModelFigures, Outgoing, RoleFigures, RoleMetrics, SinkStats, SpanFigures, SymbolizerFigures,
    ToolFigures,
};
use missing::Desired;
pub use order::without_secrets;
use parking_lot::Mutex;
use registry::Registry;
pub use start::Started;
use tokio::sync::Semaphore;
pub use town::{RegistryEntry, RegistryRow, TownAnswer, TownHas, TownSnapshot, TownSnapshots};
use upgrade::Upgrades;
pub use upgrade::{BroughtComponent, ComponentSource, Incoming, UpgradeRefusal};
pub use usage::UsageFilter;
pub use workspaces::{ExecRefusal, WorkspaceError};

/// How a supervisor is set up.
pub struct SupervisorConfig {
    /// The roles and components that starts may name.
    pub catalog: Catalog,
    /// Every agent's workspace is a directory in here.
    pub workspaces_dir: std::path::PathBuf,
    /// Where components are that somebody brought.
    pub upgrades_dir: std::path::PathBuf,
    /// Fetches those that a reference names. `None`: no reference can be fetched.
    pub components: Option<Arc<dyn ComponentSource>>,
    /// Ended agents that stay readable. The ones that ended first go first.
    pub keep_ended: usize,
    /// What all ended agents together may hold, in bytes.
    pub ended_bytes: u64,
    /// What agents may use of language models.
    pub usage: bulkhead_usage::Rules,
    /// Records turns, if somebody wants to see them.
    pub telemetry: Option<Telemetry>,
    /// Makes repositories for agents.
    pub workspaces: Option<Workspaces>,
    /// The directories in `workspaces_dir`.
    /// `None`: the disk does not let anybody list them.
    pub inventory: Option<Inventory>,
    /// Brings workspaces here that another machine has shipped, and ships them. `None`: they stay on this disk.
    pub archives: Option<Archives>,
    /// How long they stay. `None`: for good.
    pub retention: Option<Policy>,
}

impl SupervisorConfig {
    fn workspace(&self, id: &AgentId) -> std::path::PathBuf {
        self.workspaces_dir.join(id.as_str())
    }
}

/// The way from an id to its agent. Cheap to clone.
#[derive(Clone)]
pub struct Supervisor(Arc<Inner>);

struct Inner {
    config: SupervisorConfig,
    runtime: Arc<Runtime>,
    container: Arc<Container>,
    registry: Registry,
    /// What earlier runs left, until it is restored.
    plan: Mutex<Plan>,
    /// Agents of earlier runs that have to be started and were not yet.
    pending: Pending,
    /// What the town has to get back as it came.
    kept_rows: KeptRows,
    desired: Desired,
    upgrades: Upgrades,
    /// One at a time reads all workspaces.
    listing: tokio::sync::Mutex<()>,
    /// One for each program that somebody outside runs in an agent's place.
    execs: Semaphore,
    ready: AtomicBool,
    next_message: AtomicU64,
    /// 0: not yet.
    mayor_ready_ms: AtomicI64,
}

impl Supervisor {
    /// A supervisor without agents. It knows what `earlier` runs left, takes starts at once, and is
    /// ready when [`Supervisor::set_ready`] was called.
    pub fn new(
        config: SupervisorConfig,
        runtime: Arc<Runtime>,
        sink: SharedSink,
        stores: Stores,
        earlier: impl Into<Earlier>,
        context: Arc<RunContext>,
        memory: Arc<Memory>,
    ) -> Self {
        let (mut earlier, forgotten) = (earlier.into(), stores.database.forgotten());
        Self(Arc::new_cyclic(|weak: &Weak<Inner>| {
            let peers = Arc::new(peers::Local::new(weak.clone()));
            let engine = Arc::clone(&runtime);
            let container = Container::new(engine, peers, sink, stores, context, memory);
            let ended = EndedAgents::new(config.keep_ended, config.ended_bytes);
            let container = container
                .keeping(ended)
                .traced(config.telemetry.clone())
                .with_workspaces(config.workspaces.clone())
                .noting_uses(config.inventory.clone())
                .with_archives(config.archives.clone());
            let ledger = usage::ledger(&config, &container.database, &mut earlier);
            let container = Arc::new(container.measured_by(ledger));
            container.context.counts().set_roles(config.catalog.roles.keys().cloned());
            let blamed = host_death::count(&mut earlier, &config, &container);
            let registry = Registry::new(Arc::clone(&container), &earlier.agents, forgotten);
            let plan = Plan::make(earlier, blamed, &config, &registry);
            let pending = Pending::of(plan.ids_to_start());
            let upgrades = Upgrades::read(config.upgrades_dir.clone(), &config.catalog);
            Inner {
                upgrades,
                config,
                runtime,
                container,
                registry,
                plan: Mutex::new(plan),
                pending,
                kept_rows: KeptRows::default(),
                desired: Desired::default(),
                listing: tokio::sync::Mutex::default(),
                execs: Semaphore::new(workspaces::MAX_EXECS),
                ready: AtomicBool::new(false),
                next_message: AtomicU64::new(1),
                mayor_ready_ms: AtomicI64::new(0),
            }
        }))
    }

    /// Stops an agent; resolves when its incarnation is gone. `by` says who asked.
    pub async fn stop(&self, id: &AgentId, by: &str) -> Result<StopAnswer, StopError> {
        // One that an earlier run left is there, and is stopped when it was restored.
        self.0.pending.over(id).await;
        let agent = self.0.registry.get(id);
        let current = agent.as_ref().and_then(|agent| agent.current());
        let role = current.map(|agent| agent.spec().role.clone());
        let exit = match agent.filter(|_| role.is_some()) {
            Some(agent) => {
                self.0.decided(id);
                self.0.desired.remove(id);
                agent.stop(ShutdownReason::Stopped, by).await
            }
            None if self.0.stop_missing(id) => {
                self.0.decided(id);
                None
            }
            None => return Err(StopError::NoSuchAgent(id.clone())),
        };
        let durable = self.0.durable(role.as_deref()).await.map_err(StopError::NotShipped)?;
        let exit_reason = exit.map_or(ExitReason::Stopped, |exit| exit.reason).as_str().to_owned();
        Ok(StopAnswer { stopped: true, exit_reason, durable })
    }

    /// Resolves when boot has brought the agent back, or is not going to. Waits for 5 s at most: what an
    /// earlier run left is not said to be unknown.
    pub async fn brought_back(&self, id: &AgentId) -> Result<(), SendError> {
        if self.0.current(id).is_ok() {
            return Ok(());
        }
        let over = tokio::time::timeout(BOOT_PATIENCE, self.0.pending.over(id)).await;
        over.map_err(|_| SendError::NotBackYet(id.clone()))
    }

    /// Puts a message into an agent's mailbox. Does not wait. `trace` is the span that causes it.
    pub fn send(
        &self,
        id: &AgentId,
        sender: Sender,
        body: Body,
        trace: Option<TraceContext>,
    ) -> Result<Delivery, SendError> {
        self.0.send(id, sender, body, trace)
    }

    /// Leaves a nudge for an agent: a message that comes when no other does. Returns its id.
    pub fn nudge(&self, id: &AgentId, request: NudgeRequest) -> Result<String, SendError> {
        let NudgeRequest { message, source, nudge_id } = request;
        let nudge_id = nudge_id.unwrap_or_else(|| self.0.next_message_id());
        self.0.current(id)?.nudge(nudge_id.clone(), source, message)?;
        Ok(nudge_id)
    }

    /// All agents that are known, ended ones included, by id.
    pub fn list(&self) -> AgentList {
        self.list_after(None, usize::MAX)
    }

    /// Those with an id above `after`, at most `limit`.
    pub fn list_after(&self, after: Option<&AgentId>, limit: usize) -> AgentList {
        let agents = self.0.registry.after(after);
        agents.iter().filter_map(|agent| self.view(agent)).take(limit).collect()
    }

    /// One agent.
    pub fn status(&self, id: &AgentId) -> Option<AgentView> {
        let agent = self.0.registry.get(id)?;
        self.view(&agent)
    }

    /// An agent's events; empty for an unknown agent, as the original answers.
    pub fn events_after(&self, id: &AgentId, after: u64) -> EventsPage {
        let agent = self.0.registry.get(id);
        agent.map(|agent| agent.ring.after(after).into()).unwrap_or_default()
    }

    /// All events.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.0.container.feed
    }

    /// An agent's events, and its turns as they happen. `None`: nobody knows it.
    pub fn ring(&self, id: &AgentId) -> Option<Arc<Ring>> {
        self.0.registry.get(id).map(|agent| Arc::clone(&agent.ring))
    }

    /// Crash records, newest first.
    pub fn crashes(&self, filter: &CrashFilter) -> CrashPage {
        self.0.container.crashes.list(filter)
    }

    /// One crash record, while it is kept.
    pub fn crash(&self, crash_id: &str) -> Option<Arc<CrashRecord>> {
        self.0.container.crashes.get(crash_id)
    }

    /// `GET /health`.
    pub fn health(&self) -> Health {
        let inner = &self.0;
        let draining = inner.container.is_draining();
        let context = &inner.container.context;
        let mayor = inner.mayor_ready_ms.load(Ordering::Relaxed);
        // One in backoff is restarted automatically.
        let missing = self.missing();
        let missing = missing.iter().filter(|agent| agent.status != "backoff").count();
        let durability = inner.container.database.durability();
        let is_wrong = draining || missing > 0 || matches!(durability, Durability::Lost(_));
        Health {
            status: if is_wrong { "degraded".into() } else { "ok".into() },
            missing,
            store: match durability {
                Durability::Kept => None,
                Durability::Lost(_) => Some("lost".into()),
                Durability::Off => Some("off".into()),
            },
            agents: context.active_agents(),
            servers: 0,
            uptime: context.uptime().as_secs(),
            draining: draining.then_some(true),
            started_at: context.started_at(),
            mayor_ready_at: (mayor > 0).then_some(Timestamp(mayor)),
            run_id: context.run_id().to_owned(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// Why nothing is durable that should be. `None`: it is, or nobody wants it to be.
    pub fn store_error(&self) -> Option<Arc<str>> {
        match self.0.container.database.durability() {
            Durability::Lost(reason) => Some(reason),
            Durability::Kept | Durability::Off => None,
        }
    }

    /// Whether new starts are taken: boot is through and the container does not drain.
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Relaxed) && !self.0.container.is_draining()
    }

    /// Boot is through.
    pub fn set_ready(&self) {
        self.0.pending.decided();
        self.0.ready.store(true, Ordering::Relaxed);
    }
}

/// How long a call waits for an agent that boot brings back. Clients wait for ten seconds at least.
const BOOT_PATIENCE: Duration = Duration::from_secs(5);

/// How long an answer waits for the disk. One that hangs lets the host go on without it.
const WRITING: Duration = Duration::from_secs(2);

impl Inner {
    /// Resolves when what was changed is durable, or will not be: the log says why. Says whether it is.
    async fn written(&self) -> bool {
        let written = self.container.database.receipt().durable();
        match tokio::time::timeout(WRITING, written).await {
            Ok(written) => written.is_ok(),
            Err(_) => {
                let waited_ms = millis(WRITING);
                tracing::warn!(waited_ms, "an answer was given before the database had written it");
                false
            }
        }
    }

    /// What everything that was changed survives: resolves when it is written, and for agents of a role that needs that when
    /// it is shipped as well. An error is why that is not done. `None`: nothing of it is durable.
    async fn durable(&self, role: Option<&str>) -> Result<Option<Durable>, Arc<str>> {
        let is_kept = self.container.database.durability() == Durability::Kept;
        let is_written = self.written().await && is_kept;
        let role = role.and_then(|role| self.config.catalog.roles.get(role));
        let (Some(true), Some(follower)) =
            (role.map(|role| role.durable_in_fleet), self.container.database.follower())
        else {
            return Ok(is_written.then_some(Durable::Node));
        };
        if !is_written {
            return Err("the database has not written it".into());
        }
        follower.all_kept().await.map(|()| Some(Durable::Fleet)).map_err(|error| error.reason)
    }

    /// Somebody asked for a start or a stop of the agent: the town gets its row from here.
    fn decided(&self, id: &AgentId) {
        if self.kept_rows.decided(id) {
            self.container.database.members_changed();
        }
    }

    fn sink(&self) -> &SharedSink {
        &self.container.sink
    }

    fn current(&self, id: &AgentId) -> Result<AgentHandle, SendError> {
        let current = self.registry.get(id).and_then(|agent| agent.current());
        current.ok_or_else(|| match self.pending.may_start(id) {
            true => SendError::NotBackYet(id.clone()),
            false => SendError::NoSuchAgent(id.clone()),
        })
    }

    fn send(
        &self,
        id: &AgentId,
        sender: Sender,
        body: Body,
        trace: Option<TraceContext>,
    ) -> Result<Delivery, SendError> {
        self.current(id)?.send(self.next_message_id(), sender, body, trace)
    }

    /// Unique in the container: the tail of the run id, and a number.
    fn next_message_id(&self) -> String {
        let number = self.next_message.fetch_add(1, Ordering::Relaxed);
        let run = self.container.context.run_id();
        format!("msg-{}-{number}", run.get(run.len().saturating_sub(8)..).unwrap_or(run))
    }
}

//! All agents.
//!
//! ```text
//!   start ─▶ Catalog::resolve ─▶ load component ─▶ Entry::admit ─▶ join | keep | spawn the next
//!   stop, send, status ─▶ Registry ─▶ AgentHandle
//! ```
//!
//! A start does everything that can fail without touching the agent first: a bad request, an unknown
//! role, a component that does not load leave whatever runs alone. Then the id's entry decides under a
//! short lock: join the start under way, keep what runs, or spawn the next incarnation, which waits
//! at its gate until the one before is gone (`bulkhead_agent`, module `slot`). A stop order reaches a
//! start that is under way, because nothing waits under a lock.

mod catalog;
mod metrics;
mod peers;
mod registry;
mod shutdown;
mod start;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

pub use bulkhead_agent::{Delivery, SendError, StartError, StartFailure, StopError, TurnReport};
use bulkhead_api::{AgentList, AgentView, EventsPage, Health, StopAnswer};
use bulkhead_events::task::Spawner;
use bulkhead_events::{RunContext, SharedSink};
use bulkhead_model::{AgentId, Body, Sender, Timestamp};
use bulkhead_runtime::{Runtime, ShutdownReason};
pub use catalog::{Catalog, Role};
pub use metrics::Metrics;
use registry::Registry;
pub use shutdown::ShutdownReport;
pub use start::Started;
use tokio::sync::Semaphore;

/// How a supervisor is set up.
pub struct SupervisorConfig {
    /// The roles and components that starts may name.
    pub catalog: Catalog,
    /// Every agent's workspace is a directory in here.
    pub workspaces_dir: std::path::PathBuf,
    /// Ended agents that stay readable. The ones that ended first go first.
    pub keep_ended: usize,
}

/// The way from an id to its agent. Cheap to clone.
#[derive(Clone)]
pub struct Supervisor(Arc<Inner>);

struct Inner {
    config: SupervisorConfig,
    runtime: Arc<Runtime>,
    sink: SharedSink,
    context: Arc<RunContext>,
    registry: Registry,
    places: Arc<Semaphore>,
    ready: AtomicBool,
    draining: AtomicBool,
    next_message: AtomicU64,
    /// 0: not yet.
    mayor_ready_ms: AtomicI64,
    peers: peers::Local,
}

impl Supervisor {
    /// A supervisor without agents. It takes starts at once and is ready when
    /// [`Supervisor::set_ready`] was called.
    pub fn new(
        config: SupervisorConfig,
        runtime: Arc<Runtime>,
        sink: SharedSink,
        context: Arc<RunContext>,
    ) -> Self {
        let max_agents = runtime.capacity().max_agents.min(Semaphore::MAX_PERMITS);
        let registry = Registry::new(max_agents, config.keep_ended);
        Self(Arc::new_cyclic(|weak: &Weak<Inner>| Inner {
            config,
            runtime,
            sink,
            context,
            registry,
            places: Arc::new(Semaphore::new(max_agents)),
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            next_message: AtomicU64::new(1),
            mayor_ready_ms: AtomicI64::new(0),
            peers: peers::Local::new(weak.clone()),
        }))
    }

    /// Stops an agent; resolves when its incarnation is gone. `by` says who asked.
    pub async fn stop(&self, id: &AgentId, by: &str) -> Result<StopAnswer, StopError> {
        let no_such_agent = || StopError::NoSuchAgent(id.clone());
        let agent = self.0.registry.current(id).ok_or_else(no_such_agent)?;
        agent.stop(ShutdownReason::Stopped, by);
        let exit = agent.ended().await.exit;
        let exit_reason = exit.map_or_else(|| "host_error".to_owned(), |exit| exit.reason);
        Ok(StopAnswer { stopped: true, exit_reason })
    }

    /// Puts a message into an agent's mailbox. Does not wait.
    pub fn send(&self, id: &AgentId, sender: Sender, body: Body) -> Result<Delivery, SendError> {
        self.0.send(id, sender, body)
    }

    /// All agents that are known, ended ones included, by id.
    pub fn list(&self) -> AgentList {
        let mut views: Vec<_> = self.0.registry.all().iter().map(|agent| agent.view()).collect();
        views.sort_unstable_by(|a, b| a.agent_id.cmp(&b.agent_id));
        views
    }

    /// One agent.
    pub fn status(&self, id: &AgentId) -> Option<AgentView> {
        self.0.registry.current(id).map(|agent| agent.view())
    }

    /// An agent's events; empty for an unknown agent, as the original answers.
    pub fn events_after(&self, id: &AgentId, after: u64) -> EventsPage {
        self.0.registry.ring(id).map(|ring| ring.after(after)).unwrap_or_default()
    }

    /// `GET /health`.
    pub fn health(&self) -> Health {
        let inner = &self.0;
        let draining = inner.draining.load(Ordering::Relaxed);
        let mayor = inner.mayor_ready_ms.load(Ordering::Relaxed);
        Health {
            status: if draining { "degraded" } else { "ok" },
            agents: inner.context.active_agents(),
            servers: 0,
            uptime: inner.context.uptime().as_secs(),
            draining: draining.then_some(true),
            started_at: inner.context.started_at(),
            mayor_ready_at: (mayor > 0).then_some(Timestamp(mayor)),
            run_id: inner.context.run_id().to_owned(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// Whether new starts are taken: boot is through and the container does not drain.
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Relaxed) && !self.0.draining.load(Ordering::Relaxed)
    }

    /// Boot is through.
    pub fn set_ready(&self) {
        self.0.ready.store(true, Ordering::Relaxed);
    }
}

impl Inner {
    /// Spawns on the next thread of the fast lane.
    fn spawner(&self) -> Spawner {
        let lane = self.runtime.fast_lane().clone();
        Spawner::new(lane, Arc::clone(&self.sink), Arc::clone(&self.context))
    }

    fn send(&self, id: &AgentId, sender: Sender, body: Body) -> Result<Delivery, SendError> {
        let agent = self.registry.current(id).ok_or_else(|| SendError::NoSuchAgent(id.clone()))?;
        agent.send(self.next_message_id(), sender, body)
    }

    /// Unique in the container: the tail of the run id, and a number.
    fn next_message_id(&self) -> String {
        let number = self.next_message.fetch_add(1, Ordering::Relaxed);
        let run = self.context.run_id();
        format!("msg-{}-{number}", run.get(run.len().saturating_sub(8)..).unwrap_or(run))
    }
}

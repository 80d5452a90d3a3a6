//! What is done when memory is short: the way from the thread that watches over it to the agents.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bulkhead_agent::AgentHandle;
use bulkhead_memory::{Candidate, Heap, Relief};
use bulkhead_types::memory::Eviction;
use bulkhead_types::{AgentId, AgentState, Incarnation};

use crate::start::MAYOR;
use crate::{Inner, Supervisor};

impl Supervisor {
    /// The agents, as the one who watches over memory acts on them. `alarm` is called when a guest begins to
    /// wait for room, and must return at once. Does not keep the supervisor.
    pub fn relief<A: Fn() + Send + Sync + 'static>(&self, alarm: A) -> impl Relief + use<A> {
        self.0.runtime.growth_budget().on_shortage(alarm);
        Agents { inner: Arc::downgrade(&self.0), leaving: Mutex::default() }
    }
}

/// The agents, as long as there is a supervisor.
struct Agents {
    inner: Weak<Inner>,
    /// The tool that was told to go, and when.
    leaving: Mutex<Option<(u64, Instant)>>,
}

/// A tool with less memory than this is no help.
const LARGE_TOOL: u64 = 8 * 1024 * 1024;

/// How long a tool that was told to go is waited for before the next one has to go: the kernel kills it, and its figures
/// are a second old.
const TOOL_PATIENCE: Duration = Duration::from_secs(2);

impl Agents {
    fn active(&self, agent_id: &AgentId, incarnation: Incarnation) -> Option<AgentHandle> {
        let agent = self.inner.upgrade()?.registry.get(agent_id)?.occupant()?;
        (agent.tag().incarnation == incarnation && agent.is_live()).then_some(agent)
    }
}

impl Relief for Agents {
    fn give_room(&self, bytes: Option<u64>) {
        if let Some(inner) = self.inner.upgrade() {
            inner.runtime.growth_budget().set(bytes);
        }
    }

    fn wanted(&self) -> Option<u64> {
        self.inner.upgrade()?.runtime.growth_budget().wanted()
    }

    fn deny_growths(&self) {
        if let Some(inner) = self.inner.upgrade() {
            inner.runtime.growth_budget().deny();
        }
    }

    fn is_alive(&self, agent_id: &AgentId, incarnation: Incarnation) -> bool {
        self.active(agent_id, incarnation).is_some()
    }

    fn candidates(&self) -> Vec<Candidate> {
        let Some(inner) = self.inner.upgrade() else { return Vec::new() };
        let agents = inner.registry.all();
        agents.iter().filter_map(|agent| candidate(&agent.occupant()?)).collect()
    }

    fn evict_tool(&self) -> bool {
        let Some(inner) = self.inner.upgrade() else { return false };
        let agents = inner.registry.all();
        let tools = agents.iter().filter_map(|agent| agent.occupant()?.publisher().largest_tool());
        let Some(largest) = tools.max_by_key(|tool| tool.bytes) else { return false };
        if largest.bytes < LARGE_TOOL {
            return false;
        }
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        match *leaving {
            Some((tool, since)) if tool == largest.tool && since.elapsed() < TOOL_PATIENCE => {}
            _ => {
                *leaving = Some((largest.tool, Instant::now()));
                largest.process.evict();
            }
        }
        true
    }

    fn evict(
        &self,
        agent_id: &AgentId,
        incarnation: Incarnation,
        eviction: Eviction,
        grace: Duration,
    ) {
        if let Some(agent) = self.active(agent_id, incarnation) {
            agent.evict(eviction, grace);
        }
    }

    fn tidy(&self) -> u64 {
        let Some(inner) = self.inner.upgrade() else { return 0 };
        inner.registry.forget_excess();
        inner.runtime.sweep_pool();
        inner.runtime.kept_bytes()
    }

    fn release(&self) {
        let Some(inner) = self.inner.upgrade() else { return };
        // A start that can be made again goes before an active agent.
        inner.runtime.shed_compiling();
        inner.container.ended.drop_events();
        inner.registry.forget_excess();
        inner.runtime.sweep_pool();
        Heap::give_back();
    }

    fn hold_starts(&self, held: bool) {
        if let Some(inner) = self.inner.upgrade() {
            inner.container.hold_starts(held);
        }
    }
}

/// The agent as one that could go. `None` for one that is going, or holds nothing.
fn candidate(agent: &AgentHandle) -> Option<Candidate> {
    let probe = agent.memory_probe();
    let memory = probe.read();
    let used_bytes = memory.used_bytes.filter(|bytes| *bytes > 0)?;
    if agent.is_asked_to_end() {
        return None;
    }
    let idle = match agent.publisher().state() {
        AgentState::Starting => false,
        AgentState::Running { busy } => !busy,
        AgentState::Stopping
        | AgentState::Backoff
        | AgentState::Quarantined
        | AgentState::Exited
        | AgentState::Failed => return None,
    };
    let spec = agent.spec();
    Some(Candidate {
        agent_id: spec.id.clone(),
        incarnation: memory.incarnation,
        used_bytes,
        limit_bytes: memory.limit_bytes,
        weight: f64::from(spec.eviction_weight_percent) / 100.0,
        idle,
        mayor: spec.role.as_ref() == MAYOR,
    })
}

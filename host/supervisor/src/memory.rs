//! The memory of the container and of its agents, for those who ask and for the sampler.

use std::sync::{Arc, Weak};

use bulkhead_agent::{Agent, MemoryProbe};
use bulkhead_api::{AgentMemoryView, ContainerMemoryView};
use bulkhead_memory::{AgentReading, AgentsMemory};
use bulkhead_types::AgentId;
use parking_lot::Mutex;

use crate::{Inner, Supervisor};

impl Supervisor {
    /// `GET /memory`.
    pub fn memory(&self) -> ContainerMemoryView {
        self.0.container.memory.view()
    }

    /// `GET /agents/{id}/memory`; `None` for an agent that is not known.
    pub fn agent_memory(&self, id: &AgentId) -> Option<AgentMemoryView> {
        let probe = self.0.registry.get(id)?.current()?.memory_probe();
        Some(self.0.container.memory.agent_view(probe.read()))
    }

    /// Reads what the native programs of all agents have, in bytes. Does not keep the supervisor.
    pub fn tool_bytes(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let inner = Arc::downgrade(&self.0);
        move || {
            let Some(inner) = inner.upgrade() else { return 0 };
            let agents = inner.registry.all();
            agents.iter().filter_map(|it| Some(it.current()?.publisher().tool_bytes())).sum()
        }
    }

    /// All agents, as the sampler looks at them. Does not keep the supervisor.
    pub fn agents_memory(&self) -> impl AgentsMemory + use<> {
        Agents { inner: Arc::downgrade(&self.0), known: Mutex::default() }
    }
}

/// Agents that are read before they are shown.
const AT_A_TIME: usize = 64;

/// The agents, as long as there is a supervisor.
///
/// From the registry to a meter there are ten pointers, each to memory that no cache holds: a microsecond and
/// a half for each agent. So the meters are remembered, and searched for again only when something began or
/// ended.
struct Agents {
    inner: Weak<Inner>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The changes before which these were searched for.
    changes: Option<u64>,
    probes: Vec<MemoryProbe>,
}

impl AgentsMemory for Agents {
    fn for_each(&self, visit: &mut dyn FnMut(&[AgentReading<'_>])) {
        let mut known = self.known.lock();
        let Some(inner) = self.inner.upgrade() else { return };
        let changes = Some(inner.container.changes.count());
        if known.changes != changes {
            known.changes = changes;
            known.probes.clear();
            let current = |agent: &Arc<Agent>| Some(agent.current()?.memory_probe());
            known.probes.extend(inner.registry.all().iter().filter_map(current));
        }
        let mut readings = Vec::with_capacity(AT_A_TIME);
        for probes in known.probes.chunks(AT_A_TIME) {
            readings.clear();
            readings.extend(probes.iter().map(MemoryProbe::read));
            visit(&readings);
        }
    }
}

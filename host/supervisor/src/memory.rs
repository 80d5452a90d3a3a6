//! The memory of the container and of its agents, for those who ask and for the sampler.

use std::sync::Weak;

use bulkhead_api::{AgentMemoryView, ContainerMemoryView};
use bulkhead_memory::{AgentReading, AgentsMemory};
use bulkhead_model::AgentId;

use crate::{Inner, Supervisor};

impl Supervisor {
    /// `GET /memory`.
    pub fn memory(&self) -> ContainerMemoryView {
        self.0.container.memory.view()
    }

    /// `GET /agents/{id}/memory`; `None` for an agent that is not known.
    pub fn agent_memory(&self, id: &AgentId) -> Option<AgentMemoryView> {
        let agent = self.0.registry.get(id)?.current()?;
        Some(self.0.container.memory.agent_view(agent.memory()))
    }

    /// All agents, as the sampler looks at them. Does not keep the supervisor.
    pub fn agents_memory(&self) -> impl AgentsMemory + use<> {
        Agents(std::sync::Arc::downgrade(&self.0))
    }
}

/// The agents, as long as there is a supervisor.
struct Agents(Weak<Inner>);

impl AgentsMemory for Agents {
    fn for_each(&self, visit: &mut dyn FnMut(AgentReading<'_>)) {
        let Some(inner) = self.0.upgrade() else { return };
        for agent in inner.registry.all() {
            if let Some(current) = agent.current() {
                visit(current.memory());
            }
        }
    }
}

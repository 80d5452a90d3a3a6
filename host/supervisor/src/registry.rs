//! Which agents are known: by id, the live ones and the last that ended.

use std::collections::HashMap;
use std::sync::Arc;

use bulkhead_agent::{Agent, Container};
use bulkhead_store::database::AgentRow;
use bulkhead_types::{AgentId, Incarnation};
use parking_lot::Mutex;

pub(crate) struct Registry {
    container: Arc<Container>,
    inner: Mutex<Inner>,
}

struct Inner {
    agents: HashMap<AgentId, Arc<Agent>>,
    /// Incarnations up to this one were given to ids that are forgotten. A forgotten id that comes
    /// back counts on from here, so that no number is used twice.
    forgotten: u64,
    /// Highest numbers that were given in earlier runs, of agents that are not known yet in this one.
    earlier: HashMap<AgentId, Incarnation>,
}

impl Registry {
    /// `earlier` has what is known of agents from earlier runs, `forgotten` the highest number of those of
    /// which nothing is.
    pub(crate) fn new(
        container: Arc<Container>,
        earlier: &[AgentRow],
        forgotten: Incarnation,
    ) -> Self {
        let number = |row: &AgentRow| (row.id.clone(), row.incarnation);
        let inner = Inner {
            agents: HashMap::new(),
            forgotten: forgotten.0,
            earlier: earlier.iter().map(number).collect(),
        };
        Self { container, inner: Mutex::new(inner) }
    }

    /// The agent of an id, made when there is none.
    pub(crate) fn agent(&self, id: &AgentId) -> Arc<Agent> {
        if let Some(agent) = self.get(id) {
            return agent;
        }
        self.forget_excess();
        let mut inner = self.inner.lock();
        if let Some(agent) = inner.agents.get(id) {
            return Arc::clone(agent);
        }
        self.container.changes.happened();
        let last = inner.earlier.remove(id).unwrap_or(Incarnation(inner.forgotten));
        let agent = Arc::new(Agent::new(id.clone(), last, Arc::clone(&self.container)));
        inner.agents.insert(id.clone(), Arc::clone(&agent));
        agent
    }

    pub(crate) fn get(&self, id: &AgentId) -> Option<Arc<Agent>> {
        self.inner.lock().agents.get(id).map(Arc::clone)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Agent>> {
        self.inner.lock().agents.values().map(Arc::clone).collect()
    }

    /// Agents with an id above `after`, by their ids.
    pub(crate) fn after(&self, after: Option<&AgentId>) -> Vec<Arc<Agent>> {
        let inner = self.inner.lock();
        let mut agents: Vec<_> = inner.agents.iter().filter(|(id, _)| Some(*id) > after).collect();
        agents.sort_unstable_by_key(|(id, _)| *id);
        agents.into_iter().map(|(_, agent)| Arc::clone(agent)).collect()
    }

    /// Forgets the agents that are more, or hold more, than ended agents may.
    pub(crate) fn forget_excess(&self) {
        let ended = &self.container.ended;
        for id in ended.excess() {
            let mut inner = self.inner.lock();
            match inner.agents.get(&id) {
                // A holder of the agent may be about to start it.
                Some(agent) if Arc::strong_count(agent) > 1 || !agent.is_vacant() => continue,
                Some(_) => inner.forget(&id),
                None => {}
            }
            ended.revive(&id);
            self.container.changes.happened();
        }
    }

    /// Forgets an id of which nothing came: a start that was refused before anything lived.
    pub(crate) fn forget_if_nothing(&self, id: &AgentId) {
        let mut inner = self.inner.lock();
        // A holder of the agent may be about to start it.
        let nothing =
            |agent: &Arc<Agent>| Arc::strong_count(agent) == 1 && agent.current().is_none();
        if inner.agents.get(id).is_some_and(nothing) {
            inner.forget(id);
            self.container.ended.revive(id);
            self.container.changes.happened();
        }
    }
}

impl Inner {
    fn forget(&mut self, id: &AgentId) {
        if let Some(agent) = self.agents.remove(id) {
            self.forgotten = self.forgotten.max(agent.last().0);
            agent.ring.close();
            agent.give_up_left_mail();
        }
    }
}

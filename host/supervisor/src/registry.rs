//! Which agents are known: by id, the live ones and the last that ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bulkhead_agent::{AgentHandle, StartError};
use bulkhead_api::IfRunning;
use bulkhead_events::Ring;
use bulkhead_model::{AgentId, AgentSpec, AgentState, Incarnation, Timestamp};

/// Everything known of one id.
pub(crate) struct Entry {
    pub ring: Arc<Ring>,
    inner: Mutex<EntryInner>,
}

struct EntryInner {
    current: Option<AgentHandle>,
    last: Incarnation,
}

pub(crate) struct Registry {
    max_entries: usize,
    keep_ended: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<AgentId, Arc<Entry>>,
    /// Incarnations up to this one were given to ids that are forgotten. A forgotten id that comes
    /// back counts on from here, so that no number is used twice.
    forgotten: u64,
}

impl Entry {
    /// The incarnation that lives, or the last one that did.
    pub(crate) fn current(&self) -> Option<AgentHandle> {
        self.lock().current.clone()
    }

    /// Lets a start in. `spawn` makes the next incarnation, with the one that has to be gone first; it
    /// must not block. One start at a time decides, on what is true then. `may_begin` is asked under
    /// the same lock under which the end of all agents looks for those that live: a start that it lets
    /// through is seen there.
    pub(crate) fn admit(
        &self,
        spec: &AgentSpec,
        if_running: IfRunning,
        may_begin: impl FnOnce() -> Result<(), StartError>,
        spawn: impl FnOnce(Incarnation, Option<AgentHandle>) -> AgentHandle,
    ) -> Result<(Decision, AgentHandle), StartError> {
        let mut inner = self.lock();
        may_begin()?;
        let live = inner.current.clone().filter(AgentHandle::is_live);
        if let Some(live) = live {
            let state = live.board().state();
            // Specs may be large; they are compared only where it matters.
            let joins = state == AgentState::Starting && live.spec().is_same_as(spec);
            let decision = decide(state, joins, if_running);
            if decision != Decision::Begin {
                return Ok((decision, live));
            }
            let predecessor = live.supersede("start");
            return Ok((decision, inner.begin(|number| spawn(number, Some(predecessor)))));
        }
        Ok((Decision::Begin, inner.begin(|number| spawn(number, None))))
    }

    fn lock(&self) -> MutexGuard<'_, EntryInner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl EntryInner {
    fn begin(&mut self, spawn: impl FnOnce(Incarnation) -> AgentHandle) -> AgentHandle {
        self.last = Incarnation(self.last.0 + 1);
        let agent = spawn(self.last);
        self.current = Some(agent.clone());
        agent
    }
}

/// What a start does when an incarnation lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// A new incarnation, after the one that lives.
    Begin,
    /// The start that is under way is the one that was asked for.
    Join,
    /// The caller wants the one that lives.
    Keep,
}

/// The table of the start slot. Pure.
fn decide(live: AgentState, same_spec: bool, if_running: IfRunning) -> Decision {
    match (live, if_running) {
        (AgentState::Starting, _) if same_spec => Decision::Join,
        (AgentState::Running { .. }, IfRunning::Keep) => Decision::Keep,
        _ => Decision::Begin,
    }
}

impl Registry {
    pub(crate) fn new(max_agents: usize, keep_ended: usize) -> Self {
        let max_entries = max_agents.saturating_add(keep_ended);
        Self { max_entries, keep_ended, inner: Mutex::default() }
    }

    /// The entry of an id, made when there is none.
    pub(crate) fn entry(&self, id: &AgentId) -> Arc<Entry> {
        let mut inner = self.lock();
        if let Some(entry) = inner.entries.get(id) {
            return Arc::clone(entry);
        }
        inner.make_room(self.max_entries, self.keep_ended);
        let last = Incarnation(inner.forgotten);
        let entry = Arc::new(Entry {
            ring: Arc::default(),
            inner: Mutex::new(EntryInner { current: None, last }),
        });
        inner.entries.insert(id.clone(), Arc::clone(&entry));
        entry
    }

    pub(crate) fn current(&self, id: &AgentId) -> Option<AgentHandle> {
        let entry = self.lock().entries.get(id).map(Arc::clone);
        entry.and_then(|entry| entry.current())
    }

    pub(crate) fn ring(&self, id: &AgentId) -> Option<Arc<Ring>> {
        self.lock().entries.get(id).map(|entry| Arc::clone(&entry.ring))
    }

    pub(crate) fn all(&self) -> Vec<AgentHandle> {
        let entries: Vec<_> = self.lock().entries.values().map(Arc::clone).collect();
        entries.iter().filter_map(|entry| entry.current()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    /// Forgets the agents that ended first, when there are too many entries. Goes down to half of what
    /// is kept, so that the look at every entry is rare.
    fn make_room(&mut self, max_entries: usize, keep_ended: usize) {
        if self.entries.len() < max_entries {
            return;
        }
        let mut ended: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| Arc::strong_count(entry) == 1)
            .filter_map(|(id, entry)| match entry.current() {
                // A start was refused before anything lived here.
                None => Some((Timestamp(0), id.clone())),
                Some(agent) if agent.is_live() => None,
                Some(agent) => Some((agent.board().last_activity_at(), id.clone())),
            })
            .collect();
        ended.sort_unstable();
        let excess = ended.len().saturating_sub(keep_ended / 2);
        for (_, id) in ended.into_iter().take(excess) {
            if let Some(entry) = self.entries.remove(&id) {
                self.forgotten = self.forgotten.max(entry.lock().last.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_of_the_same_spec_joins_the_one_under_way() {
        for if_running in [IfRunning::Restart, IfRunning::Keep] {
            assert_eq!(decide(AgentState::Starting, true, if_running), Decision::Join);
            assert_eq!(decide(AgentState::Starting, false, if_running), Decision::Begin);
        }
    }

    #[test]
    fn a_running_agent_is_replaced_unless_the_caller_wants_it() {
        for busy in [true, false] {
            for same in [true, false] {
                let running = AgentState::Running { busy };
                assert_eq!(decide(running, same, IfRunning::Restart), Decision::Begin);
                assert_eq!(decide(running, same, IfRunning::Keep), Decision::Keep);
            }
        }
    }

    #[test]
    fn a_start_during_a_stop_waits_and_then_begins() {
        for if_running in [IfRunning::Restart, IfRunning::Keep] {
            assert_eq!(decide(AgentState::Stopping, true, if_running), Decision::Begin);
        }
    }
}

//! Which agents are known: by id, the live ones and the last that ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bulkhead_agent::AgentHandle;
use bulkhead_events::Ring;
use bulkhead_model::{AgentId, Incarnation};

/// Everything known of one id.
pub(crate) struct Entry {
    /// Held from the end of the old incarnation to the start of the next: one at a time, in order.
    pub slot: tokio::sync::Mutex<()>,
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

    /// Takes the next number.
    pub(crate) fn next_incarnation(&self) -> Incarnation {
        let mut inner = self.lock();
        inner.last = Incarnation(inner.last.0 + 1);
        inner.last
    }

    pub(crate) fn set_current(&self, agent: AgentHandle) {
        self.lock().current = Some(agent);
    }

    fn lock(&self) -> MutexGuard<'_, EntryInner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
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
            slot: tokio::sync::Mutex::default(),
            ring: Arc::default(),
            inner: Mutex::new(EntryInner { current: None, last }),
        });
        inner.entries.insert(id.clone(), Arc::clone(&entry));
        entry
    }

    /// Forgets an entry in which nothing ever lived.
    pub(crate) fn forget_if_empty(&self, id: &AgentId) {
        let mut inner = self.lock();
        let is_empty =
            |entry: &Arc<Entry>| Arc::strong_count(entry) == 1 && entry.current().is_none();
        if inner.entries.get(id).is_some_and(is_empty)
            && let Some(entry) = inner.entries.remove(id)
        {
            inner.forgotten = inner.forgotten.max(entry.lock().last.0);
        }
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
            .filter_map(|(id, entry)| {
                let agent = entry.current()?;
                let at = agent.board().last_activity_at();
                (!agent.is_live()).then(|| (at, id.clone()))
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

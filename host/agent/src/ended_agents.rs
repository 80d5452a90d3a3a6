//! What is kept of agents that ended: one budget for all of them.
//!
//! ```text
//!   an agent ends ───▶ retire ──▶ [ ended longest ago … ended last ]
//!   it starts again ─▶ revive         │ over the budget
//!                                     ├─ 1. events go: of the agent that ended longest ago first, its oldest first
//!                                     └─ 2. agents are forgotten, in the same order, those in quarantine last
//! ```
//!
//! While an agent is active, its own account bounds what is held for it. What stays afterwards is nobody's: a
//! thousand agents with a full ring of events each are a gigabyte. So it is counted here, and the oldest goes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bulkhead_feed::Ring;
use bulkhead_types::AgentId;
use parking_lot::Mutex;

/// What an ended agent holds beside its events and the texts of its spec, in bytes: slot, state, meter, history
/// of restarts, samples, its row. Measured.
const RECORD_BYTES: u64 = 8 * 1024;

/// How many are kept by default, and how much of them, in bytes: room for all, and as much for their events.
const DEFAULT_AGENTS: usize = 1000;
const DEFAULT_BYTES: u64 = 16 * 1024 * 1024;

/// What is kept of agents that ended.
pub struct EndedAgents {
    max_agents: usize,
    max_bytes: u64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_end: BTreeMap<Rank, Retired>,
    ranks: HashMap<AgentId, Rank>,
    /// Of them, those whose rings hold events.
    with_events: BTreeSet<Rank>,
    next: u64,
    bytes: u64,
}

/// In the order in which they go: those in quarantine last, of the others who ended longest ago first.
type Rank = (bool, u64);

struct Retired {
    id: AgentId,
    ring: Arc<Ring>,
    /// Without its events.
    record_bytes: u64,
    event_bytes: u64,
}

impl EndedAgents {
    /// Keeps at most `max_bytes` of at most `max_agents`.
    pub fn new(max_agents: usize, max_bytes: u64) -> Self {
        Self { max_agents, max_bytes, inner: Mutex::default() }
    }

    /// An agent ended and is not restarted automatically. `spec_bytes` is what the texts of its spec take. Events of
    /// agents that ended before make room, its own last of all.
    pub(crate) fn retire(
        &self,
        id: &AgentId,
        ring: &Arc<Ring>,
        spec_bytes: u64,
        quarantined: bool,
    ) {
        ring.shrink();
        let mut inner = self.inner.lock();
        inner.remove(id);
        let (at, event_bytes) = ((quarantined, inner.next), ring.bytes() as u64);
        inner.next += 1;
        let record_bytes = RECORD_BYTES + spec_bytes;
        inner.bytes += record_bytes + event_bytes;
        inner.ranks.insert(id.clone(), at);
        if event_bytes > 0 {
            inner.with_events.insert(at);
        }
        let retired = Retired { id: id.clone(), ring: Arc::clone(ring), record_bytes, event_bytes };
        inner.by_end.insert(at, retired);
        inner.trim(self.max_bytes);
    }

    /// The agent starts again, or is forgotten: what is kept of it is not counted here any more.
    pub fn revive(&self, id: &AgentId) {
        self.inner.lock().remove(id);
    }

    /// The agents that have to be forgotten because there are too many, or for the rest to fit, in order. Events are
    /// gone before anybody has to be.
    pub fn excess(&self) -> Vec<AgentId> {
        let inner = self.inner.lock();
        let mut bytes = inner.bytes.saturating_sub(self.max_bytes);
        let mut agents = inner.by_end.len().saturating_sub(self.max_agents);
        let oldest = inner.by_end.values().take_while(|retired| {
            let goes = agents > 0 || bytes > 0;
            bytes = bytes.saturating_sub(retired.record_bytes + retired.event_bytes);
            agents = agents.saturating_sub(1);
            goes
        });
        oldest.map(|retired| retired.id.clone()).collect()
    }

    /// Lets go of all events, because memory is short. Returns how many bytes that were.
    pub fn drop_events(&self) -> u64 {
        let mut inner = self.inner.lock();
        let before = inner.bytes;
        inner.trim(0);
        before - inner.bytes
    }

    /// What is kept, in bytes.
    pub fn bytes(&self) -> u64 {
        self.inner.lock().bytes
    }
}

impl Default for EndedAgents {
    fn default() -> Self {
        Self::new(DEFAULT_AGENTS, DEFAULT_BYTES)
    }
}

impl Inner {
    fn remove(&mut self, id: &AgentId) {
        let Some(at) = self.ranks.remove(id) else { return };
        self.with_events.remove(&at);
        if let Some(retired) = self.by_end.remove(&at) {
            self.bytes -= retired.record_bytes + retired.event_bytes;
        }
    }

    /// Drops events until no more than `max_bytes` are kept, or no event is.
    fn trim(&mut self, max_bytes: u64) {
        while self.bytes > max_bytes {
            let Some(at) = self.with_events.first().copied() else { return };
            let Some(retired) = self.by_end.get_mut(&at) else { return };
            retired.ring.trim(self.bytes - max_bytes);
            let left = retired.ring.bytes() as u64;
            self.bytes = (self.bytes + left).saturating_sub(retired.event_bytes);
            retired.event_bytes = left;
            if self.bytes > max_bytes || left == 0 {
                self.with_events.remove(&at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: usize = 1000;

    fn id(name: &str) -> AgentId {
        AgentId::parse(name).unwrap()
    }

    fn ring(events: usize) -> Arc<Ring> {
        let limits = bulkhead_feed::RingLimits::default();
        let ring = Ring::new(&Arc::default(), id("a"), limits, &Arc::default());
        for _ in 0..events {
            ring.push_value("n", &"x".repeat(EVENT));
        }
        Arc::new(ring)
    }

    /// With room for two agents and `events` bytes.
    fn ended(events: u64) -> EndedAgents {
        EndedAgents::new(3, 2 * RECORD_BYTES + events)
    }

    #[test]
    fn the_oldest_events_of_who_ended_longest_ago_go_first_and_a_reader_sees_from_where() {
        let ended = ended(5 * EVENT as u64);
        let (first, last) = (ring(3), ring(3));
        ended.retire(&id("first"), &first, 0, false);
        assert_eq!(first.after(0).dropped_before, None);
        ended.retire(&id("last"), &last, 0, false);
        assert_eq!(first.after(0).dropped_before, Some(3), "two had to go");
        assert_eq!(last.after(0).dropped_before, None);
        assert!(ended.bytes() <= 2 * RECORD_BYTES + 5 * EVENT as u64);
        assert!(ended.excess().is_empty());
    }

    #[test]
    fn an_agent_that_ended_again_is_the_newest_and_an_active_one_is_not_counted() {
        let ended = ended(5 * EVENT as u64);
        let (a, b) = (ring(3), ring(3));
        ended.retire(&id("a"), &a, 0, false);
        ended.revive(&id("a"));
        assert_eq!(ended.bytes(), 0);
        ended.retire(&id("b"), &b, 0, false);
        ended.retire(&id("a"), &a, 0, false);
        ended.retire(&id("a"), &a, 0, false);
        assert_eq!(a.after(0).dropped_before, None);
        assert!(b.after(0).dropped_before.is_some());
    }

    #[test]
    fn agents_are_forgotten_only_when_no_event_is_left() {
        let ended = ended(0);
        let (a, b) = (ring(2), ring(2));
        ended.retire(&id("a"), &a, 0, false);
        assert!(ended.excess().is_empty());
        ended.retire(&id("b"), &b, RECORD_BYTES, false);
        assert!(a.after(0).events.is_empty() && b.after(0).events.is_empty());
        assert_eq!(a.after(0).dropped_before, Some(3));
        assert_eq!(ended.excess(), [id("a")]);
        ended.revive(&id("a"));
        assert!(ended.excess().is_empty());
    }

    #[test]
    fn their_number_has_a_bound_as_well() {
        let ended = EndedAgents::new(1, u64::MAX);
        let ring = ring(1);
        for name in ["a", "b", "c"] {
            ended.retire(&id(name), &ring, 0, false);
        }
        assert_eq!(ended.excess(), [id("a"), id("b")]);
    }

    #[test]
    fn who_is_in_quarantine_goes_last() {
        let ended = ended(0);
        let (a, b, c) = (ring(1), ring(1), ring(1));
        ended.retire(&id("a"), &a, 0, true);
        ended.retire(&id("b"), &b, 0, false);
        ended.retire(&id("c"), &c, 0, false);
        assert_eq!(ended.excess(), [id("b")]);
    }

    #[test]
    fn all_events_go_when_memory_is_short() {
        let ended = ended(100 * EVENT as u64);
        let ring = ring(10);
        ended.retire(&id("a"), &ring, 0, false);
        assert!(ended.drop_events() > 10 * EVENT as u64);
        assert_eq!((ended.drop_events(), ended.bytes()), (0, RECORD_BYTES));
        assert_eq!(ring.after(0).dropped_before, Some(11));
    }
}

//! What is still to be done for the archives of agents.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bulkhead_types::AgentId;
use parking_lot::Mutex;

/// Until the next try, at first and at most.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3600));

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owed {
    /// What is here is to be shipped.
    Archive,
    /// What is here is elsewhere, and its archive is to go.
    Withdrawal,
    /// What is here is too large. When it is smaller, an end of the agent ships it.
    Smaller,
}

#[derive(Clone, Copy)]
struct Due {
    owed: Owed,
    /// In vain.
    tries: u32,
    not_before: Instant,
}

/// Agents whose workspace is not shipped as it is.
#[derive(Default)]
pub(super) struct DueList(Mutex<BTreeMap<AgentId, Due>>);

impl DueList {
    pub fn owe(&self, agent: &AgentId, owed: Owed) {
        let due = Due { owed, tries: 0, not_before: Instant::now() };
        self.0.lock().insert(agent.clone(), due);
    }

    pub fn owed(&self, agent: &AgentId) -> Option<Owed> {
        self.0.lock().get(agent).map(|due| due.owed)
    }

    /// It was tried in vain, and is tried less and less often. Returns what was owed before.
    pub fn put_off(&self, agent: &AgentId, owed: Owed) -> Option<Owed> {
        let mut all = self.0.lock();
        let before = all.get(agent).copied();
        let tries = before.map_or(0, |before| before.tries);
        let wait = AGAIN_AFTER.0.saturating_mul(1 << tries.min(16)).min(AGAIN_AFTER.1);
        let not_before = Instant::now() + wait;
        all.insert(agent.clone(), Due { owed, tries: tries.saturating_add(1), not_before });
        before.map(|before| before.owed)
    }

    /// Nothing is owed any more.
    pub fn settle(&self, agent: &AgentId) {
        self.0.lock().remove(agent);
    }

    /// The agent begins, and its end does what is owed. That it is too large stays reported.
    pub fn begins(&self, agent: &AgentId) {
        let mut all = self.0.lock();
        if all.get(agent).is_some_and(|due| due.owed != Owed::Smaller) {
            all.remove(agent);
        }
    }

    /// Agents for which something can be done, now or at the end.
    pub fn agents(&self, now: Option<Instant>) -> Vec<AgentId> {
        let all = self.0.lock();
        let can_be =
            |due: &Due| due.owed != Owed::Smaller && now.is_none_or(|now| due.not_before <= now);
        all.iter().filter(|(_, due)| can_be(due)).map(|(agent, _)| agent.clone()).collect()
    }

    pub fn len(&self) -> usize {
        self.0.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_less_often_and_a_begin_does_it() {
        let list = DueList::default();
        let agent = AgentId::parse("a").unwrap();
        list.owe(&agent, Owed::Archive);
        let began = Instant::now();
        let after = |seconds| list.agents(Some(began + Duration::from_secs(seconds))).len();
        assert_eq!(after(1), 1);
        assert_eq!(list.put_off(&agent, Owed::Archive), Some(Owed::Archive));
        assert_eq!((after(20), after(31)), (0, 1));
        list.put_off(&agent, Owed::Archive);
        assert_eq!((after(50), after(61)), (0, 1));
        for _ in 0..40 {
            list.put_off(&agent, Owed::Archive);
        }
        assert_eq!((after(3000), after(3601)), (0, 1));
        assert_eq!(list.agents(None).len(), 1, "at the end at any time");
        list.begins(&agent);
        assert_eq!(list.len(), 0);
        list.put_off(&agent, Owed::Smaller);
        list.begins(&agent);
        assert_eq!((list.len(), list.agents(None).len()), (1, 0));
    }
}

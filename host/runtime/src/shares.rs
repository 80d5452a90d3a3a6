//! What agents have in common, in fair shares.
//!
//! An agent's share outlives the agent's incarnations: what one left under way counts against the next.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bulkhead_types::AgentId;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// So many of something for each agent.
pub(crate) struct Shares {
    each: usize,
    /// Of each agent that is active or still has something under way.
    of: Mutex<HashMap<AgentId, Weak<Semaphore>>>,
}

impl Shares {
    pub(crate) fn new(each: usize) -> Self {
        Self { each, of: Mutex::default() }
    }

    /// The share of an agent. A holder of one of its permits keeps it.
    pub(crate) fn of(&self, agent: &AgentId) -> Arc<Semaphore> {
        let mut shares = self.of.lock();
        let known = shares.get(agent).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            if shares.len() == shares.capacity() {
                shares.retain(|_, share| share.strong_count() > 0);
            }
            let own = Arc::new(Semaphore::new(self.each));
            shares.insert(agent.clone(), Arc::downgrade(&own));
            own
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_agents_that_are_gone_are_forgotten_and_others_are_kept() {
        let shares = Shares::new(2);
        let agent = |number: usize| AgentId::parse(&format!("agent-{number}")).unwrap();
        let kept = shares.of(&agent(0)).try_acquire_owned().unwrap();
        for number in 1..100 {
            shares.of(&agent(number));
        }
        assert!(shares.of.lock().len() < 16);
        assert_eq!(shares.of(&agent(0)).available_permits(), 1);
        drop(kept);
        assert_eq!(shares.of(&agent(0)).available_permits(), 2);
    }
}

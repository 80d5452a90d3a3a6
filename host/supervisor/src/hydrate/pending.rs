//! Agents that are to be started at boot and were not yet.
//!
//! The control server answers before they are started. Whoever wants to stop one of them waits here until it is there to
//! be stopped.

use std::collections::HashSet;

use bulkhead_types::AgentId;
use tokio::sync::watch;

/// Agents that are to be started at boot and were not yet.
pub(crate) struct Pending(watch::Sender<HashSet<AgentId>>);

impl Pending {
    pub(crate) fn of(agents: impl Iterator<Item = AgentId>) -> Self {
        Self(watch::Sender::new(agents.collect()))
    }

    /// It is decided who is to be started.
    pub(super) fn set(&self, agents: impl Iterator<Item = AgentId>) {
        self.0.send_replace(agents.collect());
    }

    /// It is started, or cannot be.
    pub(super) fn remove(&self, agent: &AgentId) {
        self.0.send_if_modified(|agents| agents.remove(agent));
    }

    /// Resolves when nothing is going to start this agent by itself.
    pub(crate) async fn over(&self, agent: &AgentId) {
        // It cannot be closed while it is here.
        let _ = self.0.subscribe().wait_for(|agents| !agents.contains(agent)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn who_waits_for_an_agent_goes_on_when_it_was_started_or_is_not_to_be() {
        let [a, b, c] = ["a", "b", "c"].map(|id| AgentId::parse(id).unwrap());
        let pending = Pending::of([a.clone(), b.clone()].into_iter());
        let mut cx = Context::from_waker(Waker::noop());
        let (mut first, mut second) = (pin!(pending.over(&a)), pin!(pending.over(&b)));
        assert!(pin!(pending.over(&c)).poll(&mut cx).is_ready());
        assert!(
            first.as_mut().poll(&mut cx).is_pending() && second.as_mut().poll(&mut cx).is_pending()
        );
        pending.set([b.clone()].into_iter());
        assert!(first.poll(&mut cx).is_ready() && second.as_mut().poll(&mut cx).is_pending());
        pending.remove(&b);
        assert!(second.poll(&mut cx).is_ready());
    }
}

//! Agents that have to be started at boot and were not yet.
//!
//! The control server answers before they are started. Callers that ask for one of them wait here until it is there.
//! Until it is decided which agents start, that may be anybody: the town may want agents that nobody here knows.

use std::collections::HashSet;

use bulkhead_types::AgentId;
use tokio::sync::watch;

/// Agents that have to be started at boot and were not yet.
pub(crate) struct Pending(watch::Sender<State>);

struct State {
    agents: HashSet<AgentId>,
    is_decided: bool,
}

impl State {
    fn may_start(&self, agent: &AgentId) -> bool {
        !self.is_decided || self.agents.contains(agent)
    }
}

impl Pending {
    pub(crate) fn of(agents: impl Iterator<Item = AgentId>) -> Self {
        Self(watch::Sender::new(State { agents: agents.collect(), is_decided: false }))
    }

    /// It is decided which agents start.
    pub(super) fn set(&self, agents: impl Iterator<Item = AgentId>) {
        self.0.send_replace(State { agents: agents.collect(), is_decided: true });
    }

    /// It is started, or cannot be.
    pub(super) fn remove(&self, agent: &AgentId) {
        self.0.send_if_modified(|state| state.agents.remove(agent));
    }

    /// Boot is through, in whatever way. Those that are late are still to be started.
    pub(crate) fn decided(&self) {
        self.0.send_if_modified(|state| !std::mem::replace(&mut state.is_decided, true));
    }

    /// Whether boot may still start this agent.
    pub(crate) fn may_start(&self, agent: &AgentId) -> bool {
        self.0.borrow().may_start(agent)
    }

    /// Resolves when nothing is going to start this agent by itself.
    pub(crate) async fn over(&self, agent: &AgentId) {
        // It cannot be closed while it is here.
        let _ = self.0.subscribe().wait_for(|state| !state.may_start(agent)).await;
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
        let mut third = pin!(pending.over(&c));
        // The town may want the third.
        assert!(third.as_mut().poll(&mut cx).is_pending());
        assert!(
            first.as_mut().poll(&mut cx).is_pending() && second.as_mut().poll(&mut cx).is_pending()
        );
        pending.set([b.clone()].into_iter());
        assert!(first.poll(&mut cx).is_ready() && third.poll(&mut cx).is_ready());
        assert!(pending.may_start(&b) && second.as_mut().poll(&mut cx).is_pending());
        pending.remove(&b);
        assert!(!pending.may_start(&b) && second.poll(&mut cx).is_ready());
    }

    #[test]
    fn a_boot_that_is_lost_keeps_nobody_waiting_but_for_those_that_are_late() {
        let [late, unknown] = ["late", "unknown"].map(|id| AgentId::parse(id).unwrap());
        let pending = Pending::of([late.clone()].into_iter());
        pending.decided();
        assert_eq!((pending.may_start(&late), pending.may_start(&unknown)), (true, false));
    }
}

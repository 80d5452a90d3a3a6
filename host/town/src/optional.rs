//! Calls that a town need not have.
//!
//! One that is refused is not made again in this run: with 403 and 404 at once, with 401 when the same token was good
//! for other calls in between, again and again. It is off for the agent that it was about; and for all of them, when
//! another agent was refused as well and the town has never taken it.

use std::collections::{HashMap, HashSet};

use bulkhead_types::AgentId;
use parking_lot::Mutex;

use crate::call::Call;
use crate::fault::Fault;

/// Refusals with 401 of one agent's call, each with a token that was good before and after it.
const UNAUTHORIZED: u32 = 6;

/// Agents that a call is off for. Past it, it is off for all.
const MAX_AGENTS: usize = 4096;

/// Which calls are off.
#[derive(Default)]
pub(crate) struct Optional(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// How often the town has taken a call that it must have.
    accepted: u64,
    of: HashMap<Call, State>,
}

#[derive(Default)]
struct State {
    /// The town has taken it once.
    is_taken: bool,
    is_off: bool,
    off_for: HashSet<AgentId>,
    /// Refused with 401: how often, and how many other calls were taken by then.
    unauthorized: HashMap<Option<AgentId>, (u32, u64)>,
}

/// What a refusal switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SwitchedOff {
    /// Nothing, or it was off already.
    Nothing,
    /// The call for this agent.
    ForAgent,
    /// The call.
    ForAll,
}

impl Optional {
    /// Whether a call is not to be made.
    pub(crate) fn is_off(&self, call: Call, agent: Option<&AgentId>) -> bool {
        let inner = self.0.lock();
        let Some(state) = inner.of.get(&call) else { return false };
        state.is_off || agent.is_some_and(|agent| state.off_for.contains(agent))
    }

    /// The town has taken a call.
    pub(crate) fn taken(&self, call: Call, agent: Option<&AgentId>) {
        let mut inner = self.0.lock();
        if !call.is_optional() {
            inner.accepted += 1;
            return;
        }
        let state = inner.of.entry(call).or_default();
        state.is_taken = true;
        state.unauthorized.remove(&agent.cloned());
    }

    /// The town has not. Says what is off for it from now on.
    pub(crate) fn refused(
        &self,
        call: Call,
        agent: Option<&AgentId>,
        fault: &Fault,
    ) -> SwitchedOff {
        if !call.is_optional() || !matches!(fault.status, Some(401 | 403 | 404)) {
            return SwitchedOff::Nothing;
        }
        let mut inner = self.0.lock();
        let accepted = inner.accepted;
        let state = inner.of.entry(call).or_default();
        if fault.status == Some(401) && !state.is_unauthorized(agent, accepted) {
            return SwitchedOff::Nothing;
        }
        state.switch_off(agent)
    }
}

impl State {
    /// Whether it is the call that is refused, and not the token.
    fn is_unauthorized(&mut self, agent: Option<&AgentId>, accepted: u64) -> bool {
        let agent = agent.cloned();
        if self.unauthorized.len() >= MAX_AGENTS && !self.unauthorized.contains_key(&agent) {
            self.unauthorized.clear();
        }
        let (refusals, before) = self.unauthorized.entry(agent).or_insert((0, accepted));
        if *refusals == 0 || accepted > *before {
            (*refusals, *before) = (*refusals + 1, accepted);
        }
        *refusals >= UNAUTHORIZED
    }

    fn switch_off(&mut self, agent: Option<&AgentId>) -> SwitchedOff {
        if self.is_off {
            return SwitchedOff::Nothing;
        }
        let Some(agent) = agent else {
            self.is_off = true;
            return SwitchedOff::ForAll;
        };
        let is_new = self.off_for.insert(agent.clone());
        self.unauthorized.remove(&Some(agent.clone()));
        if self.off_for.len() > MAX_AGENTS || (!self.is_taken && self.off_for.len() > 1) {
            self.is_off = true;
            (self.off_for, self.unauthorized) = (HashSet::new(), HashMap::new());
            return SwitchedOff::ForAll;
        }
        if is_new { SwitchedOff::ForAgent } else { SwitchedOff::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    const CALL: Call = Call::PendingNudges;

    fn id(text: &str) -> AgentId {
        AgentId::parse(text).unwrap()
    }

    fn refused(optional: &Optional, agent: &str, status: u16) -> SwitchedOff {
        let fault = Fault::refused(StatusCode::from_u16(status).unwrap(), "no");
        optional.refused(CALL, Some(&id(agent)), &fault)
    }

    #[test]
    fn what_the_town_takes_of_others_is_off_for_the_one_that_it_refuses() {
        let optional = Optional::default();
        optional.taken(CALL, Some(&id("a")));
        for agent in ["b", "c"] {
            assert_eq!(refused(&optional, agent, 404), SwitchedOff::ForAgent);
            assert_eq!(refused(&optional, agent, 404), SwitchedOff::Nothing);
            assert!(optional.is_off(CALL, Some(&id(agent))));
        }
        assert!(!optional.is_off(CALL, Some(&id("a"))));
        assert!(!optional.is_off(Call::AgentEvents, Some(&id("b"))));
    }

    #[test]
    fn what_the_town_has_never_taken_is_off_for_all_when_two_are_refused() {
        let optional = Optional::default();
        assert_eq!(refused(&optional, "a", 403), SwitchedOff::ForAgent);
        assert!(!optional.is_off(CALL, Some(&id("b"))));
        assert_eq!(refused(&optional, "b", 403), SwitchedOff::ForAll);
        assert_eq!(refused(&optional, "c", 403), SwitchedOff::Nothing);
        assert!(optional.is_off(CALL, Some(&id("d"))));
    }

    #[test]
    fn a_token_that_is_refused_everywhere_switches_nothing_off() {
        let optional = Optional::default();
        for _ in 0..100 {
            assert_eq!(refused(&optional, "a", 401), SwitchedOff::Nothing);
        }
        for _ in 1..UNAUTHORIZED - 1 {
            optional.taken(Call::Heartbeat, Some(&id("a")));
            assert_eq!(refused(&optional, "a", 401), SwitchedOff::Nothing);
        }
        optional.taken(Call::Heartbeat, Some(&id("a")));
        assert_eq!(refused(&optional, "a", 401), SwitchedOff::ForAgent);
    }

    #[test]
    fn what_was_taken_in_between_is_refused_from_nothing_again() {
        let optional = Optional::default();
        for _ in 0..3 * UNAUTHORIZED {
            for _ in 1..UNAUTHORIZED {
                optional.taken(Call::Heartbeat, None);
                assert_eq!(refused(&optional, "a", 401), SwitchedOff::Nothing);
            }
            optional.taken(CALL, Some(&id("a")));
        }
    }

    #[test]
    fn an_outage_and_a_call_that_must_be_there_switch_nothing_off() {
        let optional = Optional::default();
        assert_eq!(refused(&optional, "a", 500), SwitchedOff::Nothing);
        let fault = Fault::refused(StatusCode::NOT_FOUND, "no");
        let found = optional.refused(Call::Completed, Some(&id("a")), &fault);
        assert_eq!(found, SwitchedOff::Nothing);
    }
}

//! Desired agents that are missing.
//!
//! What earlier runs, the town and the configuration want at boot is desired until somebody stops it. One that
//! did not come up, or came up and ended abnormally, is missing until it runs, is started, or is stopped. So is one of
//! a database that could be read only after the boot.

use std::collections::BTreeMap;

use bulkhead_api::MissingAgent;
use bulkhead_store::database::Change;
use bulkhead_types::{AgentId, AgentState};
use parking_lot::Mutex;

use crate::{Inner, Supervisor};

/// Desired agents; with what kept those from a start that have none to show.
#[derive(Default)]
pub(crate) struct Desired(Mutex<BTreeMap<AgentId, Option<String>>>);

impl Desired {
    pub(crate) fn add(&self, agents: impl IntoIterator<Item = (AgentId, Option<String>)>) {
        self.0.lock().extend(agents);
    }

    /// It came up: what kept it from a start before is the past.
    pub(crate) fn came_up(&self, id: &AgentId) {
        self.0.lock().entry(id.clone()).and_modify(|error| *error = None);
    }

    /// Somebody asked for its end. Says whether it was desired.
    pub(crate) fn remove(&self, id: &AgentId) -> bool {
        self.0.lock().remove(id).is_some()
    }
}

/// Of an agent that boot could not know of.
const FOUND_LATE: &str =
    "the database could be read only after the boot: restart the host, or start the agent";

/// The states in which a desired agent is missing.
const MISSING_IN: [AgentState; 3] =
    [AgentState::Backoff, AgentState::Quarantined, AgentState::Failed];

impl Supervisor {
    /// Desired agents that are missing, by id.
    pub fn missing(&self) -> Vec<MissingAgent> {
        let late = self.0.container.database.found_late();
        let mut desired: BTreeMap<_, _> = late.iter().map(|id| (id, Some(FOUND_LATE))).collect();
        let wanted = self.0.desired.0.lock();
        desired.extend(wanted.iter().map(|(id, error)| (id, error.as_deref())));
        desired.into_iter().filter_map(|(id, error)| self.0.missing(id, error)).collect()
    }

    /// How many are missing in which state, every one of these states.
    pub(crate) fn missing_by_state(&self) -> Vec<(&'static str, u64)> {
        let missing = self.missing();
        let in_state = |state: AgentState| {
            let count = missing.iter().filter(|agent| agent.status == state.as_str()).count();
            (state.as_str(), count as u64)
        };
        MISSING_IN.into_iter().map(in_state).collect()
    }
}

impl Inner {
    /// Takes one out of the desired agents that has no incarnation in this run. Says whether it was among them.
    pub(crate) fn stop_missing(&self, id: &AgentId) -> bool {
        let database = &self.container.database;
        let (was_desired, member) = (self.desired.remove(id), database.member(id));
        if let Some(upto) = member {
            database.note(id, Change::Stopped { upto });
        }
        was_desired || member.is_some()
    }

    fn missing(&self, id: &AgentId, error: Option<&str>) -> Option<MissingAgent> {
        let missing = |status: &str, reason: &str| MissingAgent {
            agent_id: id.clone(),
            status: status.to_owned().into(),
            reason: reason.to_owned(),
        };
        let Some(agent) = self.registry.get(id).and_then(|agent| agent.current()) else {
            return error.map(|error| missing(AgentState::Failed.as_str(), error));
        };
        let published = agent.publisher().published();
        let reason = || published.exit.as_ref().map_or("", |exit| &exit.message);
        match published.state {
            AgentState::Backoff | AgentState::Quarantined | AgentState::Failed => {
                Some(missing(published.state.as_str(), reason()))
            }
            AgentState::Starting
            | AgentState::Running { .. }
            | AgentState::Stopping
            | AgentState::Exited => None,
        }
    }
}

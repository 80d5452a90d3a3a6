//! Numbers and histories of agents, as many as a document has room for.

use std::sync::Arc;

use bulkhead_types::{AgentId, Incarnation, RestartState, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Numbers that a later run leaves out after the last one that it knows of an agent: as many may have been given since.
///
/// A digest is stored before half of them are given, as long as the sink takes it. While it does not, an agent that
/// starts more often than this gives numbers that a run on an empty disk gives again.
pub const ROOM: u64 = 1000;

/// Largest part of a document that is about agents, in bytes.
pub(crate) const MAX_BYTES: usize = 768 * 1024;

/// Largest order of one agent, in bytes. A larger one is left out.
const MAX_ORDER: usize = 64 * 1024;

/// What a later run has to know of one agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentHistory {
    /// Which.
    pub id: AgentId,
    /// The highest number that was given to an incarnation.
    pub incarnation: Incarnation,
    /// What its restarts have come to.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub restarts: Arc<RestartState>,
    /// What it was started with, without any secret: of an agent in quarantine, which is about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Box<RawValue>>,
    /// When something last changed.
    pub changed_at: Timestamp,
}

fn is_blank(restarts: &RestartState) -> bool {
    *restarts == RestartState::default()
}

impl AgentHistory {
    /// The number after which a run on another disk goes on.
    pub fn goes_on_after(&self) -> Incarnation {
        after(self.incarnation)
    }

    fn without_history(&self) -> Self {
        Self { restarts: Arc::default(), order: None, ..self.clone() }
    }
}

pub(crate) fn after(number: Incarnation) -> Incarnation {
    Incarnation(number.0.saturating_add(ROOM))
}

/// Agents of a document, and the highest number of those that it leaves out.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Agents {
    pub listed: Vec<Box<RawValue>>,
    pub forgotten: Incarnation,
}

impl Agents {
    /// As many as fit into `room` bytes: those in quarantine first, then those with a history, then the others, of each
    /// the ones that changed last. One whose history does not fit is listed with its number, if that does.
    pub fn fit(mut agents: Vec<AgentHistory>, forgotten: Incarnation, room: usize) -> Self {
        agents.sort_by_cached_key(|agent| {
            let restarts = &agent.restarts;
            (restarts.quarantine.is_none(), is_blank(restarts), -agent.changed_at.0)
        });
        let (mut listed, mut left, mut forgotten) = (Vec::new(), room, forgotten);
        for mut agent in agents {
            agent.order = agent.order.filter(|order| order.get().len() <= MAX_ORDER);
            let texts = [agent.clone(), agent.without_history()];
            let mut texts = texts.iter().filter_map(|it| serde_json::value::to_raw_value(it).ok());
            match texts.find(|text| text.get().len() < left) {
                Some(text) => {
                    left -= text.get().len() + 1;
                    listed.push(text);
                }
                None => forgotten = forgotten.max(agent.incarnation),
            }
        }
        Self { listed, forgotten }
    }

    /// Those that can be read, and how many cannot.
    pub fn read(&self) -> (Vec<AgentHistory>, usize) {
        let read = self.listed.iter().filter_map(|text| serde_json::from_str(text.get()).ok());
        let read: Vec<_> = read.collect();
        let unreadable = self.listed.len() - read.len();
        (read, unreadable)
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_types::restart::{Quarantine, QuarantineReason};

    use super::*;

    fn agent(id: &str, incarnation: u64) -> AgentHistory {
        AgentHistory {
            id: AgentId::parse(id).unwrap(),
            incarnation: Incarnation(incarnation),
            restarts: Arc::default(),
            order: None,
            changed_at: Timestamp(incarnation as i64),
        }
    }

    fn quarantined(id: &str) -> AgentHistory {
        let (since, why) = (Timestamp(1), QuarantineReason::Intensity);
        let quarantine = Some(Quarantine { since, why, message: "too many".repeat(10) });
        let order = RawValue::from_string(format!("{{\"agentId\":\"{id}\"}}")).ok();
        let restarts = RestartState { quarantine, ..RestartState::default() };
        AgentHistory { restarts: restarts.into(), order, ..agent(id, 7) }
    }

    fn ids(agents: &Agents) -> Vec<String> {
        agents.read().0.iter().map(|agent| agent.id.to_string()).collect()
    }

    #[test]
    fn the_most_important_come_first_and_what_has_no_room_is_counted_in() {
        let all = || vec![agent("old", 900), agent("new", 1000), quarantined("bad")];
        let whole = Agents::fit(all(), Incarnation(3), MAX_BYTES);
        assert_eq!(ids(&whole), ["bad", "new", "old"]);
        assert_eq!(whole.forgotten, Incarnation(3));
        let length = |n: usize| whole.listed[n].get().len() + 1;
        let some = Agents::fit(all(), Incarnation(3), length(0) + length(1) + 1);
        assert_eq!(ids(&some), ["bad", "new"]);
        assert_eq!(some.forgotten, Incarnation(900));
        // Its number at least.
        let few = Agents::fit(vec![quarantined("bad")], Incarnation(0), 100);
        assert_eq!(ids(&few), ["bad"]);
        assert!(few.read().0[0].restarts.quarantine.is_none());
        assert_eq!(Agents::fit(all(), Incarnation(3), 0).forgotten, Incarnation(1000));
    }

    #[test]
    fn what_was_written_reads_back_and_what_cannot_be_read_costs_no_other() {
        let mut agents = Agents::fit(vec![quarantined("bad")], Incarnation(0), MAX_BYTES);
        agents.listed.push(RawValue::from_string("{\"id\":7}".into()).unwrap());
        let text = serde_json::to_string(&agents).unwrap();
        let (read, unreadable) = serde_json::from_str::<Agents>(&text).unwrap().read();
        assert_eq!((read.len(), unreadable), (1, 1));
        assert_eq!(read[0].restarts, quarantined("bad").restarts);
        assert_eq!(read[0].order.as_ref().unwrap().get(), "{\"agentId\":\"bad\"}");
        assert_eq!(read[0].goes_on_after(), Incarnation(1007));
    }
}

//! Rows of the town's registry that only the town understands.
//!
//! The registry is posted as a whole, so what is left out of it is taken out of it. A row that this host cannot read,
//! or that it read when it was too late to act on it, goes back as it came, until somebody decides about its agent
//! here: a start or a stop that was asked for, or the end of the agent. Where it can be read, it goes back without the
//! values of the environment, as every row does.

use std::collections::{HashMap, HashSet};

use bulkhead_api::{RawRow, TownRegistry};
use bulkhead_types::AgentId;
use parking_lot::Mutex;

/// As many as one registry of the town has at most, and as large.
#[derive(Default)]
pub(crate) struct KeptRows(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    named: HashMap<AgentId, Named>,
    nameless: Vec<RawRow>,
}

struct Named {
    row: RawRow,
    /// The agent was among the desired ones.
    was_member: bool,
}

impl KeptRows {
    /// Keeps what of a registry cannot be read.
    pub(crate) fn keep_unreadable(&self, registry: &TownRegistry) {
        let named = registry.unreadable.iter().map(|row| (&row.agent_id, row.row.clone()));
        self.0.lock().keep(named, registry.nameless.clone());
    }

    /// Keeps all of a registry but the rows of agents about which this host has decided.
    pub(crate) fn keep_undecided(
        &self,
        registry: &TownRegistry,
        is_decided: impl Fn(&AgentId) -> bool,
    ) {
        let unreadable = registry.unreadable.iter().map(|row| (&row.agent_id, row.row.clone()));
        let readable =
            registry.agents.iter().map(|it| (&it.request.agent_id, it.row.without_values()));
        let named = readable.chain(unreadable).filter(|(id, _)| !is_decided(id));
        self.0.lock().keep(named, registry.nameless.clone());
    }

    /// Somebody decided about the agent: what this host knows of it counts. Says whether that changes anything.
    pub(crate) fn decided(&self, id: &AgentId) -> bool {
        self.0.lock().named.remove(id).is_some()
    }

    /// The rows that go back, in an order of their own. `members` are the desired agents.
    pub(crate) fn rows(&self, members: &HashSet<&AgentId>) -> Vec<(Option<AgentId>, RawRow)> {
        let mut inner = self.0.lock();
        inner.named.retain(|id, named| {
            let is_member = members.contains(id);
            let ended = named.was_member && !is_member;
            named.was_member = is_member;
            !ended
        });
        let named = inner.named.iter().map(|(id, it)| (Some(id.clone()), it.row.clone()));
        let mut rows: Vec<_> = named.collect();
        rows.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        rows.extend(inner.nameless.iter().map(|row| (None, row.clone())));
        rows
    }
}

impl Inner {
    fn keep<'a>(
        &mut self,
        named: impl Iterator<Item = (&'a AgentId, RawRow)>,
        nameless: Vec<RawRow>,
    ) {
        let named = named.map(|(id, row)| (id.clone(), Named { row, was_member: false }));
        (self.named, self.nameless) = (named.collect(), nameless);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> AgentId {
        AgentId::parse(text).unwrap()
    }

    fn registry() -> TownRegistry {
        let rows = r#"[{"agentId":"x","format":9},{"agentId":"y"},"what?",
                       {"agentId":"a","request":{"agentId":"a","role":"r"},"note":1}]"#;
        TownRegistry::parse(&serde_json::from_str::<Vec<_>>(rows).unwrap()).unwrap()
    }

    fn rows(kept: &KeptRows, members: &[&AgentId]) -> Vec<String> {
        let rows = kept.rows(&members.iter().copied().collect());
        rows.iter().map(|(_, row)| row.json().get().to_owned()).collect()
    }

    #[test]
    fn what_cannot_be_read_goes_back_as_it_came_until_somebody_decides() {
        let kept = KeptRows::default();
        kept.keep_unreadable(&registry());
        let (x, y, what) = (r#"{"agentId":"x","format":9}"#, r#"{"agentId":"y"}"#, r#""what?""#);
        assert_eq!(rows(&kept, &[]), [x, y, what]);
        assert_eq!(rows(&kept, &[&id("x")]), [x, y, what], "it runs as the store says");
        assert_eq!(rows(&kept, &[]), [y, what], "and ended");
        assert!(kept.decided(&id("y")) && !kept.decided(&id("y")));
        assert_eq!(rows(&kept, &[]), [what]);
    }

    #[test]
    fn of_a_registry_that_came_late_all_goes_back_but_what_was_decided() {
        let kept = KeptRows::default();
        kept.keep_undecided(&registry(), |agent| *agent == id("x"));
        let a = r#"{"agentId":"a","env":[],"note":1,"request":{"agentId":"a","role":"r"}}"#;
        assert_eq!(rows(&kept, &[]), [a, r#"{"agentId":"y"}"#, r#""what?""#]);
    }
}

//! What may change about an agent while it is active, without a restart.
//!
//! ```text
//!   PATCH model, PUT system-prompt ──▶ LiveSettings (one for each start) ──┐
//!   dashboard-context, sync-config ──▶ TownValues (one for all agents) ──┴─▶ host.settings, host.config
//! ```
//!
//! The guest asks; it is not notified. There is nothing to call that could trap, a turn under way is not
//! left_backoff, and the next one goes by the change. The spec stays what was asked for: whether two
//! starts are the same does not depend on what was changed since.

use std::collections::BTreeMap;
use std::sync::Arc;

use bulkhead_types::{AgentId, AgentSpec, AgentState, Secret, Settings};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::town_values::TownValues;

/// The settings of one start of an agent. All incarnations that come of it share them, so that a
/// restart does not go back to what was.
pub(crate) struct LiveSettings {
    own: Mutex<Own>,
    town_values: Arc<TownValues>,
}

struct Own {
    revision: u64,
    model: Option<String>,
    small_model: Option<String>,
    system_prompt: Option<String>,
}

/// A change of an agent's settings. What is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingsChange {
    /// The language model to use.
    pub model: Option<String>,
    /// A cheaper one for small tasks; `Some(None)` takes it away.
    pub small_model: Option<Option<String>>,
    /// Standing instructions.
    pub system_prompt: Option<String>,
}

/// Why an agent's settings were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Nobody of that name.
    #[error("no such agent: {0}")]
    NoSuchAgent(AgentId),
    /// It has ended or is about to: nobody would go by them.
    #[error("agent {id} is {}, not running", state.as_str())]
    NotRunning {
        /// Who.
        id: AgentId,
        /// Its state.
        state: AgentState,
    },
}

/// Settings as they are written down.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    model: Option<String>,
    small_model: Option<String>,
    system_prompt: Option<String>,
}

impl SettingsChange {
    /// The change that leads to the settings that an earlier run of the host wrote down. `None` when the words
    /// are of another version.
    pub fn from_record(record: &str) -> Option<Self> {
        let Record { model, small_model, system_prompt } = serde_json::from_str(record).ok()?;
        Some(Self { model, small_model: Some(small_model), system_prompt })
    }
}

impl LiveSettings {
    /// The settings that a start asks for, with what was changed since.
    pub(crate) fn new(
        spec: &AgentSpec,
        town_values: Arc<TownValues>,
        changed: Option<SettingsChange>,
    ) -> Self {
        let own = Own {
            revision: 0,
            model: spec.model.clone(),
            small_model: spec.small_model.clone(),
            system_prompt: spec.system_prompt.clone(),
        };
        let settings = Self { own: Mutex::new(own), town_values };
        if let Some(changed) = changed {
            settings.change(changed);
        }
        settings
    }

    /// The language model in use.
    pub(crate) fn model(&self) -> Option<String> {
        self.own.lock().model.clone()
    }

    /// What the agent should go by now.
    pub(crate) fn current(&self) -> Settings {
        let (outer, dashboard_context) = self.town_values.dashboard_context();
        let own = self.own.lock();
        Settings {
            // Either count rises by itself, so the sum rises with every change of the whole.
            revision: own.revision + outer,
            model: own.model.clone(),
            small_model: own.small_model.clone(),
            system_prompt: own.system_prompt.clone(),
            dashboard_context,
        }
    }

    pub(crate) fn town_value(&self, key: &str) -> Option<Secret> {
        self.town_values.value(key)
    }

    pub(crate) fn all_town_values(&self) -> BTreeMap<String, Secret> {
        self.town_values.values()
    }

    /// Returns the new revision.
    pub(crate) fn change(&self, change: SettingsChange) -> u64 {
        let mut own = self.own.lock();
        let SettingsChange { model, small_model, system_prompt } = change;
        own.model = model.or(own.model.take());
        own.system_prompt = system_prompt.or(own.system_prompt.take());
        if let Some(small_model) = small_model {
            own.small_model = small_model;
        }
        own.revision += 1;
        own.revision
    }

    /// What was changed since the start, in words for a later run of the host; nothing when nothing was.
    pub(crate) fn record(&self) -> Option<Arc<str>> {
        let own = self.own.lock();
        if own.revision == 0 {
            return None;
        }
        let Own { model, small_model, system_prompt, .. } = &*own;
        let record = Record {
            model: model.clone(),
            small_model: small_model.clone(),
            system_prompt: system_prompt.clone(),
        };
        serde_json::to_string(&record).ok().map(Into::into)
    }
}

/// May the settings of an agent in this state be changed?
pub(crate) fn is_changeable(state: AgentState) -> bool {
    use AgentState::{Backoff, Exited, Failed, Quarantined, Running, Starting, Stopping};
    match state {
        Starting | Running { .. } | Backoff => true,
        Stopping | Quarantined | Exited | Failed => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn live() -> (LiveSettings, Arc<TownValues>) {
        let town_values = Arc::new(TownValues::default());
        let own = Own {
            revision: 0,
            model: Some("old".into()),
            small_model: Some("small".into()),
            system_prompt: None,
        };
        let live = LiveSettings { own: Mutex::new(own), town_values: Arc::clone(&town_values) };
        (live, town_values)
    }

    #[test]
    fn a_change_leaves_alone_what_it_does_not_name() {
        let (live, _) = live();
        live.change(SettingsChange { model: Some("new".into()), ..SettingsChange::default() });
        live.change(SettingsChange {
            system_prompt: Some("be brief".into()),
            ..SettingsChange::default()
        });
        let now = live.current();
        assert_eq!((now.revision, now.model.as_deref()), (2, Some("new")));
        assert_eq!(now.small_model.as_deref(), Some("small"));
        assert_eq!(now.system_prompt.as_deref(), Some("be brief"));
        live.change(SettingsChange { small_model: Some(None), ..SettingsChange::default() });
        assert_eq!((live.current().small_model, live.model().as_deref()), (None, Some("new")));
    }

    #[test]
    fn the_revision_shows_the_agents_own_changes_and_the_towns() {
        let (live, town_values) = live();
        town_values.set_dashboard_context(Some("open beads".into()));
        assert_eq!(live.current().revision, 1);
        live.change(SettingsChange::default());
        assert_eq!(live.current().revision, 2);
        let values = BTreeMap::from([("key".to_owned(), Some("value".to_owned().into()))]);
        town_values.change_values(&values, false, &BTreeSet::new()).unwrap();
        let now = live.current();
        assert_eq!((now.revision, now.dashboard_context.as_deref()), (3, Some("open beads")));
        assert_eq!(live.town_value("key").map(|value| value.expose().len()), Some(5));
    }

    #[test]
    fn what_has_ended_is_not_changed_and_what_restarts_is() {
        assert!(is_changeable(AgentState::Backoff) && is_changeable(AgentState::Starting));
        assert!(!is_changeable(AgentState::Stopping) && !is_changeable(AgentState::Quarantined));
    }
}

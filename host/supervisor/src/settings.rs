//! Changes that reach agents while they are active.

use bulkhead_agent::{SettingsChange, SettingsError, TownConfigError};
use bulkhead_api::{DashboardContextRequest, ModelRequest, SystemPromptRequest, TownConfig};
use bulkhead_types::AgentId;

use crate::Supervisor;

impl Supervisor {
    /// Changes the models of an agent from its next turn on.
    pub fn set_model(&self, id: &AgentId, request: ModelRequest) -> Result<(), SettingsError> {
        let ModelRequest { model, small_model } = request;
        self.change(id, SettingsChange { model: Some(model), small_model, system_prompt: None })
    }

    /// Changes the standing instructions of an agent from its next turn on.
    pub fn set_system_prompt(
        &self,
        id: &AgentId,
        request: SystemPromptRequest,
    ) -> Result<(), SettingsError> {
        let system_prompt = Some(request.system_prompt);
        self.change(id, SettingsChange { system_prompt, ..SettingsChange::default() })
    }

    /// Changes the dashboard's values for every agent, those that start later too.
    pub fn set_dashboard_context(&self, request: DashboardContextRequest) {
        if self.0.container.town_values.set_dashboard_context(request.context) {
            tracing::info!("dashboard context was changed");
        }
    }

    /// Changes the town's configuration values. Every agent sees them at once.
    pub fn sync_config(&self, config: &TownConfig) -> Result<(), TownConfigError> {
        let TownConfig { env_vars, is_whole, unread } = config;
        let town_values = &self.0.container.town_values;
        let changed = town_values.change_values(env_vars, *is_whole, unread)?;
        // The control plane brings its configuration with every call; most change nothing.
        if changed > 0 {
            tracing::info!(changed, "town config was synced");
        }
        Ok(())
    }

    fn change(&self, id: &AgentId, change: SettingsChange) -> Result<(), SettingsError> {
        let agent = self.0.current(id).ok();
        agent.ok_or_else(|| SettingsError::NoSuchAgent(id.clone()))?.change_settings(change)
    }
}

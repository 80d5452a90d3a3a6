//! What may change about an agent while it is active.

/// Configuration values that a town may set, and that one call may change. The original's has tens.
pub const MAX_TOWN_VALUES: usize = 256;

/// Bytes of all their keys and values together. Every agent with an environment gets a copy.
pub const MAX_TOWN_VALUE_BYTES: usize = 256 * 1024;

/// What an agent should go by now. `record agent-settings` in `wit/agent.wit`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Rises with each change of these and of the town's configuration values.
    pub revision: u64,
    /// The language model to use.
    pub model: Option<String>,
    /// A cheaper one for small tasks.
    pub small_model: Option<String>,
    /// Standing instructions.
    pub system_prompt: Option<String>,
    /// What the people of the town see on their dashboard, in words.
    pub dashboard_context: Option<String>,
}

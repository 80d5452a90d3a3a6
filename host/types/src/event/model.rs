//! Where the use of language models has a bound.

use schemars::JsonSchema;
use serde::Serialize;

use super::parts::AgentTag;

/// See [`Event::ModelBudget`](super::Event::ModelBudget).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ModelBudget {
    /// Whose call it was.
    #[serde(flatten)]
    pub agent: AgentTag,
    /// Which budget, by its key in the configuration.
    pub budget: &'static str,
    /// Whose: `role` or `container`.
    pub scope: &'static str,
    /// What it is measured in: tokens, calls, or billionths of the unit of the prices.
    pub used: u64,
    /// In the same measure.
    pub bound: u64,
    /// A call was refused for it.
    pub exhausted: bool,
    /// The agent is ended for it.
    pub ends: bool,
}

/// See [`Event::AgentStuck`](super::Event::AgentStuck).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct AgentStuck {
    /// Which agent.
    #[serde(flatten)]
    pub agent: AgentTag,
    /// Which rule, by its key in the configuration: `same_tool_calls` or `idle_continues`.
    pub rule: &'static str,
    /// How often it repeated.
    pub count: u32,
    /// What, in a sentence.
    pub message: String,
}

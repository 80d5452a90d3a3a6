//! `GET /usage`: what agents used of language models.

use std::sync::Arc;

use bulkhead_types::{AgentId, ModelCounts, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one agent used of language models.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentUsageView {
    /// This incarnation, or the last one.
    pub incarnation: ModelCounts,
    /// All incarnations, also of earlier runs of the host, as long as the agent has entries of its own.
    pub total: ModelCounts,
}

/// `GET /usage`. Costs are in billionths of the unit in which prices are configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageView {
    /// When this was answered.
    pub at: Timestamp,
    /// Whether the configuration has prices.
    pub priced: bool,
    /// Of all entries below.
    pub total: ModelCounts,
    /// By agent, role, endpoint and model; those of no agent first.
    pub entries: Vec<UsageEntryView>,
    /// Today, in UTC: the container, then every role.
    pub today: Vec<UsageDayView>,
    /// Every budget of a minute and a day.
    pub budgets: Vec<BudgetView>,
    /// Calls and entries that were added to those of no agent or to `other`, in this run.
    pub merged: u64,
}

/// Calls of one agent to one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageEntryView {
    /// Whose. Null: agents that have no entries of their own any more.
    pub agent_id: Option<AgentId>,
    /// Its role at the time.
    pub role: Arc<str>,
    /// `[models.NAME]`, or `own`.
    pub endpoint: Arc<str>,
    /// The model's name there; `other` past the bound of entries.
    pub model: Arc<str>,
    /// How many.
    #[serde(flatten)]
    pub counts: ModelCounts,
    /// When the last one ended.
    pub last_at: Timestamp,
}

/// What budgets of a day are measured by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageDayView {
    /// Null: the container.
    pub role: Option<Arc<str>>,
    /// Read and written.
    pub tokens: u64,
    /// What they cost.
    pub cost_nano: u64,
}

/// A budget, and how much of it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BudgetView {
    /// Null: the container's.
    pub role: Option<Arc<str>>,
    /// Its key in the configuration: `tokens_per_minute`, `tokens_per_day` or `cost_per_day`.
    pub budget: String,
    /// Tokens, or billionths of the unit of the prices.
    pub used: u64,
    /// In the same measure.
    pub bound: u64,
}

//! What follows the end of an incarnation.

use schemars::JsonSchema;
use serde::Serialize;

use super::parts::AgentTag;
use crate::restart::QuarantineReason;
use crate::{ExitReason, Timestamp};

/// See [`Event::RestartScheduled`](super::Event::RestartScheduled).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct RestartScheduled {
    /// Which agent, and the incarnation that ended.
    #[serde(flatten)]
    pub agent: AgentTag,
    /// Why that one ended.
    pub reason: ExitReason,
    /// When the next one begins.
    pub restart_at: Timestamp,
    /// How long until then.
    pub backoff_ms: u64,
    /// Ends in the window, this one included.
    pub attempts_in_window: u32,
    /// Ends in the window that are answered by a restart.
    pub max_restarts: u32,
    /// The window.
    pub window_ms: u64,
}

/// See [`Event::RestartCancelled`](super::Event::RestartCancelled).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct RestartCancelled {
    /// Which agent, and the incarnation that ended.
    #[serde(flatten)]
    pub agent: AgentTag,
    /// Who wanted it so: a start that took over, or a stop.
    pub by: String,
}

/// See [`Event::AgentQuarantined`](super::Event::AgentQuarantined).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct AgentQuarantined {
    /// Which agent, and the incarnation that ended.
    #[serde(flatten)]
    pub agent: AgentTag,
    /// Which rule.
    pub why: QuarantineReason,
    /// One sentence for a person, with the figures.
    pub message: String,
    /// Why the last incarnation ended.
    pub reason: ExitReason,
    /// Ends in the window, this one included.
    pub attempts_in_window: u32,
    /// The crash record of the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash_id: Option<String>,
    /// What a person can do about it.
    pub action: &'static str,
}

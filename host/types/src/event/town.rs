//! What goes on between the host and its town.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{AgentId, Timestamp};

/// See [`Event::TownConfigIgnored`](super::Event::TownConfigIgnored).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct TownConfigIgnored {
    /// Where it stands, for example `env_vars.a=b`.
    pub path: String,
    /// What is wrong with it. Never a value.
    pub problem: String,
}

/// See [`Event::TownCallFailed`](super::Event::TownCallFailed).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct TownCallFailed {
    /// Which call, for example `heartbeat`.
    pub call: &'static str,
    /// What kind of failure: `dns`, `connect`, `tls`, `deadline`, `status`, `half_closed`, `not_http`,
    /// `not_json`, `too_large` or `corrupt`.
    pub cause: &'static str,
    /// HTTP status of the answer, when there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How often it was tried.
    pub attempts: u32,
    /// What went wrong.
    pub message: String,
    /// Which agent the call was about, when it was about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Groups failures of one cause.
    pub fingerprint: String,
    /// How often this fingerprint was held back since its last line.
    pub repeated: u64,
}

/// See [`Event::TownUnreachable`](super::Event::TownUnreachable).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct TownUnreachable {
    /// What kind of failure: see `town.call_failed`.
    pub cause: &'static str,
    /// What went wrong.
    pub message: String,
}

/// See [`Event::TownReachable`](super::Event::TownReachable).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct TownReachable {
    /// How long it did not.
    pub down_ms: u64,
}

/// See [`Event::TownFenced`](super::Event::TownFenced).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct TownFenced {
    /// The newer run, when the town says which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newer_run_id: Option<String>,
    /// What a person can do about it.
    pub action: &'static str,
}

/// See [`Event::TownTokenRefreshed`](super::Event::TownTokenRefreshed).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct TownTokenRefreshed {
    /// `expiry` when the old one was about to end, `unauthorized` when the town refused it.
    pub why: &'static str,
    /// When the new one ends, when it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// See [`Event::RefreshTokenReceived`](super::Event::RefreshTokenReceived).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct RefreshTokenReceived {
    /// When it ends, when it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// See [`Event::TownDropped`](super::Event::TownDropped).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct TownDropped {
    /// What: `events`, `completions` or `nudges`.
    pub what: &'static str,
    /// How many since the last line.
    pub dropped: u64,
    /// All of this run.
    pub total: u64,
}

/// See [`Event::TownCallGivenUp`](super::Event::TownCallGivenUp).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct TownCallGivenUp {
    /// Which call, for example `completed`.
    pub call: &'static str,
    /// Which agent.
    pub agent_id: AgentId,
    /// How often it was made.
    pub attempts: u32,
    /// For how long.
    pub tried_ms: u64,
    /// What went wrong the last time.
    pub message: String,
}

/// See [`Event::TownCallSwitchedOff`](super::Event::TownCallSwitchedOff).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct TownCallSwitchedOff {
    /// Which call, for example `pending_nudges`.
    pub call: &'static str,
    /// HTTP status of the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// For which agent; without it: for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
}

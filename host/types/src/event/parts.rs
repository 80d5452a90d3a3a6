//! What lines are made of, where it is more than a number or a text.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use crate::names::names;
use crate::{AgentId, Cause, Confidence, Incarnation};

/// Which agent a line is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentTag {
    /// Who.
    pub agent_id: AgentId,
    /// Its role.
    pub role: Arc<str>,
    /// Which incarnation.
    pub incarnation: Incarnation,
}

/// The parts of a drain, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DrainPhase {
    /// Turns under way and mail that waits are worked off.
    Settling,
    /// Every agent was asked to end.
    Stopping,
    /// What is still there is killed.
    Killing,
}

names! {
    /// The word for it in a line.
    DrainPhase::as_str {
        Settling => "settling",
        Stopping => "stopping",
        Killing => "killing",
    }
}

/// What became of the run before, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviousSummary {
    /// Its `runId`. Absent when nothing is known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Why it ended.
    pub cause: Cause,
    /// How sure that is.
    pub confidence: Confidence,
}

/// What a part of a drain came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainPhaseReport {
    /// Which one.
    pub phase: DrainPhase,
    /// Agents that were there when it began. A start that waits for the end of the incarnation before it counts
    /// as well.
    pub agents: usize,
    /// Of them, and of those that came meanwhile, the ones that ended in it as intended.
    pub stopped: usize,
    /// The ones that ended in it otherwise.
    pub killed: usize,
    /// How long it took.
    pub duration_ms: u64,
}

/// How it went with one agent that had to be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HydrationResult {
    /// Who.
    pub agent_id: AgentId,
    /// `failed`, or `late`: still starting.
    pub result: &'static str,
    /// The kind of failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_type: Option<&'static str>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where a start spent its time, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartTimings {
    /// For an earlier incarnation of the same agent.
    pub wait_us: u64,
    /// Reading, checking and compiling the component; microseconds when it was known already.
    pub compile_us: u64,
    /// Making the store and the instance.
    pub instantiate_us: u64,
    /// The guest's `restore`.
    pub restore_us: u64,
    /// The guest's `start`.
    pub guest_start_us: u64,
}

//! How a run ends on purpose.

use schemars::JsonSchema;
use serde::Serialize;

use crate::names::names;

/// See [`Event::Draining`](super::Event::Draining).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Draining {
    /// Which one.
    pub phase: DrainPhase,
    /// Agents that are there.
    pub agents: usize,
    /// Of them, those that work or have mail.
    pub busy: usize,
    /// How long the phase may take.
    pub limit_ms: u64,
}

/// See [`Event::Drained`](super::Event::Drained).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Drained {
    /// What each phase came to, in order.
    pub phases: Vec<DrainPhaseReport>,
    /// All of them.
    pub duration_ms: u64,
}

/// See [`Event::Stopped`](super::Event::Stopped).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Stopped {
    /// Agents that ended in time.
    pub stopped: usize,
    /// Agents that had to be killed.
    pub killed: usize,
    /// The whole shutdown.
    pub duration_ms: u64,
    /// Log lines that were dropped in this run.
    pub dropped_lines: u64,
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

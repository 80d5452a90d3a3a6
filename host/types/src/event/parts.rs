//! What lines are made of, where it is more than a number or a text.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{AgentId, Incarnation};

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

/// For fields that are left out without anything to count.
pub(super) fn is_zero(count: &u64) -> bool {
    *count == 0
}

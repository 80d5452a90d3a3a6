//! What becomes of snapshots.

use schemars::JsonSchema;
use serde::Serialize;

use super::parts::AgentTag;

/// See [`Event::SnapshotNotKept`](super::Event::SnapshotNotKept).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct SnapshotNotKept {
    /// Which agent.
    #[serde(flatten)]
    pub agent: AgentTag,
    /// Why not, for programs: `too-large`, `no-room`, or what the agent calls it.
    pub code: String,
    /// Why not. The agent's own words count for its rate of log lines, and are left out above it.
    pub message: String,
    /// Its size, of one that is too large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
    /// The largest that is kept, then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<usize>,
}

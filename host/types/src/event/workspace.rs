//! What becomes of workspaces, and of the work in them.

use schemars::JsonSchema;
use serde::Serialize;

use super::parts::AgentTag;
use crate::AgentId;

/// See [`Event::WorkspaceRemoved`](super::Event::WorkspaceRemoved).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct WorkspaceRemoved {
    /// Whose.
    pub agent_id: AgentId,
    /// Why: `expired`, `pushed`, `space`, or `asked`.
    pub why: &'static str,
    /// Freed on disk.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// Why something is left on disk, for the next boot to delete.
    pub left: Option<String>,
}

/// See [`Event::WorkspacesFull`](super::Event::WorkspacesFull).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct WorkspacesFull {
    /// How much more.
    pub excess_bytes: u64,
    /// What they may take together.
    pub max_bytes: u64,
}

/// See [`Event::WorkspaceShipped`](super::Event::WorkspaceShipped).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct WorkspaceShipped {
    /// Whose.
    pub agent_id: AgentId,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes that were written.
    pub packed_bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// What is none of them, or cannot be read, and is not shipped.
    pub skipped: u64,
    /// How long that took.
    pub duration_ms: u64,
}

/// See [`Event::WorkspaceNotShipped`](super::Event::WorkspaceNotShipped).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct WorkspaceNotShipped {
    /// Whose.
    pub agent_id: AgentId,
    /// Why not, for programs.
    pub code: String,
    /// Why not.
    pub message: String,
    /// Bytes of its files, of one that is too large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How many are shipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
}

/// See [`Event::WorkspaceArrived`](super::Event::WorkspaceArrived).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct WorkspaceArrived {
    /// Whose.
    pub agent_id: AgentId,
    /// Bytes of its files.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// How long that took.
    pub duration_ms: u64,
    /// Where the workspace is now that was on this disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_as: Option<String>,
}

/// See [`Event::WorkspacePrepared`](super::Event::WorkspacePrepared).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct WorkspacePrepared {
    /// Which agent.
    #[serde(flatten)]
    pub agent: AgentTag,
    /// Of which repository, by the rig's name.
    pub rig: String,
    /// The agent's branch.
    pub branch: String,
    /// The commit that is checked out.
    pub head: String,
    /// It was there, and is as the agent left it.
    pub reused: bool,
    /// How long that took.
    pub duration_ms: u64,
}

/// See [`Event::WorkSaved`](super::Event::WorkSaved).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct WorkSaved {
    /// Which agent.
    #[serde(flatten)]
    pub agent: AgentTag,
    /// Of which repository, by the rig's name.
    pub rig: String,
    /// The agent's branch.
    pub branch: String,
    /// What the remote has there now.
    pub commit: String,
    /// How long that took.
    pub duration_ms: u64,
}

/// See [`Event::WorkNotSaved`](super::Event::WorkNotSaved).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct WorkNotSaved {
    /// Which agent.
    #[serde(flatten)]
    pub agent: AgentTag,
    /// Of which repository, by the rig's name.
    pub rig: String,
    /// The agent's branch.
    pub branch: String,
    /// Why not, for programs.
    pub code: String,
    /// Why not.
    pub message: String,
    /// How long that took.
    pub duration_ms: u64,
}

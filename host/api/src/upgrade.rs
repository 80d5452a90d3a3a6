//! Other code for the agents of a role: `POST`, `GET` and `DELETE /roles/{role}/upgrade`.

use bulkhead_types::{AgentId, Digest, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest time that `proveMs` may ask for: an hour.
pub const MAX_PROVE_MS: u64 = 3_600_000;

/// `proveMs` of a request that has none.
pub const PROVE_MS: u64 = 10_000;

/// Where an upgrade is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UpgradePhase {
    /// The code is read, checked and compiled. No agent has it.
    Loading,
    /// One agent after the other leaves for it, at the end of a message.
    Rolling,
    /// All have it, and some have not come through a turn with it.
    Proving,
    /// Those that have it go back to the code before.
    Reverting,
    /// The role has it. Terminal, like the following.
    Done,
    /// The code does not load, or an agent failed with it: all have the code before.
    Failed,
    /// Somebody took it back: all have the code before.
    Aborted,
}

impl UpgradePhase {
    /// Whether nothing follows.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Aborted)
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Rolling => "rolling",
            Self::Proving => "proving",
            Self::Reverting => "reverting",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
        }
    }
}

/// An upgrade of a role, under way or the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeView {
    /// Which role.
    pub role: String,
    /// The component whose file is replaced, as the configuration names it.
    pub component: String,
    /// Of the new code, once it is loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_sha256: Option<Digest>,
    /// Where it is.
    pub phase: UpgradePhase,
    /// Agents of the role that it is about.
    pub agents: usize,
    /// Those that run on the new code.
    pub upgraded: usize,
    /// Those of them that came through a turn with it.
    pub proven: usize,
    /// The agent that it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<AgentId>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

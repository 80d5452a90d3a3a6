//! What becomes of messages.

use schemars::JsonSchema;
use serde::Serialize;

use super::parts::AgentTag;
use crate::Sender;

/// See [`Event::AgentMessage`](super::Event::AgentMessage).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct AgentMessage {
    /// Which agent.
    #[serde(flatten)]
    pub agent: AgentTag,
    /// The message.
    pub message_id: String,
    /// Where it comes from.
    pub sender: Sender,
    /// Its size. The text is not logged.
    pub bytes: usize,
    /// Which delivery it waits for: 1, or more when the agent ended in the one before.
    pub attempt: u32,
}

/// See [`Event::MessageSetAside`](super::Event::MessageSetAside).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct MessageSetAside {
    /// Which agent.
    #[serde(flatten)]
    pub agent: AgentTag,
    /// The message.
    pub message_id: String,
    /// Where it comes from.
    pub sender: Sender,
    /// How often it was delivered.
    pub attempts: u32,
    /// The crash records of its deliveries, oldest first; the last ten. A delivery in which the host died has
    /// none.
    pub crash_ids: Vec<String>,
}

//! What goes in and out of a turn.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AgentId, Timestamp};

/// Largest message body and reply, in bytes.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Text of a message. Shared, because the mailbox, the turn and the log all look at it.
pub type Body = std::sync::Arc<str>;

/// Where a message comes from. See `variant sender` in `wit/agent.wit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Sender {
    /// The control API.
    Operator,
    /// Another agent of this container.
    Agent(AgentId),
    /// The prompt of the start request.
    Prompt,
    /// A nudge from the control plane, by nudge id.
    Nudge(String),
    /// The agent's own last turn, which ended in [`Next::Continue`].
    Continuation,
}

/// What something that was answered survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Durable {
    /// The death of the process: the database of this machine has it.
    Node,
    /// The loss of the machine: it is shipped.
    Fleet,
}

/// One entry of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Unique in the container.
    pub id: String,
    /// Where it comes from.
    pub sender: Sender,
    /// At most [`MAX_BODY_BYTES`].
    pub body: Body,
    /// Which delivery of it this is, or will be: 1 for the first.
    pub attempt: u32,
}

impl Message {
    /// A message that was never delivered.
    pub fn new(id: impl Into<String>, sender: Sender, body: impl Into<Body>) -> Self {
        Self { id: id.into(), sender, body: body.into(), attempt: 1 }
    }
}

/// What the agent wants after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Next {
    /// Wait for the next message.
    Idle,
    /// Another turn at once, for the same message.
    Continue,
    /// The work is finished.
    Done,
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The answer to the sender.
    pub reply: Option<String>,
    /// The agent said more: `reply` is the first [`MAX_BODY_BYTES`] of it.
    pub reply_cut: bool,
    /// What comes next.
    pub next: Next,
}

/// A message that is not delivered any more: its agent ended in too many of its deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageSetAside {
    /// Which.
    pub message_id: String,
    /// When it was set aside.
    pub at: Timestamp,
    /// How often it was delivered.
    pub attempts: u32,
    /// The crash records of its deliveries, oldest first; the last ten.
    pub crash_ids: Vec<String>,
}

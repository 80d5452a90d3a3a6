//! What comes back.

use bulkhead_types::TokenUsage;

use crate::{ReasoningState, ToolCall};

/// The next of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The next text. Never empty.
    Text(String),
    /// The next text of the reasoning. Never empty.
    Reasoning(String),
    /// A whole tool call.
    ToolCall(ToolCall),
    /// The last part.
    End(End),
}

impl Part {
    /// What its texts take, in bytes.
    pub fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Text(text) | Self::Reasoning(text) => text.len(),
            Self::ToolCall(call) => call.id.len() + call.name.len() + call.arguments.len(),
            // It is counted as reasoning already, where it is text.
            Self::End(_) => 0,
        };
        bytes as u64
    }
}

/// The end of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub finish: Finish,
    /// Missing if the server does not say.
    pub usage: Option<TokenUsage>,
    /// What the server wants back with the message of this answer, if anything.
    pub reasoning_state: Option<ReasoningState>,
}

/// Why a model ended its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// It came to an end.
    Stop,
    /// It wants tools called.
    ToolCalls,
    /// A limit of tokens.
    Length,
    /// A filter.
    ContentFilter,
    /// Another reason.
    Other,
}

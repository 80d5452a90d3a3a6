//! What comes back.

use bulkhead_types::TokenUsage;

use crate::ToolCall;

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

/// The end of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub finish: Finish,
    /// Missing if the server does not say.
    pub usage: Option<TokenUsage>,
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

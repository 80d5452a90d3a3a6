//! Calls of language models, as far as they cost something.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Tokens of one answer or of many, as models' servers count them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUsage {
    /// Read, with those from a server's cache.
    pub input: u64,
    /// Of these, from its cache.
    pub cached: u64,
    /// Written, with reasoning.
    pub output: u64,
    /// Of these, reasoning.
    pub reasoning: u64,
}

impl TokenUsage {
    /// Read and written.
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cached: self.cached.saturating_add(other.cached),
            output: self.output.saturating_add(other.output),
            reasoning: self.reasoning.saturating_add(other.reasoning),
        }
    }
}

/// A call of a language model that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCall {
    /// The endpoint: `[models.NAME]`, or `own`.
    pub endpoint: Arc<str>,
    /// The model's name there.
    pub model: String,
    /// `ok`, or what kind of error: `unavailable`, `rate_limited`, `rejected`, `bad_answer`, `timeout`.
    pub outcome: &'static str,
    /// Missing if it failed or the server does not say.
    pub usage: Option<TokenUsage>,
    /// How often the server was asked.
    pub tries: u32,
    /// From the request to the end of the answer.
    pub duration: Duration,
}

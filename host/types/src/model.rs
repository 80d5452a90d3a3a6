//! Calls of language models, as far as they cost something.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AgentId, Timestamp};

/// Tokens of one answer or of many, as models' servers count them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
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

    /// What came since it was `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            input: self.input.saturating_sub(before.input),
            cached: self.cached.saturating_sub(before.cached),
            output: self.output.saturating_sub(before.output),
            reasoning: self.reasoning.saturating_sub(before.reasoning),
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
    /// `ok`, `cancelled`, or what kind of error: `unavailable`, `rate_limited`, `rejected`, `bad_answer`, `timeout`.
    pub outcome: &'static str,
    /// Missing if it failed or the server does not say.
    pub usage: Option<TokenUsage>,
    /// What it counts as if `usage` is missing. Nothing, if nothing came of it.
    pub estimate: TokenUsage,
    /// How often the server was asked.
    pub tries: u32,
    /// From the request to the end of the answer.
    pub duration: Duration,
}

/// Calls of language models that are over, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelCounts {
    /// Calls with an answer and without one.
    pub calls: u64,
    /// Of these, without one.
    pub failed: u64,
    /// Of all answers whose servers counted them.
    pub tokens: TokenUsage,
    /// Billionths of the unit in which prices are configured. 0 where no price is.
    pub cost_nano: u64,
}

impl ModelCounts {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            failed: self.failed.saturating_add(other.failed),
            tokens: self.tokens.plus(other.tokens),
            cost_nano: self.cost_nano.saturating_add(other.cost_nano),
        }
    }
}

/// A cost in billionths, as a decimal number: `0.825`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost(pub u64);

/// Billionths in a unit.
const NANO: u64 = 1_000_000_000;

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / NANO, self.0 % NANO);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{rest:09}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

impl std::iter::Sum for ModelCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Self::plus)
    }
}

/// Whose calls are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UsageKey {
    /// `None`: agents that have no entry of their own any more.
    pub agent: Option<AgentId>,
    /// The agent's role at the time of the call.
    pub role: Arc<str>,
    /// As in [`ModelCall`].
    pub endpoint: Arc<str>,
    /// As in [`ModelCall`]; `other` past the bound of entries.
    pub model: Arc<str>,
}

/// All calls of one key, as they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// Whose.
    pub key: UsageKey,
    /// How many.
    pub counts: ModelCounts,
    /// When the last one ended.
    pub last_at: Timestamp,
}

/// What a day's budgets are measured by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageDay {
    /// A role. `None`: the container.
    pub role: Option<Arc<str>>,
    /// Days since the Unix epoch, in UTC.
    pub day: i64,
    /// Tokens read and written on this day.
    pub tokens: u64,
    /// What they cost, in billionths of the unit of the prices.
    pub cost_nano: u64,
}

/// What is kept of usage and how it changed. Figures are absolute: a later change of a row replaces an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageChange {
    /// Rows that are new or counted on.
    pub rows: Vec<UsageRow>,
    /// Rows that are no more, because they were added to others.
    pub gone: Vec<UsageKey>,
    /// Days that are new or counted on.
    pub days: Vec<UsageDay>,
}

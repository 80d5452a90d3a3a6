//! How much may be used, and what is said of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_types::Cost;

/// Percent of a budget at which its use is reported, once in its window.
pub(crate) const NEAR_PERCENT: u64 = 80;

/// Bounds on use. `None`: none. 0: nothing is allowed.
///
/// Of a role, those of a minute and a day hold for all its agents together; of the container, for all agents. Those of
/// a message and a turn hold for each agent alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budgets {
    /// Read and written within the last minute.
    pub tokens_per_minute: Option<u64>,
    /// Read and written on one day in UTC.
    pub tokens_per_day: Option<u64>,
    /// Read and written for one message, in all its turns.
    pub tokens_per_message: Option<u64>,
    /// Calls that one turn begins, also those that fail.
    pub calls_per_turn: Option<u64>,
    /// On one day in UTC, in billionths of the unit of the prices.
    pub cost_per_day_nano: Option<u64>,
}

/// What follows when a budget is used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnExceeded {
    /// The guest gets `budget-exceeded`, and goes on.
    #[default]
    Refuse,
    /// The same, and the agent is ended.
    End,
}

/// Which bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BudgetKind {
    /// [`Budgets::tokens_per_minute`].
    TokensPerMinute,
    /// [`Budgets::tokens_per_day`].
    TokensPerDay,
    /// [`Budgets::tokens_per_message`].
    TokensPerMessage,
    /// [`Budgets::calls_per_turn`].
    CallsPerTurn,
    /// [`Budgets::cost_per_day_nano`].
    CostPerDay,
}

impl BudgetKind {
    /// Its key in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TokensPerMinute => "tokens_per_minute",
            Self::TokensPerDay => "tokens_per_day",
            Self::TokensPerMessage => "tokens_per_message",
            Self::CallsPerTurn => "calls_per_turn",
            Self::CostPerDay => "cost_per_day",
        }
    }
}

/// Whose budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// A role's.
    Role(Arc<str>),
    /// The container's.
    Container,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(role) => write!(f, "role {role}"),
            Self::Container => f.write_str("the container"),
        }
    }
}

/// How much of a budget is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossing {
    /// Whose.
    pub scope: Scope,
    /// Which.
    pub kind: BudgetKind,
    /// Tokens, calls, or billionths of the unit of the prices.
    pub used: u64,
    /// In the same measure.
    pub bound: u64,
}

impl fmt::Display for Crossing {
    /// Such as `budget tokens_per_day of role mayor: 1200 of 1000 used`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scope, kind, used, bound } = self;
        write!(f, "budget {} of {scope}: ", kind.as_str())?;
        match kind {
            BudgetKind::CostPerDay => write!(f, "{} of {} used", Cost(*used), Cost(*bound)),
            _ => write!(f, "{used} of {bound} used"),
        }
    }
}

/// What a guest is answered that asks with a budget used up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Exhausted {
    /// Names the budget, how much of it was used, and its bound.
    pub message: String,
    /// When there is room again, as far as nothing else is used. `None`: not within this message, or never.
    pub retry: Option<Duration>,
}

/// A call that is not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For the guest.
    pub exhausted: Exhausted,
    /// The budget. Of several that are used up, the one that lasts longest.
    pub budget: Crossing,
    /// No call was refused for it before within its window.
    pub is_first: bool,
    /// The role wants the agent ended.
    pub ends: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::NANO;

    #[test]
    fn costs_are_said_in_the_unit_of_the_prices() {
        let crossing = Crossing {
            scope: Scope::Role("mayor".into()),
            kind: BudgetKind::CostPerDay,
            used: 1_250_000_000,
            bound: NANO,
        };
        let text = "budget cost_per_day of role mayor: 1.25 of 1 used";
        assert_eq!(crossing.to_string(), text);
        assert_eq!(Cost(1).to_string(), "0.000000001");
        let tokens =
            Crossing { kind: BudgetKind::TokensPerDay, scope: Scope::Container, ..crossing };
        let text = "budget tokens_per_day of the container: 1250000000 of 1000000000 used";
        assert_eq!(tokens.to_string(), text);
    }
}

//! What a role or the container used, against its budgets.

use std::time::{Duration, Instant};

use crate::book::Book;
use crate::budget::{BudgetKind, Budgets, Crossing, NEAR_PERCENT, Scope};
use crate::window::{Day, Minute, Now};

/// How much of one budget is used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    pub(super) kind: BudgetKind,
    pub(super) used: u64,
    pub(super) bound: u64,
    /// When there is room again. Of a budget that is not used up, nobody asks.
    pub(super) retry: Option<Duration>,
}

impl Used {
    pub(super) fn of(kind: BudgetKind, used: u64, bound: Option<u64>) -> Option<Self> {
        bound.map(|bound| Self { kind, used, bound, retry: None })
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.used >= self.bound
    }

    pub(super) fn is_near(&self) -> bool {
        let (used, bound) = (u128::from(self.used), u128::from(self.bound));
        self.bound > 0 && used * 100 >= bound * u128::from(NEAR_PERCENT)
    }

    pub(super) fn lasts(&self) -> Duration {
        self.retry.unwrap_or(Duration::MAX)
    }

    pub(super) fn crossing(&self, scope: Scope) -> Crossing {
        Crossing { scope, kind: self.kind, used: self.used, bound: self.bound }
    }
}

/// What a role or the container used within a minute and on a day.
#[derive(Debug, Default)]
pub(super) struct Pot {
    minute: Minute,
    pub(super) day: Day,
    of_minute: Reported,
    /// When the first of the two was reported.
    of_minute_since: Option<Instant>,
    of_day: Reported,
    of_cost: Reported,
}

/// What was reported of a budget in its window.
#[derive(Debug, Default)]
struct Reported {
    near: bool,
    refused: bool,
}

/// How long a report about a minute's budget counts.
const MINUTE: Duration = Duration::from_secs(60);

impl Pot {
    /// Begins the windows that are due.
    pub(super) fn turn(&mut self, now: Now) {
        if self.day.turn(now) {
            (self.of_day, self.of_cost) = (Reported::default(), Reported::default());
        }
        let is_over = |since: &Instant| now.at.saturating_duration_since(*since) >= MINUTE;
        if self.of_minute_since.as_ref().is_some_and(is_over) {
            (self.of_minute, self.of_minute_since) = (Reported::default(), None);
        }
    }

    pub(super) fn add(&mut self, tokens: u64, cost_nano: u64, now: Now) {
        self.turn(now);
        self.minute.add(tokens, now.at);
        self.day.add(tokens, cost_nano);
    }

    pub(super) fn used(&mut self, budgets: &Budgets, now: Now) -> [Option<Used>; 3] {
        let of_minute = budgets.tokens_per_minute.map(|bound| Used {
            kind: BudgetKind::TokensPerMinute,
            used: self.minute.used(now.at),
            bound,
            retry: self.minute.room_in(bound, now.at),
        });
        let day = self.day;
        let of_day = |kind, used, bound: Option<u64>| {
            let used = Used::of(kind, used, bound)?;
            Some(Used { retry: (used.bound > 0).then(|| day.ends_in(now)), ..used })
        };
        [
            of_minute,
            of_day(BudgetKind::TokensPerDay, day.tokens, budgets.tokens_per_day),
            of_day(BudgetKind::CostPerDay, day.cost_nano, budgets.cost_per_day_nano),
        ]
    }

    /// Budgets that are nearly used up and were not reported so in this window. They count as reported now.
    pub(super) fn near(
        &mut self,
        budgets: &Budgets,
        now: Now,
    ) -> impl Iterator<Item = Used> + use<> {
        let near = self.used(budgets, now).map(|used| {
            let used = used.filter(Used::is_near)?;
            let reported = self.reported(used.kind, now)?;
            (!std::mem::replace(&mut reported.near, true)).then_some(used)
        });
        near.into_iter().flatten()
    }

    fn reported(&mut self, kind: BudgetKind, now: Now) -> Option<&mut Reported> {
        match kind {
            BudgetKind::TokensPerMinute => {
                self.of_minute_since.get_or_insert(now.at);
                Some(&mut self.of_minute)
            }
            BudgetKind::TokensPerDay => Some(&mut self.of_day),
            BudgetKind::CostPerDay => Some(&mut self.of_cost),
            BudgetKind::TokensPerMessage | BudgetKind::CallsPerTurn => None,
        }
    }

    pub(super) fn is_first_refusal(&self, kind: BudgetKind, book: &Book) -> bool {
        !match kind {
            BudgetKind::TokensPerMinute => self.of_minute.refused,
            BudgetKind::TokensPerDay => self.of_day.refused,
            BudgetKind::CostPerDay => self.of_cost.refused,
            BudgetKind::TokensPerMessage => book.message.refused,
            BudgetKind::CallsPerTurn => book.calls_refused,
        }
    }

    pub(super) fn refuses(&mut self, kind: BudgetKind, book: &mut Book, now: Now) {
        match kind {
            BudgetKind::TokensPerMessage => book.message.refused = true,
            BudgetKind::CallsPerTurn => book.calls_refused = true,
            shared => {
                if let Some(reported) = self.reported(shared, now) {
                    reported.refused = true;
                }
            }
        }
    }
}

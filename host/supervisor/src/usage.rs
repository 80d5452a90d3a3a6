//! What agents used of language models, for those who ask.

use std::mem::take;

use bulkhead_api::{BudgetView, UsageDayView, UsageEntryView, UsageView};
use bulkhead_log::now;
use bulkhead_store::Database;
use bulkhead_types::{AgentId, UsageDay, UsageRow};
use bulkhead_usage::{Bounds, Ledger, Now, Scope};

use crate::{Earlier, Supervisor, SupervisorConfig};

/// Which entries are wanted. Both conditions together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageFilter {
    /// Of this agent.
    pub agent: Option<AgentId>,
    /// Of this role. Budgets and days are then its own and the container's.
    pub role: Option<String>,
}

impl Supervisor {
    /// `GET /usage`.
    pub fn usage(&self, filter: &UsageFilter) -> UsageView {
        let clock = clock();
        let (rows, days, budgets, merged, priced) = {
            let mut ledger = self.0.container.ledger();
            let (days, budgets) = (ledger.days(clock), ledger.budgets(clock));
            (ledger.rows(), days, budgets, ledger.merged(), ledger.is_priced())
        };
        let is_wanted = |role: &str| filter.role.as_ref().is_none_or(|wanted| wanted == role);
        let rows = rows.into_iter().filter(|row| {
            let is_agent = filter.agent.is_none() || row.key.agent == filter.agent;
            is_agent && is_wanted(&row.key.role)
        });
        let entries: Vec<_> = rows.map(entry).collect();
        let days = days.into_iter().filter(|day| day.role.as_deref().is_none_or(is_wanted));
        let budgets = budgets.into_iter().map(|budget| BudgetView {
            role: match budget.scope {
                Scope::Role(role) => Some(role),
                Scope::Container => None,
            },
            budget: budget.kind.as_str().into(),
            used: budget.used,
            bound: budget.bound,
        });
        UsageView {
            at: clock.wall,
            priced,
            total: entries.iter().map(|entry| entry.counts).sum(),
            entries,
            today: days
                .map(|UsageDay { role, tokens, cost_nano, .. }| UsageDayView {
                    role,
                    tokens,
                    cost_nano,
                })
                .collect(),
            budgets: budgets
                .filter(|budget| budget.role.as_deref().is_none_or(is_wanted))
                .collect(),
            merged,
        }
    }
}

/// The ledger of a host that goes on with what `earlier` runs used.
pub(crate) fn ledger(
    config: &SupervisorConfig,
    database: &Database,
    earlier: &mut Earlier,
) -> Ledger {
    let mut ledger = Ledger::new(config.usage.clone(), Bounds::default());
    let (rows, days) = (take(&mut earlier.usage), take(&mut earlier.usage_days));
    database.record_usage(ledger.restore(rows, days, clock()));
    ledger
}

/// Both clocks.
fn clock() -> Now {
    Now { at: std::time::Instant::now(), wall: now() }
}

fn entry(row: UsageRow) -> UsageEntryView {
    UsageEntryView {
        agent_id: row.key.agent,
        role: row.key.role,
        endpoint: row.key.endpoint,
        model: row.key.model,
        counts: row.counts,
        last_at: row.last_at,
    }
}

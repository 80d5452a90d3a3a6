//! `bulkhead usage [id]`: what agents used of language models.

use std::fmt::Write as _;

use bulkhead_api::{BudgetView, UsageEntryView, UsageView};
use bulkhead_types::{AgentId, Cost, ModelCounts, Timestamp};
use clap::Args;

use crate::args::{CODES_OF_QUESTIONS, HostArgs, OutputArgs, parse_agent};
use crate::failure::Failure;
use crate::percent::encoded;
use crate::session::{Call, Session};
use crate::table::{Cell, Column, draw};
use bulkhead_printable as text;
use bulkhead_terminal::words::{percent, short_count, short_duration};

/// Arguments of `usage`.
#[derive(Debug, Args)]
#[command(after_help = CODES_OF_QUESTIONS)]
pub struct UsageArgs {
    /// Id of an agent [default: all].
    #[arg(value_name = "AGENT", value_parser = parse_agent)]
    pub agent: Option<AgentId>,
    /// Agents of this role only.
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The host to call.
    #[command(flatten)]
    pub host: HostArgs,
}

pub(crate) async fn run(args: &UsageArgs, session: &Session) -> Result<(), Failure> {
    let mut path = "/usage".to_owned();
    let agent = args.agent.as_ref().map(AgentId::as_str);
    for (key, value) in [("agent", agent), ("role", args.role.as_deref())] {
        if let Some(value) = value {
            let mark = if path.contains('?') { '&' } else { '?' };
            let _ = write!(path, "{mark}{key}={}", encoded(value));
        }
    }
    let answer = session.call(Call::get(path, "use of language models")).await?;
    if session.json {
        return session.print_json::<UsageView>(&answer);
    }
    let usage: UsageView = session.read(&answer)?;
    let page = page(&usage, session.screen.width(), session.screen.colours);
    session.screen.print(&page)
}

fn page(usage: &UsageView, width: Option<usize>, colours: bool) -> String {
    let mut page = String::new();
    if usage.entries.is_empty() {
        page.push_str("no calls of language models\n");
    } else {
        let mut columns = vec![
            Column::giving("AGENT", 12),
            Column::giving("ROLE", 6),
            Column::giving("ENDPOINT", 8),
            Column::giving("MODEL", 8),
            Column::of_figures("CALLS"),
            Column::of_figures("FAILED"),
            Column::of_figures("INPUT"),
            Column::of_figures("CACHED"),
            Column::of_figures("OUTPUT"),
            Column::of_figures("REASONING"),
        ];
        if usage.priced {
            columns.push(Column::of_figures("COST"));
        }
        columns.push(Column::of_figures("LAST"));
        let mut rows: Vec<_> =
            usage.entries.iter().map(|entry| row(entry, usage.at, usage.priced)).collect();
        if rows.len() > 1 {
            let mut sum: Vec<_> = ["total", "", "", ""].map(Cell::new).into();
            sum.extend(figures(&usage.total, usage.priced));
            sum.push(Cell::new(""));
            rows.push(sum);
        }
        page.push_str(&draw(&columns, &rows, width, colours));
    }
    if !usage.budgets.is_empty() {
        let columns = [
            Column::giving("BUDGET", 12),
            Column::giving("OF", 6),
            Column::of_figures("USED"),
            Column::of_figures("BOUND"),
            Column::of_figures("SHARE"),
        ];
        let rows: Vec<_> = usage.budgets.iter().map(budget).collect();
        page.push('\n');
        page.push_str(&draw(&columns, &rows, width, colours));
    }
    page
}

fn row(entry: &UsageEntryView, now: Timestamp, priced: bool) -> Vec<Cell> {
    let agent = entry.agent_id.as_ref().map_or("(others)", AgentId::as_str);
    let mut row: Vec<_> = [agent, &entry.role, &entry.endpoint, &entry.model]
        .map(|cell| Cell::new(text::line(cell)))
        .into();
    row.extend(figures(&entry.counts, priced));
    row.push(Cell::new(format!("{} ago", short_duration(now.since(entry.last_at)))));
    row
}

fn figures(counts: &ModelCounts, priced: bool) -> Vec<Cell> {
    let tokens = &counts.tokens;
    let numbers =
        [counts.calls, counts.failed, tokens.input, tokens.cached, tokens.output, tokens.reasoning];
    let cost = priced.then(|| Cell::new(cost(counts.cost_nano)));
    numbers.map(|number| Cell::new(short_count(number))).into_iter().chain(cost).collect()
}

/// To four decimals, rounded up.
pub(super) fn cost(cost_nano: u64) -> String {
    const STEP: u64 = 100_000;
    Cost(cost_nano.div_ceil(STEP).saturating_mul(STEP)).to_string()
}

fn budget(budget: &BudgetView) -> Vec<Cell> {
    let BudgetView { role, budget, used, bound } = budget;
    let measure = |amount: u64| match &**budget {
        "cost_per_day" => cost(amount),
        _ => short_count(amount),
    };
    vec![
        Cell::new(text::line(budget)),
        Cell::new(text::line(role.as_deref().unwrap_or("(container)"))),
        Cell::new(measure(*used)),
        Cell::new(measure(*bound)),
        Cell::new(if *bound == 0 { "-".to_owned() } else { percent(*used, *bound) }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_budgets_are_tables() {
        let usage = r#"{"at":"2026-01-15T09:31:12.000Z","priced":true,
            "total":{"calls":33,"failed":1,"tokens":{"input":1200000,"cached":0,"output":9000,"reasoning":0},"costNano":1480000000},
            "entries":[
                {"agentId":null,"role":"other","endpoint":"other","model":"other","calls":2,"failed":0,
                 "tokens":{"input":0,"cached":0,"output":0,"reasoning":0},"costNano":0,"lastAt":"2026-01-15T09:30:12.000Z"},
                {"agentId":"polecat-1","role":"polecat","endpoint":"default","model":"large\u001b[2J","calls":31,"failed":1,
                 "tokens":{"input":1200000,"cached":0,"output":9000,"reasoning":0},"costNano":1480000001,
                 "lastAt":"2026-01-15T09:31:09.000Z"}],
            "today":[{"role":null,"tokens":1209000,"costNano":1480000000}],
            "budgets":[{"role":null,"budget":"cost_per_day","used":1480000000,"bound":2000000000},
                {"role":"polecat","budget":"tokens_per_day","used":5,"bound":0}],
            "merged":0}"#;
        let page = page(&serde_json::from_str(usage).unwrap(), None, false);
        let expected = "\
AGENT      ROLE     ENDPOINT  MODEL           CALLS  FAILED  INPUT  CACHED  OUTPUT  REASONING    COST    LAST
(others)   other    other     other               2       0      0       0       0          0       0  1m ago
polecat-1  polecat  default   large\\u{1b}[2J     31       1   1.2M       0      9k          0  1.4801  3s ago
total                                            33       1   1.2M       0      9k          0    1.48

BUDGET          OF           USED  BOUND  SHARE
cost_per_day    (container)  1.48      2   74 %
tokens_per_day  polecat         5      0      -
";
        assert_eq!(page, expected);
    }
}

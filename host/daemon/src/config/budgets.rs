//! What agents may use of language models: `[budget]`, `[roles.NAME.budget]`, prices of `[models.NAME]`, and how often
//! an agent may repeat itself.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bulkhead_llm::{Pattern, PatternError};
use bulkhead_usage::{
    Budgets, LoopRules, NANO, OnExceeded, Price, PriceList, Prices, RoleRules, Rules,
};
use toml::Spanned;

use super::file::{self, File};
use super::problem::{Problem, within};

/// How often the same tool call may come in a row: one is none too many.
const SAME_TOOL_CALLS: RangeInclusive<u32> = 2..=1_000_000;

/// How many turns may produce nothing.
const IDLE_CONTINUES: RangeInclusive<u32> = 1..=1_000_000;

/// The largest cost of a day. More does not fit into billionths in a database.
const MAX_COST: f64 = 1e9;

/// All of it.
pub(super) fn check_usage(file: &File) -> Result<Rules, Problem> {
    let mut prices = BTreeMap::new();
    for (file::ModelName(name), model) in &file.models {
        let list = check_prices(name, model)?;
        if !list.is_empty() {
            prices.insert(Arc::clone(name), list);
        }
    }
    let is_priced = !prices.is_empty();
    let mut roles = BTreeMap::new();
    for (name, role) in &file.roles {
        let budgets = budgets(&format!("roles.{name}.budget"), &role.budget, is_priced)?;
        let loops = loops(name, role)?;
        let on_exceeded = role.budget.on_exceeded.map(on_exceeded);
        roles.insert(Arc::from(name.as_str()), RoleRules { budgets, on_exceeded, loops });
    }
    Ok(Rules {
        container: budgets("budget", &file.budget, is_priced)?,
        on_exceeded: file.budget.on_exceeded.map_or_else(OnExceeded::default, on_exceeded),
        roles,
        prices,
    })
}

fn on_exceeded(given: file::OnExceeded) -> OnExceeded {
    match given {
        file::OnExceeded::Refuse => OnExceeded::Refuse,
        file::OnExceeded::End => OnExceeded::End,
    }
}

/// Those of an endpoint. Empty: a call costs nothing.
fn check_prices(name: &str, model: &file::Model) -> Result<PriceList, Problem> {
    let table = format!("models.{name}");
    let (input, cached, output) = (&model.price_input, &model.price_cached, &model.price_output);
    let of_all = [("price_input", input), ("price_cached", cached), ("price_output", output)];
    let mut list = prices(&table, of_all)?.map(PriceList::from).unwrap_or_default();
    for (pattern, given) in &model.prices {
        let table = format!("{table}.prices.{pattern:?}");
        let problem = |message: &str| Problem::at(0..0, table.clone(), message.to_owned());
        let of_some =
            [("input", &given.input), ("cached", &given.cached), ("output", &given.output)];
        let prices = prices(&table, of_some)?;
        let prices = prices.ok_or_else(|| problem("has none of input, cached and output"))?;
        match Pattern::parse(pattern) {
            Ok(Pattern::Name(name)) => list.set(&name, prices),
            Ok(Pattern::Prefix(prefix)) => list.set_prefix(&prefix, prices),
            Err(PatternError::Empty) => return Err(problem("an empty text names no model")),
            Err(error) => return Err(problem(&error.to_string())),
        }
    }
    Ok(list)
}

/// The prices of these keys of a table, of what is read, cached and written. `None`: there is none of them.
fn prices(
    table: &str,
    given: [(&str, &Option<Spanned<f64>>); 3],
) -> Result<Option<Prices>, Problem> {
    let mut found = [None; 3];
    for ((key, given), found) in given.into_iter().zip(&mut found) {
        let Some(given) = given else { continue };
        let units = *given.get_ref();
        let price = Price::per_million(units).ok_or_else(|| {
            let message = format!("{units} is no price: a number from 0 to 1000000000");
            Problem::at(given.span(), format!("{table}.{key}"), message)
        });
        *found = Some(price?);
    }
    let [input, cached, output] = found;
    if found.iter().all(Option::is_none) {
        return Ok(None);
    }
    let input = input.unwrap_or_default();
    let (cached, output) = (cached.unwrap_or(input), output.unwrap_or_default());
    Ok(Some(Prices { input, cached, output }))
}

fn budgets(table: &str, given: &file::Budget, is_priced: bool) -> Result<Budgets, Problem> {
    Ok(Budgets {
        tokens_per_minute: given.tokens_per_minute.map(|count| count.0),
        tokens_per_day: given.tokens_per_day.map(|count| count.0),
        tokens_per_message: given.tokens_per_message.map(|count| count.0),
        calls_per_turn: given.calls_per_turn.map(|count| count.0),
        cost_per_day_nano: match &given.cost_per_day {
            Some(cost) => Some(cost_per_day(table, cost, is_priced)?),
            None => None,
        },
    })
}

fn cost_per_day(table: &str, cost: &Spanned<f64>, is_priced: bool) -> Result<u64, Problem> {
    let units = *cost.get_ref();
    let problem =
        |message: String| Problem::at(cost.span(), format!("{table}.cost_per_day"), message);
    if !units.is_finite() || !(0.0..=MAX_COST).contains(&units) {
        return Err(problem(format!("{units} is no cost: a number from 0 to 1000000000")));
    }
    if units > 0.0 && !is_priced {
        let message = "never counts: no [models.NAME] has a price";
        return Err(problem(message.to_owned()));
    }
    // At most 1e18, and rounded to what was written.
    Ok((units * 1e6).round() as u64 * (NANO / 1_000_000))
}

fn loops(name: &str, role: &file::Role) -> Result<LoopRules, Problem> {
    let rule = |key: &str, given: &Option<Spanned<u32>>, bounds| match given {
        Some(given) => within(&format!("roles.{name}.{key}"), given, bounds).map(NonZeroU32::new),
        None => Ok(None),
    };
    Ok(LoopRules {
        same_tool_calls: rule("same_tool_calls", &role.same_tool_calls, SAME_TOOL_CALLS)?,
        idle_continues: rule("idle_continues", &role.idle_continues, IDLE_CONTINUES)?,
    })
}

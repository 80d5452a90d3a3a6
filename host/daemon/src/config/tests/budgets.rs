//! Prices, budgets, and how often an agent may repeat itself.

use bulkhead_usage::{OnExceeded, Price, Prices, Rules};

use super::*;

const MODEL: &str = "[models.default]\nbase_url = \"http://h/v1\"\n";

fn rules(text: &str) -> Rules {
    settings(text).unwrap().usage
}

#[test]
fn prices_are_those_of_their_keys_and_a_cached_token_costs_as_any_other() {
    let priced = rules(&format!("{MODEL}price_input = 3.0\nprice_output = 15.0"));
    let prices = priced.prices["default"].of("any").unwrap();
    assert_eq!(prices.cached, prices.input);
    assert_ne!(prices.output, prices.input);
    assert!(rules(MODEL).prices.is_empty());
}

#[test]
fn models_may_have_prices_of_their_own() {
    let text = format!(
        "{MODEL}price_input = 3.0\n[models.default.prices]\n\"gpt-5*\" = {{ input = 1.25, output = 10.0 }}\n\
         [models.default.prices.gpt-5-mini]\noutput = 2.0\n\
         [models.other]\nbase_url = \"http://o/v1\"\nprices.a.input = 1.0"
    );
    let rules = rules(&text);
    let price = |units: f64| Price::per_million(units).unwrap();
    let of = |endpoint: &str, model: &str| rules.prices[endpoint].of(model).copied();
    let expected = |input: f64, output: f64| {
        Some(Prices { input: price(input), cached: price(input), output: price(output) })
    };
    assert_eq!(of("default", "gpt-5"), expected(1.25, 10.0));
    assert_eq!(of("default", "gpt-5-mini"), expected(0.0, 2.0));
    assert_eq!(of("default", "qwen3"), expected(3.0, 0.0));
    assert_eq!((of("other", "a"), of("other", "b")), (expected(1.0, 0.0), None));
    // A price of one model is one.
    let one = format!("{MODEL}prices.a.input = 1.0\n[budget]\ncost_per_day = 1.0");
    settings(&one).unwrap();
}

#[test]
fn prices_of_a_model_that_are_none_are_refused_with_their_key_and_line() {
    for (line, key, part) in [
        ("prices.a.input = -1.0", ".prices.\"a\".input: ", "is no price"),
        ("prices.a.output = nan", ".prices.\"a\".output: ", "is no price"),
        ("prices.a = {}", ".prices.\"a\": ", "has none of input, cached and output"),
        ("prices.\"\".input = 1.0", ".prices.\"\": ", "names no model"),
        ("prices.\"a*b\".input = 1.0", ".prices.\"a*b\": ", "only be its last character"),
    ] {
        let error = settings(&format!("{MODEL}{line}")).unwrap_err();
        assert!(error.contains(&format!("line 3, models.default{key}")), "{error}");
        assert!(error.contains(part), "{error}");
    }
    let error = settings(&format!("{MODEL}prices.a.price_input = 1.0")).unwrap_err();
    assert!(error.contains("unknown field `price_input`"), "{error}");
}

#[test]
fn budgets_of_the_container_and_of_a_role_are_apart() {
    let text = format!(
        "[budget]\ncost_per_day = 1.5\non_exceeded = \"end\"\n{MODEL}price_output = 1.0\n{BASE}\
         same_tool_calls = 2\nidle_continues = 1\n[roles.echo.budget]\ncalls_per_turn = 0"
    );
    let rules = rules(&text);
    assert_eq!(rules.container.cost_per_day_nano, Some(1_500_000_000));
    assert_eq!(rules.on_exceeded, OnExceeded::End);
    let role = &rules.roles["echo"];
    assert_eq!((role.budgets.calls_per_turn, role.on_exceeded), (Some(0), None));
    let (same, idle) = (role.loops.same_tool_calls, role.loops.idle_continues);
    assert_eq!((same.map(u32::from), idle.map(u32::from)), (Some(2), Some(1)));
}

#[test]
fn a_price_that_is_none_is_refused_with_its_key_and_line() {
    for key in ["price_input", "price_cached", "price_output"] {
        for value in ["-0.1", "1000000001.0", "nan", "inf"] {
            let error = settings(&format!("{MODEL}{key} = {value}")).unwrap_err();
            assert!(error.contains(&format!("line 3, models.default.{key}: ")), "{error}");
            assert!(error.contains("is no price: a number from 0 to 1000000000"), "{error}");
        }
    }
}

#[test]
fn a_budget_that_cannot_hold_is_refused_with_its_key_and_line() {
    let priced = format!("{MODEL}price_input = 1.0\n{BASE}");
    for (line, part) in [
        ("cost_per_day = -1.0", "is no cost"),
        ("cost_per_day = 1000000001.0", "is no cost"),
        ("cost_per_day = nan", "is no cost"),
        ("tokens_per_day = -1", "at least 0"),
        ("tokens_per_minute = 1.5", "a whole number"),
        ("on_exceeded = \"stop\"", "`refuse` or `end`"),
        ("tokens_per_year = 1", "unknown field `tokens_per_year`"),
    ] {
        for table in ["budget", "roles.echo.budget"] {
            let text = format!("{priced}[{table}]\n{line}");
            let error = settings(&text).unwrap_err();
            assert!(error.contains("line 10") && error.contains(part), "{line}: {error}");
        }
    }
    // Nothing has a price, so it would never be reached.
    let error = settings(&format!("{MODEL}[budget]\ncost_per_day = 1.0")).unwrap_err();
    assert!(error.contains("line 4, budget.cost_per_day: never counts"), "{error}");
    settings(&format!("{MODEL}[budget]\ncost_per_day = 0.0")).unwrap();
}

#[test]
fn a_rule_against_loops_has_bounds() {
    for (line, part) in [
        ("same_tool_calls = 1", "1 is not between 2 and 1000000"),
        ("idle_continues = 0", "0 is not between 1 and 1000000"),
    ] {
        let error = settings(&format!("{BASE}{line}")).unwrap_err();
        let key = line.split(' ').next().unwrap();
        assert!(error.contains(&format!("roles.echo.{key}: ")) && error.contains(part), "{error}");
    }
}

//! What tokens cost. Integers throughout: sums of them do not drift.

use std::collections::BTreeMap;

use bulkhead_types::TokenUsage;

/// Costs are in billionths of the unit in which prices are configured.
pub const NANO: u64 = 1_000_000_000;

/// A price per token: millionths of the unit per million tokens, so billionths of a thousandth per token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Price(u64);

impl Price {
    /// From units per million tokens, as prices are published, to six decimals. `None`: negative, not finite, or more
    /// than a billion.
    pub fn per_million(units: f64) -> Option<Self> {
        let is_fit = units.is_finite() && (0.0..=1e9).contains(&units);
        // At most 1e15, which a float holds exactly.
        is_fit.then(|| Self((units * 1e6).round() as u64))
    }

    fn of(self, tokens: u64) -> u128 {
        u128::from(self.0) * u128::from(tokens)
    }
}

/// What tokens cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prices {
    /// Of tokens that are read.
    pub input: Price,
    /// Of tokens that are read from the server's cache.
    pub cached: Price,
    /// Of tokens that are written, with reasoning.
    pub output: Price,
}

impl Prices {
    /// What one call costs, in billionths of the unit, rounded up. A server that counts more cached tokens than it
    /// counts as read is taken at its word for the cached ones.
    pub fn cost_nano(&self, usage: &TokenUsage) -> u64 {
        let uncached = usage.input.saturating_sub(usage.cached);
        let sum = self
            .input
            .of(uncached)
            .saturating_add(self.cached.of(usage.cached))
            .saturating_add(self.output.of(usage.output));
        u64::try_from(sum.div_ceil(1000)).unwrap_or(u64::MAX)
    }
}

/// What the tokens of an endpoint's models cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriceList {
    /// Of models that have no prices of their own. `None`: they cost nothing.
    pub others: Option<Prices>,
    names: BTreeMap<String, Prices>,
    /// The longest first.
    prefixes: Vec<(String, Prices)>,
}

impl PriceList {
    /// Sets the prices of one model.
    pub fn set(&mut self, model: &str, prices: Prices) {
        self.names.insert(model.to_owned(), prices);
    }

    /// Sets the prices of all models that begin with `prefix` and have none that fit better.
    pub fn set_prefix(&mut self, prefix: &str, prices: Prices) {
        self.prefixes.push((prefix.to_owned(), prices));
        self.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    }

    /// Whether it has any.
    pub fn is_empty(&self) -> bool {
        self.others.is_none() && self.names.is_empty() && self.prefixes.is_empty()
    }

    /// Of a model: those of its name, else of the longest prefix, else of all others.
    pub fn of(&self, model: &str) -> Option<&Prices> {
        let fits = |(prefix, _): &&(String, Prices)| model.starts_with(prefix.as_str());
        let by_prefix = || self.prefixes.iter().find(fits).map(|(_, prices)| prices);
        self.names.get(model).or_else(by_prefix).or(self.others.as_ref())
    }
}

impl From<Prices> for PriceList {
    fn from(prices: Prices) -> Self {
        Self { others: Some(prices), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prices(input: f64, cached: f64, output: f64) -> Prices {
        let price = |units| Price::per_million(units).unwrap();
        Prices { input: price(input), cached: price(cached), output: price(output) }
    }

    #[test]
    fn a_million_tokens_cost_their_price() {
        let prices = prices(3.0, 0.3, 15.0);
        let usage = TokenUsage { input: 1_000_000, cached: 0, output: 1_000_000, reasoning: 7 };
        assert_eq!(prices.cost_nano(&usage), 18 * NANO);
        let cached = TokenUsage { cached: 1_000_000, ..usage };
        assert_eq!(prices.cost_nano(&cached), 15_300_000_000);
    }

    #[test]
    fn a_model_costs_what_fits_it_best() {
        let all: Vec<_> = (1..=4).map(|n| prices(f64::from(n), 0.0, 0.0)).collect();
        let mut list = PriceList::default();
        assert!(list.is_empty() && list.of("gpt-5").is_none());
        list.set_prefix("gpt-5", all[0]);
        list.set_prefix("gpt-5-mini", all[1]);
        list.set("gpt-5", all[2]);
        for (model, expected) in [
            ("gpt-5", Some(&all[2])),
            ("gpt-5-pro", Some(&all[0])),
            ("gpt-5-mini-2", Some(&all[1])),
            ("gpt-4", None),
        ] {
            assert_eq!(list.of(model), expected, "{model}");
        }
        list.others = Some(all[3]);
        assert_eq!((list.of("gpt-4"), list.of("gpt-5")), (Some(&all[3]), Some(&all[2])));
        assert!(!list.is_empty());
    }

    #[test]
    fn a_token_that_costs_less_than_a_billionth_costs_one() {
        let usage = TokenUsage { input: 1, ..TokenUsage::default() };
        assert_eq!(prices(0.000_001, 0.0, 0.0).cost_nano(&usage), 1);
        assert_eq!(prices(0.0, 0.0, 0.0).cost_nano(&usage), 0);
    }

    #[test]
    fn no_price_is_negative_or_without_end() {
        for units in [-0.1, f64::NAN, f64::INFINITY, 1e10] {
            assert_eq!(Price::per_million(units), None, "{units}");
        }
    }

    #[test]
    fn figures_that_no_server_can_mean_saturate() {
        let usage = TokenUsage { input: u64::MAX, cached: 0, output: u64::MAX, reasoning: 0 };
        assert_eq!(prices(1e9, 1e9, 1e9).cost_nano(&usage), u64::MAX);
    }
}

//! The report: a table for people, JSON for programs.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::samples::Samples;

#[derive(Serialize)]
pub struct Report {
    machine: String,
    rows: Vec<Row>,
}

#[derive(Serialize)]
pub struct Row {
    name: &'static str,
    n: usize,
    p50: String,
    p99: String,
    /// Against `GET /health` of the same run.
    ratio: Option<f64>,
    budget: String,
    met: bool,
}

impl Row {
    pub fn latency(
        name: &'static str,
        samples: &Samples,
        base: Duration,
        budget: Duration,
    ) -> Self {
        let (p50, p99) = (samples.percentile(50), samples.percentile(99));
        Self {
            name,
            n: samples.len(),
            p50: micros(p50),
            p99: micros(p99),
            ratio: Some(p50.as_secs_f64() / base.as_secs_f64()),
            budget: micros(budget),
            met: p50 <= budget,
        }
    }

    /// A cost of the machine that no design could avoid. It has no budget.
    pub fn floor(name: &'static str, samples: &Samples, base: Duration) -> Self {
        Self { budget: "-".into(), met: true, ..Self::latency(name, samples, base, base) }
    }

    /// What is judged by its worst case. With less than a hundred samples `p99` is that.
    pub fn worst(name: &'static str, samples: &Samples, budget: Duration) -> Self {
        let worst = samples.percentile(100);
        let met = worst <= budget;
        let row = Self::latency(name, samples, budget, budget);
        Self { p99: micros(worst), ratio: None, met, ..row }
    }

    /// What is judged by its 99th percentile.
    pub fn tail(name: &'static str, samples: &Samples, budget: Duration) -> Self {
        let met = samples.percentile(99) <= budget;
        Self { ratio: None, met, ..Self::latency(name, samples, budget, budget) }
    }

    /// So much a second; `budget` is the part of `base` that it must come to.
    pub fn rate(name: &'static str, n: usize, rate: f64, base: f64, budget: f64) -> Self {
        let ratio = rate / base;
        Self {
            n,
            ratio: Some(ratio),
            ..Self::one(name, format!("{rate:.0} /s"), format!("{budget:.2}"), ratio >= budget)
        }
    }

    /// Of something in this process, so `GET /health` says nothing about it.
    pub fn nanos(name: &'static str, n: usize, samples: &Samples, budget: Duration) -> Self {
        let (p50, p99) = (samples.percentile(50), samples.percentile(99));
        let nanos = |duration: Duration| format!("{} ns", duration.as_nanos());
        let (met, ratio) = (p50 <= budget, None);
        Self { name, n, p50: nanos(p50), p99: nanos(p99), ratio, budget: nanos(budget), met }
    }

    /// Against nothing but its budget: it happens without the host.
    pub fn alone(name: &'static str, samples: &Samples, budget: Duration) -> Self {
        Self { ratio: None, ..Self::latency(name, samples, budget, budget) }
    }

    /// A mean, of what only its sum is known.
    pub fn cost(name: &'static str, n: usize, each: Duration, budget: Duration) -> Self {
        Self { n, ..Self::one(name, micros(each), micros(budget), each <= budget) }
    }

    pub fn bytes(name: &'static str, bytes: u64, budget: u64) -> Self {
        let kib = |bytes: u64| format!("{:.1} KiB", bytes as f64 / 1024.0);
        Self::one(name, kib(bytes), kib(budget), bytes <= budget)
    }

    pub fn percent(name: &'static str, percent: f64, budget: f64) -> Self {
        Self::one(name, format!("{percent:.2} %"), format!("{budget:.2} %"), percent <= budget)
    }

    fn one(name: &'static str, value: String, budget: String, met: bool) -> Self {
        Self { name, n: 1, p50: value, p99: "-".into(), ratio: None, budget, met }
    }
}

impl Report {
    pub fn new(machine: String) -> Self {
        Self { machine, rows: Vec::new() }
    }

    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report is JSON")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        let head = ["what", "n", "p50", "p99", "ratio", "budget", ""];
        let [what, n, p50, p99, ratio, budget, met] = head;
        writeln!(f, "{what:<42} {n:>6} {p50:>11} {p99:>11} {ratio:>6} {budget:>11} {met}")?;
        for row in &self.rows {
            let ratio = row.ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"));
            let met = match (row.budget.as_str(), row.met) {
                ("-", _) => "",
                (_, true) => "met",
                (_, false) => "MISSED",
            };
            let Row { name, n, p50, p99, budget, .. } = row;
            writeln!(f, "{name:<42} {n:>6} {p50:>11} {p99:>11} {ratio:>6} {budget:>11} {met}")?;
        }
        Ok(())
    }
}

fn micros(duration: Duration) -> String {
    format!("{:.1} µs", duration.as_secs_f64() * 1e6)
}

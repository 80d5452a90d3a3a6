//! One line of the report.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;

use crate::samples::Samples;

/// What stands where there is nothing to say.
const NONE: &str = "-";

#[derive(Serialize)]
pub struct Row {
    /// Of the measurements; the report fills it in.
    pub part: String,
    pub name: Cow<'static, str>,
    pub n: usize,
    pub p50: String,
    pub p99: String,
    /// From the 25th to the 75th percentile.
    pub spread: String,
    /// What `ratio` compares with: a floor, a peer, `GET /health` of the same run.
    pub against: String,
    pub ratio: Option<f64>,
    pub budget: String,
    /// None where nothing is asked.
    pub met: Option<bool>,
    /// The samples in nanoseconds, for programs.
    pub nanos: Option<Nanos>,
}

/// Percentiles, in nanoseconds.
#[derive(Clone, Copy, Serialize)]
pub struct Nanos {
    pub p25: u64,
    pub p50: u64,
    pub p75: u64,
    pub p99: u64,
    pub max: u64,
}

/// What a figure is held against.
#[derive(Clone, Copy)]
pub struct Base<'a> {
    pub name: &'a str,
    pub value: Duration,
}

impl Row {
    pub fn latency(
        name: impl Into<Cow<'static, str>>,
        samples: &Samples,
        base: Duration,
        budget: Duration,
    ) -> Self {
        let p50 = samples.percentile(50);
        Self {
            ratio: Some(ratio(p50, base)),
            against: time(base),
            budget: time(budget),
            met: Some(p50 <= budget),
            ..Self::plain(name, samples)
        }
    }

    /// Samples that nothing is asked of.
    pub fn plain(name: impl Into<Cow<'static, str>>, samples: &Samples) -> Self {
        let nanos = Nanos::of(samples);
        let at = |percent| time(samples.percentile(percent));
        Self {
            n: samples.len(),
            p99: at(99),
            spread: format!("{} .. {}", at(25), at(75)),
            met: None,
            nanos: Some(nanos),
            ..Self::one(name, at(50), NONE.into(), true)
        }
    }

    /// A cost of the machine that no design could avoid. It has no budget.
    pub fn floor(name: impl Into<Cow<'static, str>>, samples: &Samples, base: Duration) -> Self {
        Self { budget: NONE.into(), met: None, ..Self::latency(name, samples, base, base) }
    }

    /// Against a named base, of which it may be so many times as much.
    pub fn times(
        name: impl Into<Cow<'static, str>>,
        samples: &Samples,
        base: Base<'_>,
        allowed: f64,
    ) -> Self {
        let ratio = ratio(samples.percentile(50), base.value);
        Self {
            against: format!("{} {}", base.name, time(base.value)),
            ratio: Some(ratio),
            budget: format!("<= {allowed} x"),
            met: Some(ratio <= allowed),
            ..Self::plain(name, samples)
        }
    }

    /// How somebody else does the same work, against ours: `wanted` times as long or longer is the goal.
    pub fn peer(
        name: impl Into<Cow<'static, str>>,
        samples: &Samples,
        ours: Duration,
        wanted: Option<f64>,
    ) -> Self {
        let ratio = ratio(samples.percentile(50), ours);
        Self {
            against: format!("ours {}", time(ours)),
            ratio: Some(ratio),
            budget: wanted.map_or(NONE.into(), |wanted| format!(">= {wanted} x")),
            met: wanted.map(|wanted| ratio >= wanted),
            ..Self::plain(name, samples)
        }
    }

    /// What is judged by its worst case. With less than a hundred samples `p99` is that.
    pub fn worst(name: impl Into<Cow<'static, str>>, samples: &Samples, budget: Duration) -> Self {
        let worst = samples.percentile(100);
        Self { p99: time(worst), met: Some(worst <= budget), ..Self::alone(name, samples, budget) }
    }

    /// What is judged by its 99th percentile.
    pub fn tail(name: impl Into<Cow<'static, str>>, samples: &Samples, budget: Duration) -> Self {
        let met = Some(samples.percentile(99) <= budget);
        Self { met, ..Self::alone(name, samples, budget) }
    }

    /// Beside an attack, against the same before it: its 99th percentile may be so many times as much.
    pub fn beside(
        name: impl Into<Cow<'static, str>>,
        quiet: &Samples,
        samples: &Samples,
        allowed: f64,
    ) -> Self {
        let ratio = ratio(samples.percentile(99), quiet.percentile(99));
        let before = |percent| time(quiet.percentile(percent));
        Self {
            against: format!("{}, {}", before(50), before(99)),
            ratio: Some(ratio),
            budget: format!("<= {allowed} x"),
            met: Some(ratio <= allowed),
            ..Self::plain(name, samples)
        }
    }

    /// So much a second; `budget` is the part of `base` that it must come to.
    pub fn rate(
        name: impl Into<Cow<'static, str>>,
        n: usize,
        rate: f64,
        base: f64,
        budget: f64,
    ) -> Self {
        let ratio = rate / base;
        Self {
            n,
            ratio: Some(ratio),
            against: format!("{base:.0} /s"),
            ..Self::one(name, format!("{rate:.0} /s"), format!("{budget:.2}"), ratio >= budget)
        }
    }

    /// Of something in this process that takes nanoseconds.
    pub fn nanos(
        name: impl Into<Cow<'static, str>>,
        n: usize,
        samples: &Samples,
        budget: Duration,
    ) -> Self {
        Self { n, ..Self::alone(name, samples, budget) }
    }

    /// Against nothing but its budget: it happens without the host.
    pub fn alone(name: impl Into<Cow<'static, str>>, samples: &Samples, budget: Duration) -> Self {
        let met = Some(samples.percentile(50) <= budget);
        Self { budget: time(budget), met, ..Self::plain(name, samples) }
    }

    /// A mean, of what only its sum is known.
    pub fn cost(
        name: impl Into<Cow<'static, str>>,
        n: usize,
        each: Duration,
        budget: Duration,
    ) -> Self {
        Self { n, ..Self::one(name, time(each), time(budget), each <= budget) }
    }

    pub fn bytes(name: impl Into<Cow<'static, str>>, bytes: u64, budget: u64) -> Self {
        Self::one(name, size(bytes), size(budget), bytes <= budget)
    }

    /// Memory of somebody else's, against ours.
    pub fn peer_bytes(
        name: impl Into<Cow<'static, str>>,
        n: usize,
        bytes: u64,
        ours: u64,
        wanted: Option<f64>,
    ) -> Self {
        let ratio = bytes as f64 / ours.max(1) as f64;
        let budget = wanted.map_or(NONE.into(), |wanted| format!(">= {wanted} x"));
        Self {
            n,
            against: format!("ours {}", size(ours)),
            ratio: Some(ratio),
            met: wanted.map(|wanted| ratio >= wanted),
            ..Self::one(name, size(bytes), budget, true)
        }
    }

    pub fn percent(name: impl Into<Cow<'static, str>>, percent: f64, budget: f64) -> Self {
        Self::one(name, format!("{percent:.2} %"), format!("{budget:.2} %"), percent <= budget)
    }

    /// A figure that nothing is asked of, in words.
    pub fn said(name: impl Into<Cow<'static, str>>, n: usize, value: String) -> Self {
        Self { n, met: None, ..Self::one(name, value, NONE.into(), true) }
    }

    fn one(name: impl Into<Cow<'static, str>>, p50: String, budget: String, met: bool) -> Self {
        let none = || NONE.to_owned();
        Self {
            part: String::new(),
            name: name.into(),
            n: 1,
            p50,
            p99: none(),
            spread: none(),
            against: none(),
            ratio: None,
            budget,
            met: Some(met),
            nanos: None,
        }
    }

    pub fn ratio_text(&self) -> String {
        self.ratio.map_or(NONE.into(), |ratio| format!("{ratio:.2}"))
    }

    pub fn verdict(&self) -> &'static str {
        match self.met {
            None => "",
            Some(true) => "met",
            Some(false) => "MISSED",
        }
    }
}

impl Nanos {
    fn of(samples: &Samples) -> Self {
        let at = |percent| samples.percentile(percent).as_nanos() as u64;
        Self { p25: at(25), p50: at(50), p75: at(75), p99: at(99), max: at(100) }
    }
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64().max(1e-9)
}

/// In the unit that reads best.
pub fn time(duration: Duration) -> String {
    match duration.as_nanos() {
        nanos @ 0..1000 => format!("{nanos} ns"),
        nanos @ 1000..10_000_000 => format!("{:.1} µs", nanos as f64 / 1e3),
        nanos @ 10_000_000..10_000_000_000 => format!("{:.1} ms", nanos as f64 / 1e6),
        nanos => format!("{:.1} s", nanos as f64 / 1e9),
    }
}

pub fn size(bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    let kib = bytes as f64 / KIB;
    if kib < 10.0 * KIB { format!("{kib:.1} KiB") } else { format!("{:.1} MiB", kib / KIB) }
}

//! Samples of one kind, all kept.

use std::time::Duration;

#[derive(Clone, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn add(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    pub fn extend(&mut self, more: &Self) {
        self.0.extend_from_slice(&more.0);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Nearest-rank percentile. Zero when there are no samples.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// The median in microseconds.
    pub fn middle_us(&self) -> f64 {
        self.percentile(50).as_secs_f64() * 1e6
    }

    /// The 99th percentile in microseconds.
    pub fn tail_us(&self) -> f64 {
        self.percentile(99).as_secs_f64() * 1e6
    }
}

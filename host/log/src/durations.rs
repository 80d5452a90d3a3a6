//! How long things took, in buckets.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Durations of one kind. They are counted and not kept.
pub struct Durations {
    buckets: [AtomicU64; DurationFigures::BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

/// The same at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DurationFigures {
    /// As many as were longer than the bound before, and at most as long as [`DurationFigures::BOUNDS_MS`] has at the
    /// same place. Behind them those that are longer than all.
    pub buckets: [u64; Self::BOUNDS_MS.len() + 1],
    /// All of them together.
    pub sum: Duration,
}

impl DurationFigures {
    /// In milliseconds. The host itself takes a few, a compilation or a model minutes.
    pub const BOUNDS_MS: [u64; 12] =
        [1, 2, 5, 10, 25, 100, 250, 1000, 2500, 10_000, 60_000, 300_000];

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl Durations {
    pub(crate) fn new() -> Self {
        let buckets = [const { AtomicU64::new(0) }; DurationFigures::BOUNDS_MS.len() + 1];
        Self { buckets, sum_us: AtomicU64::new(0) }
    }

    /// Counts one. On the way of every message: no lock, nothing allocated.
    pub fn took(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = DurationFigures::BOUNDS_MS.partition_point(|bound| bound * 1000 < us);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }

    /// What was counted.
    pub fn figures(&self) -> DurationFigures {
        let mut figures = DurationFigures::default();
        for (figure, bucket) in figures.buckets.iter_mut().zip(&self.buckets) {
            *figure = bucket.load(Relaxed);
        }
        figures.sum = Duration::from_micros(self.sum_us.load(Relaxed));
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_bucket_whose_bound_it_does_not_exceed() {
        let durations = Durations::new();
        for us in [0, 1000, 1001, 300_000_000, 300_000_001] {
            durations.took(Duration::from_micros(us));
        }
        let figures = durations.figures();
        assert_eq!(figures.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((figures.count(), figures.sum), (5, Duration::from_micros(600_002_002)));
    }
}

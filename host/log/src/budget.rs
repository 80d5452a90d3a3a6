//! How much may come how fast.

use std::time::{Duration, Instant};

/// A token bucket that counts what it holds back. It reads no clock of its own.
#[derive(Debug)]
pub struct Budget {
    burst: f64,
    per_second: f64,
    tokens: f64,
    filled_at: Instant,
    held_back: u64,
}

impl Budget {
    /// A full bucket: `burst` at once, and `per_second` after that.
    pub fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        let (burst, per_second) = (f64::from(burst), f64::from(per_second));
        Self { burst, per_second, tokens: burst, filled_at: now, held_back: 0 }
    }

    /// Lets one through and says how many were held back since the last one; or holds it back and says
    /// how long to wait.
    pub fn take(&mut self, now: Instant) -> Result<u64, Duration> {
        self.take_cost(1, now)
    }

    /// The same for one that counts as so many. One that counts for more than a burst gets through when the bucket is
    /// full, and what it is over is made up for before the next one.
    pub fn take_cost(&mut self, cost: u32, now: Instant) -> Result<u64, Duration> {
        if self.spend(cost, now) {
            return Ok(self.settle());
        }
        self.held_back += 1;
        let wait = (self.wanted(cost) - self.tokens) / self.per_second.max(f64::MIN_POSITIVE);
        Err(Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX))
    }

    /// Whether there is enough for something of that cost, which is spent then. Nothing is counted as held back.
    pub fn spend(&mut self, cost: u32, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled_at);
        self.tokens = (self.tokens + passed.as_secs_f64() * self.per_second).min(self.burst);
        self.filled_at = now;
        let is_enough = self.tokens >= self.wanted(cost);
        if is_enough {
            self.tokens -= f64::from(cost);
        }
        is_enough
    }

    fn wanted(&self, cost: u32) -> f64 {
        f64::from(cost).min(self.burst.max(1.0))
    }

    /// How many were held back and not reported yet. They count as reported now.
    pub fn settle(&mut self) -> u64 {
        std::mem::take(&mut self.held_back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_the_rest_is_counted_and_the_next_one_reports_it() {
        let start = Instant::now();
        let mut budget = Budget::new(3, 2, start);
        for _ in 0..3 {
            assert_eq!(budget.take(start), Ok(0));
        }
        for _ in 0..5 {
            assert_eq!(budget.take(start), Err(Duration::from_millis(500)));
        }
        assert_eq!(budget.take(start + Duration::from_millis(500)), Ok(5));
        assert!(budget.take(start + Duration::from_millis(500)).is_err());
        assert_eq!(budget.settle(), 1);
    }

    #[test]
    fn what_counts_for_more_than_a_burst_gets_through_and_is_made_up_for() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut budget = Budget::new(10, 1, start);
        assert_eq!(budget.take_cost(4, start), Ok(0));
        assert_eq!(budget.take_cost(25, start), Err(Duration::from_secs(4)));
        assert_eq!(budget.take_cost(25, at(4)), Ok(1));
        assert_eq!(budget.take(at(5)), Err(Duration::from_secs(15)));
        assert!(budget.take(at(19)).is_err() && budget.take(at(20)).is_ok());
        let through = (20..1020).filter(|second| budget.take_cost(25, at(*second)).is_ok()).count();
        assert!((39..=41).contains(&through), "{through} in 1000 s");
    }

    #[test]
    fn quiet_times_save_up_no_more_than_a_burst() {
        let start = Instant::now();
        let mut budget = Budget::new(3, 2, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| budget.take(later).is_ok()).count(), 3);
    }
}

//! A leaky bucket of CPU time.
//!
//! ```text
//!   CPU time of the task ─▶ │      │ ─ cap: 100 ms, what is more runs over
//!                           │      │
//!                           │~~~~~~│ ─ burst: 3 ms, above it the task is away
//!                           │      │ ─ half of it: back home
//!                           └──┬───┘
//!                              └─▶ a twentieth of the time in which the task sleeps
//! ```
//!
//! Over time a task that stays home has at most a twentieth of a core, in bursts of 3 ms, however it cuts its work
//! into pieces. A message to a small agent takes microseconds, so an agent that answers thousands a second stays home.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::nanos;

/// What a bucket holds, and how fast it drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketRules {
    /// CPU time that a task may use at once. With more it is over; it is no longer when half of this is left.
    pub burst: Duration,
    /// Of the time in which the task sleeps, the percentage that drains.
    pub drain_percent: u32,
    /// CPU time that counts at most: who computed for minutes is well again after seconds of sleep.
    pub cap: Duration,
}

impl Default for BucketRules {
    fn default() -> Self {
        Self { burst: Duration::from_millis(3), drain_percent: 5, cap: Duration::from_millis(100) }
    }
}

/// Waiting for its turn drains so much less than sleep does. It has to drain something, or a task with a little to do all
/// the time never returns from a lane that is full; with this, 200 tasks on two cores that burn all they get stay away.
const WAIT_DIVISOR: u32 = 5;

/// The CPU time that one task used lately.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    rules: BucketRules,
    level_ns: AtomicU64,
    is_over: AtomicBool,
}

impl Bucket {
    pub(crate) fn new(rules: BucketRules) -> Self {
        Self { rules, ..Self::default() }
    }

    pub(crate) fn charge(&self, used_ns: u64) {
        let cap = nanos(self.rules.cap);
        let poured = |level: u64| level.saturating_add(used_ns).min(cap);
        if poured(self.change(poured)) >= nanos(self.rules.burst) {
            self.is_over.store(true, Relaxed);
        }
    }

    /// Pours in what takes so much sleep to be home again, if there is less.
    pub(crate) fn fill_for(&self, sleep: Duration) {
        let drained = nanos(sleep) / 100 * u64::from(self.rules.drain_percent);
        let level = self.home_ns().saturating_add(drained).min(nanos(self.rules.cap));
        self.change(|before| before.max(level));
        self.is_over.store(true, Relaxed);
    }

    /// The task slept.
    pub(crate) fn drain(&self, slept: Duration) {
        self.take(nanos(slept) / 100 * u64::from(self.rules.drain_percent));
    }

    /// The task was woken and waited for its turn.
    pub(crate) fn drain_a_little(&self, waited: Duration) {
        self.drain(waited / WAIT_DIVISOR);
    }

    /// Takes so much out of it.
    pub(crate) fn take(&self, taken_ns: u64) {
        let drained = |level: u64| level.saturating_sub(taken_ns);
        if drained(self.change(drained)) <= self.home_ns() && self.is_over() {
            self.is_over.store(false, Relaxed);
        }
    }

    /// Used more than its burst, and has not slept long enough since.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.level_ns.load(Relaxed) == 0
    }

    /// CPU time until it is over, in nanoseconds.
    pub(crate) fn room_ns(&self) -> u64 {
        nanos(self.rules.burst).saturating_sub(self.level_ns.load(Relaxed))
    }

    /// How long the task has to sleep before it is over no more.
    pub(crate) fn sleep_due(&self) -> Duration {
        let excess = self.level_ns.load(Relaxed).saturating_sub(self.home_ns());
        let percent = u64::from(self.rules.drain_percent.max(1));
        Duration::from_nanos(excess.saturating_mul(100).div_ceil(percent))
    }

    fn home_ns(&self) -> u64 {
        nanos(self.rules.burst) / 2
    }

    /// Yields the level before.
    fn change(&self, change: impl Fn(u64) -> u64) -> u64 {
        let changed = |level: u64| Some(change(level));
        self.level_ns.fetch_update(Relaxed, Relaxed, changed).unwrap_or_else(|level| level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u64 = 1000;

    fn bucket() -> Bucket {
        Bucket::new(BucketRules::default())
    }

    /// Spins and naps for a second of CPU time, and says how often it was within its burst.
    fn rounds_home(spin_us: u64, nap_us: u64) -> usize {
        let bucket = bucket();
        let round = |_| {
            bucket.charge(spin_us * US);
            bucket.drain(Duration::from_micros(nap_us));
            !bucket.is_over()
        };
        (0..1_000_000 / spin_us).map(round).filter(|home| *home).count()
    }

    #[test]
    fn short_spins_with_short_naps_are_over_like_one_long_spin() {
        assert_eq!(rounds_home(2500, 1), 1);
        assert_eq!(rounds_home(900, 1), 3);
        assert!(rounds_home(100, 100) < 40);
    }

    #[test]
    fn small_work_is_never_over_however_often_it_comes() {
        assert_eq!(rounds_home(5, 145), 200_000, "6,700 messages a second");
        assert_eq!(rounds_home(50, 1000), 20_000);
    }

    #[test]
    fn what_is_over_stays_so_until_half_of_the_burst_is_left() {
        let bucket = bucket();
        bucket.charge(3000 * US);
        assert!(bucket.is_over());
        assert_eq!((bucket.room_ns(), bucket.sleep_due()), (0, Duration::from_millis(30)));
        bucket.drain(Duration::from_millis(29));
        assert!(bucket.is_over());
        bucket.drain(Duration::from_millis(1));
        assert!(!bucket.is_over());
        assert_eq!((bucket.room_ns(), bucket.sleep_due()), (1500 * US, Duration::ZERO));
    }

    #[test]
    fn who_has_a_little_to_do_all_the_time_comes_back_from_a_full_lane() {
        let bucket = bucket();
        bucket.charge(4000 * US);
        let waits = |_: &i32| {
            bucket.drain_a_little(Duration::from_millis(100));
            bucket.charge(100 * US);
            !bucket.is_over()
        };
        assert_eq!((1..1000).find(waits), Some(3));
    }

    #[test]
    fn what_is_filled_for_a_while_is_home_after_it() {
        let bucket = bucket();
        bucket.charge(1000 * US);
        bucket.fill_for(Duration::from_secs(1));
        assert_eq!((bucket.is_over(), bucket.sleep_due()), (true, Duration::from_secs(1)));
        bucket.drain(Duration::from_secs(1));
        assert!(!bucket.is_over());
        bucket.charge(90_000 * US);
        let due = bucket.sleep_due();
        bucket.fill_for(Duration::from_secs(1));
        assert_eq!(bucket.sleep_due(), due, "it takes nothing out");
    }

    #[test]
    fn minutes_of_work_are_slept_off_in_seconds() {
        let bucket = bucket();
        bucket.charge(600_000_000 * US);
        assert_eq!(bucket.sleep_due(), Duration::from_millis(1970));
        bucket.drain(Duration::from_secs(2));
        assert!(!bucket.is_over() && bucket.is_empty());
    }
}

//! A bound on the CPU time of a task over time, as `cpu.max` bounds a control group.
//!
//! ```text
//!   CPU time of the task ─▶ │      │ ─ debt: at most what drains in a minute
//!                           │~~~~~~│ ─ burst: what drains in a second. Above it the task is throttled ...
//!                           │- - - │ ─ ... until what drains in a tenth of a second is free again
//!                           └──┬───┘
//!                              └─▶ so many percent of all time
//! ```
//!
//! A task that used little for a second may compute for its burst. One that computes without end gets its percent
//! of a core, in pieces of what it gets in a tenth of a second.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::nanos;

/// The task may use at once what it gets in this time.
const BURST: Duration = Duration::from_secs(1);

/// One that was throttled goes on when it has what it gets in this time.
const PERIOD: Duration = Duration::from_millis(100);

/// Nobody is throttled for longer at a time. What cannot wait, like a start, may take more than the task has.
const DEBT: Duration = Duration::from_secs(60);

/// A task that was not throttled for so long begins a new episode.
const EPISODE: Duration = Duration::from_secs(60);

/// Percent of one core, 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuMax(u8);

impl CpuMax {
    /// `None` for the whole core, which bounds nothing: a task computes on one thread at a time.
    pub fn new(percent: u8) -> Option<Self> {
        (percent < 100).then_some(Self(percent.max(1)))
    }

    /// Percent of one core.
    pub fn percent(self) -> u8 {
        self.0
    }

    /// CPU time that it gives in so much time, in nanoseconds.
    fn of(self, time: Duration) -> u64 {
        nanos(time) / 100 * u64::from(self.0)
    }

    /// In how much time it gives so much CPU time.
    fn time_for(self, cpu_ns: u64) -> Duration {
        Duration::from_nanos(cpu_ns.saturating_mul(100).div_ceil(u64::from(self.0)))
    }
}

/// What a throttled task has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttled {
    /// Wait for so long.
    pub wait: Duration,
    /// It is the first wait of an episode.
    pub begins: bool,
}

/// The CPU time that a task used lately, against its [`CpuMax`].
#[derive(Debug)]
pub struct Throttle {
    base: Instant,
    level: Mutex<Level>,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { base: Instant::now(), level: Mutex::default() }
    }
}

impl Throttle {
    /// CPU time that the task used, in nanoseconds.
    pub fn charge(&self, max: CpuMax, used_ns: u64) {
        self.level.lock().charge(max, used_ns, self.base.elapsed());
    }

    /// CPU time that it may use before it is throttled, in nanoseconds.
    pub fn room_ns(&self, max: CpuMax) -> u64 {
        self.level.lock().room_ns(max, self.base.elapsed())
    }

    /// Whether it has to wait now.
    pub fn throttled(&self, max: CpuMax) -> Option<Throttled> {
        self.level.lock().throttled(max, self.base.elapsed())
    }
}

/// All of it, at a time that the caller says.
#[derive(Debug, Default)]
struct Level {
    used_ns: u64,
    /// As of when.
    at: Duration,
    is_throttled: bool,
    last_throttled: Option<Duration>,
}

impl Level {
    fn charge(&mut self, max: CpuMax, used_ns: u64, now: Duration) {
        self.drain(max, now);
        let most = max.of(BURST + DEBT);
        self.used_ns = self.used_ns.saturating_add(used_ns).min(most);
    }

    fn room_ns(&mut self, max: CpuMax, now: Duration) -> u64 {
        self.drain(max, now);
        max.of(BURST).saturating_sub(self.used_ns)
    }

    fn throttled(&mut self, max: CpuMax, now: Duration) -> Option<Throttled> {
        self.drain(max, now);
        let burst = max.of(BURST);
        let excess = self.used_ns.saturating_sub(burst - max.of(PERIOD));
        self.is_throttled = self.used_ns >= burst || (self.is_throttled && excess > 0);
        if !self.is_throttled {
            return None;
        }
        let is_quiet = |last: Duration| now.saturating_sub(last) >= EPISODE;
        let begins = self.last_throttled.is_none_or(is_quiet);
        self.last_throttled = Some(now);
        Some(Throttled { wait: max.time_for(excess), begins })
    }

    fn drain(&mut self, max: CpuMax, now: Duration) {
        let passed = now.saturating_sub(self.at);
        self.used_ns = self.used_ns.saturating_sub(max.of(passed));
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A task and a clock.
    struct Task {
        max: CpuMax,
        level: Level,
        now: Duration,
        used: Duration,
        waits: Vec<Throttled>,
    }

    impl Task {
        fn new(percent: u8) -> Self {
            let (level, now, used) = (Level::default(), Duration::ZERO, Duration::ZERO);
            Self { max: CpuMax::new(percent).unwrap(), level, now, used, waits: Vec::new() }
        }

        /// Computes for so long, without a look at its bound.
        fn compute(&mut self, time: Duration) {
            self.now += time;
            self.used += time;
            self.level.charge(self.max, nanos(time), self.now);
        }

        fn sleep(&mut self, time: Duration) {
            self.now += time;
        }

        /// Computes for so long, or waits for as long as it has to.
        fn step(&mut self, time: Duration) {
            match self.level.throttled(self.max, self.now) {
                Some(throttled) => {
                    self.waits.push(throttled);
                    self.sleep(throttled.wait);
                }
                None => self.compute(time),
            }
        }

        /// Computes without a pause for so long.
        fn spin(&mut self, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                self.step(MS);
            }
        }
    }

    #[test]
    fn one_that_spins_gets_its_percent_and_its_burst_once() {
        for percent in [1, 10, 50, 99] {
            let mut task = Task::new(percent);
            task.spin(Duration::from_secs(100));
            let share = Duration::from_secs(u64::from(percent)) + MS * 10 * u32::from(percent);
            let off = task.used.abs_diff(share);
            assert!(off <= PERIOD, "{percent} %: {:?} and not {share:?}", task.used);
        }
    }

    #[test]
    fn one_that_is_throttled_waits_for_a_tenth_of_a_second_and_not_at_each_tick() {
        let mut task = Task::new(10);
        task.spin(Duration::from_secs(11));
        let waits = task.waits.len();
        assert!((85..=105).contains(&waits), "{waits} waits");
        let wait = task.waits[10].wait;
        assert!((85 * MS..=115 * MS).contains(&wait), "{wait:?}");
    }

    #[test]
    fn small_work_is_never_throttled_and_a_burst_after_a_pause_is_not_either() {
        let mut task = Task::new(10);
        for _ in 0..10_000 {
            task.step(MS / 2);
            task.sleep(5 * MS);
        }
        task.sleep(BURST);
        (0..99).for_each(|_| task.step(MS));
        assert_eq!(task.waits, []);
    }

    #[test]
    fn a_tick_sees_what_is_left_before_the_wait() {
        let mut task = Task::new(20);
        assert_eq!(task.level.room_ns(task.max, task.now), nanos(200 * MS));
        task.compute(150 * MS);
        assert_eq!(task.level.room_ns(task.max, task.now), nanos(50 * MS));
        task.compute(100 * MS);
        assert_eq!(task.level.room_ns(task.max, task.now), 0);
    }

    #[test]
    fn what_could_not_wait_is_paid_afterwards_within_bounds() {
        let mut task = Task::new(10);
        task.compute(2 * BURST);
        let throttled = task.level.throttled(task.max, task.now).unwrap();
        assert_eq!(throttled.wait, 19 * BURST + PERIOD);
        task.compute(Duration::from_secs(3600));
        let throttled = task.level.throttled(task.max, task.now).unwrap();
        assert_eq!(throttled.wait, DEBT + PERIOD);
    }

    #[test]
    fn an_episode_begins_once_and_again_after_a_quiet_minute() {
        let mut task = Task::new(10);
        let begins = |task: &Task| task.waits.iter().filter(|it| it.begins).count();
        task.spin(Duration::from_secs(200));
        assert_eq!(begins(&task), 1);
        task.sleep(EPISODE / 2);
        task.spin(Duration::from_secs(2));
        assert_eq!(begins(&task), 1);
        task.sleep(EPISODE);
        task.spin(Duration::from_secs(2));
        assert_eq!(begins(&task), 2);
    }

    #[test]
    fn a_whole_core_bounds_nothing() {
        assert_eq!((CpuMax::new(100), CpuMax::new(0)), (None, CpuMax::new(1)));
    }

    #[test]
    fn all_incarnations_of_an_agent_have_one_level() {
        let (throttle, max) = (Throttle::default(), CpuMax::new(10).unwrap());
        assert_eq!(throttle.throttled(max), None);
        throttle.charge(max, nanos(10 * BURST));
        assert_eq!(throttle.room_ns(max), 0);
        let throttled = throttle.throttled(max).unwrap();
        assert!(throttled.begins && throttled.wait > DEBT / 2, "{throttled:?}");
    }
}

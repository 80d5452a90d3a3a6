//! What was used within a minute, and on a day.

use std::time::{Duration, Instant};

use bulkhead_types::Timestamp;

/// A moment, on both clocks: the one that never jumps for a minute, and the one with a calendar for a day.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Never goes back.
    pub at: Instant,
    /// The wall clock.
    pub wall: Timestamp,
}

impl Now {
    /// Days since the Unix epoch, in UTC.
    pub(crate) fn day(self) -> i64 {
        self.wall.0.div_euclid(DAY_MS)
    }

    /// Until the next day in UTC.
    pub(crate) fn until_tomorrow(self) -> Duration {
        Duration::from_millis((DAY_MS - self.wall.0.rem_euclid(DAY_MS)).unsigned_abs())
    }
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// How long a slot is.
const SLOT: Duration = Duration::from_secs(5);

/// A minute, and the slot that is under way.
const SLOTS: u64 = 13;

/// The last minute, in slots of 5 s. It slides, because a minute by the clock lets twice the budget through around its
/// turn. What was used counts for 60 to 65 s.
#[derive(Debug, Clone)]
pub(crate) struct Minute {
    origin: Option<Instant>,
    slots: [u64; SLOTS as usize],
    /// The number of the slot that is under way. Counts from `origin`.
    newest: u64,
}

impl Default for Minute {
    fn default() -> Self {
        Self { origin: None, slots: [0; SLOTS as usize], newest: 0 }
    }
}

impl Minute {
    pub fn add(&mut self, amount: u64, now: Instant) {
        self.advance(now);
        let slot = &mut self.slots[(self.newest % SLOTS) as usize];
        *slot = slot.saturating_add(amount);
    }

    pub fn used(&mut self, now: Instant) -> u64 {
        self.advance(now);
        self.slots.iter().fold(0, |sum, slot| sum.saturating_add(*slot))
    }

    /// How long until less than `bound` is used, if nothing is added. `None`: never, because `bound` is 0.
    pub fn room_in(&mut self, bound: u64, now: Instant) -> Option<Duration> {
        let mut used = self.used(now);
        if bound == 0 {
            return None;
        }
        let origin = self.origin?;
        let oldest = (self.newest + 1).saturating_sub(SLOTS);
        for slot in oldest..=self.newest {
            if used < bound {
                break;
            }
            used = used.saturating_sub(self.slots[(slot % SLOTS) as usize]);
            if used < bound {
                let leaves = SLOT * u32::try_from(slot + SLOTS).unwrap_or(u32::MAX);
                return Some((origin + leaves).saturating_duration_since(now));
            }
        }
        Some(Duration::ZERO)
    }

    fn advance(&mut self, now: Instant) {
        let origin = *self.origin.get_or_insert(now);
        let passed = now.saturating_duration_since(origin).as_secs() / SLOT.as_secs();
        for slot in self.newest + 1..=passed.min(self.newest + SLOTS) {
            self.slots[(slot % SLOTS) as usize] = 0;
        }
        self.newest = self.newest.max(passed);
    }
}

/// One day in UTC: servers of models are billed so, and a restart of the host finds the same one. A clock that is
/// set back over midnight begins no new day; one that was set back by more is believed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Day {
    pub day: i64,
    pub tokens: u64,
    pub cost_nano: u64,
}

impl Day {
    /// Begins a new one when it is time. Says whether it did.
    pub fn turn(&mut self, now: Now) -> bool {
        let today = now.day();
        let begins = today > self.day || today < self.day.saturating_sub(1);
        if begins {
            *self = Self { day: today, ..Self::default() };
        }
        begins
    }

    pub fn add(&mut self, tokens: u64, cost_nano: u64) {
        self.tokens = self.tokens.saturating_add(tokens);
        self.cost_nano = self.cost_nano.saturating_add(cost_nano);
    }

    /// Until the next one.
    pub fn ends_in(&self, now: Now) -> Duration {
        let ahead = u64::try_from(self.day.saturating_sub(now.day())).unwrap_or(0);
        now.until_tomorrow() + Duration::from_secs(24 * 60 * 60) * u32::try_from(ahead).unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn on(day: i64, ms: i64) -> Now {
        Now { at: Instant::now(), wall: Timestamp(day * DAY_MS + ms) }
    }

    #[test]
    fn what_was_used_leaves_the_minute_after_it() {
        let (begin, mut minute) = (Instant::now(), Minute::default());
        minute.add(10, begin);
        minute.add(5, begin + seconds(30));
        assert_eq!(minute.used(begin + seconds(60)), 15);
        assert_eq!(minute.used(begin + seconds(65)), 5);
        assert_eq!(minute.used(begin + seconds(95)), 0);
        minute.add(1, begin + seconds(100_000));
        assert_eq!(minute.used(begin + seconds(100_000)), 1);
    }

    #[test]
    fn it_says_when_there_is_room_again() {
        let (begin, mut minute) = (Instant::now(), Minute::default());
        minute.add(10, begin);
        minute.add(5, begin + seconds(30));
        let now = begin + seconds(32);
        assert_eq!(minute.room_in(16, now), Some(seconds(0)));
        assert_eq!(minute.room_in(15, now), Some(seconds(65 - 32)));
        assert_eq!(minute.room_in(5, now), Some(seconds(95 - 32)));
        assert_eq!(minute.room_in(0, now), None);
    }

    #[test]
    fn a_day_begins_at_midnight_in_utc_and_not_when_the_clock_is_corrected() {
        let mut day = Day::default();
        assert!(day.turn(on(20_000, 0)));
        day.add(7, 3);
        assert!(!day.turn(on(20_000, DAY_MS - 1)));
        assert!(!day.turn(on(19_999, DAY_MS - 1)), "set back over midnight");
        assert_eq!((day.tokens, day.cost_nano), (7, 3));
        assert_eq!(day.ends_in(on(19_999, DAY_MS - 1000)), seconds(1 + 24 * 60 * 60));
        assert_eq!(day.ends_in(on(20_000, DAY_MS - 1000)), seconds(1));
        assert!(day.turn(on(20_001, 0)));
        assert_eq!((day.tokens, day.cost_nano), (0, 0));
        assert!(day.turn(on(10, 0)), "it had been years ahead");
    }

    proptest! {
        /// Against a plain list: never less than the last 60 s, never more than the last 65 s, and where it says
        /// that there is room, there is.
        #[test]
        fn a_minute_is_between_60_and_65_seconds(
            steps in prop::collection::vec((0u64..20_000, 0u64..100), 1..60),
            bound in 1u64..500,
        ) {
            let (mut now, mut minute, mut list) = (Instant::now(), Minute::default(), Vec::new());
            for (pause_ms, amount) in steps {
                now += Duration::from_millis(pause_ms);
                minute.add(amount, now);
                list.push((now, amount));
                let within = |span: u64| -> u64 {
                    let is_in = |at: &Instant| now.duration_since(*at) < seconds(span);
                    list.iter().filter(|(at, _)| is_in(at)).map(|(_, amount)| amount).sum()
                };
                let used = minute.used(now);
                prop_assert!(within(60) <= used && used <= within(65), "{used}");
                let wait = minute.room_in(bound, now).unwrap();
                prop_assert_eq!(wait.is_zero(), used < bound);
                prop_assert!(minute.clone().used(now + wait) < bound);
                if let Some(before) = wait.checked_sub(Duration::from_millis(1)) {
                    prop_assert!(minute.clone().used(now + before) >= bound);
                }
            }
        }
    }
}

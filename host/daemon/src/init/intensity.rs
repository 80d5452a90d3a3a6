//! How often a supervisor that dies is started again. Pure: the clock is the caller's.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bulkhead_types::Backoff;

/// Wait before the second restart in a window; the first one comes at once.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// When it is too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Deaths in the window that are answered by a restart.
    pub max_restarts: u32,
    /// The time in which they are counted.
    pub window: Duration,
}

/// The deaths that count.
pub struct Intensity {
    rules: Rules,
    /// Oldest first; never more than the rules allow.
    deaths: VecDeque<Instant>,
}

/// What follows from a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Once more.
    Restart {
        /// How many deaths there were in the window, this one included.
        number: u32,
        /// To wait before.
        backoff: Duration,
    },
    /// It dies again and again.
    GiveUp,
}

impl Intensity {
    /// No death so far.
    pub fn new(rules: Rules) -> Self {
        Self { rules, deaths: VecDeque::new() }
    }

    /// What it goes by.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Counts a death.
    pub fn died(&mut self, now: Instant) -> Verdict {
        let window = self.rules.window;
        self.deaths.retain(|death| now.saturating_duration_since(*death) < window);
        let before = u32::try_from(self.deaths.len()).unwrap_or(u32::MAX);
        if before >= self.rules.max_restarts {
            return Verdict::GiveUp;
        }
        self.deaths.push_back(now);
        let backoff = match before.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => BACKOFF.bound(doublings),
        };
        Verdict::Restart { number: before + 1, backoff }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { max_restarts: 3, window: Duration::from_secs(60) };

    fn after(seconds: u64, intensity: &mut Intensity, start: Instant) -> Option<u64> {
        match intensity.died(start + Duration::from_secs(seconds)) {
            Verdict::Restart { backoff, .. } => Some(backoff.as_millis() as u64),
            Verdict::GiveUp => None,
        }
    }

    #[test]
    fn one_death_more_than_the_window_allows_is_too_often() {
        let (mut intensity, start) = (Intensity::new(RULES), Instant::now());
        assert_eq!(after(0, &mut intensity, start), Some(0));
        assert_eq!(after(1, &mut intensity, start), Some(100));
        assert_eq!(after(2, &mut intensity, start), Some(200));
        assert_eq!(after(3, &mut intensity, start), None);
    }

    #[test]
    fn deaths_that_are_long_over_do_not_count() {
        let (mut intensity, start) = (Intensity::new(RULES), Instant::now());
        for hour in 0..100 {
            assert_eq!(after(hour * 3600, &mut intensity, start), Some(0));
        }
    }

    #[test]
    fn the_wait_has_a_bound_and_the_memory_too() {
        let rules = Rules { max_restarts: u32::MAX, window: Duration::from_secs(60) };
        let (mut intensity, start) = (Intensity::new(rules), Instant::now());
        let longest = (0..50).filter_map(|_| after(0, &mut intensity, start)).max();
        assert_eq!(longest, Some(5000));
    }

    #[test]
    fn no_restart_at_all_can_be_asked_for() {
        let mut intensity = Intensity::new(Rules { max_restarts: 0, ..RULES });
        assert_eq!(intensity.died(Instant::now()), Verdict::GiveUp);
    }
}

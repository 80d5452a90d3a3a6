//! What came of asking for a snapshot, and when it is tried again. Pure: the clock and the dice are the caller's.

use std::time::Duration;

use bulkhead_types::Backoff;
use tokio::time::Instant;

/// Between a snapshot that was refused and the next try: agents that a full disk refused together do not come back
/// together.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// What came of one attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::actor) enum Attempt {
    /// The database has it, or had it before; or there was nothing to keep.
    #[default]
    Kept,
    /// It is larger than allowed. It would be the next time as well.
    TooLarge,
    /// Too much waits for the disk.
    NoRoom,
    /// The guest returned an error that is not fatal.
    NotGiven,
}

impl Attempt {
    /// Why the state is not kept, if it is not.
    pub(in crate::actor) fn why_not(self) -> Option<&'static str> {
        match self {
            Self::Kept => None,
            Self::TooLarge => Some("its snapshot is too large"),
            Self::NoRoom => Some("too much waits for the disk"),
            Self::NotGiven => Some("it gave no snapshot"),
        }
    }
}

/// Why the state of an agent is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::actor) struct NotKept {
    /// For programs.
    pub code: String,
    /// For a person.
    pub message: String,
    /// Of one that is too large: its bytes, and the limit.
    pub size: Option<(usize, usize)>,
}

impl NotKept {
    /// Whether it says nothing after this one. Another size is nothing new.
    pub(super) fn is_like(&self, before: &Self) -> bool {
        let are_sizes = self.size.is_some() && before.size.is_some();
        self.code == before.code && (are_sizes || self.message == before.message)
    }
}

/// The attempts since the last one that led to something.
#[derive(Default)]
pub(in crate::actor) struct Attempts {
    /// When the next one is due, and how many failed in a row.
    again: Option<(Instant, u32)>,
}

impl Attempts {
    /// Takes note of what came of an attempt at `now`. Says whether there is nothing more to try. `dice` is between 0
    /// and 1.
    pub(super) fn is_settled_by(&mut self, attempt: Attempt, now: Instant, dice: f64) -> bool {
        match attempt {
            Attempt::Kept | Attempt::TooLarge => {
                self.again = None;
                true
            }
            Attempt::NoRoom | Attempt::NotGiven => {
                let failures = self.again.map_or(0, |(_, failures)| failures);
                // Not at once, whatever the dice say.
                let pause = BACKOFF.pause(failures, dice).max(BACKOFF.first / 2);
                self.again = Some((now + pause, failures.saturating_add(1)));
                false
            }
        }
    }

    /// When the next attempt is due that would be due at `due` if none had failed.
    pub(super) fn due(&self, due: Instant) -> Instant {
        self.again.map_or(due, |(at, _)| at.max(due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_news_when_it_is_another_one() {
        let of = |code: &str, message: &str, size| NotKept {
            code: code.into(),
            message: message.into(),
            size,
        };
        let large = of("too-large", "11 bytes", Some((11, 10)));
        assert!(of("too-large", "12 bytes", Some((12, 10))).is_like(&large));
        let set = of("snapshot-failed", "a set", None);
        assert!(set.is_like(&set) && !set.is_like(&large) && !large.is_like(&set));
        assert!(!of("snapshot-failed", "a class", None).is_like(&set));
    }

    #[test]
    fn a_snapshot_that_was_refused_is_due_again_and_one_that_is_kept_or_too_large_is_not() {
        let (now, first, most) = (Instant::now(), BACKOFF.first, BACKOFF.most);
        for refused in [Attempt::NoRoom, Attempt::NotGiven] {
            let mut attempts = Attempts::default();
            assert!(!attempts.is_settled_by(refused, now, 1.0));
            assert_eq!(attempts.due(now), now + first);
            assert!(!attempts.is_settled_by(refused, now, 1.0));
            assert_eq!(attempts.due(now), now + first * 2);
            (0..20).for_each(|_| assert!(!attempts.is_settled_by(refused, now, 1.0)));
            assert_eq!(attempts.due(now), now + most);
            assert_eq!(attempts.due(now + most * 2), now + most * 2, "its own time counts as well");
            assert!(!attempts.is_settled_by(refused, now, 0.5));
            assert_eq!(attempts.due(now), now + most / 2, "others are due at another time");
            assert!(!attempts.is_settled_by(refused, now, 0.0));
            assert_eq!(attempts.due(now), now + first / 2, "never at once");
            for settled in [Attempt::Kept, Attempt::TooLarge] {
                assert!(attempts.is_settled_by(settled, now, 1.0));
                assert_eq!(attempts.due(now), now);
            }
        }
    }
}

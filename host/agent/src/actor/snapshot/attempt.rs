//! What came of asking for a snapshot, and when it is tried again. Pure: the clock is the caller's.

use std::time::Duration;

use tokio::time::Instant;

/// Between a snapshot that was refused and the next try. Doubles up to [`LAST`].
const FIRST: Duration = Duration::from_secs(1);

/// The longest time between two tries.
const LAST: Duration = Duration::from_secs(60);

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

/// The attempts since the last one that led to something.
#[derive(Default)]
pub(in crate::actor) struct Attempts {
    again: Option<(Instant, Duration)>,
}

impl Attempts {
    /// Takes note of what came of an attempt at `now`. Says whether there is nothing more to try.
    pub(super) fn is_settled_by(&mut self, attempt: Attempt, now: Instant) -> bool {
        match attempt {
            Attempt::Kept | Attempt::TooLarge => {
                self.again = None;
                true
            }
            Attempt::NoRoom | Attempt::NotGiven => {
                let wait = self.again.map_or(FIRST, |(_, before)| (before * 2).min(LAST));
                self.again = Some((now + wait, wait));
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
    fn a_snapshot_that_was_refused_is_due_again_and_one_that_is_kept_or_too_large_is_not() {
        let now = Instant::now();
        for refused in [Attempt::NoRoom, Attempt::NotGiven] {
            let mut attempts = Attempts::default();
            assert!(!attempts.is_settled_by(refused, now));
            assert_eq!(attempts.due(now), now + FIRST);
            assert!(!attempts.is_settled_by(refused, now));
            assert_eq!(attempts.due(now), now + FIRST * 2);
            (0..20).for_each(|_| assert!(!attempts.is_settled_by(refused, now)));
            assert_eq!(attempts.due(now), now + LAST);
            assert_eq!(attempts.due(now + LAST * 2), now + LAST * 2, "its own time counts as well");
            for settled in [Attempt::Kept, Attempt::TooLarge] {
                assert!(attempts.is_settled_by(settled, now));
                assert_eq!(attempts.due(now), now);
            }
        }
    }
}

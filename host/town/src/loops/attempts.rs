//! What is tried for each agent, when again, and when no more.
//!
//! ```text
//!   nothing ─▶ failed ─▶ due after a backoff that doubles ─▶ succeeded ─▶ nothing
//!                 ▲            │
//!                 └── failed ──┴─▶ given up, when it has failed for long enough
//! ```
//!
//! What an agent's calls meet is no other agent's business: each has its own backoff. While the town is silent nothing
//! is given up, because that says nothing of the agent.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bulkhead_types::AgentId;

/// Longest backoff.
const MOST: Duration = Duration::from_secs(20);

/// The same while the town is silent, or has not taken the token: that ends for all at once.
const MOST_FOR_ALL: Duration = Duration::from_secs(10);

/// Shortest.
const LEAST: Duration = Duration::from_millis(125);

/// Fewest failures after which something is given up, however long they took.
const MIN_FAILURES: u32 = 3;

/// The agents that something failed for. It is pure: its caller passes the time.
pub(super) struct Attempts {
    give_up: Duration,
    of: HashMap<AgentId, Attempt>,
}

struct Attempt {
    /// In a row.
    failures: u32,
    /// When the first of them was that counts.
    since: Option<Instant>,
    due: Instant,
}

/// What a failure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody in particular: the town is silent.
    Silence,
    /// The token, as likely as the agent.
    Unauthorized,
    /// The agent.
    Refused,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It is due again later.
    Later,
    /// It is given up, after so many failures and this time.
    GiveUp(u32, Duration),
}

impl Attempts {
    /// Something is given up when it has failed for this long.
    pub(super) fn new(give_up: Duration) -> Self {
        Self { give_up, of: HashMap::new() }
    }

    /// Whether it is due now.
    pub(super) fn is_due(&self, id: &AgentId, now: Instant) -> bool {
        self.of.get(id).is_none_or(|attempt| attempt.due <= now)
    }

    /// Whether its last try failed.
    pub(super) fn has_failed(&self, id: &AgentId) -> bool {
        self.of.contains_key(id)
    }

    /// Nothing failed for it, or does any more.
    pub(super) fn forget(&mut self, id: &AgentId) {
        self.of.remove(id);
    }

    /// It failed.
    pub(super) fn failed(&mut self, id: &AgentId, failure: Failure, now: Instant) -> Next {
        let attempt =
            self.of.entry(id.clone()).or_insert(Attempt { failures: 0, since: None, due: now });
        attempt.failures = attempt.failures.saturating_add(1);
        attempt.since =
            if failure == Failure::Silence { None } else { attempt.since.or(Some(now)) };
        let failing =
            attempt.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if attempt.failures >= MIN_FAILURES && failing >= self.give_up {
            let failures = attempt.failures;
            self.of.remove(id);
            return Next::GiveUp(failures, failing);
        }
        let most = if failure == Failure::Refused { MOST } else { MOST_FOR_ALL };
        // The last try is due when the time is up.
        let until_end = attempt.since.map(|_| self.give_up.saturating_sub(failing));
        let pause = super::backoff_up_to(attempt.failures, most).min(until_end.unwrap_or(MOST));
        attempt.due = now + pause.max(LEAST);
        Next::Later
    }

    /// How long until the first of them is due; none when there is none. Those that are tried now do not count.
    pub(super) fn pause(
        &self,
        now: Instant,
        is_tried_now: impl Fn(&AgentId) -> bool,
    ) -> Option<Duration> {
        let of = self.of.iter().filter(|(id, _)| !is_tried_now(id));
        let due = of.map(|(_, attempt)| attempt.due).min()?;
        Some(due.saturating_duration_since(now))
    }

    /// Keeps those that `wanted` says yes to.
    pub(super) fn retain(&mut self, wanted: impl Fn(&AgentId) -> bool) {
        self.of.retain(|id, _| wanted(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVE_UP: Duration = Duration::from_secs(600);

    fn id(text: &str) -> AgentId {
        AgentId::parse(text).unwrap()
    }

    fn nobody(_: &AgentId) -> bool {
        false
    }

    #[test]
    fn one_that_fails_waits_and_no_other_does() {
        let (mut attempts, now) = (Attempts::new(GIVE_UP), Instant::now());
        assert_eq!(attempts.failed(&id("a"), Failure::Refused, now), Next::Later);
        assert!(!attempts.is_due(&id("a"), now) && attempts.is_due(&id("b"), now));
        assert!(attempts.has_failed(&id("a")) && !attempts.has_failed(&id("b")));
        assert_eq!(attempts.pause(now, |tried| *tried == id("a")), None, "it is tried now");
        let pause = attempts.pause(now, nobody).unwrap();
        assert!(pause >= LEAST && attempts.is_due(&id("a"), now + pause));
        attempts.forget(&id("a"));
        assert!(attempts.is_due(&id("a"), now) && attempts.pause(now, nobody).is_none());
    }

    #[test]
    fn what_fails_for_long_enough_is_given_up_and_begins_again_from_nothing() {
        let (mut attempts, began) = (Attempts::new(GIVE_UP), Instant::now());
        let (mut now, mut failures) = (began, 0);
        let given_up = loop {
            failures += 1;
            match attempts.failed(&id("a"), Failure::Refused, now) {
                Next::Later => now += attempts.pause(now, nobody).unwrap(),
                given_up => break given_up,
            }
        };
        let took = now - began;
        assert_eq!(given_up, Next::GiveUp(failures, took));
        assert!(took >= GIVE_UP && took < GIVE_UP + MOST && failures > 8, "{failures} in {took:?}");
        assert!(attempts.is_due(&id("a"), now) && attempts.pause(now, nobody).is_none());
    }

    #[test]
    fn the_last_try_is_due_when_the_time_is_up() {
        let (mut attempts, began) = (Attempts::new(GIVE_UP), Instant::now());
        let left = Duration::from_secs(1);
        let near_the_end = began + GIVE_UP - left;
        // The backoff is a matter of luck.
        for number in 0..16 {
            let id = id(&format!("a{number}"));
            for _ in 0..20 {
                attempts.failed(&id, Failure::Refused, began);
            }
            assert_eq!(attempts.failed(&id, Failure::Refused, near_the_end), Next::Later);
            assert!(attempts.is_due(&id, near_the_end + left));
        }
    }

    #[test]
    fn two_failures_give_nothing_up_however_far_apart_they_are() {
        let (mut attempts, now) = (Attempts::new(GIVE_UP), Instant::now());
        assert_eq!(attempts.failed(&id("a"), Failure::Refused, now), Next::Later);
        let later = now + GIVE_UP * 2;
        assert_eq!(attempts.failed(&id("a"), Failure::Refused, later), Next::Later);
        let third = attempts.failed(&id("a"), Failure::Refused, later);
        assert_eq!(third, Next::GiveUp(MIN_FAILURES, GIVE_UP * 2));
    }

    #[test]
    fn while_the_town_is_silent_nothing_is_given_up() {
        let (mut attempts, mut now) = (Attempts::new(GIVE_UP), Instant::now());
        for _ in 0..100 {
            assert_eq!(attempts.failed(&id("a"), Failure::Silence, now), Next::Later);
            now += MOST;
        }
        // The time begins with the first failure that is about it.
        assert_eq!(attempts.failed(&id("a"), Failure::Refused, now), Next::Later);
        assert_eq!(attempts.failed(&id("a"), Failure::Refused, now + GIVE_UP / 2), Next::Later);
        assert!(matches!(
            attempts.failed(&id("a"), Failure::Refused, now + GIVE_UP),
            Next::GiveUp(..)
        ));
    }
}

//! Time that passes for a process that runs: a stop (SIGSTOP, a paused container) and a machine that stands still do
//! not count.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Steps of a wait. Nobody can look while everything stands still, so of that at most one step counts.
const STEPS: u32 = 16;

/// How long it has run since it was made.
#[derive(Debug, Default)]
pub(super) struct Awake {
    passed: Duration,
    /// The step under way: since when, and how long it takes.
    step: Option<(Instant, Duration)>,
}

impl Awake {
    /// Resolves when it has run for so long.
    pub(super) async fn until(&mut self, limit: Duration) {
        self.end_step();
        while self.passed < limit {
            // Timers are as coarse as a millisecond.
            let step = (limit / STEPS).max(Duration::from_millis(1)).min(limit - self.passed);
            self.step = Some((Instant::now(), step));
            sleep(step).await;
            self.end_step();
        }
    }

    /// Counts what has passed of the step under way, which may have been given up.
    fn end_step(&mut self) {
        if let Some((began, step)) = self.step.take() {
            self.passed += began.elapsed().min(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_wait_is_as_long_as_it_says_and_goes_on_after_it_was_given_up() {
        let (began, mut awake) = (Instant::now(), Awake::default());
        let given_up = timeout(Duration::from_millis(30), awake.until(Duration::from_secs(60)));
        assert!(given_up.await.is_err());
        awake.until(Duration::from_millis(100)).await;
        assert!(began.elapsed() >= Duration::from_millis(99));
        assert!(awake.passed >= Duration::from_millis(100));
        // There is nothing left to wait for.
        let at_once = timeout(Duration::ZERO, awake.until(Duration::from_millis(50)));
        assert!(at_once.await.is_ok());
    }

    #[tokio::test]
    async fn what_is_beyond_a_step_does_not_count() {
        let mut awake = Awake::default();
        let long_ago = Instant::now().checked_sub(Duration::from_secs(3600));
        awake.step = long_ago.map(|began| (began, Duration::from_millis(5)));
        awake.end_step();
        assert_eq!(awake.passed, Duration::from_millis(5));
    }
}

//! When something is tried again.

use std::time::Duration;

use bulkhead_types::backoff::Backoff;
use tokio::time::{Instant, sleep};

use crate::failure::Cause;

/// Bounds of the pauses.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(16));

/// Tries of one fetch, until its deadline.
pub(crate) struct Tries {
    until: Instant,
    failed: u32,
}

impl Tries {
    pub(crate) fn until(until: Instant) -> Self {
        Self { until, failed: 0 }
    }

    /// Returns when it is time for another try; or the cause, if that would not help or come too late.
    pub(crate) async fn again_after(&mut self, cause: Cause) -> Result<(), Cause> {
        let asked = match &cause {
            Cause::Busy { wait, .. } => *wait,
            cause if cause.is_transient() => None,
            _ => return Err(cause),
        };
        let pause = BACKOFF.pause_when_asked(self.failed, fastrand::f64(), asked);
        if Instant::now() + pause >= self.until {
            return Err(cause);
        }
        self.failed += 1;
        tracing::debug!(%cause, ?pause, "a registry is asked again");
        sleep(pause).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(wait: Option<Duration>) -> Cause {
        Cause::Busy { at: "h:1".into(), status: 429, wait }
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_comes_no_sooner_than_it_was_asked_for() {
        let began = Instant::now();
        let mut tries = Tries::until(began + Duration::from_secs(60));
        tries.again_after(busy(Some(Duration::from_secs(7)))).await.unwrap();
        assert!(began.elapsed() >= Duration::from_secs(7), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_would_come_after_the_deadline_fails_at_once() {
        let began = Instant::now();
        let mut tries = Tries::until(began + Duration::from_secs(5));
        let cause = busy(Some(Duration::from_secs(7)));
        assert_eq!(tries.again_after(cause.clone()).await, Err(cause));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_as_it_is_is_not_tried_again() {
        let began = Instant::now();
        let mut tries = Tries::until(began + Duration::from_secs(60));
        let cause = Cause::TooLarge { what: "x".into(), bytes: 2, max_bytes: 1 };
        assert_eq!(tries.again_after(cause.clone()).await, Err(cause));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}

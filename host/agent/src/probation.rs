//! Where the tasks of an agent run that dies again and again.
//!
//! A restart costs the host more than most turns: a record, a store, an instance. An agent that dies
//! twice without a turn that it survives does all of it on the slow lane from then on, so that a storm of
//! crashes holds up nobody who is well. The first turn that it survives takes it back, unless it burned so much CPU time
//! that it has to be there anyway.
//!
//! It belongs to the agent and not to one start, so a caller that starts it again after each death changes nothing. Of
//! two tasks of one agent one waits until the other is gone, so the sleep of one takes little out of the bucket of the
//! other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use bulkhead_tasks::{BucketRules, Switch, Throttle};

/// Deaths in a row after which an agent has to prove itself.
const DEATHS: u32 = 2;

/// What the incarnations of one agent came to lately.
#[derive(Default)]
pub(crate) struct Probation {
    deaths: AtomicU32,
    switch: Arc<Switch>,
    throttle: Arc<Throttle>,
}

impl Probation {
    pub(crate) fn new(bucket: BucketRules) -> Self {
        Self { switch: Arc::new(Switch::new(bucket)), ..Self::default() }
    }

    /// Steers the task.
    pub(crate) fn switch(&self) -> Arc<Switch> {
        Arc::clone(&self.switch)
    }

    /// Knows what the agent used of its CPU time over time.
    pub(crate) fn throttle(&self) -> Arc<Throttle> {
        Arc::clone(&self.throttle)
    }

    /// Lets other tasks go first. There is work, so this is no sleep.
    pub(crate) async fn yield_now(&self) {
        self.switch.yields();
        tokio::task::yield_now().await;
    }

    /// The incarnation crashed.
    pub(crate) fn died(&self) {
        // Only the task that holds the slot is here: nothing is lost between the two.
        let deaths = self.deaths.load(Relaxed).saturating_add(1);
        self.deaths.store(deaths, Relaxed);
        if deaths >= DEATHS {
            self.switch.send_away();
        }
    }

    /// The incarnation came through a turn.
    pub(crate) fn survived(&self) {
        self.deaths.store(0, Relaxed);
        self.switch.call_home();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_death_is_no_series_and_a_survived_turn_ends_one() {
        let probation = Probation::default();
        probation.died();
        probation.survived();
        probation.died();
        assert!(!probation.switch().is_away());
        probation.died();
        assert!(probation.switch().is_away());
        probation.survived();
        assert!(!probation.switch().is_away());
    }
}

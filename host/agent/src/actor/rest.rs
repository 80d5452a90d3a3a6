//! Between two incarnations: nothing lives, mail waits.

use std::time::{Duration, Instant};

use bulkhead_runtime::ShutdownReason;
use bulkhead_types::Event;
use tokio::task::yield_now;
use tokio::time::{sleep, sleep_until};

use super::end::Tenure;
use super::{Actor, stop_ordered};
use crate::handle::{AgentHandle, StopOrder};

/// The runtime's timers are as coarse as this, and round up: a wait below it would be twice as long.
const TICK: Duration = Duration::from_millis(1);

/// Who cancels a restart when the container goes away.
const DRAIN: &str = "drain";

/// Those who waited for memory come back within this time.
const HERD: Duration = Duration::from_secs(1);

/// Why a restart that was promised does not happen.
enum Cancelled {
    /// A start took over, or a stop came: whoever took the rest orders the stop right after.
    Taken,
    /// The container goes away.
    Drain,
}

impl Actor<'_> {
    /// Waits until the next incarnation is due and takes the slot for it. `None`: a start took over, a
    /// stop came, or the container goes away; whoever waits is told.
    pub(super) async fn rest(&mut self, until: Instant) -> Option<(AgentHandle, Tenure)> {
        let (slot, number) = (&self.life.slot, self.number());
        let attempt = self.shared.attempt.saturating_add(1);
        let next = tokio::select! {
            biased;
            () = slot.disturbed(number) => Err(Cancelled::Taken),
            () = self.container.drains() => Err(Cancelled::Drain),
            () = self.is_due(until) => {
                let next = slot.retry(number, |number| self.life.incarnation(Some(number), attempt));
                next.ok_or(Cancelled::Taken)
            }
        };
        // At once: a task that is lost from here on still gives the slot back.
        let next = next.map(|next| (Tenure::holding(&next, slot), next));
        self.rested(next).await
    }

    /// The same for a start that came to nothing: it is reserved again, and loads its component again.
    pub(super) async fn rest_from_start(
        &mut self,
        until: Instant,
    ) -> Option<(AgentHandle, Tenure)> {
        let (slot, number, wanted) = (&self.life.slot, self.number(), self.life.wanted);
        let attempt = self.shared.attempt.saturating_add(1);
        let again = async {
            self.is_due(until).await;
            slot.reserve_again(number, wanted, || self.life.incarnation(None, attempt)).await
        };
        let next = tokio::select! {
            biased;
            () = slot.disturbed(number) => Err(Cancelled::Taken),
            () = self.container.drains() => Err(Cancelled::Drain),
            next = again => next.ok_or(Cancelled::Taken),
        };
        let next = next.map(|(ticket, next)| (Tenure::new(&next, ticket, slot), next));
        self.rested(next).await
    }

    async fn rested(
        &mut self,
        next: Result<(Tenure, AgentHandle), Cancelled>,
    ) -> Option<(AgentHandle, Tenure)> {
        match next {
            Ok((tenure, next)) => {
                self.tenure.is_over();
                Some((next, tenure))
            }
            Err(why) => {
                self.give_up_rest(why).await;
                None
            }
        }
    }

    /// Resolves when the backoff is over and there is memory for it.
    async fn is_due(&self, until: Instant) {
        if until.saturating_duration_since(Instant::now()) >= TICK {
            sleep_until(until.into()).await;
        } else {
            // Others have their turn, and the task may go to the other lane: it does so when it waits.
            yield_now().await;
        }
        while self.container.holds_starts() {
            self.container.takes_starts().await;
            // Not all who waited at once.
            sleep(HERD.mul_f64(fastrand::f64())).await;
        }
    }

    async fn give_up_rest(&mut self, why: Cancelled) {
        let by = match why {
            Cancelled::Taken => match stop_ordered(&mut self.stop).await {
                StopOrder { reason: ShutdownReason::Drained, .. } => DRAIN.to_owned(),
                StopOrder { by, .. } => by,
            },
            Cancelled::Drain => DRAIN.to_owned(),
        };
        let agent = self.shared.tag();
        self.shared.record(Event::RestartCancelled { agent, by });
        self.tenure.close_mailbox();
        // Last, in this order: whoever waits for one of them waits for what was told before.
        self.shared.board.end_rest();
        self.life.slot.give_up_rest(self.number());
        self.shared.retire(&self.life.slot);
    }
}

//! Between two incarnations: none is active, mail waits.

use std::time::Duration;

use bulkhead_runtime::ShutdownReason;
use bulkhead_types::Event;
use bulkhead_types::event::RestartCancelled;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};

use super::base::Actor;
use super::drive::stop_ordered;
use super::slot_guard::SlotGuard;
use crate::handle::AgentHandle;
use crate::stop_order::StopOrder;

/// The runtime's timers are as coarse as this, and round up: a wait below it would be twice as long.
const TICK: Duration = Duration::from_millis(1);

/// Who cancels a restart when the container goes away.
const DRAIN: &str = "drain";

/// Agents that waited for memory restart within this time.
const HERD: Duration = Duration::from_secs(1);

/// Why a restart that was promised does not happen.
enum Cancelled {
    /// A start took over, or a stop came: whichever it was orders the stop right after.
    Taken,
    /// The container goes away.
    Drain,
}

impl Actor<'_> {
    /// Waits until the next incarnation is due and takes the slot for it. `None`: a start took over, a
    /// stop came, or the container goes away; callers that wait are answered.
    pub(super) async fn back_off(&mut self, until: Instant) -> Option<(AgentHandle, SlotGuard)> {
        let (slot, number) = (&self.task.slot, self.number());
        let attempt = self.state.attempt.saturating_add(1);
        let next = tokio::select! {
            biased;
            () = slot.left_backoff(number) => Err(Cancelled::Taken),
            () = self.container.drains() => Err(Cancelled::Drain),
            () = self.is_due(until) => {
                let next = slot.restart(number, |number| self.task.incarnation(Some(number), attempt));
                next.ok_or(Cancelled::Taken)
            }
        };
        // At once: a task that is lost from here on still gives the slot back.
        let next = next.map(|next| (SlotGuard::holding(&next, slot), next));
        self.backed_off(next).await
    }

    /// The same for a start that failed: it is reserved again, and loads its component again.
    pub(super) async fn back_off_from_start(
        &mut self,
        until: Instant,
    ) -> Option<(AgentHandle, SlotGuard)> {
        let (slot, number, intent) = (&self.task.slot, self.number(), self.task.restart_intent);
        let attempt = self.state.attempt.saturating_add(1);
        let again = async {
            self.is_due(until).await;
            slot.reserve_again(number, intent, || self.task.incarnation(None, attempt)).await
        };
        let next = tokio::select! {
            biased;
            () = slot.left_backoff(number) => Err(Cancelled::Taken),
            () = self.container.drains() => Err(Cancelled::Drain),
            next = again => next.ok_or(Cancelled::Taken),
        };
        let next = next.map(|(ticket, next)| (SlotGuard::new(&next, ticket, slot), next));
        self.backed_off(next).await
    }

    async fn backed_off(
        &mut self,
        next: Result<(SlotGuard, AgentHandle), Cancelled>,
    ) -> Option<(AgentHandle, SlotGuard)> {
        match next {
            Ok((guard, next)) => {
                self.guard.is_over();
                Some((next, guard))
            }
            Err(why) => {
                self.give_up_backoff(why).await;
                None
            }
        }
    }

    /// Resolves when the backoff is over and there is memory for it.
    async fn is_due(&self, until: Instant) {
        if until.saturating_duration_since(Instant::now()) >= TICK {
            sleep_until(until).await;
        } else {
            // Others have their turn, and the task may go to the other lane: it does so when it waits.
            yield_now().await;
        }
        while self.container.holds_starts() {
            self.container.takes_starts().await;
            // Not all that waited at once.
            sleep(HERD.mul_f64(fastrand::f64())).await;
        }
    }

    async fn give_up_backoff(&mut self, why: Cancelled) {
        let by = match why {
            Cancelled::Taken => match stop_ordered(&mut self.stop).await {
                StopOrder { reason: ShutdownReason::Drained, .. } => DRAIN.to_owned(),
                StopOrder { by, .. } => by,
            },
            Cancelled::Drain => DRAIN.to_owned(),
        };
        let agent = self.state.tag();
        self.state.record(Event::RestartCancelled(RestartCancelled { agent, by }));
        self.guard.close_mailbox();
        // Last, in this order: those that wait for one of them wait for what was reported before.
        self.state.publisher.end_backoff();
        self.task.slot.give_up_backoff(self.number());
        self.state.retire(&self.task.slot);
    }
}

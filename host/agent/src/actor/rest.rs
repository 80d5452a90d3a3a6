//! Between two incarnations: nothing lives, mail waits.

use std::time::Instant;

use bulkhead_model::Event;
use tokio::time::sleep_until;

use super::{Actor, stop_ordered};
use crate::handle::AgentHandle;

impl Actor<'_> {
    /// Waits until the next incarnation is due and takes the slot for it. `None`: a start took over, a
    /// stop came, or the container goes away; whoever waits is told.
    pub(super) async fn rest(&mut self, until: Instant) -> Option<AgentHandle> {
        let (slot, number) = (&self.life.slot, self.number());
        let attempt = self.shared.attempt.saturating_add(1);
        let next = tokio::select! {
            biased;
            () = slot.disturbed(number) => None,
            () = self.container.drains() => None,
            () = sleep_until(until.into()) => {
                slot.retry(number, |number| self.life.incarnation(number, attempt))
            }
        };
        match next {
            Some(_) => self.tenure.is_over(),
            None => self.give_up_rest().await,
        }
        next
    }

    /// The restart that was promised does not happen.
    async fn give_up_rest(&mut self) {
        self.life.slot.give_up_rest(self.number());
        let by = match self.container.is_draining() {
            true => "drain".to_owned(),
            // Whoever took the rest orders the stop right after.
            false => stop_ordered(&mut self.stop).await.by,
        };
        let agent = self.shared.tag.clone();
        self.shared.record(Event::RestartCancelled { agent, by });
        self.shared.board.end_rest();
        self.tenure.close_mailbox();
    }
}

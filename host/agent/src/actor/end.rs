//! The end of an incarnation, also when its task could not tell it.

use std::sync::Arc;

use bulkhead_events::RunContext;
use bulkhead_model::{Exit, ExitReason, Input, Phase};
use tokio::sync::OwnedSemaphorePermit;

use super::{Actor, Ended, answer};
use crate::handle::Shared;
use crate::refusal::TurnReport;
use crate::report::{Reporter, start_error};

/// Counts the agent among the live ones, and publishes an end that the task itself could not: a panic
/// of the host in it, or a task that never ran.
pub(super) struct EndGuard {
    shared: Arc<Shared>,
    reporter: Arc<Reporter>,
    context: Arc<RunContext>,
    counted: Option<Counted>,
}

/// One live agent, and its place among all.
struct Counted {
    context: Arc<RunContext>,
    place: Option<OwnedSemaphorePermit>,
}

impl Actor {
    /// Writes the record, publishes the end, and answers everyone who still waits.
    pub(super) fn finish(&mut self, ended: Ended) {
        let Ended { exit, in_flight } = ended;
        let by = self.stop.borrow().as_ref().map(|order| order.by.clone());
        let message_id = in_flight.as_ref().map(|envelope| envelope.message.id.clone());
        let crash_id = self.guard.publish(&exit, by, message_id);
        // Told after the record is written, so that whoever asked can read it.
        if !self.shared.slot.is_answered() {
            self.refuse(start_error(&exit, self.deadline, crash_id.clone()));
        }
        if let Some(mut envelope) = in_flight {
            let (reason, message) = (exit.reason, exit.message.clone());
            answer(&mut envelope, TurnReport::Ended { reason, message, crash_id });
        }
    }
}

impl EndGuard {
    pub(super) fn new(
        shared: Arc<Shared>,
        reporter: Arc<Reporter>,
        context: Arc<RunContext>,
    ) -> Self {
        Self { shared, reporter, context, counted: None }
    }

    /// From now on the agent counts as live.
    pub(super) fn count(&mut self, place: OwnedSemaphorePermit) {
        self.context.agent_began();
        self.counted = Some(Counted { context: Arc::clone(&self.context), place: Some(place) });
    }

    /// Tells the end and makes it visible. The place goes to the successor, or back to all.
    fn publish(
        &mut self,
        exit: &Exit,
        by: Option<String>,
        message_id: Option<String>,
    ) -> Option<String> {
        let shared = &self.shared;
        let crash_id = self.reporter.ended(exit, by, message_id, self.context.active_agents());
        let waiting = shared.mailbox.close();
        // Before the end is visible: whoever waits for it may start at once. One that gave up at its
        // gate was never counted and may have inherited a place all the same.
        let place = self.counted.take().and_then(|mut counted| counted.place.take());
        if let Some(place) = place.or_else(|| shared.slot.take_inheritance()) {
            shared.slot.bequeath(place);
        }
        shared.board.transition(Input::Ended { normal: exit.reason.is_normal() });
        for mut envelope in waiting {
            let (reason, message) = (exit.reason, exit.message.clone());
            answer(
                &mut envelope,
                TurnReport::Ended { reason, message, crash_id: crash_id.clone() },
            );
        }
        crash_id
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.context.agent_ended();
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        if self.shared.board.state().is_live() {
            let text = "the agent's task ended before its agent; the log has its panic";
            self.publish(&Exit::new(ExitReason::HostError, Phase::Idle, text), None, None);
        }
    }
}

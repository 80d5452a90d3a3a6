//! What becomes of a message that is delivered, and of one that its agent ended in.
//!
//! ```text
//!   turn begins ─▶ written down ─▶ turn ends ─▶ done with
//!                       │
//!                       └── the agent ends ──┬─ restarts, attempts left ────▶ in front of the mailbox, attempt + 1
//!                                            ├─ restarts, none left ────────▶ set aside: line, event, answer
//!                                            ├─ another start replaces it ──▶ in front of the mailbox, which goes over
//!                                            ├─ the next run restarts it ───▶ kept for it; its sender is answered
//!                                            └─ it does not restart ────────▶ done with; its sender is answered
//! ```
//!
//! `attempt` counts deliveries. Against the role's `max_attempts` count those that the agent ended by itself, and
//! those in which the host died, because it cannot be determined whether the message caused its death. Ends that come
//! from outside (a drain, another start, the container's memory, the host's own failure) do not count, up to [`EXCUSED`]
//! of them. With `max_attempts = 1` there is no second delivery, whatever ended the first.

use std::sync::Arc;

use bulkhead_log::now;
use bulkhead_runtime::ShutdownReason;
use bulkhead_store::journal::{Kept, Left, MAX_CRASH_IDS};
use bulkhead_types::{Event, Exit, ExitClass, Message, MessageSetAside, event};
use serde::Serialize;

use crate::incarnation::{Announced, IncarnationState};
use crate::mailbox::{Envelope, PastDeliveries};
use crate::refusal::TurnReport;

/// Deliveries of one message that may end without counting.
const EXCUSED: u32 = 8;

/// Where a message goes whose agent ended in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextDelivery {
    /// The agent is restarted in this run, or another start takes over its mail.
    ThisRun,
    /// The next run restarts the agent.
    NextRun,
    /// The agent is not restarted, or the message is of no use to the start that has its slot.
    Never,
}

/// What a start begins with: its prompt, and what an earlier run left of its agent.
#[derive(Default)]
pub(super) enum First {
    /// It had no instance yet. Should it end before, what an earlier run left is the next start's.
    #[default]
    Unasked,
    /// It has it, and not all is queued.
    Left(Box<Left>),
    /// All of it was queued.
    Queued,
}

/// A message whose sender waits for nothing any more, with its answer.
pub(super) type Unanswered = (Envelope, TurnReport);

/// The event of a message that is set aside, as followers read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SetAsideEvent<'a> {
    message_id: &'a str,
    attempts: u32,
    crash_ids: &'a [String],
}

impl PastDeliveries {
    /// One more ended.
    fn count(&mut self, is_fault: bool, crash_id: Option<&str>) {
        self.faults += u32::from(is_fault);
        if let Some(crash_id) = crash_id {
            if self.crash_ids.len() >= MAX_CRASH_IDS {
                self.crash_ids.remove(0);
            }
            self.crash_ids.push(crash_id.to_owned());
        }
    }

    /// Whether a message that was delivered so often is not delivered again.
    fn is_over(&self, attempts: u32, max_attempts: u32) -> bool {
        let excused = attempts.saturating_sub(self.faults);
        let counted = self.faults + excused.saturating_sub(EXCUSED);
        max_attempts <= 1 || counted >= max_attempts
    }
}

impl IncarnationState {
    /// A message is taken into its turn.
    pub(super) fn delivers(&self, Envelope { message, past, .. }: &Envelope) {
        self.start.ring.begin_turn(&message.id);
        let Some(journal) = self.start.journal.get() else { return };
        if !journal.delivers(message, past.faults, &past.crash_ids) && journal.is_first_loss() {
            let (agent, message) = (self.id(), &message.id);
            tracing::warn!(%agent, message, "the journal is full; a kill of the host in this turn loses the message");
        }
    }

    /// Its turn is over. To be called after that was reported and before anybody is answered: what is not delivered
    /// again left its events, and what was answered is not delivered again.
    pub(super) fn is_done_with(&self, message: &Message) {
        self.start.ring.end_turn();
        self.start.mailbox.lay_down(|_| {
            if let Some(journal) = self.start.journal.get() {
                journal.is_done(&message.sender);
            }
        });
    }

    /// A message that waited to be delivered again is answered, and nobody delivers it.
    pub(super) fn forgets(&self, envelope: &Envelope) {
        let journal = self.start.journal.get().or(self.start.adopted.get());
        if let Some(journal) = journal.filter(|_| envelope.is_mail_again()) {
            journal.forgets(&envelope.message.sender);
        }
    }

    /// The agent is not restarted: the journal has nothing of it any more, once the database has its end. A kill before
    /// that brings it back, and its prompt must not come with it.
    pub(super) fn forgets_messages(&self) {
        let Some(journal) = self.start.journal.get() else { return };
        journal.retire();
        let (journal, container) = (Arc::clone(journal), &self.start.container);
        let written = container.database.receipt().durable();
        let name = format!("end of the journal of {}", self.id());
        container.spawner().spawn_infallible(name, async move {
            // Not durable: another agent gets the slot when it needs one.
            if written.await.is_ok() {
                journal.release();
            }
        });
    }

    /// The agent ended in the turn of this message, and the records of that are written. `counts`: against the message
    /// as well. Yields it when its sender is to be answered now.
    pub(super) fn ended_in(
        &self,
        mut envelope: Envelope,
        exit: &Exit,
        crash_id: Option<&str>,
        then: NextDelivery,
        counts: bool,
    ) -> Option<Unanswered> {
        let is_settled = self.start.mailbox.lay_down(|in_hand| in_hand.is_none());
        envelope.past.count(counts, crash_id);
        let max_attempts = self.start.spec.restart.max_attempts;
        let is_over = envelope.past.is_over(envelope.message.attempt, max_attempts);
        let (reason, message) = (exit.reason, exit.message.clone());
        let ended = |crash_id: Option<&str>| TurnReport::Ended {
            reason,
            message: message.clone(),
            crash_id: crash_id.map(str::to_owned),
        };
        match then {
            // A drain that waits no longer said what becomes of it.
            _ if is_settled => Some((envelope, ended(crash_id))),
            NextDelivery::Never => {
                self.is_done_with(&envelope.message);
                Some((envelope, ended(crash_id)))
            }
            NextDelivery::ThisRun | NextDelivery::NextRun if is_over => {
                self.set_aside(&envelope);
                let attempts = envelope.message.attempt;
                let crash_ids = envelope.past.crash_ids.clone();
                let report = TurnReport::SetAside { reason, message, attempts, crash_ids };
                Some((envelope, report))
            }
            NextDelivery::ThisRun => {
                let closed = self.deliver_again(envelope)?;
                Some((closed, ended(crash_id)))
            }
            NextDelivery::NextRun => {
                envelope.message.attempt += 1;
                self.keeps(&envelope);
                Some((envelope, ended(crash_id)))
            }
        }
    }

    /// The incarnation is killed, the host goes away without it, and the records of that are written: its message is
    /// for the next run, unless its task said before what became of it.
    pub(crate) fn abandoned_in(&self, exit: &Exit, crash_id: Option<&str>) {
        let order = self.stop_order().map(|order| order.reason);
        let then = next_delivery(false, order != Some(ShutdownReason::Stopped), order);
        let is_fault = exit.reason.class() == ExitClass::Fault;
        let max_attempts = self.start.spec.restart.max_attempts;
        let over = self.start.mailbox.lay_down(|in_hand| {
            let mut envelope = in_hand?;
            envelope.past.count(is_fault, crash_id);
            let is_over = envelope.past.is_over(envelope.message.attempt, max_attempts);
            if then == NextDelivery::NextRun && !is_over {
                envelope.message.attempt += 1;
                self.keeps(&envelope);
                return None;
            }
            Some(envelope)
        });
        match over {
            Some(envelope) if then == NextDelivery::NextRun => self.set_aside(&envelope),
            Some(envelope) => self.is_done_with(&envelope.message),
            None => {}
        }
    }

    /// Puts a message in front of the mailbox for its next delivery, unless the mailbox is closed.
    fn deliver_again(&self, mut envelope: Envelope) -> Option<Envelope> {
        envelope.message.attempt += 1;
        self.keeps(&envelope);
        let announced = Announced::from(&envelope.message);
        let closed = self.start.mailbox.put_back(envelope);
        if closed.is_none() {
            self.log_message(announced);
        }
        closed
    }

    fn keeps(&self, Envelope { message, past, .. }: &Envelope) {
        if let Some(journal) = self.start.journal.get() {
            journal.waits(message, past.faults, &past.crash_ids);
        }
    }

    fn set_aside(&self, envelope: &Envelope) {
        let Envelope { message: Message { id, sender, attempt, .. }, past, .. } = envelope;
        let (message_id, attempts, crash_ids) = (id, *attempt, &past.crash_ids);
        let shown = MessageSetAside {
            message_id: message_id.clone(),
            at: now(),
            attempts,
            crash_ids: crash_ids.clone(),
        };
        let mut last = self.start.set_aside.lock();
        *last = Some(shown);
        drop(last);
        let event = SetAsideEvent { message_id, attempts, crash_ids };
        self.start.ring.push_value("agent.message_set_aside", &event);
        self.record(Event::MessageSetAside(event::MessageSetAside {
            agent: self.tag(),
            message_id: message_id.clone(),
            sender: sender.clone(),
            attempts,
            crash_ids: crash_ids.clone(),
        }));
        self.is_done_with(&envelope.message);
    }

    /// Delivers again what an earlier run of the host left. A delivery that was under way when it died counts;
    /// `crash_id` names the record of that, if there is one.
    pub(super) fn take_up(&self, kept: Kept, crash_id: Option<&str>) {
        let Kept { message, faults, crash_ids, in_turn } = kept;
        let mut envelope = Envelope::new(message, None);
        envelope.past = PastDeliveries { faults, crash_ids };
        if in_turn {
            envelope.past.count(true, crash_id);
            let max_attempts = self.start.spec.restart.max_attempts;
            if envelope.past.is_over(envelope.message.attempt, max_attempts) {
                return self.set_aside(&envelope);
            }
        } else {
            // It was counted when it was written down.
            envelope.message.attempt = envelope.message.attempt.saturating_sub(1);
        }
        self.deliver_again(envelope);
    }
}

/// What follows from an end for the message in its turn: see [`NextDelivery`].
pub(super) fn next_delivery(
    restarts: bool,
    is_wanted: bool,
    order: Option<ShutdownReason>,
) -> NextDelivery {
    match (restarts, order) {
        (true, _) => NextDelivery::ThisRun,
        // A prompt, in whose place another one comes; or the container goes away before that start begins.
        (false, Some(ShutdownReason::Superseded)) => NextDelivery::Never,
        (false, _) if is_wanted => NextDelivery::NextRun,
        (false, _) => NextDelivery::Never,
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_types::ExitReason;

    use super::*;

    fn after(ends: &[ExitReason], max_attempts: u32) -> Vec<bool> {
        let mut past = PastDeliveries::default();
        let over = |(ended, reason): (u32, &ExitReason)| {
            past.count(reason.class() == ExitClass::Fault, Some("c"));
            past.is_over(ended, max_attempts)
        };
        (1..).zip(ends).map(over).collect()
    }

    #[test]
    fn a_message_is_over_after_as_many_faults_as_its_role_allows() {
        use ExitReason::{Panic, Trap};
        assert_eq!(after(&[Panic, Trap], 2), [false, true]);
        assert_eq!(after(&[Panic, Trap, Trap], 3), [false, false, true]);
    }

    #[test]
    fn ends_from_outside_do_not_count_but_not_for_ever() {
        use ExitReason::{Drained, EvictedMemoryPressure, HostError, Killed, Panic};
        assert_eq!(after(&[HostError, Killed, Drained, Panic, Panic], 2)[3..], [false, true]);
        let over = after(&[EvictedMemoryPressure; 12], 2);
        assert_eq!(over.iter().position(|over| *over), Some(EXCUSED as usize + 1));
    }

    #[test]
    fn once_means_once() {
        for reason in [ExitReason::Panic, ExitReason::HostError, ExitReason::Drained] {
            assert_eq!(after(&[reason], 1), [true], "{reason:?}");
        }
    }

    #[test]
    fn the_last_crash_records_are_named() {
        let mut past = PastDeliveries::default();
        (0..20).for_each(|n| past.count(true, Some(&n.to_string())));
        assert_eq!(past.crash_ids.len(), MAX_CRASH_IDS);
        assert_eq!(past.crash_ids.last().map(String::as_str), Some("19"));
    }
}

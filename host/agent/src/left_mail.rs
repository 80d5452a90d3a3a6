//! Mail between two starts of an agent: what waited for one that was replaced, or whose start failed. The next start takes
//! it over; a stop answers it.

use std::sync::Arc;

use bulkhead_store::journal::JournalSlot;
use bulkhead_types::ExitReason;
use parking_lot::Mutex;

use crate::mailbox::Undelivered;
use crate::refusal::TurnReport;

/// What the starts of one agent left for the next one, oldest first.
#[derive(Default)]
pub(crate) struct LeftMail(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    left: Left,
    /// Somebody asked for the agent's end, and nobody for a start since: what is left is answered so.
    over: Option<Over>,
}

/// How mail is answered that no start takes over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Over {
    pub reason: ExitReason,
    /// What was delivered before is.
    pub is_for_next_run: bool,
}

/// Mail without a start.
#[derive(Default)]
pub(crate) struct Left {
    pub mail: Undelivered,
    /// Where what was delivered before has its record.
    pub journal: Option<Arc<JournalSlot>>,
}

impl LeftMail {
    /// A start is over that held the slot: what waited for it is older than what is left of starts that never had their
    /// turn. Yields how many messages nobody takes over.
    pub(crate) fn leave_first(&self, newest: Left) -> usize {
        self.leave(|left| {
            let later = std::mem::replace(left, newest);
            left.append(later);
        })
    }

    /// The same of a start that never had its turn.
    pub(crate) fn leave_last(&self, newest: Left) -> usize {
        self.leave(|left| left.append(newest))
    }

    fn leave(&self, add: impl FnOnce(&mut Left)) -> usize {
        let mut inner = self.0.lock();
        add(&mut inner.left);
        let Some(over) = inner.over else { return 0 };
        let left = std::mem::take(&mut inner.left);
        drop(inner);
        left.answer(over)
    }

    /// Hands out all of it.
    pub(crate) fn take(&self) -> Left {
        std::mem::take(&mut self.0.lock().left)
    }

    /// There is a start again.
    pub(crate) fn reopen(&self) {
        self.0.lock().over = None;
    }

    /// No start takes over what is left, or will be until there is one again. Yields how many messages that were.
    pub(crate) fn give_up(&self, over: Over) -> usize {
        let mut inner = self.0.lock();
        inner.over = Some(over);
        let left = std::mem::take(&mut inner.left);
        drop(inner);
        left.answer(over)
    }
}

impl Left {
    /// Answers who waits, and yields how many messages that are. Those that were delivered before are forgotten, unless they
    /// are for the next run.
    fn answer(self, over: Over) -> usize {
        let Self { mail, journal } = self;
        if mail.is_empty() {
            return 0;
        }
        if let Some(journal) = journal.filter(|_| !over.is_for_next_run) {
            journal.retire();
        }
        let lost = mail.messages.len() + mail.nudges.len();
        for report in mail.messages.into_iter().filter_map(|envelope| envelope.report) {
            let message = "it was not started again after its last end".to_owned();
            let _ = report.send(TurnReport::Ended { reason: over.reason, message, crash_id: None });
        }
        lost
    }

    fn append(&mut self, Self { mail, journal }: Self) {
        self.mail.messages.extend(mail.messages);
        self.mail.nudges.extend(mail.nudges);
        self.journal = self.journal.take().or(journal);
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_types::{Message, Sender};
    use tokio::sync::oneshot;

    use super::*;
    use crate::mailbox::Envelope;

    fn left(ids: &[&str]) -> Left {
        let envelope = |id: &&str| Envelope::new(Message::new(*id, Sender::Operator, "x"), None);
        let mail =
            Undelivered { messages: ids.iter().map(envelope).collect(), ..Undelivered::default() };
        Left { mail, journal: None }
    }

    #[test]
    fn what_waited_for_the_one_that_ran_comes_before_what_waited_for_those_that_never_did() {
        let all = LeftMail::default();
        all.leave_last(left(&["c"]));
        all.leave_first(left(&["a", "b"]));
        all.leave_last(left(&["d"]));
        let ids: Vec<_> = all.take().mail.messages.into_iter().map(|it| it.message.id).collect();
        assert_eq!(ids, ["a", "b", "c", "d"]);
        assert!(all.take().mail.is_empty(), "once");
    }

    #[test]
    fn who_waits_is_told_when_no_start_takes_it_over() {
        let (all, (report, mut sender)) = (LeftMail::default(), oneshot::channel());
        let envelope = Envelope::new(Message::new("a", Sender::Operator, "x"), Some(report));
        let mail = Undelivered { messages: vec![envelope], ..Undelivered::default() };
        all.leave_first(Left { mail, journal: None });
        let over = Over { reason: ExitReason::Stopped, is_for_next_run: false };
        assert_eq!(all.give_up(over), 1);
        let told = sender.try_recv().unwrap();
        assert!(matches!(told, TurnReport::Ended { reason: ExitReason::Stopped, .. }), "{told:?}");
        assert_eq!(all.give_up(over), 0);
        // So is what one leaves that winds down after the stop; what comes before a start is for that.
        assert_eq!((all.leave_first(left(&["b"])), all.take().mail.messages.len()), (1, 0));
        all.reopen();
        assert_eq!((all.leave_last(left(&["c"])), all.take().mail.messages.len()), (0, 1));
    }
}

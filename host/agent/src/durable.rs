//! What of an agent survives the process: what is written down, and when.
//!
//! | what happens | what is written | what waits for it |
//! | --- | --- | --- |
//! | a start has its turn | it is to run; its order, its number | the answer of the start, with the guest's own `start` beside it |
//! | a restart has its turn | its number | the incarnation, when the file has no room for it; else nobody |
//! | an end | the history; whether it is to run | nobody; it is written in order, before what follows from it |
//! | a stop is asked for | it has to be stopped | the answer of the stop, with the guest's `shutdown` beside it |
//! | a message is delivered, and done with | the message, in the journal | nobody |
//! | a turn ends whose sender waits, and the role ships it | its snapshot | the answer; the agent does not |
//! | a turn after a death of the host | that it was not this | nobody |
//! | settings are changed | the settings | nobody |
//! | an equal start brings other credentials | its order | the answer of that start |
//!
//! Every change goes to the image in memory at once, in this order, and the file follows in the same order.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_runtime::ShutdownReason;
use bulkhead_store::database::{Change, Database, Durability, Private, Receipt, Wanted};
use bulkhead_types::restart::Decision;
use bulkhead_types::{Durable, ExitReason, Incarnation, RestartPolicy, RestartState};
use tokio::time::timeout;

use crate::incarnation::IncarnationState;

/// How long anything of an agent waits for the disk. One that hangs lets it go on.
pub(crate) const WRITING: Duration = Duration::from_secs(2);

/// What everything that was changed before survives: resolves when it is shipped, or is not in time.
pub(crate) async fn shipped(database: &Database) -> Option<Durable> {
    let written = timeout(WRITING, database.receipt().durable()).await;
    if !matches!(written, Ok(Ok(()))) || database.durability() != Durability::Kept {
        return None;
    }
    match database.follower() {
        Some(follower) if follower.all_kept().await.is_ok() => Some(Durable::Fleet),
        _ => Some(Durable::Node),
    }
}

impl IncarnationState {
    /// A start has its turn.
    pub(crate) fn persist_start(&self, restarts: Arc<RestartState>) {
        let (incarnation, settings) = (self.incarnation(), self.start.settings.record());
        self.start.credentials.note(incarnation, |order| {
            let order = order.clone();
            self.persist(Change::Began { incarnation, order, settings, restarts });
        });
    }

    /// A restart has its turn. Waits until its number can be used.
    pub(crate) async fn persist_restart(&self) {
        let incarnation = self.incarnation();
        let persist = |_: &_| self.persist(Change::Returned { incarnation });
        if let Some(receipt) = self.start.credentials.note(incarnation, persist) {
            // Not durable: the log says why, and a number that is given twice is the lesser harm.
            let _ = timeout(WRITING, receipt.durable()).await;
        }
    }

    /// Nothing comes of the start, and what was there before has ended.
    pub(crate) fn persist_stop(&self) {
        self.persist(Change::Stopped { upto: self.incarnation() });
    }

    /// The incarnation ended. Yields whether a later run starts it again.
    pub(crate) fn persist_end(
        &self,
        reason: ExitReason,
        decision: &Decision,
        may_restart: bool,
        restarts: Arc<RestartState>,
    ) -> Wanted {
        // Nobody asked for the end of one that ran into a bound.
        let order = self.stop_order().filter(|order| order.halt.is_none());
        let order = order.map(|order| order.reason);
        let policy = self.start.spec.restart.policy;
        let wanted = wanted_after(reason, decision, order, may_restart, policy);
        let incarnation = self.incarnation();
        self.persist(Change::Ended { incarnation, restarts, wanted });
        wanted
    }

    /// The agent has other credentials.
    pub(crate) fn persist_order(&self, incarnation: Incarnation, order: Private) {
        self.persist(Change::Order { incarnation, order });
    }

    /// It came through a turn after the host had died while it was at work.
    pub(crate) fn persist_cleared(&self, restarts: Arc<RestartState>) {
        self.persist(Change::Cleared { incarnation: self.incarnation(), restarts });
    }

    /// Settings were changed.
    pub(crate) fn persist_settings(&self) {
        if let Some(settings) = self.start.settings.record() {
            self.persist(Change::Settings { incarnation: self.incarnation(), settings });
        }
    }

    fn persist(&self, change: Change) -> Option<Receipt> {
        self.start.container.database.note(self.id(), change)
    }
}

/// Whether a later run of the host starts the agent again after this end.
fn wanted_after(
    reason: ExitReason,
    decision: &Decision,
    order: Option<ShutdownReason>,
    may_restart: bool,
    policy: RestartPolicy,
) -> Wanted {
    let is_wanted = match (decision, order) {
        (Decision::Retry { .. } | Decision::Quarantine(_), _) => true,
        // The container went away from under it, or another start replaces it: it is still desired.
        (Decision::Stay, Some(ShutdownReason::Drained | ShutdownReason::Superseded)) => true,
        // It had nothing to do, and would have waited for more.
        (Decision::Stay, None) if reason == ExitReason::Drained => true,
        (Decision::Stay, None) if !may_restart => policy.wants(reason),
        (Decision::Stay, _) => false,
    };
    match is_wanted {
        true => Wanted::Running,
        // Whatever it died of, somebody wanted it to end.
        false if reason.is_normal() || order == Some(ShutdownReason::Stopped) => Wanted::Stopped,
        false => Wanted::Failed,
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_types::Timestamp;

    use super::*;

    fn after(reason: ExitReason, order: Option<ShutdownReason>, drains: bool) -> Wanted {
        wanted_after(reason, &Decision::Stay, order, !drains, RestartPolicy::Transient)
    }

    #[test]
    fn what_was_stopped_or_is_done_is_not_restarted() {
        let stopped = Some(ShutdownReason::Stopped);
        assert_eq!(after(ExitReason::Stopped, stopped, false), Wanted::Stopped);
        assert_eq!(after(ExitReason::Panic, stopped, false), Wanted::Stopped);
        assert_eq!(after(ExitReason::Completed, None, false), Wanted::Stopped);
        assert_eq!(after(ExitReason::Completed, None, true), Wanted::Stopped);
        assert_eq!(after(ExitReason::Completed, Some(ShutdownReason::Idle), true), Wanted::Stopped);
        assert_eq!(after(ExitReason::Stuck, None, false), Wanted::Failed);
        assert_eq!(after(ExitReason::BudgetExceeded, None, true), Wanted::Failed);
        assert_eq!(after(ExitReason::Trap, None, false), Wanted::Failed, "its policy says so");
    }

    #[test]
    fn a_policy_that_cannot_restart_any_more_still_decides() {
        use RestartPolicy::{Permanent, Temporary, Transient};
        let after = |reason, policy| wanted_after(reason, &Decision::Stay, None, false, policy);
        for (policy, completed, trap) in [
            (Permanent, Wanted::Running, Wanted::Running),
            (Transient, Wanted::Stopped, Wanted::Running),
            (Temporary, Wanted::Stopped, Wanted::Failed),
        ] {
            assert_eq!(after(ExitReason::Completed, policy), completed, "{policy:?}");
            assert_eq!(after(ExitReason::Trap, policy), trap, "{policy:?}");
            assert_eq!(after(ExitReason::BudgetExceeded, policy), Wanted::Failed, "{policy:?}");
        }
    }

    #[test]
    fn what_went_away_with_the_container_is_restarted() {
        let (drained, superseded) = (ShutdownReason::Drained, ShutdownReason::Superseded);
        assert_eq!(after(ExitReason::Drained, Some(drained), true), Wanted::Running);
        assert_eq!(after(ExitReason::Killed, Some(drained), true), Wanted::Running);
        assert_eq!(after(ExitReason::Drained, None, true), Wanted::Running, "idle in a drain");
        assert_eq!(after(ExitReason::Trap, None, true), Wanted::Running);
        assert_eq!(after(ExitReason::Superseded, Some(superseded), false), Wanted::Running);
        let retry = Decision::Retry { at: Timestamp(0), backoff: Duration::ZERO };
        let policy = RestartPolicy::Transient;
        assert_eq!(wanted_after(ExitReason::Trap, &retry, None, true, policy), Wanted::Running);
    }
}

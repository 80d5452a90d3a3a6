//! An agent by its id: what there is of it over all its starts.

use std::sync::Arc;

use bulkhead_feed::Ring;
use bulkhead_log::now;
use bulkhead_runtime::ShutdownReason;
use bulkhead_store::database::Change;
use bulkhead_types::{AgentId, ExitReason, ExitSummary, Incarnation, RestartState};

use crate::actor::StartTask;
use crate::container::Container;
use crate::handle::AgentHandle;
use crate::left_mail::Over;
use crate::order::{AgentScope, AgentSlot, StartOrder};
use crate::refusal::StartError;
use crate::slot::{Admitted, Slot, StartIntent, Stopped};
use crate::state_publisher::AfterEnd;

/// An agent by its id: its slot and its events. Starts come and go; this stays while the id is known.
pub struct Agent {
    /// Its events, over all its incarnations.
    pub ring: Arc<Ring>,
    scope: AgentScope,
    id: AgentId,
    slot: Arc<AgentSlot>,
    container: Arc<Container>,
}

/// What was asked to end: the incarnations up to a number, and their restarts.
pub struct Ending(Stopped<AgentHandle>);

/// What became of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// A start of its own. It may still join an incarnation that is up.
    Began,
    /// The same start was under way.
    Joined,
    /// A live agent was kept, whatever its spec.
    Kept,
}

impl Agent {
    /// An agent that nothing is known of. Its incarnations count on from `last`.
    pub fn new(id: AgentId, last: Incarnation, container: Arc<Container>) -> Self {
        let scope = AgentScope::new(&id, &container);
        let ring = Arc::clone(&scope.ring);
        Self { ring, scope, id, slot: Arc::new(Slot::new(last)), container }
    }

    /// Goes on with the history that an earlier run of the host wrote down.
    pub fn remember(&self, restarts: RestartState) {
        self.slot.remember(restarts, None);
    }

    /// The same, of one that is quarantined: it shows so, and does not start by itself.
    pub fn remember_quarantined(&self, order: StartOrder, restarts: RestartState) {
        let last = restarts.ends.last().map(|end| end.incarnation);
        let number = last.unwrap_or_else(|| self.slot.last());
        let task = StartTask::new(order, &self.scope, &self.slot, &self.container);
        let past = quarantined(&task, number, &restarts);
        self.slot.remember(restarts, Some(past.clone()));
        past.state.retire(&self.slot);
    }

    /// Lets a start in, by the table of the start slot, and begins it on the next thread of the fast
    /// lane. Returns at once; the handle's `started` yields how it went.
    pub fn start(&self, order: StartOrder) -> Result<(Admission, AgentHandle), StartError> {
        let StartOrder { spec, if_running, force, resumes, deadline, .. } = &order;
        let (spec, deadline) = (Arc::clone(spec), (*deadline).into());
        let intent =
            StartIntent { spec: &*spec, if_running: *if_running, force: *force, resumes: *resumes };
        let may_begin = || self.may_begin();
        let task = StartTask::new(order, &self.scope, &self.slot, &self.container);
        let admitted = self.slot.admit(&intent, may_begin, || task.incarnation(None, 1))?;
        Ok(match admitted {
            Admitted::Reserved { ticket, entry, superseded } => {
                self.scope.left_mail.reopen();
                task.spawn(entry.clone(), ticket, deadline);
                if let Some(superseded) = superseded {
                    superseded.stop(ShutdownReason::Superseded, "start");
                }
                (Admission::Began, entry)
            }
            Admitted::Joined(entry) => (Admission::Joined, entry),
            Admitted::Kept(entry) => (Admission::Kept, entry),
        })
    }

    fn may_begin(&self) -> Result<(), StartError> {
        if self.container.is_draining() { Err(StartError::draining()) } else { Ok(()) }
    }

    /// Asks everything to end that there is of the agent. [`Agent::gone`] waits for it.
    pub fn order_stop(&self, reason: ShutdownReason, by: &str) -> Ending {
        let ending = self.end(|agent| agent.stop(reason, by));
        if matches!(reason, ShutdownReason::Stopped | ShutdownReason::Drained) {
            self.end_left_mail();
        }
        if reason == ShutdownReason::Stopped {
            // While it winds down, so that nobody waits for it afterwards.
            let upto = ending.0.upto;
            self.container.database.note(&self.id, Change::Stopped { upto });
        }
        ending
    }

    /// Ends the agent without any grace. It still leaves its records.
    pub fn kill(&self, by: &str) -> Ending {
        self.end(|agent| agent.kill(by))
    }

    fn end(&self, order: impl Fn(&AgentHandle)) -> Ending {
        let stopped = self.slot.stop();
        let Stopped { holder, next, backoff, .. } = &stopped;
        [holder, next, backoff].into_iter().flatten().for_each(order);
        Ending(stopped)
    }

    /// Resolves when no incarnation that was asked to end is active, and each shows and has reported its end.
    pub async fn gone(&self, Ending(stopped): &Ending) {
        let Stopped { holder, next, backoff, upto } = stopped;
        self.slot.gone(*upto).await;
        // Another stop may have ended a backoff just before: it shows until its task has reported it.
        let past = self
            .slot
            .shown()
            .filter(|shown| shown.publisher().incarnation().is_some_and(|number| number <= *upto));
        for agent in [holder, backoff, &past].into_iter().flatten() {
            agent.down().await;
        }
        if let Some(next) = next {
            // It never lived: all that it leaves is the answer.
            let _ = next.started().await;
        }
        self.give_up_left_mail();
    }

    /// Nobody takes over what starts left, unless there is one again.
    pub fn give_up_left_mail(&self) {
        if self.slot.is_vacant() {
            self.end_left_mail();
        }
    }

    fn end_left_mail(&self) {
        let is_for_next_run = self.container.is_draining();
        let reason = if is_for_next_run { ExitReason::Drained } else { ExitReason::Stopped };
        let messages = self.scope.left_mail.give_up(Over { reason, is_for_next_run });
        if messages > 0 {
            tracing::warn!(agent = %self.id, messages, "messages that waited for its next start are not delivered");
        }
    }

    /// Stops the agent; resolves when it is gone. Yields how its incarnation ended; `None` when none ever
    /// lived.
    pub async fn stop(&self, reason: ShutdownReason, by: &str) -> Option<ExitSummary> {
        let before = self.current();
        self.gone(&self.order_stop(reason, by)).await;
        before.and_then(|agent| agent.publisher().published().exit)
    }

    /// The incarnation that is active, is about to be, or was the last one.
    pub fn current(&self) -> Option<AgentHandle> {
        self.slot.shown()
    }

    /// The incarnation that is active, or in backoff.
    pub fn occupant(&self) -> Option<AgentHandle> {
        self.slot.occupant()
    }

    /// The active incarnation, and the one that waits for its turn.
    pub fn present(&self) -> impl Iterator<Item = AgentHandle> + use<> {
        self.slot.present()
    }

    /// Whether no incarnation is active, about to be, or in backoff.
    pub fn is_vacant(&self) -> bool {
        self.slot.is_vacant()
    }

    /// The last incarnation's number.
    pub fn last(&self) -> Incarnation {
        self.slot.last()
    }

    /// What its restarts have come to.
    pub fn restarts(&self) -> RestartState {
        self.slot.restarts()
    }
}

/// The last incarnation of an agent that an earlier run of the host put into quarantine.
fn quarantined(task: &StartTask, number: Incarnation, restarts: &RestartState) -> AgentHandle {
    let agent = task.incarnation(Some(number), 1);
    let (quarantine, last) = (restarts.quarantine.as_ref(), restarts.ends.last());
    let reason = last.map_or(ExitReason::StartFailed, |end| end.reason);
    let exit = ExitSummary {
        reason,
        message: quarantine.map_or_else(String::new, |quarantine| quarantine.message.clone()),
        at: last.map_or_else(now, |end| end.at),
        crash_id: last.and_then(|end| end.crash_id.clone()),
    };
    agent.state.start.mailbox.close();
    agent.state.publisher.end(exit, reason.is_normal(), AfterEnd::Quarantine);
    agent
}

//! The end of an incarnation, also when its task could not report it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bulkhead_runtime::{PendingDump, TrappedStore};
use bulkhead_types::{Exit, ExitClass, ExitReason, Phase};
use tokio::time::{Instant, timeout};

use super::base::Actor;
use super::slot_guard::{After, EndContext};
use super::step::{IncarnationEnd, answer};
use crate::crash_follow_up::Logged;
use crate::handle::AgentHandle;
use crate::report::{Reporter, start_error};

impl Actor<'_> {
    /// Writes the record, gives the store up, publishes the end, gives the slot back, and answers everyone who still waits, in
    /// this order: no copy of a store holds up the record, and no incarnation lives beside it.
    /// What it did goes to its remote before that, if its role wants so, and its workspace to where the town is shipped.
    /// Nothing is logged or counted after the slot is given back, but what is found out about a crash: the next start may be at
    /// work on another thread. Of code that a bundler made, the record is logged when the places of its sources are
    /// known, and callers that wait for its turn or its start are answered after that.
    /// Yields when the next incarnation is due, if one is.
    pub(super) async fn finish(&mut self, ended: IncarnationEnd) -> Option<Instant> {
        let IncarnationEnd { mut exit, in_flight, mut remains } = ended;
        self.explain_eviction(&mut exit);
        self.explain_halt(&mut exit);
        self.blame_snapshot(&exit);
        let class = exit.reason.class();
        if class == ExitClass::Evicted {
            // A dump would take more memory than the agent gives back.
            remains = None;
        }
        let crash_id = self.reporter.crash_id(&exit);
        let may_restart = !self.container.is_draining();
        let leaves_mail = self.leaves_mail(&exit);
        let context =
            EndContext { crash_id: crash_id.clone(), in_flight, may_restart, leaves_mail };
        let meter = &self.state.instance_context.meter;
        meter.host_work(|| self.guard.report_end(&self.reporter, &exit, context));
        // Only now that its end is reported: a host that dies before says that this was under way.
        self.clear_in_flight();
        let refused = (!self.state.is_answered())
            .then(|| start_error(&exit, self.deadline.into_std(), crash_id.clone()));
        if let Some(error) = &refused {
            self.reporter.not_started(error);
        }
        match class {
            // To restart it costs the host the same, no matter which is to blame.
            ExitClass::Fault | ExitClass::Host | ExitClass::Forced => {
                self.state.start.probation.died();
            }
            // A program is one turn.
            ExitClass::Done => self.state.start.probation.survived(),
            ExitClass::Asked | ExitClass::Evicted | ExitClass::Halted => {}
        }
        let keeping = self.keep_core(remains, crash_id.as_deref()).await;
        self.end_tools().await;
        let is_saved = self.save_work(&exit).await;
        self.ship_workspace(is_saved).await;
        self.release_workspace().await;
        let After { backoff, unanswered, logged } = self.guard.release(keeping);
        let state = Arc::clone(&self.state);
        // Answered after the record is written, so that the caller can read it.
        let answers = move || {
            if let Some(error) = refused {
                state.answer(Err(error));
            }
            if let Some((mut envelope, report)) = unanswered {
                answer(&mut envelope, report);
            }
        };
        match logged {
            Some(logged) => self.after(logged, answers),
            None => answers(),
        }
        backoff.map(|backoff| Instant::now() + backoff)
    }

    /// Whether what waits is for the next start, should this one not be restarted: another one replaces it, or it never had
    /// any of it because its start failed, where it had no workspace or what waits was another's.
    fn leaves_mail(&self, exit: &Exit) -> bool {
        let inherits = self.state.start.inherits.load(Relaxed);
        let is_failed_start =
            exit.phase == Phase::Workspace || inherits && exit.phase.is_of_start();
        let is_asked_for = self.state.stop_order().is_some() || self.container.is_draining();
        self.state.is_replaced() || is_failed_start && !is_asked_for
    }

    fn after(&self, logged: Logged, answers: impl FnOnce() + Send + 'static) {
        let name = format!("answers of the end of {}", self.state.id());
        self.container.slow_spawner().spawn(name, async move {
            logged.wait().await;
            answers();
            Ok::<_, std::convert::Infallible>(())
        });
    }

    /// Nothing of it writes to its workspace any more when its work is saved, or the next one begins.
    async fn end_tools(&self) {
        let tools = self.state.publisher.tools();
        tools.end_all();
        if timeout(TOOLS_END, tools.all_ended()).await.is_err() {
            tracing::warn!(agent = %self.state.id(), "its native programs have not ended in {TOOLS_END:?}");
        }
    }

    /// One that was ended for want of memory says so, also when it had to be killed for it.
    fn explain_eviction(&self, exit: &mut Exit) {
        let order = self.state.stop_order();
        let Some(eviction) = order.as_ref().and_then(|order| order.eviction.as_ref()) else {
            return;
        };
        match exit.reason.class() {
            ExitClass::Forced | ExitClass::Evicted => {}
            // It ended by itself before.
            ExitClass::Done
            | ExitClass::Asked
            | ExitClass::Fault
            | ExitClass::Host
            | ExitClass::Halted => return,
        }
        exit.reason = ExitReason::EvictedMemoryPressure;
        let mib = |bytes: u64| bytes / (1024 * 1024);
        exit.message = format!(
            "ended to save the others: {} of {} MiB of the container were used, {} of them by it; its \
             score {} was the largest ({})",
            mib(eviction.container_used_bytes),
            mib(eviction.container_limit_bytes),
            mib(eviction.used_bytes),
            eviction.score,
            exit.message
        );
    }

    /// One that was ended for a bound of its role says which, also when it had to be killed for it.
    fn explain_halt(&self, exit: &mut Exit) {
        let order = self.state.stop_order();
        let Some(halt) = order.as_ref().and_then(|order| order.halt.as_ref()) else { return };
        match exit.reason.class() {
            ExitClass::Asked | ExitClass::Forced => {}
            // It ended by itself before.
            ExitClass::Done
            | ExitClass::Fault
            | ExitClass::Host
            | ExitClass::Evicted
            | ExitClass::Halted => return,
        }
        exit.reason = halt.reason;
        exit.message = format!("{} ({})", halt.message, exit.message);
    }

    /// Hands over what a crash left. The store is gone before anything else of the agent may live, with a dump or
    /// without one.
    async fn keep_core(
        &self,
        remains: Option<Box<TrappedStore>>,
        crash_id: Option<&str>,
    ) -> Option<PendingDump> {
        let mut keeping = self.container.engine.keep_core(*remains?, crash_id?)?;
        keeping.released(DUMPING).await;
        Some(keeping)
    }
}

/// How long native programs that were killed are waited for.
const TOOLS_END: Duration = Duration::from_secs(3);

/// How long an agent that crashed waits until its core dump is copied, for those before it to be written.
const DUMPING: Duration = Duration::from_secs(2);

impl AgentHandle {
    /// Reports the end of an incarnation that the host waits for no longer: it was killed, and did not return
    /// from where it is for `waited`. Its task may still end later, and then reports nothing; its state stays as
    /// it is, because that is the task's. Does nothing for one that never lived, or whose end is reported.
    pub fn abandon(&self, waited: Duration) {
        if self.state.claim_end_report() {
            let (exit, crash_id) = Reporter::new(Arc::clone(&self.state)).abandoned(waited);
            self.state.abandoned_in(&exit, crash_id.as_deref());
        }
    }
}

#[cfg(test)]
mod tests;

//! The task of a start, from its reservation to the end of its last incarnation.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;

use super::base::Actor;
use super::reserve::Reserved;
use super::slot_guard::SlotGuard;
use super::task::StartTask;
use crate::engine::Component;
use crate::handle::AgentHandle;
use crate::incarnation::StartContext;
use crate::slot::Ticket;
use crate::upgrade::UpgradeStage;

impl StartTask {
    /// Begins with `first`, which has the slot's reservation.
    pub(crate) fn spawn(self, first: AgentHandle, ticket: Ticket, deadline: Instant) {
        // First of all: a task that is lost at once still gives the reservation back.
        let guard = SlotGuard::new(&first, ticket, &self.slot);
        let name = format!("agent {}", first.state.id());
        let spawner = self.start.container.spawner();
        let away = self.start.container.engine_facts.slow_lane.clone();
        let switch = self.start.probation.switch();
        let task = async move {
            let _closes = Closes(Arc::clone(&self.start));
            self.run(first, deadline, guard).await;
            Ok::<_, std::convert::Infallible>(())
        };
        spawner.spawn_migrating(name, away, switch, task);
    }

    async fn run(self, first: AgentHandle, deadline: Instant, guard: SlotGuard) {
        let mut actor = Actor::new(&self, first, deadline, guard);
        actor.patience = self.patience;
        let mut failures = 0;
        let (mut loaded, _commitment) = loop {
            let newer = self.start.upgrade.code();
            let again_at = match actor.reserve(newer.as_ref().unwrap_or(&self.code), failures).await
            {
                Reserved::Ready(loaded, commitment) => break (loaded, commitment),
                Reserved::Over => return,
                Reserved::Again(at) => at,
            };
            failures = failures.saturating_add(1);
            let Some((next, guard)) = actor.back_off_from_start(again_at).await else { return };
            let deadline = Instant::now() + self.start.spec.limits.start;
            actor = Actor::new(&self, next, deadline, guard);
        };
        self.start.upgrade.loaded(&loaded);
        while let Some(restart_at) = actor.run_incarnation(&loaded).await {
            let Some((next, guard)) = actor.back_off(restart_at).await else { return };
            loaded = self.start.upgrade.next().unwrap_or(loaded);
            self.start.set_code(loaded.code_digest());
            next.state.persist_restart().await;
            let deadline = Instant::now() + self.start.spec.limits.start;
            next.state.progress().loaded(deadline.into_std());
            actor = Actor::new(&self, next, deadline, guard);
        }
    }
}

/// The start is over: nobody waits for it to take up other code.
struct Closes(Arc<StartContext>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.upgrade.close(UpgradeStage::Gone);
    }
}

impl Actor<'_> {
    /// The incarnation from its instance to its end. Yields when the next one is due, if one is.
    async fn run_incarnation(&mut self, loaded: &Arc<dyn Component>) -> Option<Instant> {
        self.reporter.is_made_from(loaded);
        let ended = match self.start_instance(loaded).await {
            Ok((incarnation, ())) => {
                self.clear_in_flight();
                self.reporter.running(self.timings);
                self.state.start.inherits.store(false, Relaxed);
                // Nobody waits for the disk here.
                self.record_use().await;
                self.serve(incarnation).await
            }
            Err(ended) => ended,
        };
        self.finish(ended).await
    }
}

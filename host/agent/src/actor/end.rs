//! The end of an incarnation, also when its task could not tell it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_api::ExitView;
use bulkhead_log::{RunContext, now};
use bulkhead_types::restart::{Decision, PastEnd};
use bulkhead_types::{Exit, ExitClass, ExitReason, Input, Phase, StartPhase};

use bulkhead_runtime::{PendingDump, TrappedStore};
use bulkhead_store::database::Wanted;

use super::delivery::{self, Unanswered};
use super::{Actor, Ended, answer};
use crate::aftermath::Aftermath;
use crate::agent::AgentSlot;
use crate::board::AfterEnd;
use crate::handle::{AgentHandle, Shared};
use crate::mailbox::Envelope;
use crate::refusal::{StartError, StartFailure, TurnReport};
use crate::report::{End, Reporter, start_error};
use crate::slot::Ticket;

/// An incarnation's hold on the slot. Gives it back when the task could not: a panic of the host in it,
/// or a task that never ran.
pub(super) struct Tenure {
    slot: Arc<AgentSlot>,
    shared: Arc<Shared>,
    stage: Stage,
    counted: Option<Counted>,
    /// The end is told, and the slot not given back.
    ending: Option<Ending>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Has the reservation.
    Reserved(Ticket),
    /// Holds the slot.
    Holds,
    /// Ended, and waits to come back.
    Rests,
    /// Has nothing to give back.
    Over,
}

/// One live agent.
struct Counted(Arc<RunContext>);

impl Actor<'_> {
    /// Writes the record, gives the store up, publishes the end, gives the slot back, and answers everyone who
    /// still waits, in this order: no copy of a store holds up the record, and no incarnation lives beside it.
    /// Yields when the next incarnation is due, if one is.
    pub(super) async fn finish(&mut self, ended: Ended) -> Option<Instant> {
        let Ended { mut exit, in_flight, mut remains } = ended;
        self.tell_eviction(&mut exit);
        self.blame_snapshot(&exit);
        let class = exit.reason.class();
        if class == ExitClass::Evicted {
            // A dump would take more memory than the agent gives back.
            remains = None;
        }
        let crash_id = self.reporter.crash_id(&exit);
        let may_restart = !self.container.is_draining();
        let told = Told { crash_id: crash_id.clone(), in_flight, may_restart };
        self.tenure.tell(&self.reporter, &exit, told);
        // Only now that its end is told: a host that dies before says that this was under way.
        self.is_through();
        let keeping = self.keep_core(remains, crash_id.as_deref()).await;
        let After { backoff, unanswered } = self.tenure.release(keeping);
        match class {
            // To restart it costs the host the same, whoever is to blame.
            ExitClass::Fault | ExitClass::Host | ExitClass::Forced => {
                self.shared.start.probation.died();
            }
            ExitClass::Done | ExitClass::Asked | ExitClass::Evicted => {}
        }
        // Told after the record is written, so that whoever asked can read it.
        self.refuse(start_error(&exit, self.deadline, crash_id));
        if let Some((mut envelope, report)) = unanswered {
            answer(&mut envelope, report);
        }
        backoff.map(|backoff| Instant::now() + backoff)
    }

    /// One that was ended for want of memory says so, also when it had to be killed for it.
    fn tell_eviction(&self, exit: &mut Exit) {
        let order = self.shared.stop_order();
        let Some(eviction) = order.as_ref().and_then(|order| order.eviction.as_ref()) else {
            return;
        };
        match exit.reason.class() {
            ExitClass::Forced | ExitClass::Evicted => {}
            // It ended by itself before.
            ExitClass::Done | ExitClass::Asked | ExitClass::Fault | ExitClass::Host => return,
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

    /// Hands over what a crash left. The store is gone before anything else of the agent may live, with a dump or
    /// without one.
    async fn keep_core(
        &self,
        remains: Option<Box<TrappedStore>>,
        crash_id: Option<&str>,
    ) -> Option<PendingDump> {
        let dumps = self.container.runtime.core_dumps()?;
        let mut keeping = dumps.keep(*remains?, crash_id?);
        keeping.released(DUMPING).await;
        Some(keeping)
    }
}

/// What an end is told with.
struct Told {
    crash_id: Option<String>,
    /// The message whose turn it was.
    in_flight: Option<Envelope>,
    may_restart: bool,
}

/// An end that is told, of an incarnation that still holds the slot.
struct Ending {
    view: ExitView,
    reason: ExitReason,
    then: AfterEnd,
    after: After,
    /// What is still to be found out about it.
    aftermath: Option<Aftermath>,
}

/// What follows from an end.
#[derive(Default)]
struct After {
    /// How long until the agent comes back, if it does.
    backoff: Option<Duration>,
    /// The message whose turn it was, when nobody is to wait for it any more.
    unanswered: Option<Unanswered>,
}

/// How long an agent that crashed waits until its core dump is copied, for those before it to be written.
const DUMPING: Duration = Duration::from_secs(2);

impl Tenure {
    /// Of an incarnation that has the reservation.
    pub(super) fn new(agent: &AgentHandle, ticket: Ticket, slot: &Arc<AgentSlot>) -> Self {
        let (slot, shared) = (Arc::clone(slot), Arc::clone(&agent.shared));
        Self { slot, shared, stage: Stage::Reserved(ticket), counted: None, ending: None }
    }

    /// Of an incarnation that holds the slot.
    pub(super) fn holding(agent: &AgentHandle, slot: &Arc<AgentSlot>) -> Self {
        let (slot, shared) = (Arc::clone(slot), Arc::clone(&agent.shared));
        let mut tenure = Self { slot, shared, stage: Stage::Over, counted: None, ending: None };
        tenure.begins();
        tenure
    }

    /// The incarnation holds the slot now, and counts as live.
    pub(super) fn begins(&mut self) {
        let context = Arc::clone(&self.shared.start.container.context);
        context.agent_began();
        self.shared.begin();
        self.counted = Some(Counted(context));
        self.stage = Stage::Holds;
    }

    /// The reservation that it has, if it has one.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match self.stage {
            Stage::Reserved(ticket) => Some(ticket),
            Stage::Holds | Stage::Rests | Stage::Over => None,
        }
    }

    /// Gives the reservation up. Nothing lived.
    pub(super) fn withdraw(&mut self) {
        if let Some(ticket) = self.ticket() {
            self.slot.withdraw(ticket);
        }
        self.stage = Stage::Over;
        self.shared.board.transition(Input::Ended { normal: true });
        let (reason, text) = (ExitReason::StartFailed, "it was never running");
        self.answer_mail(reason, text, None);
        self.shared.retire(&self.slot);
    }

    /// Gives the reservation up for others to see. Says whether it is made again, if that is what comes `then`.
    pub(super) fn fail(&mut self, error: &StartError, then: AfterEnd) -> bool {
        let reason = ExitReason::StartFailed;
        let (at, message) = (now(), error.message.clone());
        let exit = ExitView { reason: reason.as_str().to_owned(), message, at, crash_id: None };
        self.shared.board.end(exit, false, then);
        let is_to_rest = matches!(then, AfterEnd::Rest(_));
        if self.ticket().is_some_and(|ticket| self.slot.fail(ticket, is_to_rest)) {
            self.stage = Stage::Rests;
            return true;
        }
        self.stage = Stage::Over;
        if is_to_rest {
            // A start or a stop took it over at this moment.
            self.shared.board.end_rest();
        }
        self.answer_mail(reason, &error.message, None);
        false
    }

    /// Somebody else has the slot.
    pub(super) fn is_over(&mut self) {
        self.stage = Stage::Over;
    }

    /// Decides what follows from the end, and tells both. The slot stays held.
    fn tell(&mut self, reporter: &Reporter, exit: &Exit, told: Told) {
        let Told { crash_id, in_flight, may_restart } = told;
        let shared = Arc::clone(&self.shared);
        let number = shared.incarnation();
        let (at, fingerprint) = (now(), exit.fingerprint());
        let past = PastEnd::new(exit, at, number, fingerprint.clone(), crash_id.clone());
        // How long things last is by a clock that nobody sets.
        let uptime = Some(shared.start.container.context.uptime());
        let component_sha256 = shared.start.component.get().copied();
        let past = PastEnd { run_uptime: uptime, component_sha256, ..past };
        let lived = shared.board.age();
        let rules = &shared.start.spec.restart;
        let decision = self.slot.decide(rules, past, lived, fastrand::f64(), may_restart);
        let restarts = self.slot.restarts();
        let attempts_in_window = restarts.attempts_in_window(rules, at, uptime);
        // Before anybody can see the end.
        let wanted = shared.note_end(exit.reason, &decision, may_restart, restarts.into());
        let message_id = in_flight.as_ref().map(|envelope| envelope.message.id.clone());
        let end = End {
            exit,
            at,
            lived,
            crash_id,
            fingerprint,
            message_id,
            decision,
            attempts_in_window,
        };
        // A drain that waits no longer tells it in place of the task.
        let told = shared.take_end();
        let aftermath = if told { reporter.ended(&end) } else { None };
        let (then, backoff) = match end.decision {
            Decision::Stay => (AfterEnd::Stay, None),
            Decision::Retry { at, backoff } => (AfterEnd::Rest(at), Some(backoff)),
            Decision::Quarantine(_) => (AfterEnd::Quarantine, None),
        };
        let is_wanted = wanted == Wanted::Running && then != AfterEnd::Quarantine;
        let order = shared.stop_order().map(|order| order.reason);
        let follows = delivery::then(backoff.is_some(), is_wanted, order);
        // After the records, and before anybody can take over what waits.
        let unanswered = in_flight
            .and_then(|envelope| shared.ended_in(envelope, exit, end.crash_id.as_deref(), follows));
        if !is_wanted {
            shared.forgets_messages();
        }
        let (view, reason, after) = (end.view(), exit.reason, After { backoff, unanswered });
        self.ending = Some(Ending { view, reason, then, after, aftermath });
    }

    /// The store is gone: makes the end that was told visible, and gives the slot back.
    fn release(&mut self, keeping: Option<PendingDump>) -> After {
        let Some(ending) = self.ending.take() else { return After::default() };
        let Ending { view, reason, then, after, aftermath } = ending;
        let is_back = after.backoff.is_some();
        self.shared.board.end(view.clone(), reason.is_normal(), then);
        self.counted = None;
        // A rest that somebody took meanwhile is given up by `rest`, like one that is taken later.
        self.slot.end(self.shared.incarnation(), is_back);
        self.stage = if is_back { Stage::Rests } else { Stage::Over };
        self.shared.birth.logs.forget();
        if !is_back {
            self.answer_mail(reason, &view.message, view.crash_id);
            self.shared.retire(&self.slot);
        }
        if let Some(aftermath) = aftermath {
            aftermath.with_core_dump(keeping).spawn();
        }
        after
    }

    /// The agent does not come back: nothing more is taken, and who waits is told.
    pub(super) fn close_mailbox(&mut self) {
        self.stage = Stage::Over;
        let published = self.shared.board.published();
        let crash_id = published.exit.and_then(|exit| exit.crash_id);
        let reason = self
            .shared
            .stop_order()
            .map_or(ExitReason::Drained, |order| super::exit_reason(order.reason));
        if reason == ExitReason::Stopped {
            self.shared.forgets_messages();
        }
        self.answer_mail(reason, "it was not to come back from its last end", crash_id);
    }

    fn answer_mail(&self, reason: ExitReason, message: &str, crash_id: Option<String>) {
        let is_over = !self.shared.is_for_next_run();
        for mut envelope in self.shared.start.mailbox.close().messages {
            if is_over {
                // Before its sender knows, as for one in its turn.
                self.shared.forgets(&envelope);
            }
            let (message, crash_id) = (message.to_owned(), crash_id.clone());
            answer(&mut envelope, TurnReport::Ended { reason, message, crash_id });
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.agent_ended();
    }
}

impl Drop for Tenure {
    fn drop(&mut self) {
        let text = "the agent's task ended before its agent; the log has its panic";
        let reporter = Reporter::new(Arc::clone(&self.shared));
        match self.stage {
            Stage::Over => return,
            Stage::Reserved(_) => self.withdraw(),
            Stage::Holds => {
                if self.ending.is_none() {
                    let exit = Exit::new(ExitReason::HostError, Phase::Idle, text);
                    let crash_id = reporter.crash_id(&exit);
                    let in_flight = self.shared.start.mailbox.in_hand();
                    let told = Told { crash_id, in_flight, may_restart: false };
                    self.tell(&reporter, &exit, told);
                }
                if let Some((mut envelope, report)) = self.release(None).unanswered {
                    answer(&mut envelope, report);
                }
            }
            Stage::Rests => {}
        }
        if self.stage == Stage::Rests {
            self.slot.give_up_rest(self.shared.incarnation());
            self.shared.board.end_rest();
            self.close_mailbox();
        }
        let error = StartError::new(StartPhase::GuestStart, StartFailure::Host, text);
        if self.shared.answer(Err(error.clone())) {
            reporter.not_started(&error);
        }
    }
}

#[cfg(test)]
mod tests;

//! An incarnation's hold on the slot, and what its end leaves to others.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_log::{RunContext, now};
use bulkhead_runtime::PendingDump;
use bulkhead_store::database::Wanted;
use bulkhead_types::restart::{Decision, PastEnd};
use bulkhead_types::{Exit, ExitClass, ExitReason, ExitSummary, Input, Phase, Sender, StartPhase};

use super::delivery::{self, Unanswered};
use super::step::{answer, exit_reason};
use crate::crash_follow_up::{CrashFollowUp, Logged};
use crate::handle::AgentHandle;
use crate::incarnation::IncarnationState;
use crate::left_mail::Left;
use crate::mailbox::Envelope;
use crate::order::AgentSlot;
use crate::refusal::{StartError, StartFailure, TurnReport};
use crate::report::{EndReport, Reporter};
use crate::slot::Ticket;
use crate::state_publisher::AfterEnd;

/// An incarnation's hold on the slot. Gives it back when the task could not: a panic of the host in it,
/// or a task that never ran.
pub(super) struct SlotGuard {
    slot: Arc<AgentSlot>,
    state: Arc<IncarnationState>,
    stage: Stage,
    counted: Option<Counted>,
    /// The end is reported, and the slot not given back.
    ending: Option<Ending>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Has the reservation.
    Reserved(Ticket),
    /// Holds the slot.
    Holds,
    /// Ended, and waits to be restarted.
    Backoff,
    /// Has nothing to give back.
    Over,
}

/// One live agent.
struct Counted(Arc<RunContext>);

/// What an end is reported with.
#[derive(Default)]
pub(super) struct EndContext {
    pub crash_id: Option<String>,
    /// The message whose turn it was.
    pub in_flight: Option<Envelope>,
    pub may_restart: bool,
    /// What waits for it waits for the next start, if it is not restarted.
    pub leaves_mail: bool,
}

/// An end that is reported, of an incarnation that still holds the slot.
struct Ending {
    exit: ExitSummary,
    then: AfterEnd,
    after: After,
    leaves_mail: bool,
    /// What is still to be found out about it.
    follow_up: Option<CrashFollowUp>,
}

/// What follows from an end.
#[derive(Default)]
pub(super) struct After {
    /// How long until the agent is restarted, if it is.
    pub backoff: Option<Duration>,
    /// The message whose turn it was, when nobody is to wait for it any more.
    pub unanswered: Option<Unanswered>,
    /// What answers wait for, if the record of the crash is not logged yet.
    pub logged: Option<Logged>,
}

impl SlotGuard {
    /// Of an incarnation that has the reservation.
    pub(super) fn new(agent: &AgentHandle, ticket: Ticket, slot: &Arc<AgentSlot>) -> Self {
        let (slot, state) = (Arc::clone(slot), Arc::clone(&agent.state));
        Self { slot, state, stage: Stage::Reserved(ticket), counted: None, ending: None }
    }

    /// Of an incarnation that holds the slot.
    pub(super) fn holding(agent: &AgentHandle, slot: &Arc<AgentSlot>) -> Self {
        let (slot, state) = (Arc::clone(slot), Arc::clone(&agent.state));
        let mut guard = Self { slot, state, stage: Stage::Over, counted: None, ending: None };
        guard.begins();
        guard
    }

    /// The incarnation holds the slot now, and counts as live.
    pub(super) fn begins(&mut self) {
        let context = Arc::clone(&self.state.start.container.context);
        context.agent_began();
        self.state.begin();
        self.counted = Some(Counted(context));
        self.stage = Stage::Holds;
    }

    /// The reservation that it has, if it has one.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match self.stage {
            Stage::Reserved(ticket) => Some(ticket),
            Stage::Holds | Stage::Backoff | Stage::Over => None,
        }
    }

    /// Gives the reservation up. Nothing lived. `leaves_mail`: what was sent to it is for the next start.
    pub(super) fn withdraw(&mut self, leaves_mail: bool) {
        if leaves_mail {
            let left = self.close_for_next_start();
            self.report_lost(self.state.start.left_mail.leave_last(left));
        }
        if let Some(ticket) = self.ticket() {
            self.slot.withdraw(ticket);
        }
        self.stage = Stage::Over;
        self.state.publisher.transition(Input::Ended { normal: true });
        let (reason, text) = (ExitReason::StartFailed, "it was never running");
        self.answer_mail(reason, text, None);
        self.state.retire(&self.slot);
    }

    /// Gives the reservation up for others to see. Says whether it is made again, if that is what comes `then`.
    pub(super) fn fail(&mut self, error: &StartError, then: AfterEnd) -> bool {
        let reason = ExitReason::StartFailed;
        let (at, message) = (now(), error.message.clone());
        let exit = ExitSummary { reason, message, at, crash_id: None };
        self.state.publisher.end(exit, false, then);
        let backs_off = matches!(then, AfterEnd::Backoff(_));
        if self.ticket().is_some_and(|ticket| self.slot.fail(ticket, backs_off)) {
            self.stage = Stage::Backoff;
            return true;
        }
        self.stage = Stage::Over;
        if backs_off {
            // A start or a stop took it over at this moment.
            self.state.publisher.end_backoff();
        }
        self.answer_mail(reason, &error.message, None);
        false
    }

    /// Somebody else has the slot.
    pub(super) fn is_over(&mut self) {
        self.stage = Stage::Over;
    }

    /// Decides what follows from the end, and reports both. The slot stays held.
    pub(super) fn report_end(&mut self, reporter: &Reporter, exit: &Exit, context: EndContext) {
        let EndContext { crash_id, in_flight, may_restart, leaves_mail } = context;
        let state = Arc::clone(&self.state);
        let number = state.incarnation();
        let (at, fingerprint) = (now(), exit.fingerprint());
        let past = PastEnd::new(exit, at, number, fingerprint.clone(), crash_id.clone());
        // How long things last is by a clock that nobody sets.
        let uptime = Some(state.start.container.context.uptime());
        let past = PastEnd { run_uptime: uptime, code_sha256: state.start.code(), ..past };
        let lived = state.publisher.age();
        let rules = &state.start.spec.restart;
        let succession = state.start.upgrade.ended(exit.reason.class(), &exit.message);
        let decision = match succession {
            Some(_) if may_restart && self.slot.is_wanted(number) => {
                Decision::Retry { at, backoff: Duration::ZERO }
            }
            _ => self.slot.decide(rules, past, lived, fastrand::f64(), may_restart),
        };
        let restarts = self.slot.restarts();
        let attempts_in_window = restarts.attempts_in_window(rules, at, uptime);
        // Before anybody can see the end.
        let wanted = state.persist_end(exit.reason, &decision, may_restart, restarts.into());
        let message_id = in_flight.as_ref().map(|envelope| envelope.message.id.clone());
        let end = EndReport {
            exit,
            at,
            lived,
            crash_id,
            fingerprint,
            message_id,
            decision,
            attempts_in_window,
            leaves_mail,
        };
        // A drain that waits no longer reported it in place of the task.
        let is_claimed = state.claim_end_report();
        let follow_up = if is_claimed { reporter.ended(&end) } else { None };
        let (then, backoff) = match end.decision {
            Decision::Stay => (AfterEnd::Stay, None),
            Decision::Retry { at, backoff } => (AfterEnd::Backoff(at), Some(backoff)),
            Decision::Quarantine(_) => (AfterEnd::Quarantine, None),
        };
        let is_wanted = wanted == Wanted::Running && then != AfterEnd::Quarantine;
        let order = state.stop_order().map(|order| order.reason);
        // A prompt is its start's own: the next one has another.
        let is_left =
            leaves_mail && in_flight.as_ref().is_some_and(|it| it.message.sender != Sender::Prompt);
        let follows = delivery::next_delivery(backoff.is_some() || is_left, is_wanted, order);
        // After the records, and before anybody can take over what waits.
        // The new code is to blame, and not the message.
        let counts = exit.reason.class() == ExitClass::Fault && succession.is_none();
        let unanswered = in_flight.and_then(|envelope| {
            state.ended_in(envelope, exit, end.crash_id.as_deref(), follows, counts)
        });
        let is_over = !(leaves_mail && state.start.mailbox.has_mail_again());
        if !is_wanted && is_over {
            state.forgets_messages();
        }
        let logged = follow_up.as_ref().and_then(CrashFollowUp::logged);
        let (exit, after) = (end.summary(), After { backoff, unanswered, logged });
        self.ending = Some(Ending { exit, then, after, leaves_mail, follow_up });
    }

    /// The store is gone: makes the end that was reported visible, and gives the slot back.
    pub(super) fn release(&mut self, keeping: Option<PendingDump>) -> After {
        let Some(ending) = self.ending.take() else { return After::default() };
        let Ending { exit, then, after, leaves_mail, follow_up } = ending;
        let is_back = after.backoff.is_some();
        // One that was to be restarted may have been replaced since, and its stop order may still be on its way.
        let is_released = is_back && !self.slot.is_wanted(self.state.incarnation());
        if leaves_mail && !is_back || self.state.is_replaced() || is_released {
            // First of all: the next start begins when the slot is free.
            let left = self.close_for_next_start();
            self.report_lost(self.state.start.left_mail.leave_first(left));
        }
        self.state.publisher.end(exit.clone(), exit.reason.is_normal(), then);
        self.counted = None;
        // A backoff that somebody ended meanwhile is given up by `back_off`, like one that is ended later.
        self.slot.end(self.state.incarnation(), is_back);
        self.stage = if is_back { Stage::Backoff } else { Stage::Over };
        self.state.instance_context.logs.forget();
        if !is_back {
            self.answer_mail(exit.reason, &exit.message, exit.crash_id);
            self.state.retire(&self.slot);
        }
        if let Some(follow_up) = follow_up {
            follow_up.with_core_dump(keeping).spawn();
        }
        after
    }

    /// The agent is not restarted: nothing more is taken, and callers that wait are answered.
    pub(super) fn close_mailbox(&mut self) {
        self.stage = Stage::Over;
        let published = self.state.publisher.published();
        let crash_id = published.exit.and_then(|exit| exit.crash_id);
        let reason =
            self.state.stop_order().map_or(ExitReason::Drained, |order| exit_reason(order.reason));
        if reason == ExitReason::Stopped {
            self.state.forgets_messages();
        }
        self.answer_mail(reason, "it is not restarted after its last end", crash_id);
    }

    /// Somebody stopped the agent meanwhile, and no start takes over what it left.
    fn report_lost(&self, messages: usize) {
        if messages > 0 {
            tracing::warn!(agent = %self.state.id(), messages, "messages that waited for its next start are not delivered");
        }
    }

    /// Takes nothing more, and hands out what waits, with the record of what was delivered before.
    fn close_for_next_start(&self) -> Left {
        let start = &self.state.start;
        let journal = start.journal.get().or(start.adopted.get()).map(Arc::clone);
        Left { mail: start.mailbox.close(), journal }
    }

    fn answer_mail(&self, reason: ExitReason, message: &str, crash_id: Option<String>) {
        let is_over = !self.state.is_for_next_run();
        for mut envelope in self.state.start.mailbox.close().messages {
            if is_over {
                // Before its sender knows, as for one in its turn.
                self.state.forgets(&envelope);
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

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let text = "the agent's task ended before its agent; the log has its panic";
        let (state, reporter) = (Arc::clone(&self.state), Reporter::new(Arc::clone(&self.state)));
        let error = StartError::new(StartPhase::GuestStart, StartFailure::Host, text);
        // Before the slot is given back: the next start may be at work on another thread.
        let refuse = || {
            if !state.is_answered() {
                reporter.not_started(&error);
            }
        };
        match self.stage {
            Stage::Over => return,
            Stage::Reserved(_) => {
                refuse();
                self.withdraw(state.is_replaced());
            }
            Stage::Holds => {
                if self.ending.is_none() {
                    let exit = Exit::new(ExitReason::HostError, Phase::Idle, text);
                    let crash_id = reporter.crash_id(&exit);
                    let in_flight = state.start.mailbox.in_hand();
                    let leaves_mail = state.is_replaced();
                    let context =
                        EndContext { crash_id, in_flight, may_restart: false, leaves_mail };
                    self.report_end(&reporter, &exit, context);
                    refuse();
                }
                if let Some((mut envelope, report)) = self.release(None).unanswered {
                    answer(&mut envelope, report);
                }
            }
            Stage::Backoff => refuse(),
        }
        if self.stage == Stage::Backoff {
            self.slot.give_up_backoff(state.incarnation());
            state.publisher.end_backoff();
            self.close_mailbox();
        }
        state.answer(Err(error));
    }
}

//! An agent at work: messages, turns, and the guest's `shutdown`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bulkhead_runtime::{AgentFailure, CallLimits, ShutdownReason};
use bulkhead_telemetry::TraceContext;
use bulkhead_types::time::millis;
use bulkhead_types::{Exit, ExitReason, Input, Message, Next, Outcome, Phase, Sender};
use tokio::time::{Instant, sleep_until};

use super::awake::Awake;
use super::base::Actor;
use super::drive::{Driven, OnStop, StoppedBy, drive, stop_ordered};
use super::snapshot::TAKING;
use super::step::{IncarnationEnd, Step, answer, exit_reason, failed};
use crate::engine::{BoxInstance, CallEnd};
use crate::mailbox::Envelope;
use crate::refusal::{FinishedTurn, TurnReport};
use crate::upgrade::{NewCode, UpgradeStage};

/// How long an agent may be idle while the container goes away: long enough to be sent something by one
/// that still works.
const DRAIN_IDLE: Duration = Duration::from_secs(10);

/// What the span of a turn has whose agent returned an error.
const TURN_FAILED: &str = "turn_failed";

impl Actor<'_> {
    pub(super) async fn serve(&mut self, instance: BoxInstance) -> IncarnationEnd {
        if instance.is_command() {
            return self.run_command(instance).await;
        }
        let mut instance = instance;
        let mut idle = Box::pin(self.idle_for_long());
        loop {
            instance = match self.snapshot_if_due(instance).await {
                Ok((next, ())) => next,
                Err(ended) => return ended,
            };
            let due = self.snapshot_due();
            let envelope = tokio::select! {
                biased;
                order = stop_ordered(&mut self.stop) => {
                    return self.wind_down(instance, order.grace, order.reason).await;
                }
                new = self.state.start.upgrade.ordered() => {
                    instance = match self.leave_for(instance, &new).await {
                        Ok((next, ())) => next,
                        Err(ended) => return ended,
                    };
                    continue;
                }
                envelope = self.state.start.mailbox.next() => envelope,
                () = at(due) => continue,
                waited = &mut idle => return self.leave(instance, waited).await,
            };
            match self.work_on(instance, envelope).await {
                Ok((next, ())) => instance = next,
                Err(ended) => return ended,
            }
            idle = Box::pin(self.idle_for_long());
            if !self.state.start.mailbox.is_empty() {
                self.state.start.probation.yield_now().await;
            }
        }
    }

    /// Resolves when the agent had nothing to do for as long as its role allows, and says how long that
    /// was and why it ends. While the container goes away, that is not long, and it is the container's doing.
    fn idle_for_long(&self) -> impl Future<Output = (Duration, ShutdownReason)> + use<> {
        let (limit, container) =
            (self.state.start.spec.limits.idle, Arc::clone(&self.state.start.container));
        async move {
            let Some(limit) = limit else { return std::future::pending().await };
            let mut awake = Awake::default();
            let shorter = limit.min(DRAIN_IDLE);
            tokio::select! {
                () = awake.until(limit) => return (limit, ShutdownReason::Idle),
                () = container.drains() => {}
            }
            awake.until(shorter).await;
            (shorter, ShutdownReason::Drained)
        }
    }

    /// Ends for want of work.
    async fn leave(
        &mut self,
        instance: BoxInstance,
        (waited, reason): (Duration, ShutdownReason),
    ) -> IncarnationEnd {
        let grace = self.state.start.spec.limits.shutdown;
        let mut ended = self.wind_down(instance, grace, reason).await;
        if ended.exit.reason == exit_reason(reason) {
            let ms = millis(waited);
            ended.exit.message = format!("had nothing to do for {ms} ms: {}", ended.exit.message);
        }
        ended
    }

    /// Works on one message: a turn, and more as long as the agent says `continue`.
    async fn work_on(&mut self, mut instance: BoxInstance, mut envelope: Envelope) -> Step<()> {
        self.state.publisher.count_message();
        self.state.model_use.begin_message();
        let used_before = self.state.model_use.counts().tokens;
        self.state.delivers(&envelope);
        // A turn after the first is about the same message, and has nothing of it but its name.
        let mut continuation = None;
        let mut parent = envelope.trace.clone();
        loop {
            let message = continuation.as_ref().unwrap_or(&envelope.message);
            let (mut alive, outcome, grace) = match self.turn(instance, message, &mut parent).await
            {
                Ok(alive) => alive,
                Err(ended) => return Err(IncarnationEnd { in_flight: Some(envelope), ..ended }),
            };
            self.state.start.probation.survived();
            self.clear_suspicion();
            let next = outcome.as_ref().map_or(Next::Idle, |outcome| outcome.next);
            if outcome.is_ok() && grace.is_none() {
                // Before the message is done with: the code before gets it if this one goes.
                alive = match self.prove(alive, next).await {
                    Ok((alive, ())) => alive,
                    Err(ended) => {
                        return Err(IncarnationEnd { in_flight: Some(envelope), ..ended });
                    }
                };
            }
            let replied = outcome.as_ref().is_ok_and(|outcome| outcome.reply.is_some());
            self.state.model_use.turn_ended(next == Next::Continue, replied);
            if next == Next::Continue {
                self.turn_ended(grace.is_some());
                self.state.model_use.begin_turn();
                let Message { id, attempt, .. } = &envelope.message;
                let turn = Message::new(id.clone(), Sender::Continuation, "");
                continuation = Some(Message { attempt: *attempt, ..turn });
                // Turns that never wait would keep this thread, and no stop order would be seen.
                self.state.start.probation.yield_now().await;
                let Some((grace, reason)) = grace.or_else(|| self.stop_order()) else {
                    match self.snapshot_if_due(alive).await {
                        Ok((next, ())) => instance = next,
                        Err(ended) => {
                            return Err(IncarnationEnd { in_flight: Some(envelope), ..ended });
                        }
                    }
                    continue;
                };
                // The message is not done with: its sender is answered that the agent ended.
                let mut ended = self.wind_down(alive, grace, reason).await;
                ended.in_flight = Some(envelope);
                return Err(ended);
            }
            if next == Next::Done {
                // Before its sender knows: a start that follows the answer must not join what ends.
                self.state.publisher.transition(Input::StopRequested);
            }
            self.state.is_done_with(&envelope.message);
            // After it, and before anybody is answered: a drain goes on as soon as nobody has anything to do.
            self.turn_ended(grace.is_some() || next == Next::Done);
            match outcome {
                Ok(outcome) => {
                    let tokens = self.state.model_use.counts().tokens.since(used_before);
                    let finished = FinishedTurn { outcome, tokens, durable: None };
                    if grace.is_none() && next != Next::Done && self.ships_turn(&envelope) {
                        return self.answer_shipped(alive, envelope, finished).await;
                    }
                    answer(&mut envelope, TurnReport::Finished(finished));
                }
                Err(AgentFailure { code, message, .. }) => {
                    answer(&mut envelope, TurnReport::Failed { code, message });
                }
            }
            if next == Next::Done {
                self.forget_state();
                return Err(Exit::new(
                    ExitReason::Completed,
                    Phase::Idle,
                    "the agent reported that it is done",
                )
                .into());
            }
            if let Some((grace, reason)) = grace {
                return Err(self.wind_down(alive, grace, reason).await);
            }
            return Ok((alive, ()));
        }
    }

    /// The turn is over, unless the agent `ends` anyway.
    fn turn_ended(&self, ends: bool) {
        if !ends {
            self.state.publisher.transition(Input::TurnEnded);
        }
    }

    /// It came through a turn: whatever killed the host before, this was not it.
    fn clear_suspicion(&self) {
        if self.state.start.is_suspect.swap(false, Relaxed)
            && let Some(restarts) = self.task.slot.clear_host_deaths()
        {
            self.state.persist_cleared(restarts.into());
        }
    }

    /// The grace and the reason of a stop that was ordered between two turns.
    fn stop_order(&self) -> Option<(Duration, ShutdownReason)> {
        self.stop.borrow().as_ref().map(|order| (order.grace, order.reason))
    }

    /// One turn. Returns what is left of the grace when a stop was ordered meanwhile. A turn without
    /// `parent` is that of those that follow.
    async fn turn(
        &mut self,
        instance: BoxInstance,
        message: &Message,
        parent: &mut Option<TraceContext>,
    ) -> Result<
        (BoxInstance, Result<Outcome, AgentFailure>, Option<(Duration, ShutdownReason)>),
        IncarnationEnd,
    > {
        self.state.publisher.transition(Input::TurnBegan);
        let began = Instant::now();
        let cpu_before = self.state.instance_context.meter.usage().cpu_us;
        self.mark_in_flight(Phase::Handle.as_str(), Some(&message.id));
        let span = self.begin_span(Some(message), parent.as_ref());
        if parent.is_none() {
            *parent = span.scope().trace_context();
        }
        let call = instance.handle(message, self.turn_limits());
        let state = Arc::clone(&self.state);
        let Driven { end, stopped } = drive(call, &mut self.stop, OnStop::Grace, |_| {
            state.publisher.transition(Input::StopRequested);
        })
        .await;
        let ended = match &end {
            CallEnd::Returned(_, Ok(outcome)) => Ok(outcome.next),
            CallEnd::Returned(_, Err(_)) => Err(TURN_FAILED),
            CallEnd::Ended(exit, _) => Err(exit.reason.as_str()),
        };
        self.end_span(span, ended);
        match end {
            CallEnd::Returned(_, Err(failure)) if failure.fatal => {
                Err(failed(failure, Phase::Handle).into())
            }
            CallEnd::Returned(instance, result) => {
                let cpu_us = self.state.instance_context.meter.usage().cpu_us - cpu_before;
                self.reporter.turn(&message.id, &result, cpu_us, began.elapsed());
                self.remember_turn();
                self.clear_in_flight();
                let left = stopped.map(StoppedBy::left);
                Ok((instance, result, left))
            }
            CallEnd::Ended(exit, remains) => Err((exit, remains).into()),
        }
    }

    fn turn_limits(&self) -> CallLimits {
        let limits = &self.state.start.spec.limits;
        CallLimits { cpu: limits.cpu, wall: limits.wall, host_call: limits.host_call }
    }

    /// A stock component: one call, from its start to its end.
    async fn run_command(&mut self, instance: BoxInstance) -> IncarnationEnd {
        let why =
            "it is a program, without turns and without state: its next start has the new code"
                .into();
        self.state.start.upgrade.close(UpgradeStage::Refused { why });
        self.state.publisher.transition(Input::TurnBegan);
        self.mark_in_flight(Phase::Run.as_str(), None);
        let span = self.begin_span(None, None);
        let call = instance.run(self.turn_limits());
        let state = Arc::clone(&self.state);
        // It has no `shutdown` to be asked with.
        let Driven { end, stopped } = drive(call, &mut self.stop, OnStop::Kill, |_| {
            state.publisher.transition(Input::StopRequested);
        })
        .await;
        let ordered = stopped.map(|stopped| stopped.reason);
        let ended = match &end {
            CallEnd::Returned(_, Ok(())) => Ok(Next::Done),
            CallEnd::Returned(_, Err(_)) => Err(ExitReason::GuestExit.as_str()),
            CallEnd::Ended(exit, _) if exit.status == Some(0) => Ok(Next::Done),
            CallEnd::Ended(exit, _) => Err(exit.reason.as_str()),
        };
        self.end_span(span, ended);
        let mut left = None;
        let exit = match (end, ordered) {
            (CallEnd::Ended(exit, _), Some(reason)) if exit.reason == ExitReason::Killed => {
                Exit::new(exit_reason(reason), Phase::Run, "a program without shutdown was stopped")
            }
            (CallEnd::Ended(exit, _), _) if exit.status == Some(0) => {
                Exit::new(ExitReason::Completed, Phase::Run, exit.message)
            }
            (CallEnd::Ended(exit, remains), _) => {
                left = remains;
                exit
            }
            (CallEnd::Returned(_, Ok(())), _) => {
                Exit::new(ExitReason::Completed, Phase::Run, "the program ran to its end")
            }
            (CallEnd::Returned(_, Err(failure)), _) => {
                let mut exit = Exit::new(ExitReason::GuestExit, Phase::Run, failure.message);
                exit.status = Some(1);
                exit
            }
        };
        (exit, left).into()
    }

    /// Takes the last snapshot, and calls the guest's `shutdown` with what is left of the grace.
    async fn wind_down(
        &mut self,
        instance: BoxInstance,
        grace: Duration,
        reason: ShutdownReason,
    ) -> IncarnationEnd {
        self.state.publisher.transition(Input::StopRequested);
        let began = Instant::now();
        // Half of the grace is for the guest's own end.
        let instance = match self.last_snapshot(instance, grace / 2).await {
            Ok((instance, _)) => instance,
            Err(ended) => return of_the_grace(ended),
        };
        self.shut_down(instance, grace.saturating_sub(began.elapsed()), reason).await
    }

    /// Ends for another incarnation of this start, made from new code, if its state is kept. Messages that come
    /// meanwhile wait for that one: nothing shows that it stops.
    async fn leave_for(&mut self, instance: BoxInstance, new: &NewCode) -> Step<()> {
        if self.state.start.code() == Some(new.component.code_digest()) {
            self.state.start.upgrade.is_there();
            return Ok((instance, ()));
        }
        let (initial, limit) =
            (new.component.initial_memory_bytes(), self.state.start.spec.limits.memory_bytes);
        if initial > limit {
            let text = format!(
                "the new component has {initial} bytes of initial memory, and the agent's limit is {limit}"
            );
            self.state.start.upgrade.refuse(text);
            return Ok((instance, ()));
        }
        let (instance, attempt) = self.last_snapshot(instance, TAKING).await?;
        if let Some(why) = attempt.why_not() {
            self.state.start.upgrade.refuse(format!("its state could not be kept: {why}"));
            return Ok((instance, ()));
        }
        if self.stop_order().is_some() {
            return Ok((instance, ()));
        }
        self.state.start.upgrade.leaves();
        let grace = self.state.start.spec.limits.shutdown;
        let mut ended = self.shut_down(instance, grace, ShutdownReason::Superseded).await;
        if ended.exit.reason == ExitReason::Superseded {
            ended.exit.reason = ExitReason::Upgraded;
        }
        Err(ended)
    }

    /// Calls the guest's `shutdown`.
    async fn shut_down(
        &mut self,
        instance: BoxInstance,
        grace: Duration,
        reason: ShutdownReason,
    ) -> IncarnationEnd {
        let limits =
            CallLimits { cpu: grace, wall: grace, host_call: grace + Duration::from_secs(1) };
        self.mark_in_flight(Phase::Shutdown.as_str(), None);
        let call = instance.shutdown(reason, limits);
        let Driven { end, .. } = drive(call, &mut self.stop, OnStop::OnlyNow, |_| {}).await;
        let exit = match end {
            CallEnd::Returned(_, Ok(())) => {
                Exit::new(exit_reason(reason), Phase::Shutdown, "ended when asked to")
            }
            CallEnd::Returned(_, Err(failure)) => {
                let text =
                    format!("ended when asked to, saying {}: {}", failure.code, failure.message);
                Exit::new(exit_reason(reason), Phase::Shutdown, text)
            }
            CallEnd::Ended(exit, remains) => return of_the_grace((exit, remains).into()),
        };
        exit.into()
    }
}

/// Resolves at this time, if there is one.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// The last snapshot and the guest's `shutdown` have no limits of their own: CPU time and wall time of both
/// are one grace.
fn of_the_grace(mut ended: IncarnationEnd) -> IncarnationEnd {
    if let ExitReason::CpuDeadline | ExitReason::WallDeadline = ended.exit.reason {
        ended.exit.reason = ExitReason::Killed;
    }
    ended
}

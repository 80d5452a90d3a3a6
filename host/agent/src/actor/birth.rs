//! From `starting` to `running`: waiting for the incarnation before, a place, an instance, and the
//! guest's own `start`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_model::event::StartTimings;
use bulkhead_model::time::micros;
use bulkhead_model::{Exit, ExitReason, Input, Phase, StartPhase};
use bulkhead_runtime::{Call, CallEnd, CallLimits, ShutdownReason, StartInfo};

use super::{Actor, Ended, Step, exit_reason, failed, stop_ordered};
use crate::refusal::{StartError, StartFailure};
use crate::report::start_error;
use crate::slot::Turn;

impl Actor {
    /// Gets the agent to running. Whoever waits for the start is answered as soon as the answer is
    /// known, which may be before this incarnation may end.
    pub(super) async fn be_born(&mut self) -> Step<()> {
        self.take_turn().await?;
        self.take_place()?;
        let began = Instant::now();
        let limits = self.start_limits();
        let call = self.runtime.instantiate(&self.loaded, Arc::clone(&self.birth), limits);
        let (incarnation, ()) = self.begin(call, Phase::Instantiate).await?;
        self.timings.instantiate_us = micros(began.elapsed());
        let began = Instant::now();
        let info = StartInfo {
            incarnation: self.shared.tag.incarnation.0,
            restored: false,
            town_id: self.context.town_id(),
        };
        let call = incarnation.start(info, self.start_limits());
        let born = self.begin(call, Phase::Start).await?;
        self.timings.guest_start_us = micros(began.elapsed());
        Ok(born)
    }

    /// Waits until the incarnation before is gone. One that gives up keeps waiting before it ends,
    /// unless a successor has taken over the wait: an end that is published means that nothing of this
    /// id lives.
    async fn take_turn(&mut self) -> Result<(), Ended> {
        let began = Instant::now();
        let given_up = tokio::select! {
            biased;
            turn = self.shared.slot.turn() => match turn {
                Turn::Mine => None,
                Turn::TakenOver => Some(self.stopped_at_start(Phase::Instantiate)),
            },
            _ = stop_ordered(&mut self.stop) => {
                self.shared.board.transition(Input::StopRequested);
                Some(self.stopped_at_start(Phase::Instantiate))
            }
            () = tokio::time::sleep_until(self.deadline.into()) => Some(self.too_late()),
        };
        self.timings.wait_us += micros(began.elapsed());
        let Some(exit) = given_up else { return Ok(()) };
        self.refuse(start_error(&exit, self.deadline, None));
        self.shared.slot.turn().await;
        Err(exit.into())
    }

    fn too_late(&self) -> Exit {
        let limit_ms = self.shared.spec.limits.start.as_millis();
        let text = format!("waited {limit_ms} ms for the end of the incarnation before");
        Exit::new(ExitReason::StartFailed, Phase::Instantiate, text)
    }

    /// Tells everyone who waits for the start that it did not work out, and the log, once.
    pub(super) fn refuse(&self, error: StartError) {
        if self.shared.slot.answer(Err(error.clone())) {
            self.reporter.not_started(&error);
        }
    }

    /// Takes a place among all agents: the one of the incarnation before, else a free one.
    fn take_place(&mut self) -> Result<(), Ended> {
        let inherited = self.shared.slot.take_inheritance();
        let Some(place) = inherited.or_else(|| Arc::clone(&self.places).try_acquire_owned().ok())
        else {
            let (live, max) = (self.context.active_agents(), self.runtime.capacity().max_agents);
            let text = format!("{live} agents live, and the container holds {max}");
            let error = StartError::new(StartPhase::Admission, StartFailure::Capacity, &text);
            self.refuse(error);
            return Err(Exit::new(ExitReason::StartFailed, Phase::Instantiate, text).into());
        };
        self.guard.count(place);
        Ok(())
    }

    /// A start has one deadline for all its calls, and no other limit.
    fn start_limits(&self) -> CallLimits {
        let left = self.deadline.saturating_duration_since(Instant::now());
        CallLimits { cpu: left, wall: left, host_call: left + Duration::from_secs(1) }
    }

    /// Drives a call of the start. A stop order ends it at once: there is nothing to save yet.
    async fn begin(&mut self, mut call: Call<()>, phase: Phase) -> Step<()> {
        let mut ordered = false;
        let end = loop {
            tokio::select! {
                biased;
                end = &mut call => break end,
                order = stop_ordered(&mut self.stop), if !ordered => {
                    ordered = true;
                    self.shared.board.transition(Input::StopRequested);
                    tracing::debug!(agent = %self.shared.spec.id, by = order.by, "start was cancelled");
                    call.kill();
                }
            }
        };
        match end {
            CallEnd::Returned(..) if ordered => Err(self.stopped_at_start(phase).into()),
            CallEnd::Ended(exit) if ordered && exit.reason == ExitReason::Killed => {
                Err(self.stopped_at_start(phase).into())
            }
            CallEnd::Returned(incarnation, Ok(())) => Ok((incarnation, ())),
            CallEnd::Returned(_, Err(failure)) => {
                let mut exit = failed(failure, phase);
                exit.reason = ExitReason::StartFailed;
                Err(exit.into())
            }
            CallEnd::Ended(exit) => Err(self.with_figures(exit).into()),
        }
    }

    /// A start that ran out of time says how much it had and where it went.
    fn with_figures(&self, mut exit: Exit) -> Exit {
        if exit.reason == ExitReason::StartFailed {
            let limit_ms = self.shared.spec.limits.start.as_millis();
            let StartTimings { wait_us, compile_us, instantiate_us, .. } = self.timings;
            let [wait, compile, instantiate] =
                [wait_us, compile_us, instantiate_us].map(|us| us / 1000);
            exit.message = format!(
                "did not start within {limit_ms} ms: waited {wait} ms, loaded its component in \
                 {compile} ms, was instantiated in {instantiate} ms, the rest is its own"
            );
        }
        exit
    }

    fn stopped_at_start(&self, phase: Phase) -> Exit {
        let order = self.stop.borrow();
        let reason = order.as_ref().map_or(ShutdownReason::Stopped, |order| order.reason);
        Exit::new(exit_reason(reason), phase, "was stopped before it was running")
    }
}

//! From the turn to `running`: an instance, and the guest's own `start`.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_runtime::{CallLimits, ShutdownReason, StartInfo, WORKSPACE_UNUSABLE};
use bulkhead_store::ownership::unwritable;
use bulkhead_types::event::StartTimings;
use bulkhead_types::time::micros;
use bulkhead_types::{Exit, ExitReason, Input, Phase};
use tokio::time::Instant;

use super::base::Actor;
use super::drive::{Driven, OnStop, drive};
use super::first_mail::no_room_for_prompt;
use super::step::{Step, exit_reason, failed};
use crate::engine::{BoxCall, CallEnd, Component};

impl Actor<'_> {
    /// Gets the agent to running.
    pub(super) async fn start_instance(&mut self, loaded: &Arc<dyn Component>) -> Step<()> {
        self.acquire_workspace().await?;
        self.receive_workspace().await?;
        self.prepare_workspace().await?;
        self.mark_in_flight(Phase::Instantiate.as_str(), None);
        let (instance_context, limits) =
            (Arc::clone(&self.state.instance_context), self.start_limits());
        let call = loaded.instantiate(instance_context, limits);
        let (instance, ()) = self.begin(call, Phase::Instantiate).await?;
        self.queue_first().map_err(no_room_for_prompt)?;
        let (instance, restored) = self.restore(instance).await?;
        self.mark_in_flight(Phase::Start.as_str(), None);
        let began = Instant::now();
        let info = StartInfo {
            incarnation: self.number().0,
            restored,
            town_id: self.container.context.town_id().map(str::to_owned),
        };
        let call = instance.start(info, self.start_limits());
        let born = self.begin(call, Phase::Start).await?;
        self.timings.guest_start_us = micros(began.elapsed());
        Ok(born)
    }

    /// A start has one deadline for all its calls, and no other limit.
    pub(super) fn start_limits(&self) -> CallLimits {
        let left = self.deadline.saturating_duration_since(Instant::now());
        CallLimits { cpu: Duration::MAX, wall: left, host_call: left + Duration::from_secs(1) }
    }

    /// Drives a call of the start. A stop order ends it at once: there is nothing to save yet.
    pub(super) async fn begin(&mut self, call: BoxCall<()>, phase: Phase) -> Step<()> {
        let (state, began) = (Arc::clone(&self.state), Instant::now());
        let Driven { end, stopped } = drive(call, &mut self.stop, OnStop::Kill, |order| {
            state.publisher.transition(Input::StopRequested);
            tracing::debug!(agent = %state.id(), by = order.by, "start was cancelled");
        })
        .await;
        // Also of one that did not get to its end: a core module's own start function runs in it.
        if phase == Phase::Instantiate {
            self.timings.instantiate_us = micros(began.elapsed());
        }
        let ordered = stopped.is_some();
        match end {
            CallEnd::Returned(..) if ordered => Err(self.stopped_at_start(phase).into()),
            CallEnd::Ended(exit, _) if ordered && exit.reason == ExitReason::Killed => {
                Err(self.stopped_at_start(phase).into())
            }
            CallEnd::Returned(instance, Ok(())) => Ok((instance, ())),
            CallEnd::Returned(_, Err(failure)) => {
                let mut exit = failed(failure, phase);
                if exit.exceptions.is_empty() {
                    exit.reason = ExitReason::StartFailed;
                }
                Err(exit.into())
            }
            CallEnd::Ended(exit, remains) => Err((self.with_figures(exit), remains).into()),
        }
    }

    /// A start that ran out of time says how much it had and where it went; one without a workspace, whose the disk is.
    fn with_figures(&self, mut exit: Exit) -> Exit {
        if exit.reason == ExitReason::StartFailed {
            let limit_ms = self.patience.as_millis();
            let StartTimings { wait_us, compile_us, instantiate_us, .. } = self.timings;
            let [wait, compile, instantiate] =
                [wait_us, compile_us, instantiate_us].map(|us| us / 1000);
            exit.message = format!(
                "did not start within {limit_ms} ms: waited {wait} ms, loaded its component in \
                 {compile} ms, was instantiated in {instantiate} ms, the rest is its own"
            );
        }
        if exit.code.as_deref() == Some(WORKSPACE_UNUSABLE) {
            let whose = self.task.workspace.as_deref().and_then(unwritable);
            let whose = whose.map(|whose| {
                format!(
                    ": {whose}; make the state directory writable for it, or set `workspace = false` for the role"
                )
            });
            exit.message.extend(whose);
        }
        exit
    }

    pub(super) fn stopped_at_start(&self, phase: Phase) -> Exit {
        let order = self.stop.borrow();
        let reason = order.as_ref().map_or(ShutdownReason::Stopped, |order| order.reason);
        Exit::new(exit_reason(reason), phase, "was stopped before it was running")
    }
}

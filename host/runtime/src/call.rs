//! How a call into a guest runs, and how it is interrupted.
//!
//! ```text
//!             poll ──▶ returned ▶ CallEnd::Returned(incarnation, ..)
//!              ▲ │
//!              │ ├──▶ waits for a host call, or yields ──▶ Pending: the agent's task may change its lane
//!              ├─│──────────────────────────────────────────┘
//!              │ ├──▶ its agent used its percent of a core ──▶ not polled until it has some again (`throttle_wait`)
//!              ├─│──────────────────────────────────────────┘
//!              │ ├──▶ about to block its thread ──▶ one poll on a thread that may (`blocking`)
//!              └─│──────────────────────────────────────────┘
//!                └──▶ trapped, interrupted, host panic ▶ CallEnd::Ended(exit), and the store is gone
//! ```
//!
//! While the guest computes, the epoch callback enforces CPU time, wall time and kills, and the trap
//! carries a backtrace. While it waits in a host call there is nothing to interrupt: timers here drop
//! the whole call, and the store with it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bulkhead_types::time::millis;
use bulkhead_types::{Exit, ExitReason, Phase};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};

use crate::blocking::{BlockingOutcome, BlockingPoll};
use crate::core_dump::TrappedStore;
use crate::executor::Executor;
use crate::exit;
use crate::guest_instance::AgentFailure;
use crate::guest_instance::{Finished, Polled, Running, poll_guest};
use crate::incarnation::Incarnation;
use crate::instance_context::InstanceContext;
use crate::interrupt::Interrupt;
use crate::meter::CallLimits;
use crate::throttle_wait::ThrottleWait;

/// How a call ended.
pub enum CallEnd<T> {
    /// The guest returned, and can be called again.
    Returned(Incarnation, Result<T, AgentFailure>),
    /// The incarnation is over. What it left is there when its role asked for core dumps and the guest
    /// was interrupted in the middle of its code; it is gone when this is dropped.
    Ended(Exit, Option<Box<TrappedStore>>),
}

/// A call under way. Resolves to its [`CallEnd`]. Dropping it drops the incarnation.
pub struct Call<T: Send + 'static> {
    location: Location<T>,
    phase: Phase,
    host_call_limit: Duration,
    context: Arc<InstanceContext>,
    executor: Executor,
    wall_timer: Option<Pin<Box<Sleep>>>,
    host_timer: Option<(u64, Pin<Box<Sleep>>)>,
    throttle_wait: Option<ThrottleWait>,
}

enum Location<T> {
    Here(Running<T>),
    Blocking(BlockingPoll<T>),
    Gone,
}

impl<T: Send + 'static> Call<T> {
    pub(crate) fn new(
        future: Running<T>,
        phase: Phase,
        limits: CallLimits,
        continues: bool,
        context: Arc<InstanceContext>,
        executor: Executor,
    ) -> Self {
        context.meter.begin_call(&limits, phase, continues);
        context.logs.begin_call();
        Self {
            location: Location::Here(future),
            phase,
            host_call_limit: limits.host_call,
            context,
            executor,
            wall_timer: None,
            host_timer: None,
            throttle_wait: None,
        }
    }

    /// Gives the call a grace: it ends as `killed` after `time`, or as before if that is sooner. The
    /// guest sees it through `host.deadline`. Poll the call again afterwards.
    pub fn end_within(&mut self, time: Duration) {
        self.context.meter.end_within(time);
        self.wall_timer = None;
    }

    /// Ends the call as soon as possible. Poll it again afterwards: a guest in a host call ends at
    /// once, a computing one within about two epoch ticks of being scheduled.
    pub fn kill(&self) {
        self.context.meter.set_kill();
    }

    fn close(&mut self) {
        self.location = Location::Gone;
        self.context.meter.end_call();
    }

    /// Moves it to a thread that may block, of the lane that it is on.
    fn move_to_blocking_thread(&mut self, future: Running<T>, permit: OwnedSemaphorePermit) {
        let (context, executor) = (Arc::clone(&self.context), self.executor.clone());
        let blocking_poll =
            BlockingPoll::begin(&Handle::current(), future, permit, context, executor);
        self.location = Location::Blocking(blocking_poll);
    }

    /// Back from a blocking thread. `None`: the waiting task has to be polled again, where it can be woken.
    fn leave_blocking_thread(
        &mut self,
        outcome: BlockingOutcome<T>,
        cx: &Context<'_>,
    ) -> Option<Poll<CallEnd<T>>> {
        match outcome {
            BlockingOutcome::Finished(finished) => Some(Poll::Ready(self.finish(finished))),
            BlockingOutcome::Panicked(message) => Some(Poll::Ready(self.host_panicked(&message))),
            BlockingOutcome::Yielded(future) => {
                self.location = Location::Here(future);
                // Nobody woke it there, and its task may have to change its lane.
                cx.waker().wake_by_ref();
                Some(Poll::Pending)
            }
            BlockingOutcome::Waits(future) => {
                self.location = Location::Here(future);
                None
            }
        }
    }

    /// Leaves a call that hangs to the thread that it blocks.
    fn leave_behind(&mut self, blocking_poll: &BlockingPoll<T>, cut: &Interrupt) -> CallEnd<T> {
        let exit = exit::interrupted(cut, self.phase, &self.context);
        blocking_poll.give_up(&self.context);
        self.close();
        CallEnd::Ended(exit, None)
    }

    fn finish(&mut self, finished: Finished<T>) -> CallEnd<T> {
        self.close();
        match (finished.result, finished.instance) {
            (Ok(result), Some(instance)) => CallEnd::Returned(
                Incarnation::new(instance, Arc::clone(&self.context), self.executor.clone()),
                result,
            ),
            (Ok(_), None) => {
                let text = "the store was lost";
                CallEnd::Ended(Exit::new(ExitReason::HostError, self.phase, text), None)
            }
            (Err(error), instance) => self.context.meter.host_work(|| {
                let exit = exit::classify(&error, self.phase, &self.context);
                let spec = &self.context.spec;
                let remains = instance.filter(|_| spec.core_dump).and_then(|instance| {
                    TrappedStore::of(instance, error, Arc::clone(&spec.component)).map(Box::new)
                });
                CallEnd::Ended(exit, remains)
            }),
        }
    }

    fn host_panicked(&mut self, message: &str) -> CallEnd<T> {
        self.close();
        CallEnd::Ended(exit::host_panic(message, self.phase, &self.context), None)
    }

    /// Drops a call that waits in a host call.
    fn interrupt_host_call(&mut self, future: Running<T>, cut: Interrupt) -> CallEnd<T> {
        // First: a call that is dropped leaves its host function.
        let exit = exit::interrupted(&cut, self.phase, &self.context);
        self.close();
        drop(future);
        CallEnd::Ended(exit, None)
    }

    /// Whether the agent used its percent of a core. Its guest is not polled until it has some again.
    fn is_throttled(&mut self, cx: &mut Context<'_>) -> bool {
        let waited = self.throttle_wait.is_some();
        if ThrottleWait::poll(&mut self.throttle_wait, &self.context, cx).is_pending() {
            return true;
        }
        if waited {
            // The deadline is another one now.
            self.wall_timer = None;
        }
        false
    }

    /// Whether a call that waits in a host call has to end now. Arms the timers otherwise.
    fn overdue(&mut self, cx: &mut Context<'_>) -> Option<Interrupt> {
        let meter = &self.context.meter;
        if meter.is_killed() {
            return Some(Interrupt::Killed);
        }
        let wall = self.wall_timer.get_or_insert_with(|| Box::pin(sleep(meter.time_left())));
        if wall.as_mut().poll(cx).is_ready() {
            return Some(meter.wall_interrupt());
        }
        if meter.has_own_bounds() {
            return None;
        }
        let number = meter.host_call_number();
        if self.host_timer.as_ref().is_none_or(|(armed_for, _)| *armed_for != number) {
            self.host_timer = Some((number, Box::pin(sleep(self.host_call_limit))));
        }
        let (_, host) = self.host_timer.as_mut()?;
        if host.as_mut().poll(cx).is_ready() {
            let limit_ms = millis(self.host_call_limit);
            return Some(Interrupt::HostCall { limit_ms });
        }
        None
    }
}

impl<T: Send + 'static> Future for Call<T> {
    type Output = CallEnd<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CallEnd<T>> {
        let this = self.get_mut();
        loop {
            match std::mem::replace(&mut this.location, Location::Gone) {
                Location::Gone => panic!("a call was polled after it ended"),
                Location::Blocking(mut blocking_poll) => match blocking_poll.poll(cx) {
                    Poll::Pending => {
                        let context = Arc::clone(&this.context);
                        let overdue =
                            blocking_poll.poll_overdue(&context.meter, cx, |cx| this.overdue(cx));
                        if let Some(cut) = overdue {
                            return Poll::Ready(this.leave_behind(&blocking_poll, &cut));
                        }
                        this.location = Location::Blocking(blocking_poll);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(outcome)) => {
                        if let Some(polled) = this.leave_blocking_thread(outcome, cx) {
                            return polled;
                        }
                    }
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(this.host_panicked(&format!("panicked: {error}")));
                    }
                },
                Location::Here(mut future) => {
                    if this.is_throttled(cx) {
                        this.location = Location::Here(future);
                        return Poll::Pending;
                    }
                    match poll_guest(&mut future, cx, &this.context, &this.executor) {
                        Polled::Finished(finished) => return Poll::Ready(this.finish(finished)),
                        Polled::Panicked(message) => {
                            drop(future);
                            return Poll::Ready(this.host_panicked(&message));
                        }
                        Polled::ToBlock(permit) => this.move_to_blocking_thread(future, permit),
                        Polled::Yielded => {
                            this.location = Location::Here(future);
                            return Poll::Pending;
                        }
                        Polled::Waits => {
                            if let Some(cut) = this.overdue(cx) {
                                return Poll::Ready(this.interrupt_host_call(future, cut));
                            }
                            this.location = Location::Here(future);
                            return Poll::Pending;
                        }
                    }
                }
            }
        }
    }
}

impl<T: Send + 'static> Drop for Call<T> {
    fn drop(&mut self) {
        match &self.location {
            Location::Blocking(blocking_poll) => blocking_poll.give_up(&self.context),
            Location::Here(_) => {}
            // It ended, and the next one may have begun.
            Location::Gone => return,
        }
        self.context.meter.end_call();
    }
}

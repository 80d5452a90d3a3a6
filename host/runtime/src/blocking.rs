//! Calls that are about to block their thread.
//!
//! A host function that asks the disk may take as long as the disk likes, and a fast thread is everybody's. So before
//! it does, its call moves to a thread that may block ([`Blocking::thread`]), and goes on there until it waits for
//! something else, yields, or returns: of a burst of file calls the first pays for two wake-ups of a thread (some 20
//! µs), and the others cost what the system call costs.
//!
//! ```text
//!   Fast, Slow ── file call ─▶ a permit of the agent's share ─▶ BlockingPoll: one poll on a blocking thread
//!       ▲                                                         │ waits, yields, returns
//!       └─────────────────────────────────────────────────────────┘
//!                                    does not return in time ─▶ the call ends, and its store stays with the thread
//! ```
//!
//! A disk that hangs holds the thread and the store of the call. The call ends all the same when it is overdue; the
//! store goes when the disk answers, and its guest is never entered again. It is none of those that are at work any
//! more, so another may begin. The permit stays with the thread, so that an
//! agent that returns to the same disk blocks no more threads than its share.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Sleep, sleep};

use crate::executor::Executor;
use crate::guest_instance::Finished;
use crate::guest_instance::Polled;
use crate::guest_instance::Running;
use crate::guest_instance::poll_guest;
use crate::instance_context::InstanceContext;
use crate::interrupt::Interrupt;
use crate::lanes::{self, WorkPermit};
use crate::meter::Meter;

/// Threads that one agent may block at one time.
const THREADS_OF_AN_AGENT: usize = 4;

/// How long a call that is overdue may take to return from its host function before it is left there. A disk that
/// is only slow answers meanwhile.
const PATIENCE: Duration = Duration::from_millis(100);

/// The threads that may block, in shares.
pub(crate) fn shares() -> crate::shares::Shares {
    crate::shares::Shares::new(THREADS_OF_AN_AGENT)
}

/// How a poll on a blocking thread ended.
pub(crate) enum BlockingOutcome<T> {
    Finished(Finished<T>),
    Panicked(String),
    Yielded(Running<T>),
    Waits(Running<T>),
}

/// A call and its permit, until a thread has it.
type Waiting<T> = Arc<Mutex<Option<(Running<T>, OwnedSemaphorePermit)>>>;

/// A call on a blocking thread, or on its way to one.
pub(crate) struct BlockingPoll<T> {
    waiting: Waiting<T>,
    work_permit: WorkPermit,
    thread: JoinHandle<Option<BlockingOutcome<T>>>,
    /// What the call is overdue by, in which host call, and when it is left there.
    overdue: Option<(Interrupt, u64, Pin<Box<Sleep>>)>,
}

impl<T: Send + 'static> BlockingPoll<T> {
    /// Begins one on a thread of this runtime.
    pub(crate) fn begin(
        runtime: &Handle,
        future: Running<T>,
        permit: OwnedSemaphorePermit,
        context: Arc<InstanceContext>,
        executor: Executor,
    ) -> Self {
        let waiting: Waiting<T> = Arc::new(Mutex::new(Some((future, permit))));
        let work_permit = WorkPermit::default();
        let (for_thread, its_permit) = (Arc::clone(&waiting), work_permit.clone());
        let thread = runtime.spawn_blocking(move || {
            its_permit.acquire();
            let taken = take(&for_thread);
            let outcome = taken.map(|(future, permit)| {
                let outcome = lanes::blocking(|| blocking_poll(future, &context, &executor));
                drop(permit);
                outcome
            });
            its_permit.release();
            outcome
        });
        Self { waiting, work_permit, thread, overdue: None }
    }

    /// Whether it is over.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BlockingOutcome<T>, JoinError>> {
        // Only the one that gives the call up takes it away from its thread.
        Pin::new(&mut self.thread).poll(cx).map_ok(|outcome| {
            outcome.unwrap_or_else(|| BlockingOutcome::Panicked("lost a call".into()))
        })
    }

    /// A call that is overdue, as `overdue` says, and still in the same host function when its patience is over.
    pub(crate) fn poll_overdue(
        &mut self,
        meter: &Meter,
        cx: &mut Context<'_>,
        mut overdue: impl FnMut(&mut Context<'_>) -> Option<Interrupt>,
    ) -> Option<Interrupt> {
        loop {
            if self.overdue.is_none() {
                let cut = overdue(cx)?;
                self.overdue = Some((cut, meter.host_call_number(), Box::pin(sleep(PATIENCE))));
            }
            let (_, _, timer) = self.overdue.as_mut()?;
            if timer.as_mut().poll(cx).is_pending() {
                return None;
            }
            let (cut, number, _) = self.overdue.take()?;
            // One that computes is ended by its ticks.
            if meter.host_call_number() == number && meter.is_in_host_call() {
                return Some(cut);
            }
        }
    }

    /// Gives the call up. One that no thread has yet is dropped here. One that a thread has is never entered again.
    pub(crate) fn give_up(&self, context: &InstanceContext) {
        if take(&self.waiting).is_none() {
            self.work_permit.release();
            context.meter.set_kill();
            // What it still holds goes with its store. What is held from now on is the next incarnation's.
            context.meter.memory().end();
        }
    }
}

fn take<T>(waiting: &Waiting<T>) -> Option<(Running<T>, OwnedSemaphorePermit)> {
    waiting.lock().take()
}

/// One poll, which may block. A waiting task is polled again where it can be woken.
fn blocking_poll<T>(
    mut future: Running<T>,
    context: &InstanceContext,
    executor: &Executor,
) -> BlockingOutcome<T> {
    match poll_guest(&mut future, &mut Context::from_waker(Waker::noop()), context, executor) {
        Polled::Finished(finished) => BlockingOutcome::Finished(finished),
        Polled::Panicked(message) => BlockingOutcome::Panicked(message),
        Polled::Yielded => BlockingOutcome::Yielded(future),
        Polled::Waits | Polled::ToBlock(_) => BlockingOutcome::Waits(future),
    }
}

//! The threads that carry agents' requests, and the rules by which a request moves on.
//!
//! ```text
//!   a turn begins ─▶ moves on ─▶ the turn ends ─▶ moves on for 2 ms of CPU time ─▶ stands still
//! ```
//!
//! What a server sends costs time that nobody asked for, so it is read on threads of a low priority and not on those
//! that run turns. Between two turns nobody waits for a request: it stands still, its bytes wait in the kernel, and
//! the server is held up as by any slow reader.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::lanes::lower_priority;
use crate::meter::{Meter, thread_cpu_ns};

/// CPU time of a request between two turns: enough for a small response to arrive and its connection to be closed.
const BETWEEN_TURNS: Duration = Duration::from_millis(2);

/// Threads of a low priority. One runtime for all agents.
pub(crate) struct Carrier {
    /// There until this is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Carrier {
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder
            .worker_threads(threads.max(1))
            // For the name of a proxy.
            .max_blocking_threads(1)
            .thread_name("bulkhead-http")
            .on_thread_start(lower_priority)
            .enable_all();
        let runtime = crate::lanes::with_one_thread(&mut builder)?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Some(runtime), handle })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Carrier {
    /// Without waiting for what still runs.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Starts work for an agent there. Its CPU time is the agent's, between two turns it has [`BETWEEN_TURNS`] of it, and
/// it ends when what is returned is dropped.
pub(crate) fn carry<F>(threads: &Handle, meter: &Arc<Meter>, work: F) -> Carried<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let work = Work { work: Box::pin(work), meter: Arc::clone(meter), between_turns_ns: 0 };
    Carried(threads.spawn(work.run()))
}

/// Work under way. Dropping it ends it.
pub(crate) struct Carried<T>(JoinHandle<Option<T>>);

impl<T> Future for Carried<T> {
    /// `None`: the agent or the host ends.
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.0).poll(cx).map(|joined| match joined {
            Ok(done) => done,
            // As if it had happened here, where it is contained.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => None,
        })
    }
}

impl<T> Drop for Carried<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A future on behalf of an agent.
struct Work<F> {
    work: Pin<Box<F>>,
    meter: Arc<Meter>,
    /// CPU time since the last turn ended.
    between_turns_ns: u64,
}

impl<F: Future> Work<F> {
    /// `None` when there will be no turn any more.
    async fn run(mut self) -> Option<F::Output> {
        let mut turns = self.meter.turns();
        loop {
            let is_on = *turns.borrow_and_update();
            if is_on {
                self.between_turns_ns = 0;
            } else if self.is_spent() {
                if turns.changed().await.is_err() {
                    return None;
                }
                continue;
            }
            let moved_on = poll_fn(|cx| match self.poll(cx, is_on) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending if !is_on && self.is_spent() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            });
            tokio::select! {
                biased;
                changed = turns.changed() => if changed.is_err() {
                    return None;
                },
                moved_on = moved_on => if let Some(done) = moved_on {
                    return Some(done);
                },
            }
        }
    }

    fn is_spent(&self) -> bool {
        self.between_turns_ns >= BETWEEN_TURNS.as_nanos() as u64
    }

    fn poll(&mut self, cx: &mut Context<'_>, in_turn: bool) -> Poll<F::Output> {
        let before = thread_cpu_ns();
        let polled = self.work.as_mut().poll(cx);
        let used = thread_cpu_ns().saturating_sub(before).max(0).unsigned_abs();
        self.meter.charge(Duration::from_nanos(used));
        if !in_turn {
            self.between_turns_ns = self.between_turns_ns.saturating_add(used);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use bulkhead_types::{Limits, Phase};

    use super::*;
    use crate::meter::CallLimits;

    const LIMITS: CallLimits = CallLimits {
        cpu: Duration::from_secs(60),
        wall: Duration::from_secs(60),
        host_call: Duration::from_secs(60),
    };

    fn meter() -> Arc<Meter> {
        Arc::new(Meter::new(&Limits::default(), Arc::default(), Arc::default(), Arc::default()))
    }

    /// Counts as fast as it can, and lets others run.
    fn counting(count: &Arc<AtomicU32>) -> impl Future<Output = ()> + Send + use<> {
        let count = Arc::clone(count);
        async move {
            loop {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        }
    }

    #[track_caller]
    fn wait_until(what: &str, holds: impl Fn() -> bool) {
        let until = std::time::Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(std::time::Instant::now() < until, "in vain: {what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn work_moves_on_in_turns_and_hardly_between_them_and_its_time_is_charged() {
        let (carrier, meter) = (Carrier::start(1).unwrap(), meter());
        let count = Arc::new(AtomicU32::new(0));
        let moved = |from: u32| count.load(Ordering::SeqCst) > from;
        let work = carry(carrier.handle(), &meter, counting(&count));
        // What is queued behind it has run when it had its chance.
        let pass = || {
            let (send, receive) = std::sync::mpsc::sync_channel(1);
            carrier.handle().spawn(async move { send.send(()) });
            receive.recv().unwrap();
        };
        let wait_until_it_stands_still = || {
            wait_until("it stands still", || {
                let before = count.load(Ordering::SeqCst);
                (0..100).for_each(|_| pass());
                !moved(before)
            });
        };
        wait_until_it_stands_still();
        let cpu_us = meter.usage().cpu_us;
        assert!(cpu_us >= 2000, "{cpu_us} us were charged");
        for _ in 0..2 {
            let stands = count.load(Ordering::SeqCst);
            meter.begin_call(&LIMITS, Phase::Handle, false);
            wait_until("it moves", || moved(stands));
            wait_until("it is charged", || meter.usage().cpu_us > cpu_us + 4000);
            meter.end_call();
            wait_until_it_stands_still();
        }
        drop(work);
    }

    #[test]
    fn its_threads_are_nice() {
        let carrier = Carrier::start(1).unwrap();
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        carrier.handle().spawn(async move { send.send(crate::lanes::is_nice()) });
        assert!(receive.recv().unwrap());
    }
}

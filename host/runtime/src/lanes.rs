//! Two lanes.
//!
//! Turns start on the fast lane: one thread a core, of ordinary priority, each with a runtime of its
//! own. A call that has burned its slice is handed to the slow lane, a runtime whose threads have a
//! lower priority, so that short turns never queue behind long ones. When it waits for a host call it
//! is handed back.
//!
//! The fast threads do not share their tasks. A scheduler that steals wakes a second thread for each
//! message to look for more work, which its round trip shows; here nothing on a fast
//! thread lasts longer than a slice, and what lasts is balanced on the slow lane.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// Niceness of the slow lane: its threads get about a tenth of a fast one's share when both want to
/// run.
const SLOW_NICE: i32 = 10;

pub(crate) struct Lanes {
    fast: Vec<FastThread>,
    next: AtomicUsize,
    slow: Runtime,
}

struct FastThread {
    handle: Handle,
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Lanes {
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let threads = threads.max(1);
        let fast = (0..threads).map(FastThread::start).collect::<io::Result<_>>()?;
        let slow = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("bulkhead-slow")
            .on_thread_start(lower_priority)
            .enable_all()
            .build()?;
        Ok(Self { fast, next: AtomicUsize::new(0), slow })
    }

    /// A thread of the fast lane, each in its turn.
    pub(crate) fn fast(&self) -> &Handle {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        &self.fast[turn % self.fast.len()].handle
    }

    pub(crate) fn slow(&self) -> &Handle {
        self.slow.handle()
    }

    /// Ends both without waiting for what still runs on them.
    pub(crate) fn shut_down(self) {
        self.slow.shutdown_background();
        for FastThread { end, thread, .. } in self.fast {
            let _ = end.send(());
            let _ = thread.join();
        }
    }
}

impl FastThread {
    fn start(index: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(format!("bulkhead-fast-{index}"))
            .spawn(move || _ = runtime.block_on(ended))?;
        Ok(Self { handle, end, thread })
    }
}

thread_local! {
    static IS_NICE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is nicer than the others: it may wait long for its core.
pub(crate) fn is_nice() -> bool {
    IS_NICE.get()
}

/// Makes the calling thread nicer than the others.
pub(crate) fn lower_priority() {
    IS_NICE.set(true);
    // Linux keeps niceness by thread, and a thread id names one here. A refusal (seccomp) costs
    // fairness, not correctness.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), SLOW_NICE);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nice(handle: &Handle) -> i32 {
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        handle.spawn(async move {
            let tid = rustix::thread::gettid();
            let _ = send.send(rustix::process::getpriority_process(Some(tid)).unwrap());
        });
        receive.recv().unwrap()
    }

    #[test]
    fn only_the_slow_lane_is_nice() {
        let lanes = Lanes::start(1).unwrap();
        assert_eq!(nice(lanes.fast()) + SLOW_NICE, nice(lanes.slow()));
        lanes.shut_down();
    }

    #[test]
    fn fast_threads_take_turns() {
        let lanes = Lanes::start(2).unwrap();
        let id = |handle: &Handle| {
            let (send, receive) = std::sync::mpsc::sync_channel(1);
            handle.spawn(async move { send.send(std::thread::current().id()) });
            receive.recv().unwrap()
        };
        let first = id(lanes.fast());
        assert_ne!(first, id(lanes.fast()));
        assert_eq!(first, id(lanes.fast()));
        lanes.shut_down();
    }
}

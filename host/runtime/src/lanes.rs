//! Two lanes.
//!
//! Turns start on the fast lane, a tokio runtime of ordinary priority. A call that has burned its slice
//! is handed to the slow lane, a second runtime whose threads have a lower priority, so that short
//! turns never queue behind long ones. When it waits for a host call it is handed back.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// Niceness of the slow lane: its threads get about a tenth of a fast one's share when both want to
/// run.
const SLOW_NICE: i32 = 10;

pub(crate) struct Lanes {
    fast: Runtime,
    slow: Runtime,
}

impl Lanes {
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let fast = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("bulkhead-fast")
            .enable_all()
            .build()?;
        let slow = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("bulkhead-slow")
            .on_thread_start(lower_priority)
            .enable_all()
            .build()?;
        Ok(Self { fast, slow })
    }

    pub(crate) fn fast(&self) -> &Handle {
        self.fast.handle()
    }

    pub(crate) fn slow(&self) -> &Handle {
        self.slow.handle()
    }

    /// Ends both without waiting for what still runs on them.
    pub(crate) fn shut_down(self) {
        self.fast.shutdown_background();
        self.slow.shutdown_background();
    }
}

/// Makes the calling thread nicer than the others.
pub(crate) fn lower_priority() {
    // Linux keeps niceness by thread, and a thread id names one here. A refusal (seccomp) costs
    // fairness, not correctness.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), SLOW_NICE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_slow_lane_is_nice() {
        let lanes = Lanes::start(1).unwrap();
        let nice = |handle: &Handle| {
            let (send, receive) = std::sync::mpsc::sync_channel(1);
            handle.spawn(async move {
                let tid = rustix::thread::gettid();
                let _ = send.send(rustix::process::getpriority_process(Some(tid)).unwrap());
            });
            receive.recv().unwrap()
        };
        assert_eq!(nice(lanes.fast()) + SLOW_NICE, nice(lanes.slow()));
        lanes.shut_down();
    }
}

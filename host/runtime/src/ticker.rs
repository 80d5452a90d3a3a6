//! The epoch ticker: one thread that makes running guests look up, and sleeps while none runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use bulkhead_tasks::ask_for_short_slices;
use wasmtime::Engine;

/// Idle periods before the thread sleeps. Waking it costs a system call, so a steady flow of short
/// turns should find it awake.
const LINGER_TICKS: u32 = 16;

pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    handle: Thread,
}

#[derive(Default)]
struct Shared {
    /// Polls that are inside a guest right now.
    running: AtomicUsize,
    asleep: AtomicBool,
    ended: AtomicBool,
}

/// A guest runs while this exists.
pub(crate) struct Running<'a>(&'a Shared);

impl Ticker {
    pub(crate) fn start(engine: Engine, period: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("bulkhead-epoch".into()).spawn(move || {
                let _ = ask_for_short_slices();
                for_thread.tick(&engine, period);
            })?;
        Ok(Self { handle: thread.thread().clone(), shared, thread: Some(thread) })
    }

    pub(crate) fn enter(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        // SeqCst on both sides: either the thread sees the new count before it parks, or this sees
        // that it is about to park.
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.handle.unpark();
        }
        Running(&self.shared)
    }

    #[cfg(test)]
    fn is_asleep(&self) -> bool {
        self.shared.asleep.load(Ordering::SeqCst)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.handle.unpark();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn tick(&self, engine: &Engine, period: Duration) {
        let mut idle_ticks = 0;
        while !self.ended.load(Ordering::SeqCst) {
            std::thread::park_timeout(period);
            if self.running.load(Ordering::SeqCst) > 0 {
                idle_ticks = 0;
                engine.increment_epoch();
                continue;
            }
            idle_ticks += 1;
            if idle_ticks > LINGER_TICKS {
                self.sleep();
                idle_ticks = 0;
            }
        }
    }

    fn sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        while self.running.load(Ordering::SeqCst) == 0 && !self.ended.load(Ordering::SeqCst) {
            std::thread::park();
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eventually(fact: impl Fn() -> bool) {
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while !fact() {
            assert!(std::time::Instant::now() < until, "it never happened");
            std::thread::yield_now();
        }
    }

    #[test]
    fn it_sleeps_while_nothing_runs_and_wakes_when_something_does() {
        let ticker = Ticker::start(Engine::default(), Duration::from_millis(1)).unwrap();
        eventually(|| ticker.is_asleep());
        let running = ticker.enter();
        eventually(|| !ticker.is_asleep());
        drop(running);
        eventually(|| ticker.is_asleep());
    }
}

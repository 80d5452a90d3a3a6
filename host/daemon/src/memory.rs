//! The thread that watches over memory: it tells the black box how memory is, samples every agent, and tells
//! the log.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bulkhead_events::Sink;
use bulkhead_memory::{
    AgentsMemory, Caller, Kernel, Memory, MemoryConfig, Now, PressureWait, Woken,
};
use bulkhead_model::Event;

use crate::config::MemorySettings;
use crate::recorder::Recorder;

/// Between two looks at the kernel's figures: a dozen small files, a tenth of a millisecond. The black box
/// keeps a quarter of an hour of them.
const LOOK: Duration = Duration::from_secs(2);

/// Watches over memory until it is stopped.
pub struct MemoryWatch {
    thread: JoinHandle<()>,
    caller: Caller,
    shared: Arc<Shared>,
}

struct Shared {
    memory: Arc<Memory>,
    recorder: Arc<Recorder>,
    agents: OnceLock<Box<dyn AgentsMemory>>,
    stop: AtomicBool,
    /// No line of it comes after the last one of the log.
    hushed: Mutex<bool>,
}

/// What is done again and again, and when it is next.
struct Due {
    every: Duration,
    next: Instant,
}

impl MemoryWatch {
    /// The first look is taken before this returns. Agents are sampled from [`MemoryWatch::sample`] on.
    pub fn start(settings: &MemorySettings, recorder: Arc<Recorder>) -> std::io::Result<Self> {
        let kernel = Kernel::here();
        let wait = PressureWait::new(&kernel.pressure_file())?;
        let MemorySettings { budget_bytes, sample, report } = *settings;
        let memory = Memory::new(kernel, MemoryConfig { budget_bytes, sample }, Now::clock());
        memory.set_trigger(wait.has_trigger());
        let shared = Arc::new(Shared {
            memory: Arc::new(memory),
            recorder,
            agents: OnceLock::new(),
            stop: AtomicBool::new(false),
            hushed: Mutex::new(false),
        });
        shared.look(false);
        let (caller, for_thread) = (wait.caller(), Arc::clone(&shared));
        let builder = std::thread::Builder::new().name("bulkhead-memory".into());
        let thread = builder.spawn(move || for_thread.run(wait, sample, report))?;
        Ok(Self { thread, caller, shared })
    }

    /// What it sees.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.shared.memory
    }

    /// These are all agents.
    pub fn sample(&self, agents: impl AgentsMemory + 'static) {
        let _ = self.shared.agents.set(Box::new(agents));
        self.caller.call();
    }

    /// Samples all agents and tells how memory is, now.
    pub fn report(&self) {
        self.shared.sweep();
        self.shared.report();
    }

    /// It tells nothing after this. The black box is told on.
    pub fn hush(&self) {
        *self.shared.hushed.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// No look is taken after this.
    pub fn stop(self) {
        self.shared.stop.store(true, Release);
        self.caller.call();
        let _ = self.thread.join();
    }
}

impl Shared {
    fn run(&self, mut wait: PressureWait, sample: Duration, report: Duration) {
        let mut look = Due::after(LOOK);
        // The first sweep when there are agents, so that the first report has something to say.
        let (mut sweep, mut report) =
            (Due::after(Duration::ZERO).every(sample), Due::after(report));
        while !self.stop.load(Acquire) {
            let now = Instant::now();
            if look.is_due(now) {
                self.look(false);
            }
            if self.agents.get().is_some() {
                if sweep.is_due(now) {
                    self.sweep();
                }
                if report.is_due(now) {
                    self.report();
                }
            }
            let next = match self.agents.get() {
                Some(_) => look.next.min(sweep.next).min(report.next),
                None => look.next,
            };
            match wait.wait(next.saturating_duration_since(Instant::now())) {
                Woken::Pressure => self.look(true),
                Woken::Time | Woken::Called => {}
            }
        }
    }

    /// `triggered`: the kernel says that tasks wait for memory.
    fn look(&self, triggered: bool) {
        let looked = self.memory.look(triggered);
        self.recorder.sample(looked.figures);
        looked.events.into_iter().for_each(|event| self.tell(event));
    }

    fn sweep(&self) {
        if let Some(agents) = self.agents.get() {
            self.memory.sweep(&**agents);
        }
    }

    fn report(&self) {
        self.tell(self.memory.usage());
    }

    fn tell(&self, event: Event) {
        let hushed = self.hushed.lock().unwrap_or_else(PoisonError::into_inner);
        if !*hushed {
            self.recorder.record(event);
        }
    }
}

impl Due {
    fn after(every: Duration) -> Self {
        Self { every, next: Instant::now() + every }
    }

    fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// Whether it is time. What was missed is not made up for.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            let next = self.next + self.every;
            self.next = if next > now { next } else { now + self.every };
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_late_keeps_its_rhythm_and_is_not_made_up_for() {
        let mut due = Due::after(Duration::from_secs(2));
        let at = |seconds| due.next + Duration::from_secs(seconds);
        let (early, late, much_later) = (at(0) - Duration::from_millis(1), at(1), at(9));
        let second = at(2);
        assert!(!due.is_due(early));
        assert!(due.is_due(late));
        assert_eq!(due.next, second);
        assert!(due.is_due(much_later));
        assert!(!due.is_due(much_later));
    }
}

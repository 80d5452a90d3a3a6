//! The thread that watches memory: it polls the kernel, samples every agent, logs what it finds, and relieves
//! pressure.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bulkhead_log::{Held, SharedSink};
use bulkhead_types::Event;
use bulkhead_types::previous::MemoryFigures;
use parking_lot::Mutex;

use crate::{
    AgentsMemory, Caller, Guard, Kernel, Memory, MemoryConfig, Now, PressureWait, Relief, Woken,
};

/// Between two checks of the kernel's figures: a dozen small files, a tenth of a millisecond.
const LOOK: Duration = Duration::from_secs(2);

/// The same while much of it is used.
const CLOSE_LOOK: Duration = Duration::from_millis(100);

/// Between two figures for the black box, which keeps a quarter of an hour of them.
const RECORD: Duration = LOOK;

/// Between two times at which the host lets go of what it has no use for.
const TIDY: Duration = Duration::from_secs(5);

/// Between two checks at least, however fast guests grow.
const LEAST: Duration = Duration::from_millis(5);

/// Most events that wait for the run's first line. Each is a change of the state, so there are few.
const MAX_HELD: usize = 16;

/// Takes the figures of the kernel, once every two seconds: what is written to the black box.
pub type Record = Box<dyn Fn(MemoryFigures) + Send + Sync>;

/// Watches memory until it is stopped.
pub struct MemoryWatch {
    thread: JoinHandle<()>,
    caller: Caller,
    shared: Arc<Shared>,
}

struct Shared {
    memory: Arc<Memory>,
    sink: SharedSink,
    record: Record,
    agents: OnceLock<Agents>,
    guard: Mutex<Guard>,
    began: Instant,
    stop: AtomicBool,
    held: Mutex<Held<Event>>,
}

/// All agents, to look at and to act on.
struct Agents {
    memory: Box<dyn AgentsMemory>,
    relief: Box<dyn Relief>,
}

/// What is done again and again, and when it is next.
struct Due {
    every: Duration,
    next: Instant,
}

impl MemoryWatch {
    /// Polls the kernel once before it returns. Agents are sampled from [`MemoryWatch::watch`] on. `report` is the
    /// time between two events of `container.memory_usage`.
    ///
    /// # Errors
    ///
    /// The system gives no descriptor or no thread.
    pub fn start(
        config: MemoryConfig,
        report: Duration,
        sink: SharedSink,
        record: Record,
    ) -> std::io::Result<Self> {
        let kernel = Kernel::here();
        let wait = PressureWait::new(&kernel.pressure_file())?;
        let memory = Memory::new(kernel, config, Now::clock());
        memory.set_trigger(wait.has_trigger());
        let shared = Arc::new(Shared {
            memory: Arc::new(memory),
            sink,
            record,
            agents: OnceLock::new(),
            guard: Mutex::new(Guard::new(config.sheds)),
            began: Instant::now(),
            stop: AtomicBool::new(false),
            held: Mutex::new(Held::new(MAX_HELD)),
        });
        shared.poll(false, true);
        let (caller, for_thread) = (wait.caller(), Arc::clone(&shared));
        let builder = std::thread::Builder::new().name("bulkhead-memory".into());
        let thread = builder.spawn(move || for_thread.run(wait, config.sample, report))?;
        Ok(Self { thread, caller, shared })
    }

    /// What it sees.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.shared.memory
    }

    /// These are all agents, and the run's first line is written. `relief` gets what wakes the watch when guests have taken
    /// much of the room, or wait for some.
    pub fn watch(
        &self,
        memory: Box<dyn AgentsMemory>,
        relief: impl FnOnce(Caller) -> Box<dyn Relief>,
    ) {
        let relief = relief(self.caller.clone());
        let _ = self.shared.agents.set(Agents { memory, relief });
        let waited = self.shared.held.lock().open();
        waited.into_iter().for_each(|event| self.shared.log(event));
        self.caller.call();
    }

    /// Samples all agents and logs how memory is, now.
    pub fn report(&self) {
        self.shared.sweep();
        self.shared.report();
    }

    /// Ends the thread.
    pub fn stop(self) {
        self.shared.stop.store(true, Release);
        self.caller.call();
        let _ = self.thread.join();
    }
}

impl Shared {
    fn run(&self, mut wait: PressureWait, sample: Duration, report: Duration) {
        let began = Instant::now();
        let (mut look_at, mut looked_at) = (began + LOOK, began);
        let (mut record, mut tidy) = (Due::after(RECORD), Due::after(TIDY));
        // The first sweep when there are agents, so that the first report has something to say.
        let (mut sweep, mut report) =
            (Due::after(Duration::ZERO).every(sample), Due::after(report));
        while !self.stop.load(Acquire) {
            let now = Instant::now();
            if now >= look_at {
                let close = self.poll(false, record.is_due(now));
                looked_at = Instant::now();
                look_at = now + if close { CLOSE_LOOK } else { LOOK };
            }
            if self.agents.get().is_some() {
                if sweep.is_due(now) {
                    self.sweep();
                }
                if tidy.is_due(now) {
                    self.tidy();
                }
                if report.is_due(now) {
                    self.report();
                }
            }
            let next = match self.agents.get() {
                Some(_) => look_at.min(sweep.next).min(tidy.next).min(report.next),
                None => look_at,
            };
            match wait.wait(next.saturating_duration_since(Instant::now())) {
                Woken::Pressure => {
                    let close = self.poll(true, false);
                    looked_at = Instant::now();
                    look_at = looked_at + if close { CLOSE_LOOK } else { LOOK };
                }
                // Guests took much of the room, or one waits for some.
                Woken::Called => look_at = look_at.min(looked_at + LEAST),
                Woken::Time => {}
            }
        }
    }

    /// Looks, and does what follows. `triggered`: the kernel says that tasks wait for memory. Says whether
    /// to check again soon.
    fn poll(&self, triggered: bool, record: bool) -> bool {
        let polled = self.memory.poll(triggered);
        if record {
            (self.record)(polled.figures);
        }
        polled.events.into_iter().for_each(|event| self.log(event));
        let (Some(agents), Some(reading)) = (self.agents.get(), self.memory.reading()) else {
            return false;
        };
        let mut guard = self.guard.lock();
        guard.act(self.began.elapsed(), &reading, &*agents.relief)
    }

    fn sweep(&self) {
        if let Some(agents) = self.agents.get() {
            self.memory.sweep(&*agents.memory);
        }
    }

    /// Lets go of what nobody has a use for any more, when that is worth it.
    fn tidy(&self) {
        let Some(agents) = self.agents.get() else { return };
        let kept_bytes = agents.relief.tidy();
        self.memory.poll_heap(kept_bytes);
    }

    fn report(&self) {
        self.log(self.memory.usage());
    }

    fn log(&self, event: Event) {
        let passed = self.held.lock().pass(event);
        if let Some(event) = passed {
            self.sink.record(event);
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
    use bulkhead_log::Sink;
    use bulkhead_types::memory::Eviction;
    use bulkhead_types::{AgentId, Incarnation};

    use super::*;
    use crate::{AgentReading, Candidate};

    /// Counts what is logged.
    #[derive(Default)]
    struct Count(Mutex<usize>);

    impl Sink for Count {
        fn record(&self, _: Event) {
            *self.0.lock() += 1;
        }
    }

    /// No agents.
    struct Empty;

    impl AgentsMemory for Empty {
        fn for_each(&self, _: &mut dyn FnMut(&[AgentReading<'_>])) {}
    }

    impl Relief for Empty {
        fn give_room(&self, _: Option<u64>) {}
        fn wanted(&self) -> Option<u64> {
            None
        }
        fn deny_growths(&self, _: u64) {}
        fn is_alive(&self, _: &AgentId, _: Incarnation) -> bool {
            false
        }
        fn candidates(&self) -> Vec<Candidate> {
            Vec::new()
        }
        fn evict_tools(&self, _: u64) -> bool {
            false
        }
        fn evict(&self, _: &AgentId, _: Incarnation, _: Eviction, _: Duration) {}
        fn tidy(&self) -> u64 {
            0
        }
        fn release(&self) {}
        fn hold_starts(&self, _: bool) {}
    }

    #[test]
    fn a_watch_logs_nothing_before_the_first_line_of_the_run() {
        let count = Arc::new(Count::default());
        let logged = || *count.0.lock();
        let (config, sink) = (MemoryConfig::default(), Arc::clone(&count) as SharedSink);
        let record: Record = Box::new(|_| {});
        let hour = Duration::from_secs(3600);
        let watch = MemoryWatch::start(config, hour, sink, record).unwrap();
        watch.report();
        assert_eq!(logged(), 0, "it waits");
        watch.watch(Box::new(Empty), |_| Box::new(Empty));
        assert!(logged() >= 1, "what waited");
        watch.stop();
    }

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

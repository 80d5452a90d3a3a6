//! The memory of the container as all parts of the host see it.
//!
//! ```text
//!  kernel ── read (2 s) ──▶ the latest reading ──▶ pressure ──▶ lines of crossings
//!  agents ── sweep (5 s) ─▶ Sampler ─────────────▶ trends, the largest, GET /memory, crash records
//!                                   usage (30 s) ─▶ container.memory_usage
//! ```
//!
//! One thread calls the verbs; everyone may ask. Each lock is held for a few agents, or for one answer.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bulkhead_types::event::{MemoryPressure, MemoryUsageFailed};
use bulkhead_types::memory::{LargeAgent, MemorySample, MemorySources, MemoryUsage, mebibytes};
use bulkhead_types::previous::MemoryFigures;
use bulkhead_types::{AgentId, Event, Timestamp};
use parking_lot::{Mutex, MutexGuard};

use rustix::time::{ClockId, clock_gettime};

use crate::admission::{Admission, Shortage};
use crate::heap::{self, Heap};
use crate::kernel::{Faults, Kernel};
use crate::pressure::{Crossing, Pressure};
use crate::reading::Reading;
use crate::sampler::{AgentsMemory, Sampler, Totals};

/// Agents that lines and answers name as the largest.
pub const LARGEST: usize = 5;

/// An instant by two clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// By one that only goes forward.
    pub since: Duration,
    /// By the one on the wall.
    pub at: Timestamp,
}

/// Reads the time.
pub type Clock = Box<dyn Fn() -> Now + Send + Sync>;

/// How the memory of the container is watched.
#[derive(Debug, Clone, Copy)]
pub struct MemoryConfig {
    /// A limit below that of the kernel.
    pub budget_bytes: Option<u64>,
    /// Between two sweeps.
    pub sample: Duration,
    /// Agents are ended when memory is short.
    pub sheds: bool,
    /// What starts may commit.
    pub admission: Admission,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        let sample = Duration::from_secs(5);
        Self { budget_bytes: None, sample, sheds: true, admission: Admission::default() }
    }
}

/// The memory of the container.
pub struct Memory {
    kernel: Kernel,
    config: MemoryConfig,
    clock: Clock,
    has_trigger: OnceLock<bool>,
    /// Reads what other processes of this host have, in bytes.
    beside: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>,
    pub(crate) sampler: Mutex<Sampler>,
    /// One sweep at a time: see [`Memory::sweep`].
    sweeping: Mutex<()>,
    latest: Mutex<Latest>,
    sweeps: AtomicU64,
    last_sweep_ns: AtomicU64,
    longest_sweep_ns: AtomicU64,
}

#[derive(Default)]
struct Latest {
    reading: Option<Reading>,
    heap: Option<Heap>,
    kept_bytes: u64,
    pressure: Pressure,
    faults: Faults,
}

/// What a look at the kernel's figures came to.
#[derive(Debug)]
pub struct PollOutcome {
    /// For the black box: what the kernel says, without a budget.
    pub figures: MemoryFigures,
    /// What has to be reported.
    pub events: Vec<Event>,
}

/// The container's memory in numbers, for `GET /metrics`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Snapshot {
    /// The latest reading.
    pub reading: Option<Reading>,
    /// The heap when it was last asked for.
    pub heap: Option<Heap>,
    /// Memory is short.
    pub high: bool,
    /// What the last sweep saw.
    pub totals: Totals,
    /// Sweeps in this run.
    pub sweeps: u64,
    /// CPU time of the last one.
    pub last_sweep: Duration,
    /// CPU time of the longest one.
    pub longest_sweep: Duration,
}

impl Memory {
    /// Nothing is read yet.
    pub fn new(kernel: Kernel, config: MemoryConfig, clock: Clock) -> Self {
        Self {
            kernel,
            config,
            clock,
            has_trigger: OnceLock::new(),
            beside: OnceLock::new(),
            sampler: Mutex::default(),
            sweeping: Mutex::default(),
            latest: Mutex::default(),
            sweeps: AtomicU64::new(0),
            last_sweep_ns: AtomicU64::new(0),
            longest_sweep_ns: AtomicU64::new(0),
        }
    }

    /// A budget is for other processes of this host as well: `bytes` reads what they have. The first one counts.
    pub fn count_beside(&self, bytes: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.beside.set(Box::new(bytes));
    }

    // ---- what the memory thread does ----

    /// Reads what the kernel says. `triggered`: because its trigger fired.
    pub fn poll(&self, triggered: bool) -> PollOutcome {
        let now = (self.clock)();
        let mut faults = std::mem::take(&mut self.latest.lock().faults);
        let kernel_says = self.kernel.read(&mut faults);
        let beside = self.beside.get().map_or(0, |bytes| bytes());
        let reading = kernel_says.within(self.config.budget_bytes, beside);
        let failed = faults.take_new().into_iter();
        let mut events: Vec<_> = failed
            .map(|fault| {
                Event::MemoryUsageFailed(MemoryUsageFailed {
                    source: fault.source,
                    error: fault.error,
                })
            })
            .collect();
        let crossing = {
            let mut latest = self.latest.lock();
            latest.faults = faults;
            latest.reading = Some(reading);
            latest.pressure.read(now.since, &reading, triggered)
        };
        events.extend(crossing.map(|crossing| self.crossed(crossing, &reading)));
        PollOutcome { figures: kernel_says.figures(), events }
    }

    /// Samples every agent. A second sweep waits for the first.
    pub fn sweep(&self, agents: &dyn AgentsMemory) -> Totals {
        let _one = self.sweeping.lock();
        let began = thread_cpu();
        let reading = self.reading().unwrap_or_default();
        self.sampler().begin((self.clock)().since);
        // Nothing is locked while the agents are asked for, and an answer waits for some of them at most.
        agents.for_each(&mut |agents| {
            let mut sampler = self.sampler();
            agents.iter().for_each(|agent| sampler.take(agent));
        });
        let totals = self.sampler().end(&reading);
        let took = thread_cpu().saturating_sub(began);
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.last_sweep_ns.store(took, Relaxed);
        self.longest_sweep_ns.fetch_max(took, Relaxed);
        self.sweeps.fetch_add(1, Relaxed);
        totals
    }

    /// Asks the allocator. `kept_bytes` is what the host holds for nobody outside the heap.
    pub fn poll_heap(&self, kept_bytes: u64) {
        let heap = Heap::read();
        let mut latest = self.latest.lock();
        (latest.heap, latest.kept_bytes) = (heap, kept_bytes);
    }

    /// `container.memory_usage`, from the latest reading and the last sweep. Asks the allocator.
    pub fn usage(&self) -> Event {
        let heap = Heap::read();
        let reading = {
            let mut latest = self.latest.lock();
            latest.heap = heap;
            latest.reading.unwrap_or_default()
        };
        let limit_bytes = reading.limit.map(|limit| limit.bytes);
        let sampler = self.sampler();
        let totals = sampler.totals();
        Event::MemoryUsage(Box::new(MemoryUsage {
            rss_mb: reading.rss_bytes.map(mebibytes),
            heap_used_mb: heap.map(|heap| mebibytes(heap.used_bytes)),
            heap_total_mb: heap.map(|heap| mebibytes(heap.total_bytes)),
            external_mb: mebibytes(totals.used_bytes),
            agents: totals.agents,
            active_agents: totals.active_agents,
            limit_mb: limit_bytes.map(mebibytes),
            used_mb: reading.used_bytes.map(mebibytes),
            available_mb: reading.available_bytes.map(mebibytes),
            psi: reading.psi,
            oom_kills: reading.oom_kills,
            group_oom_kills: reading.group_oom_kills,
            limit_hits: reading.limit_hits,
            trend: sampler.trend(limit_bytes),
            largest: sampler.largest(LARGEST),
        }))
    }

    /// Whether the kernel reports pressure by itself. Said once, before anybody asks for the sources.
    pub fn set_trigger(&self, has_trigger: bool) {
        let _ = self.has_trigger.set(has_trigger);
    }

    // ---- what everyone may ask ----

    /// The latest reading, within the budget. `None` before the first.
    pub fn reading(&self) -> Option<Reading> {
        self.latest.lock().reading
    }

    /// Memory is short.
    pub fn is_high(&self) -> bool {
        self.latest.lock().pressure.is_high()
    }

    /// Whether an agent may come that commits `asked` bytes, beside `committed` bytes of others.
    pub fn admit(&self, committed: u64, asked: u64) -> Result<(), Shortage> {
        let reading = self.reading().unwrap_or_default();
        self.config.admission.admit(&reading, self.host_bytes(), committed, asked)
    }

    /// What is the host's own: of its heap what it does not hold for agents, and what it keeps for the next
    /// ones. 0 as long as nobody asked the allocator.
    fn host_bytes(&self) -> u64 {
        let for_agents = self.sampler().totals().host_bytes;
        let latest = self.latest.lock();
        let heap = latest.heap.map_or(0, |heap| heap.used_bytes);
        heap.saturating_sub(for_agents) + latest.kept_bytes
    }

    /// The live agents that held most in the last sweep, the largest first.
    pub fn largest(&self, count: usize) -> Vec<LargeAgent> {
        self.sampler().largest(count)
    }

    /// The last samples of an agent, oldest first, at most `count`.
    pub fn samples(&self, id: &AgentId, count: usize) -> Vec<MemorySample> {
        let now = (self.clock)();
        let sampler = self.sampler();
        let Some(track) = sampler.track(id) else { return Vec::new() };
        let fine = track.series.fine(&sampler.times).rev().take(count);
        let mut samples: Vec<_> = fine.map(|sample| now.sample(sample)).collect();
        samples.reverse();
        samples
    }

    /// Where the figures come from.
    pub fn sources(&self) -> MemorySources {
        let (reading, heap) = {
            let latest = self.latest.lock();
            (latest.reading.unwrap_or_default(), latest.heap.or_else(Heap::read))
        };
        let watch = || match self.has_trigger.get() {
            Some(true) => "trigger",
            Some(false) | None => "polling",
        };
        let file = || self.kernel.pressure_file().display().to_string();
        MemorySources {
            limit: reading.limit.map(|limit| limit.source.as_str().into()),
            limit_bytes: reading.limit.map(|limit| limit.bytes),
            pressure: reading.psi.map(|_| file()),
            pressure_watch: reading.psi.map(|_| watch().into()),
            heap: heap.map(|_| heap::SOURCE.into()),
        }
    }

    /// Everything in numbers.
    pub fn snapshot(&self) -> Snapshot {
        let totals = self.sampler().totals();
        let latest = self.latest.lock();
        Snapshot {
            reading: latest.reading,
            heap: latest.heap,
            high: latest.pressure.is_high(),
            totals,
            sweeps: self.sweeps.load(Relaxed),
            last_sweep: Duration::from_nanos(self.last_sweep_ns.load(Relaxed)),
            longest_sweep: Duration::from_nanos(self.longest_sweep_ns.load(Relaxed)),
        }
    }

    pub(crate) fn now(&self) -> Now {
        (self.clock)()
    }

    pub(crate) fn config(&self) -> &MemoryConfig {
        &self.config
    }

    pub(crate) fn sampler(&self) -> MutexGuard<'_, Sampler> {
        self.sampler.lock()
    }

    fn crossed(&self, crossing: Crossing, reading: &Reading) -> Event {
        Event::MemoryPressure(MemoryPressure {
            state: if crossing.high { "high" } else { "normal" },
            source: crossing.source.as_str(),
            psi: reading.psi,
            used_bytes: reading.used_bytes,
            limit_bytes: reading.limit.map(|limit| limit.bytes),
            largest: self.largest(LARGEST),
            action: if crossing.high && self.config.sheds { "shed" } else { "none" },
        })
    }
}

impl Now {
    /// The real clocks, the first of them from now on.
    pub fn clock() -> Clock {
        let began = Instant::now();
        Box::new(move || Self { since: began.elapsed(), at: bulkhead_log::now() })
    }

    /// A sample with the time on the wall.
    pub(crate) fn sample(self, (since, bytes): (Duration, u64)) -> MemorySample {
        let ago = self.since.saturating_sub(since);
        let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        MemorySample { ts: Timestamp(self.at.0.saturating_sub(ago_ms)), bytes }
    }
}

/// CPU time of this thread: on a busy machine the wall says how busy it is.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests;

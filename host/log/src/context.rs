//! What every line of a run has in common, and what is counted over a run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulkhead_types::Timestamp;
use parking_lot::Mutex;

use crate::repeats::Repeats;
use crate::{Counts, Gauge};

/// One run of the host process.
pub struct RunContext {
    run_id: String,
    began: Instant,
    started_at: Timestamp,
    town_id: Option<String>,
    active_agents: AtomicUsize,
    repeats: Mutex<Repeats>,
    counts: Counts,
    tasks: Gauge,
}

impl RunContext {
    /// A run that begins now.
    pub fn new(run_id: String, town_id: Option<String>) -> Self {
        Self {
            run_id,
            began: Instant::now(),
            started_at: now(),
            town_id,
            active_agents: AtomicUsize::new(0),
            repeats: Mutex::default(),
            counts: Counts::new(),
            tasks: Gauge::default(),
        }
    }

    /// A run that ended, for the run that reports it.
    pub fn past(run_id: String, town_id: Option<String>, lived: Duration) -> Self {
        let began = Instant::now().checked_sub(lived).unwrap_or_else(Instant::now);
        Self { began, ..Self::new(run_id, town_id) }
    }

    /// Names this run.
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// When it began.
    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// How long it has run, by the monotonic clock.
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// The town, if the container has one.
    pub fn town_id(&self) -> Option<&str> {
        self.town_id.as_deref()
    }

    /// Agents that are active right now.
    pub fn active_agents(&self) -> usize {
        self.active_agents.load(Ordering::Relaxed)
    }

    /// Whether a failure of this fingerprint is logged now, and how many were not since the last one.
    pub fn take_repeat(&self, fingerprint: &str) -> Option<u64> {
        let mut repeats = self.repeats.lock();
        repeats.take(fingerprint, Instant::now())
    }

    /// An agent's task begins.
    pub fn agent_began(&self) {
        self.active_agents.fetch_add(1, Ordering::Relaxed);
    }

    /// An agent's task is gone.
    pub fn agent_ended(&self) {
        self.active_agents.fetch_sub(1, Ordering::Relaxed);
    }

    /// What happened so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Named tasks that run: see `Spawner` of `bulkhead-tasks`.
    pub fn tasks(&self) -> &Gauge {
        &self.tasks
    }
}

/// The wall clock.
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

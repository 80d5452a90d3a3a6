//! Crash records: the newest in memory, more of them in the database.
//!
//! ```text
//!   put ──▶ memory (1000 records, 32 MiB; the oldest go first) ◀── get, list
//!    │
//!    └─▶ the database's bounded queue ──▶ its writer ──▶ retention by count, age and size
//!         full: the oldest go, counted       at open: the newest are read back
//! ```
//!
//! Without a directory, or with a full disk, records of this run are kept and found all the same. They wait in the
//! queue until the disk takes them, and [`Stats`] says how many wait and how many had to make room.

mod import;
mod memory;

use std::sync::Arc;
use std::time::Duration;

use bulkhead_types::{AgentId, CrashRecord, ExitReason, Frames, Symbolized};
use parking_lot::Mutex;

use crate::Database;
pub use import::{Imported, import};
use memory::Memory;
pub(crate) use memory::weight;

/// Keeps crash records.
pub trait CrashStore: Send + Sync {
    /// Takes a record. Returns at once, whatever becomes of it. One with the same id is replaced.
    fn put(&self, record: Arc<CrashRecord>);

    /// Replaces the frames of a record. Nothing happens when the record is gone.
    fn update_frames(&self, crash_id: &str, frames: Frames, symbolized: Symbolized);

    /// One record, while it is kept.
    fn get(&self, crash_id: &str) -> Option<Arc<CrashRecord>>;

    /// Some records, newest first.
    fn list(&self, filter: &Filter) -> Page;

    /// What is kept, and what was lost.
    fn stats(&self) -> Stats;
}

/// Which records are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Of this agent.
    pub agent: Option<AgentId>,
    /// With this reason.
    pub reason: Option<ExitReason>,
    /// Older than the record of this id.
    pub before: Option<String>,
    /// Newer than the record of this id: of those the oldest, so that a reader who goes on from the newest
    /// one it got misses none.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

impl Default for Filter {
    /// The newest hundred.
    fn default() -> Self {
        Self { agent: None, reason: None, before: None, after: None, limit: 100 }
    }
}

/// A part of the records.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// Newest first.
    pub records: Vec<Arc<CrashRecord>>,
    /// There are more in the direction of the question: older ones, or newer ones for `after`.
    pub more: bool,
    /// The record that `before` or `after` names is not kept any more, or never was. What is older than it
    /// is gone as well, so a page `before` it is empty; one `after` it begins with the oldest record.
    pub cursor_lost: bool,
}

/// What is kept, and what was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records in memory.
    pub kept: usize,
    /// Their size in memory, roughly.
    pub bytes: usize,
    /// Records that had to make room for newer ones.
    pub evicted: u64,
    /// Records written to the database.
    pub written: u64,
    /// Writes that failed. Their records wait.
    pub write_errors: u64,
    /// Records that had to make room among those that wait for the database, and are not in it.
    pub dropped: u64,
    /// Records that wait for the database.
    pub waiting: usize,
    /// What became of them, and of the rest of a run's evidence, at a sink outside; nothing without one.
    pub sink: Option<SinkStats>,
}

/// What became of documents at a sink outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SinkStats {
    /// It took them.
    pub stored: u64,
    /// Tries that failed.
    pub failed: u64,
    /// Crash records that had to make room before it took them.
    pub dropped: u64,
    /// How long ago it took the last document.
    pub age: Option<Duration>,
    /// For how long every try has failed, if the last one did.
    pub failing: Option<Duration>,
}

/// How much a store of crash records holds in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Records.
    pub max_records: usize,
    /// Their size.
    pub max_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_records: 1000, max_bytes: 32 * 1024 * 1024 }
    }
}

/// The crash records of this host.
pub struct Crashes {
    memory: Mutex<Memory>,
    database: Arc<Database>,
}

impl Crashes {
    /// A store that begins with `earlier` records, oldest first, and writes new ones to `database`.
    pub fn new(config: Config, database: Arc<Database>, earlier: Vec<Arc<CrashRecord>>) -> Self {
        let mut memory = Memory::new(config.max_records, config.max_bytes);
        earlier.into_iter().for_each(|record| drop(memory.put(record)));
        memory.begin_to_count();
        Self { memory: Mutex::new(memory), database }
    }

    /// A store of this run only.
    pub fn in_memory() -> Self {
        Self::new(Config::default(), Arc::new(Database::absent()), Vec::new())
    }
}

impl CrashStore for Crashes {
    fn put(&self, record: Arc<CrashRecord>) {
        // One lock for both, so that the database has the order of the memory.
        let mut memory = self.memory.lock();
        let evicted = memory.put(Arc::clone(&record));
        self.database.keep_crash(record);
        drop(memory);
        // Records have hundreds of parts to free, for which nobody else should wait.
        drop(evicted);
    }

    fn update_frames(&self, crash_id: &str, frames: Frames, symbolized: Symbolized) {
        let mut memory = self.memory.lock();
        let Some(record) = memory.update_frames(crash_id, frames, symbolized) else { return };
        self.database.keep_crash(record);
    }

    fn get(&self, crash_id: &str) -> Option<Arc<CrashRecord>> {
        self.memory.lock().get(crash_id)
    }

    fn list(&self, filter: &Filter) -> Page {
        self.memory.lock().list(filter)
    }

    fn stats(&self) -> Stats {
        let counts = self.database.counts();
        Stats {
            written: counts.crashes_written,
            write_errors: counts.crash_errors,
            dropped: counts.crashes_dropped,
            waiting: counts.crashes_waiting,
            ..self.memory.lock().stats()
        }
    }
}

#[cfg(test)]
mod tests;

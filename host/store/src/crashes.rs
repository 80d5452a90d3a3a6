//! Crash records: the newest in memory, all of them as lines in a file.
//!
//! ```text
//!   put ──▶ memory (1000 records, 32 MiB; the oldest go first) ◀── get, list
//!    │
//!    └─▶ bounded queue ──▶ writer thread ──▶ crashes.jsonl ── 16 MiB ──▶ crashes.1.jsonl
//!         full: dropped and counted                          at open: read back, oldest first
//! ```
//!
//! A line of the file is a record (`"line": "crash"`) or the frames of one that came before it
//! (`"line": "frames"`). The file is not synced line by line: it survives the death of the process, and
//! that of the machine except for its last seconds.
//!
//! The file is best effort and the memory is not: without a directory, or with a full disk, records of this
//! run are kept and found all the same, and [`Stats`] says what was not written.

mod file;
mod memory;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bulkhead_model::{AgentId, CrashRecord, ExitReason, Frame, Symbolized};

use memory::Memory;
use writer::{Job, Writer};

/// Keeps crash records.
pub trait CrashStore: Send + Sync {
    /// Takes a record. Returns at once, whatever becomes of it. One with the same id is replaced.
    fn put(&self, record: Arc<CrashRecord>);

    /// Replaces the frames of a record. Nothing happens when the record is gone.
    fn update_frames(&self, crash_id: &str, frames: Vec<Frame>, symbolized: Symbolized);

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
    /// Lines written to the file.
    pub written_lines: u64,
    /// Lines that the writer could not write.
    pub write_errors: u64,
    /// Lines that the writer's queue had no room for.
    pub dropped_lines: u64,
}

/// How a store of crash records is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the file is. Without one there is only memory.
    pub dir: Option<PathBuf>,
    /// Records kept in memory.
    pub max_records: usize,
    /// Their size in memory.
    pub max_bytes: usize,
    /// Size at which the file becomes the old one. Larger lines are not written.
    pub file_bytes: u64,
    /// Lines that may wait for the writer.
    pub queue: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: None,
            max_records: 1000,
            max_bytes: 32 * 1024 * 1024,
            file_bytes: 16 * 1024 * 1024,
            queue: 256,
        }
    }
}

impl Config {
    /// The default bounds, with the files in a directory.
    pub fn in_dir(dir: &Path) -> Self {
        Self { dir: Some(dir.to_owned()), ..Self::default() }
    }
}

/// What was read back at open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Records of earlier runs that are kept now.
    pub records: usize,
    /// Lines that were neither a record nor the frames of one.
    pub unreadable_lines: u64,
    /// Last lines without an end: the process died while it wrote.
    pub half_lines: u64,
    /// Files that could not be read, with the reason.
    pub errors: Vec<String>,
}

/// The crash records of this host.
pub struct Crashes {
    memory: Mutex<Memory>,
    writer: Option<Writer>,
}

impl Crashes {
    /// Reads back what earlier runs wrote and starts the writer. Never fails: what did not work is told.
    pub fn open(config: &Config) -> (Self, Loaded) {
        let mut memory = Memory::new(config.max_records, config.max_bytes);
        let mut loaded = Loaded::default();
        let writer = config.dir.as_ref().map(|dir| {
            loaded = file::read_back(dir, config.file_bytes, &mut memory);
            let (writer, error) = Writer::start(dir, config.file_bytes, config.queue);
            loaded.errors.extend(error);
            writer
        });
        (Self { memory: Mutex::new(memory), writer }, loaded)
    }

    /// Reads what was written, and writes nothing: for those who look on.
    pub fn read(config: &Config) -> (Self, Loaded) {
        let mut memory = Memory::new(usize::MAX, usize::MAX);
        let read = |dir: &PathBuf| file::read_back(dir, config.file_bytes, &mut memory);
        let loaded = config.dir.as_ref().map(read).unwrap_or_default();
        (Self { memory: Mutex::new(memory), writer: None }, loaded)
    }

    /// Waits until everything queued is written, or `patience` is over. Returns whether it is.
    pub fn flush(&self, patience: Duration) -> bool {
        self.writer.as_ref().is_none_or(|writer| writer.flush(patience))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl CrashStore for Crashes {
    fn put(&self, record: Arc<CrashRecord>) {
        // One lock for both, so that the file has the order of the memory.
        let mut memory = self.memory();
        let evicted = memory.put(Arc::clone(&record));
        if let Some(writer) = &self.writer {
            writer.queue(Job::Record(record));
        }
        drop(memory);
        // Records have hundreds of parts to free, for which nobody else should wait.
        drop(evicted);
    }

    fn update_frames(&self, crash_id: &str, frames: Vec<Frame>, symbolized: Symbolized) {
        let mut memory = self.memory();
        let Some(record) = memory.update_frames(crash_id, frames, symbolized) else { return };
        if let Some(writer) = &self.writer {
            writer.queue(Job::Frames(record));
        }
    }

    fn get(&self, crash_id: &str) -> Option<Arc<CrashRecord>> {
        self.memory().get(crash_id)
    }

    fn list(&self, filter: &Filter) -> Page {
        self.memory().list(filter)
    }

    fn stats(&self) -> Stats {
        let mut stats = self.memory().stats();
        if let Some(writer) = &self.writer {
            writer.add_to(&mut stats);
        }
        stats
    }
}

#[cfg(test)]
mod tests;

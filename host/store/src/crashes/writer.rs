//! The thread that writes crash records, and its queue.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use bulkhead_model::CrashRecord;

use super::Stats;
use super::file::{Appender, Line};

/// How long the end of the store waits for what is queued.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// How long the writer lets jobs gather: in a storm they cost one write, and no wake each.
const GATHERING: Duration = Duration::from_millis(2);

/// What is to be written.
pub(super) enum Job {
    Record(Arc<CrashRecord>),
    /// Of the record, only its frames.
    Frames(Arc<CrashRecord>),
}

/// Lines that are written at once. One that does not fit into a file alone spoils no other.
#[derive(Default)]
struct Batch {
    text: Vec<u8>,
    count: u64,
}

impl Batch {
    /// Bytes after which a batch is written.
    const ROOM: usize = 256 * 1024;

    /// Whether it stays small with one more line, and well below the size of a file.
    fn has_room_for(&self, line: &[u8], appender: &Appender) -> bool {
        let bytes = self.text.len() + line.len();
        self.text.is_empty() || bytes <= Self::ROOM.min(appender.max_bytes() / 8)
    }

    fn add(&mut self, line: &[u8]) {
        self.text.extend_from_slice(line);
        self.count += 1;
    }
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    max_jobs: usize,
    queue: Mutex<Queue>,
    filled: Condvar,
    drained: Condvar,
    written: AtomicU64,
    errors: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    writing: bool,
    closed: bool,
}

impl Writer {
    /// Starts the thread. Without one every line is dropped and counted, and the reason is told.
    pub fn start(dir: &Path, file_bytes: u64, max_jobs: usize) -> (Self, Option<String>) {
        let shared = Arc::new(Shared {
            max_jobs,
            queue: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
            written: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let (for_thread, appender) = (Arc::clone(&shared), Appender::new(dir, file_bytes));
        let thread = std::thread::Builder::new()
            .name("bulkhead-crash".into())
            .spawn(move || for_thread.write_all_jobs(appender));
        let (thread, error) = match thread {
            Ok(thread) => (Some(thread), None),
            Err(error) => {
                shared.lock().closed = true;
                (None, Some(format!("start the writer of crash records: {error}")))
            }
        };
        (Self { shared, thread }, error)
    }

    /// Takes a job, or drops and counts it when the queue is full.
    pub fn queue(&self, job: Job) {
        let mut queue = self.shared.lock();
        if queue.closed || queue.jobs.len() >= self.shared.max_jobs {
            self.shared.dropped.fetch_add(1, Relaxed);
            return;
        }
        let was_empty = queue.jobs.is_empty();
        queue.jobs.push_back(job);
        drop(queue);
        if was_empty {
            self.shared.filled.notify_one();
        }
    }

    /// Waits until everything queued is written, or `patience` is over. Returns whether it is.
    pub fn flush(&self, patience: Duration) -> bool {
        let queue = self.shared.lock();
        let waits = |queue: &mut Queue| !queue.jobs.is_empty() || queue.writing;
        let waited = self.shared.drained.wait_timeout_while(queue, patience, waits);
        !waited.unwrap_or_else(|poisoned| poisoned.into_inner()).1.timed_out()
    }

    pub fn add_to(&self, stats: &mut Stats) {
        stats.written_lines = self.shared.written.load(Relaxed);
        stats.write_errors = self.shared.errors.load(Relaxed);
        stats.dropped_lines = self.shared.dropped.load(Relaxed);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let flushed = self.flush(LAST_PATIENCE);
        self.shared.lock().closed = true;
        self.shared.filled.notify_all();
        // A thread that is stuck in a blocked disk is left behind.
        if let (true, Some(thread)) = (flushed, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write_all_jobs(&self, mut appender: Appender) {
        while let Some(jobs) = self.next_jobs() {
            let mut lines = Batch::default();
            for job in jobs {
                let line = match &job {
                    Job::Record(record) => Line::Crash(record),
                    Job::Frames(record) => Line::Frames {
                        crash_id: &record.crash_id,
                        symbolized: record.symbolized,
                        frames: &record.frames,
                    },
                };
                match line.render() {
                    Ok(line) => {
                        if !lines.has_room_for(&line, &appender) {
                            self.write(&mut appender, &mut lines);
                        }
                        lines.add(&line);
                    }
                    Err(_) => _ = self.errors.fetch_add(1, Relaxed),
                }
            }
            self.write(&mut appender, &mut lines);
            self.lock().writing = false;
            self.drained.notify_all();
        }
    }

    fn write(&self, appender: &mut Appender, lines: &mut Batch) {
        let Batch { text, count } = std::mem::take(lines);
        if count > 0 {
            let result = appender.append(&text);
            let counter = if result.is_ok() { &self.written } else { &self.errors };
            counter.fetch_add(count, Relaxed);
        }
    }

    /// Everything that waits, or nothing once the queue is closed and empty.
    fn next_jobs(&self) -> Option<VecDeque<Job>> {
        let is_idle = |queue: &mut Queue| queue.jobs.is_empty() && !queue.closed;
        let waited = self.filled.wait_while(self.lock(), is_idle);
        drop(waited.unwrap_or_else(|poisoned| poisoned.into_inner()));
        std::thread::sleep(GATHERING);
        let mut queue = self.lock();
        if queue.jobs.is_empty() {
            return None;
        }
        queue.writing = true;
        Some(std::mem::take(&mut queue.jobs))
    }
}

//! The writer: one thread, and everything that waits in one transaction.
//!
//! ```text
//!             ┌────────────── retry, after a while ◀────────────┐
//!             ▼                                                 │
//!   take ─▶ rows and snapshots ─ commit ─▶ wake waiters ─▶ crash records ─ commit ─▶ checkpoint
//!             │ the file is damaged                             │ no disk, no room, no permission, too large a log
//!             └─▶ set aside, a new file, everything again       └─▶ lost: waiters get an error
//! ```
//!
//! While the file is lost the image goes on and crash records wait; when it is back, all of the image is written,
//! and they are ([`super::recovery`]).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bulkhead_types::{CrashRecord, Timestamp, UsageChange};
use rusqlite::Connection;

use super::file::{self, CHECKPOINT_BYTES, FileError, Opened};
use super::file_state::FileState;
use super::image::Due;
use super::lanes::{Batch, Work};
use super::records::{self, Held};
use super::run_time::RunTime;
use super::wal;
use super::{NotDurable, Shared, agents, snapshots, usage};

/// What a row takes of the log, roughly: a page of each table.
const ROW_BYTES: u64 = 3 * 4096;

/// What a crash record takes beside its text: its part of the page of its row, and a page of the index.
const CRASH_BYTES: u64 = 4096;

/// Quiet time after which the log goes over into the file.
const QUIET: Duration = Duration::from_secs(1);

/// Below those that answer and above guests that burn: a caller that waits for a commit is not behind the guests, and
/// a storm of crash records is not before the agents that are well.
const NICE: i32 = 5;

/// Time between two checks of the age of records.
const TIDY: Duration = Duration::from_secs(60);

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) file: FileState,
    pub(super) held: Held,
    pub(super) ran: RunTime,
    /// In the log and not in the file, roughly.
    pub(super) log_bytes: u64,
    /// Crash records that had been dropped when the file was lost.
    pub(super) dropped_before: u64,
}

impl Writer {
    pub fn new(shared: Arc<Shared>, file: FileState, held: Held, ran: Duration) -> Self {
        let ran = RunTime::after(ran);
        Self { shared, file, held, ran, log_bytes: 0, dropped_before: 0 }
    }

    /// Works until the end.
    pub fn run(mut self) {
        // Linux keeps niceness by thread. A refusal (seccomp) costs fairness, not correctness.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
        loop {
            let Some(batch) = self.next() else { break };
            let shared = Arc::clone(&self.shared);
            let writes = shared.writes.lock();
            match batch {
                Some(batch) => self.write(batch),
                None => self.tidy(),
            }
            drop(writes);
            self.shared.lanes.lock().batch_is_done();
            self.shared.drained.notify_all();
        }
        if let FileState::Open(opened) = &self.file {
            // One that fails leaves a gap in the numbers, and no more.
            let given: Vec<_> = self.shared.lanes.lock().image.given().collect();
            let _ = in_transaction(&opened.connection, |file| {
                records::write_ran(file, self.ran.now())?;
                agents::settle(file, &given)
            });
            self.shared.committed();
            let _ = wal::checkpoint(&opened.connection);
        }
    }

    /// What waits; an inner `None` when it is time to tidy up, an outer one at the end.
    fn next(&self) -> Option<Option<Batch>> {
        let is_open = matches!(self.file, FileState::Open(_));
        let patience = match &self.file {
            FileState::Lost { retry_at: Some(at), .. } => {
                at.saturating_duration_since(Instant::now())
            }
            FileState::Open(_) if self.log_bytes > 0 => QUIET,
            _ => TIDY,
        };
        loop {
            let mut lanes = self.shared.lanes.lock();
            // A lost file is searched for at its time; nothing becomes due for it.
            let due = lanes.due().filter(|_| is_open);
            let until_due = due.map(|due| due.saturating_duration_since(Instant::now()));
            let patience = until_due.map_or(patience, |until_due| until_due.min(patience));
            let is_idle = |lanes: &mut super::lanes::Lanes| {
                // Something that is due sooner shortens the wait.
                let as_before = !is_open || lanes.due() == due;
                as_before && !lanes.has_work() && !lanes.closed
            };
            self.shared.filled.wait_while_for(&mut lanes, is_idle, patience);
            if lanes.has_work() {
                return Some(Some(lanes.take()));
            }
            if lanes.closed {
                return None;
            }
            if !is_open || lanes.due().is_none() {
                lanes.writing = true;
                return Some(None);
            }
        }
    }

    pub(super) fn write(&mut self, batch: Batch) {
        let Batch { mut rows, mut usage, works, waiters, crashes, flush } = batch;
        if self.is_gone() {
            self.put_rows_back(&mut rows, &mut usage);
            self.lose("the file of the database is gone", Some(Duration::ZERO));
            self.retry();
        }
        if let (true, FileState::Lost { retry_at: Some(_), .. }) = (flush, &self.file) {
            self.put_rows_back(&mut rows, &mut usage);
            self.retry();
        }
        let wrote = self.write_state(&mut rows, &mut usage, &works);
        // The next one to be answered reads the file, and not what was on its way there.
        self.shared.lanes.lock().state_is_done(rows, usage, works, wrote.is_ok());
        waiters.answer(&wrote);
        self.write_crashes(crashes);
        if self.log_bytes > CHECKPOINT_BYTES {
            self.checkpoint();
        }
    }

    /// A file that was removed is written to no more: its name leads to nothing, or to another.
    fn is_gone(&self) -> bool {
        match (&self.file, self.shared.dir()) {
            (FileState::Open(opened), Some(dir)) => !file::is_still(dir, opened.identity),
            _ => false,
        }
    }

    /// Before a file is opened, which gets every row as it is at that moment: those in hand are older than that, and
    /// must not be written after it.
    fn put_rows_back(&self, rows: &mut Vec<Due>, usage: &mut UsageChange) {
        let mut lanes = self.shared.lanes.lock();
        lanes.image.put_back(std::mem::take(rows));
        lanes.usage.put_back(std::mem::take(usage));
    }

    /// Rows, use of models and snapshots. A damaged file is replaced once, and gets everything.
    fn write_state(
        &mut self,
        rows: &mut Vec<Due>,
        usage: &mut UsageChange,
        works: &[Work],
    ) -> Result<(), NotDurable> {
        if rows.is_empty() && usage::is_empty(usage) && works.is_empty() {
            return self.opened().map(|_| ());
        }
        for attempt in 0..2 {
            let forgotten = self.shared.lanes.lock().image.forgotten();
            let connection = &self.opened()?.connection;
            let wrote = in_transaction(connection, |connection| {
                rows.iter().try_for_each(|due| agents::write(connection, due))?;
                if !rows.is_empty() {
                    agents::write_forgotten(connection, forgotten)?;
                }
                usage::write(connection, usage)?;
                works.iter().try_for_each(|work| write_work(connection, work))
            });
            let Err(error) = wrote else {
                self.shared.committed();
                let rows = rows.len() as u64 + usage::count(usage);
                self.log_bytes += rows * ROW_BYTES + bytes_of(works);
                self.shared.freshen(works.iter().filter_map(|work| match work {
                    Work::Keep(kept) => Some(&kept.snapshot.agent),
                    _ => None,
                }));
                return Ok(());
            };
            match FileError::of("write to the database", &error) {
                FileError::Damaged(reason) if attempt == 0 => {
                    self.put_rows_back(rows, usage);
                    self.replace(&reason);
                }
                error => self.lose(&error.to_string(), Some(self.shared.config.retry)),
            }
        }
        self.opened().map(|_| ())
    }

    /// Those that cannot be written wait on.
    fn write_crashes(&mut self, crashes: Vec<Arc<CrashRecord>>) {
        if crashes.is_empty() {
            return;
        }
        let FileState::Open(Opened { connection, .. }) = &self.file else {
            return self.shared.put_crashes_back(crashes);
        };
        let (rules, mut held, ran) = (self.shared.config.retention, self.held, self.ran.now());
        let wrote = in_transaction(connection, |connection| {
            for record in &crashes {
                records::write(connection, record, &mut held, ran)?;
            }
            records::write_ran(connection, ran)?;
            records::retain(connection, &rules, &mut held, ran).map(|_| ())
        });
        let figures = &self.shared.figures;
        match wrote {
            Ok(()) => {
                self.shared.committed();
                figures.crashes_written.fetch_add(crashes.len() as u64, Relaxed);
                self.log_bytes +=
                    crashes.len() as u64 * CRASH_BYTES + held.bytes.saturating_sub(self.held.bytes);
                self.held = held;
                self.ran.is_saved();
            }
            Err(error) => {
                figures.crash_errors.fetch_add(crashes.len() as u64, Relaxed);
                // First, so that they are the first of what a new file gets.
                self.shared.put_crashes_back(crashes);
                match FileError::of("write to the database", &error) {
                    FileError::Damaged(reason) => self.replace(&reason),
                    error => self.lose(&error.to_string(), Some(self.shared.config.retry)),
                }
            }
        }
    }

    /// All that wait, into a file that was just opened, with which hosts have run for `ran`. An error puts those
    /// back that it does not have.
    pub(super) fn write_waiting_crashes(
        &self,
        connection: &Connection,
        held: &mut Held,
        ran: Duration,
    ) -> rusqlite::Result<u64> {
        let (rules, ran, mut written) = (self.shared.config.retention, self.ran.now().max(ran), 0);
        loop {
            let crashes = self.shared.lanes.lock().crashes.take();
            if crashes.is_empty() {
                return Ok(written);
            }
            let before = *held;
            let wrote = in_transaction(connection, |connection| {
                for record in &crashes {
                    records::write(connection, record, held, ran)?;
                }
                records::retain(connection, &rules, held, ran).map(|_| ())
            });
            let count = crashes.len() as u64;
            if let Err(error) = wrote {
                *held = before;
                self.shared.figures.crash_errors.fetch_add(count, Relaxed);
                self.shared.put_crashes_back(crashes);
                return Err(error);
            }
            self.shared.figures.crashes_written.fetch_add(count, Relaxed);
            written += count;
        }
    }

    fn opened(&self) -> Result<&Opened, NotDurable> {
        match &self.file {
            FileState::Open(opened) => Ok(opened),
            FileState::Lost { reason, .. } => Err(NotDurable { reason: Arc::clone(reason) }),
        }
    }

    /// Nobody waits: the log goes over into the file, old records go, and a lost file is searched for.
    fn tidy(&mut self) {
        match &self.file {
            FileState::Lost { retry_at: Some(at), .. } if Instant::now() >= *at => self.retry(),
            FileState::Lost { .. } => {}
            FileState::Open(_) if self.log_bytes > 0 => self.checkpoint(),
            FileState::Open(Opened { connection, .. }) => {
                let rules = self.shared.config.retention;
                let (mut held, ran) = (self.held, self.ran.now());
                if self.ran.is_due() {
                    let saved = records::write_ran(connection, ran);
                    self.log_bytes += u64::from(saved.is_ok());
                    self.ran.is_saved();
                }
                let retained = records::retain(connection, &rules, &mut held, ran);
                if let Ok(more) = retained {
                    self.held = held;
                    // Again soon when there is more.
                    self.log_bytes += u64::from(more);
                }
                self.shared.committed();
                self.give_back();
            }
        }
    }

    fn checkpoint(&mut self) {
        self.log_bytes = 0;
        let (FileState::Open(opened), Some(dir)) = (&self.file, self.shared.dir()) else { return };
        // A reader in the way, or a full disk: what is committed stays in the log, and the next one tries, as long
        // as the log has not passed its bound.
        let done = wal::checkpoint(&opened.connection)
            .map_err(|error| FileError::of("checkpoint the database", &error));
        let bounded = wal::bound(&opened.connection, dir, self.shared.config.max_log_bytes);
        match done.and(bounded) {
            Err(FileError::Damaged(reason)) => self.replace(&reason),
            Err(_) if wal::size(dir) <= self.shared.config.max_log_bytes => {}
            Err(error) => self.lose(&error.to_string(), Some(self.shared.config.retry)),
            Ok(()) => self.give_back(),
        }
    }

    /// Gives the disk back what a large log took of it, if nobody reads it now.
    fn give_back(&self) {
        if let (FileState::Open(opened), Some(dir)) = (&self.file, self.shared.dir())
            && wal::size(dir) > CHECKPOINT_BYTES
        {
            // Or the next time.
            let _ = wal::empty(&opened.connection);
        }
    }
}

fn write_work(connection: &Connection, work: &Work) -> rusqlite::Result<()> {
    match work {
        Work::Keep(kept) => snapshots::write(connection, kept),
        Work::CountFailure(generation) => snapshots::count_failure(connection, *generation),
        Work::Prove(generation, code) => snapshots::prove(connection, *generation, *code),
        Work::SetAside(generation, reason) => snapshots::set_aside(connection, *generation, reason),
    }
}

fn bytes_of(works: &[Work]) -> u64 {
    let bytes = |work: &Work| match work {
        Work::Keep(kept) => kept.snapshot.bytes.len() as u64 + ROW_BYTES,
        _ => ROW_BYTES,
    };
    works.iter().map(bytes).sum()
}

/// All of it or nothing.
pub(super) fn in_transaction(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    bulkhead_fence::pass();
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let done = work(connection)
        .inspect(|()| bulkhead_fence::pass())
        .and_then(|()| connection.prepare_cached("COMMIT")?.execute([]).map(|_| ()));
    if done.is_err() && !connection.is_autocommit() {
        // A disk that is full may have rolled it back already.
        let _ = connection.execute_batch("ROLLBACK");
    }
    done
}

/// The wall clock.
pub(super) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
}

//! The writer: one thread, and everything that waits in one transaction.
//!
//! ```text
//!             ┌────────────── retry, after a while ◀────────────┐
//!             ▼                                                 │
//!   take ─▶ rows and snapshots ─ commit ─▶ tell who waits ─▶ crash records ─ commit ─▶ checkpoint
//!             │ the file is damaged                             │ no disk, no room, no permission
//!             └─▶ set aside, a new file, everything again       └─▶ lost: who waits is told so
//! ```
//!
//! While the file is lost the image goes on; when it is back, all of the image is written.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bulkhead_model::{CrashRecord, Timestamp};
use rusqlite::Connection;

use super::file::{self, FileError, Opened};
use super::image::Due;
use super::lanes::{Batch, Work};
use super::records::{self, Held};
use super::{NotDurable, Notice, Shared, agents, snapshots};

/// Bytes of the log after which it goes over into the file.
const CHECKPOINT_BYTES: u64 = 8 * 1024 * 1024;

/// What a row takes of the log, roughly: a page of each table.
const ROW_BYTES: u64 = 3 * 4096;

/// What a crash record takes beside its text: its part of the page of its row, and a page of the index.
const CRASH_BYTES: u64 = 4096;

/// Quiet time after which the log goes over into the file.
const QUIET: Duration = Duration::from_secs(1);

/// Below those that answer and above guests that burn: whoever waits for a commit is not behind the guests, and
/// a storm of crash records is not before the agents that are well.
const NICE: i32 = 5;

/// Time between two looks at the age of records.
const TIDY: Duration = Duration::from_secs(60);

pub(super) struct Writer {
    shared: Arc<Shared>,
    place: Place,
    held: Held,
    /// In the log and not in the file, roughly.
    log_bytes: u64,
}

pub(super) enum Place {
    /// Everything is well.
    Open(Opened),
    /// There is no file to write to. `None`: it is not tried again.
    Lost { reason: Arc<str>, retry_at: Option<Instant> },
}

impl Writer {
    pub fn new(shared: Arc<Shared>, place: Place, held: Held) -> Self {
        Self { shared, place, held, log_bytes: 0 }
    }

    /// Works until the end.
    pub fn run(mut self) {
        // Linux keeps niceness by thread. A refusal (seccomp) costs fairness, not correctness.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
        loop {
            let Some(batch) = self.next() else { break };
            match batch {
                Some(batch) => self.write(batch),
                None => self.tidy(),
            }
            self.shared.lanes().batch_is_done();
            self.shared.drained.notify_all();
        }
        if let Place::Open(opened) = &self.place {
            // One that fails leaves a gap in the numbers, and no more.
            let given: Vec<_> = self.shared.lanes().image.given().collect();
            let _ = in_transaction(&opened.connection, |file| agents::settle(file, &given));
            let _ = checkpoint(&opened.connection);
        }
    }

    /// What waits; an inner `None` when it is time to tidy up, an outer one at the end.
    fn next(&self) -> Option<Option<Batch>> {
        let is_open = matches!(self.place, Place::Open(_));
        let patience = match &self.place {
            Place::Lost { retry_at: Some(at), .. } => at.saturating_duration_since(Instant::now()),
            Place::Open(_) if self.log_bytes > 0 => QUIET,
            _ => TIDY,
        };
        loop {
            let lanes = self.shared.lanes();
            // A lost file is looked for at its time; nothing becomes due for it.
            let due = lanes.due().filter(|_| is_open);
            let until_due = due.map(|due| due.saturating_duration_since(Instant::now()));
            let patience = until_due.map_or(patience, |until_due| until_due.min(patience));
            let is_idle = |lanes: &mut super::lanes::Lanes| {
                // Something that is due sooner shortens the wait.
                let as_before = !is_open || lanes.due() == due;
                as_before && !lanes.has_work(is_open) && !lanes.closed
            };
            let waited = self.shared.filled.wait_timeout_while(lanes, patience, is_idle);
            let (mut lanes, _) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
            if lanes.has_work(is_open) {
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

    fn write(&mut self, batch: Batch) {
        let Batch { rows, works, waiters, crashes } = batch;
        self.find_again();
        let wrote = self.write_state(&rows, &works);
        // Whoever is told next looks at the file, and not at what was on its way there.
        self.shared.lanes().state_is_done(rows, wrote.is_ok());
        for waiter in waiters {
            let _ = waiter.send(wrote.clone());
        }
        self.write_crashes(&crashes);
        if self.log_bytes > CHECKPOINT_BYTES {
            self.checkpoint();
        }
    }

    /// A file that was removed is written to no more: its name leads to nothing, or to another.
    fn find_again(&mut self) {
        if let (Place::Open(opened), Some(dir)) = (&self.place, self.shared.dir())
            && !file::is_still(dir, opened.identity)
        {
            self.lose("the file of the database is gone", Some(Duration::ZERO));
            self.retry();
        }
    }

    /// Rows and snapshots. A damaged file is replaced once, and gets everything.
    fn write_state(&mut self, rows: &[Due], works: &[Work]) -> Result<(), NotDurable> {
        if rows.is_empty() && works.is_empty() {
            return self.opened().map(|_| ());
        }
        for attempt in 0..2 {
            let forgotten = self.shared.lanes().image.forgotten();
            let connection = &self.opened()?.connection;
            let wrote = in_transaction(connection, |connection| {
                for due in rows {
                    agents::write(connection, due)?;
                    if due.dirty.gone {
                        agents::write_forgotten(connection, forgotten)?;
                    }
                }
                works.iter().try_for_each(|work| write_work(connection, work))
            });
            let Err(error) = wrote else {
                self.log_bytes += rows.len() as u64 * ROW_BYTES + bytes_of(works);
                self.shared.freshen(works.iter().filter_map(|work| match work {
                    Work::Keep(kept) => Some(&kept.snapshot.agent),
                    _ => None,
                }));
                return Ok(());
            };
            match FileError::of("write to the database", &error) {
                FileError::Damaged(reason) if attempt == 0 => self.replace(&reason),
                error => self.lose(&error.to_string(), Some(self.shared.config.retry)),
            }
        }
        self.opened().map(|_| ())
    }

    fn write_crashes(&mut self, crashes: &[Arc<CrashRecord>]) {
        if crashes.is_empty() {
            return;
        }
        let figures = &self.shared.figures;
        let Place::Open(Opened { connection, .. }) = &self.place else {
            figures.crash_errors.fetch_add(crashes.len() as u64, Relaxed);
            return;
        };
        let (rules, mut held) = (self.shared.config.retention, self.held);
        let wrote = in_transaction(connection, |connection| {
            for record in crashes {
                records::write(connection, record, &mut held)?;
            }
            records::retain(connection, &rules, &mut held, self.shared.now()).map(|_| ())
        });
        match wrote {
            Ok(()) => {
                figures.crashes_written.fetch_add(crashes.len() as u64, Relaxed);
                self.log_bytes +=
                    crashes.len() as u64 * CRASH_BYTES + held.bytes.saturating_sub(self.held.bytes);
                self.held = held;
            }
            Err(error) => {
                figures.crash_errors.fetch_add(crashes.len() as u64, Relaxed);
                match FileError::of("write to the database", &error) {
                    FileError::Damaged(reason) => self.replace(&reason),
                    error => self.lose(&error.to_string(), Some(self.shared.config.retry)),
                }
            }
        }
    }

    fn opened(&self) -> Result<&Opened, NotDurable> {
        match &self.place {
            Place::Open(opened) => Ok(opened),
            Place::Lost { reason, .. } => Err(NotDurable { reason: Arc::clone(reason) }),
        }
    }

    /// Nobody waits: the log goes over into the file, old records go, and a lost file is looked for.
    fn tidy(&mut self) {
        match &self.place {
            Place::Lost { retry_at: Some(at), .. } if Instant::now() >= *at => self.retry(),
            Place::Lost { .. } => {}
            Place::Open(_) if self.log_bytes > 0 => self.checkpoint(),
            Place::Open(Opened { connection, .. }) => {
                let rules = self.shared.config.retention;
                let mut held = self.held;
                let now = self.shared.now();
                let retained = records::retain(connection, &rules, &mut held, now);
                if let Ok(more) = retained {
                    self.held = held;
                    // Again soon when there is more.
                    self.log_bytes += u64::from(more);
                }
            }
        }
    }

    fn checkpoint(&mut self) {
        self.log_bytes = 0;
        let Place::Open(opened) = &self.place else { return };
        // A reader in the way, or a full disk: what is committed stays in the log, and the next one tries.
        if let Err(error) = checkpoint(&opened.connection)
            && let FileError::Damaged(reason) = FileError::of("checkpoint the database", &error)
        {
            self.replace(&reason);
        }
    }

    /// Goes on without a file, and says so once.
    fn lose(&mut self, reason: &str, retry_after: Option<Duration>) {
        let known =
            matches!(&self.place, Place::Lost { reason: before, .. } if **before == *reason);
        if !known {
            let retries = retry_after.is_some();
            self.shared.tell(Notice::Unavailable { reason: reason.to_owned(), retries });
        }
        let retry_at = retry_after.map(|after| Instant::now() + after);
        self.place = Place::Lost { reason: reason.into(), retry_at };
        self.log_bytes = 0;
    }

    /// Sets a damaged file aside and begins a new one with all that is known.
    fn replace(&mut self, reason: &str) {
        let Some(dir) = self.shared.dir() else { return };
        // Closed first: nothing may write to a file that has another name.
        self.place = Place::Lost { reason: reason.into(), retry_at: None };
        match file::set_aside(dir, self.shared.now()) {
            Ok(aside) => {
                self.shared.tell(Notice::SetAside {
                    reason: reason.to_owned(),
                    kept_as: aside.kept_as,
                    removed: aside.removed,
                });
                self.reopen();
            }
            Err(error) => self.lose(&error.to_string(), Some(self.shared.config.retry)),
        }
    }

    fn retry(&mut self) {
        if self.reopen() {
            self.shared.tell(Notice::Available);
        }
    }

    /// Opens the file again and gives it everything that is known. Says whether that went well.
    fn reopen(&mut self) -> bool {
        let retry = Some(self.shared.config.retry);
        match self.try_to_open() {
            Ok((opened, held)) => {
                (self.place, self.held) = (Place::Open(opened), held);
                true
            }
            Err(FileError::Damaged(reason)) => {
                // One that is damaged at this moment is looked at again later.
                self.lose(&format!("the database is damaged: {reason}"), retry);
                false
            }
            Err(error @ FileError::TooNew { .. }) => {
                self.lose(&error.to_string(), None);
                false
            }
            Err(error) => {
                self.lose(&error.to_string(), retry);
                false
            }
        }
    }

    fn try_to_open(&self) -> Result<(Opened, Held), FileError> {
        let Some(dir) = self.shared.dir() else {
            return Err(FileError::Unusable { what: "open the database", error: "none".into() });
        };
        let opened = match file::open(dir, self.shared.config.check) {
            Err(FileError::Damaged(reason)) => {
                let aside = file::set_aside(dir, self.shared.now())?;
                let (kept_as, removed) = (aside.kept_as, aside.removed);
                self.shared.tell(Notice::SetAside { reason, kept_as, removed });
                file::open(dir, self.shared.config.check)?
            }
            opened => opened?,
        };
        let failed = |error: rusqlite::Error| FileError::of("read the database", &error);
        let found = agents::read(&opened.connection).map_err(failed)?;
        let held = records::count(&opened.connection).map_err(failed)?;
        let rows = {
            let mut lanes = self.shared.lanes();
            lanes.image.all_is_dirty();
            lanes.image.merge(found.rows, found.forgotten);
            self.shared.tell_members(&lanes);
            lanes.image.take(true)
        };
        let wrote = in_transaction(&opened.connection, |connection| {
            rows.iter().try_for_each(|due| agents::write(connection, due))
        });
        match wrote {
            Ok(()) => self.shared.lanes().image.is_written(&rows),
            Err(_) => self.shared.lanes().image.put_back(rows),
        }
        wrote.map_err(|error| FileError::of("write to the database", &error))?;
        Ok((opened, held))
    }
}

fn write_work(connection: &Connection, work: &Work) -> rusqlite::Result<()> {
    match work {
        Work::Keep(kept) => snapshots::write(connection, kept),
        Work::CountFailure(generation) => snapshots::count_failure(connection, *generation),
        Work::Forgive(generation) => snapshots::forgive(connection, *generation),
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
fn in_transaction(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let done = work(connection)
        .and_then(|()| connection.prepare_cached("COMMIT")?.execute([]).map(|_| ()));
    if done.is_err() && !connection.is_autocommit() {
        // A disk that is full may have rolled it back already.
        let _ = connection.execute_batch("ROLLBACK");
    }
    done
}

fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// The first look at the file, when the host comes up.
pub(super) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
}

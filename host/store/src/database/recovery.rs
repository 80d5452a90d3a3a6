//! How the writer loses its file, replaces it, and gets it back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::file::{self, FileError, Opened};
use super::file_state::FileState;
use super::pages::Tap;
use super::records::{self, Held};
use super::writer::{Writer, in_transaction};
use super::{Notice, agents, snapshots, usage, wal};

/// A file that has everything.
struct Reopened {
    opened: Opened,
    held: Held,
    ran: Duration,
    crashes_written: u64,
}

impl Writer {
    /// Goes on without a file, and says so once.
    pub(super) fn lose(&mut self, reason: &str, retry_after: Option<Duration>) {
        let known =
            matches!(&self.file, FileState::Lost { reason: before, .. } if **before == *reason);
        if matches!(self.file, FileState::Open(_)) {
            self.dropped_before = self.shared.figures.crashes_dropped.load(Relaxed);
        }
        if !known {
            let retries = retry_after.is_some();
            self.shared.report(Notice::Unavailable { reason: reason.to_owned(), retries });
        }
        let retry_at = retry_after.map(|after| Instant::now() + after);
        let reason: Arc<str> = reason.into();
        self.shared.lanes.lock().lost = Some(Arc::clone(&reason));
        self.file = FileState::Lost { reason, retry_at };
        self.log_bytes = 0;
    }

    /// Sets a damaged file aside and begins a new one with all that is known.
    pub(super) fn replace(&mut self, reason: &str) {
        let Some(dir) = self.shared.dir() else { return };
        self.dropped_before = self.shared.figures.crashes_dropped.load(Relaxed);
        // Closed first: nothing may write to a file that has another name.
        self.file = FileState::Lost { reason: reason.into(), retry_at: None };
        match file::set_aside(dir, self.shared.now()) {
            Ok(aside) => {
                self.shared.report(Notice::SetAside {
                    reason: reason.to_owned(),
                    kept_as: Some(aside.kept_as),
                    removed: aside.removed,
                });
                let _ = self.reopen();
            }
            Err(error) => self.lose(&error.to_string(), Some(self.shared.config.retry)),
        }
    }

    pub(super) fn retry(&mut self) {
        if let Some(crashes_written) = self.reopen() {
            let dropped = self.shared.figures.crashes_dropped.load(Relaxed);
            let crashes_dropped = dropped - self.dropped_before;
            self.shared.report(Notice::Available { crashes_written, crashes_dropped });
        }
    }

    /// Opens the file again and gives it everything that is known. Says how many crash records it got, if that
    /// went well.
    fn reopen(&mut self) -> Option<u64> {
        let retry = Some(self.shared.config.retry);
        match self.try_to_open() {
            Ok(Reopened { opened, held, ran, crashes_written }) => {
                self.ran.at_least(ran);
                (self.file, self.held) = (FileState::Open(opened), held);
                let mut lanes = self.shared.lanes.lock();
                (lanes.lost, lanes.unread) = (None, None);
                drop(lanes);
                self.shared.with_tap(Tap::lose_track);
                // What it got went through the log.
                self.log_bytes = self.log_bytes.max(1);
                return Some(crashes_written);
            }
            Err(FileError::Damaged(reason)) => {
                // One that is damaged at this moment is checked again later.
                self.lose(&format!("the database is damaged: {reason}"), retry);
            }
            Err(error @ FileError::TooNew { .. }) => self.lose(&error.to_string(), None),
            Err(error) => self.lose(&error.to_string(), retry),
        }
        None
    }

    fn try_to_open(&self) -> Result<Reopened, FileError> {
        let Some(dir) = self.shared.dir() else {
            return Err(FileError::Unusable { what: "open the database", error: "none".into() });
        };
        let opened = self.open_or_set_aside(dir)?;
        let connection = &opened.connection;
        // Whatever it gets goes through its log first.
        wal::bound(connection, dir, self.shared.config.max_log_bytes)?;
        let failed = |error: rusqlite::Error| FileError::of("read the database", &error);
        let found = agents::read(connection).map_err(failed)?;
        let mut held = records::count(connection).map_err(failed)?;
        let ran = records::ran(connection).map_err(failed)?;
        let generation = snapshots::last_generation(connection).map_err(failed)?;
        self.shared.next_generation.fetch_max(generation + 1, Relaxed);
        let (rows, used, forgotten) = {
            let mut lanes = self.shared.lanes.lock();
            lanes.image.all_is_dirty();
            let late = lanes.image.merge(found.rows, found.forgotten);
            lanes.late.extend(late);
            self.shared.publish_members(&lanes);
            lanes.usage.all_is_dirty();
            (lanes.image.take(true), lanes.usage.take(), lanes.image.forgotten())
        };
        let wrote = in_transaction(connection, |connection| {
            agents::write_forgotten(connection, forgotten)?;
            usage::write(connection, &used)?;
            rows.iter().try_for_each(|due| agents::write(connection, due))
        });
        match wrote {
            Ok(()) => self.shared.lanes.lock().image.is_written(&rows),
            Err(_) => {
                let mut lanes = self.shared.lanes.lock();
                lanes.image.put_back(rows);
                lanes.usage.put_back(used);
            }
        }
        let failed = |error: rusqlite::Error| FileError::of("write to the database", &error);
        wrote.map_err(failed)?;
        let crashes_written =
            self.write_waiting_crashes(connection, &mut held, ran).map_err(failed)?;
        Ok(Reopened { opened, held, ran, crashes_written })
    }

    fn open_or_set_aside(&self, dir: &Path) -> Result<Opened, FileError> {
        match file::open(dir, self.shared.config.check) {
            Err(FileError::Damaged(reason)) => {
                let aside = file::set_aside(dir, self.shared.now())?;
                let (kept_as, removed) = (Some(aside.kept_as), aside.removed);
                self.shared.report(Notice::SetAside { reason, kept_as, removed });
                file::open(dir, self.shared.config.check)
            }
            Ok(opened) => {
                if opened.is_new && self.shared.lanes.lock().unread.is_some() {
                    self.shared.report(Notice::gone());
                }
                Ok(opened)
            }
            Err(error) => Err(error),
        }
    }
}

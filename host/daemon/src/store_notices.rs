//! Notices of the database, as log events.

use bulkhead_log::{Held, SharedSink};
use bulkhead_store::database::Notice;
use bulkhead_types::Event;
use bulkhead_types::event::{StoreAvailable, StoreSetAside, StoreUnavailable};
use parking_lot::Mutex;

/// Most notices that wait for the run's first line. The database has few before it is open.
const MAX_HELD: usize = 64;

/// Logs notices of the database, from the run's first line on.
pub struct StoreNotices {
    sink: SharedSink,
    held: Mutex<Held<Notice>>,
}

impl StoreNotices {
    /// Holds all of them back.
    pub fn new(sink: SharedSink) -> Self {
        Self { sink, held: Mutex::new(Held::new(MAX_HELD)) }
    }

    /// The first line is written.
    pub fn open(&self) {
        let waited = self.held.lock().open();
        waited.into_iter().for_each(|notice| self.write(notice));
    }

    /// Logs it, now or when the first line is written.
    pub fn log(&self, notice: Notice) {
        let passed = self.held.lock().pass(notice);
        passed.into_iter().for_each(|notice| self.write(notice));
    }

    fn write(&self, notice: Notice) {
        let event = match notice {
            Notice::SetAside { reason, kept_as, removed } => Event::StoreSetAside(StoreSetAside {
                reason,
                kept_as: kept_as.map(|path| path.display().to_string()),
                removed: removed.map(|path| path.display().to_string()),
            }),
            Notice::Unavailable { reason, retries } => {
                Event::StoreUnavailable(StoreUnavailable { reason, retries })
            }
            Notice::Available { crashes_written, crashes_dropped } => {
                Event::StoreAvailable(StoreAvailable {
                    crash_records_written: crashes_written,
                    crash_records_dropped: crashes_dropped,
                })
            }
            Notice::CheckCutShort => {
                tracing::warn!("the check of the database was too slow and was interrupted");
                return;
            }
            Notice::Unreadable { agents, crashes } => {
                tracing::error!(
                    agents,
                    crashes,
                    "rows of the database were unreadable and were skipped"
                );
                return;
            }
        };
        self.sink.record(event);
    }
}

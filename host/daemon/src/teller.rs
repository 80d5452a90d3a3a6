//! What the database has to say, as lines of the log.

use std::sync::Mutex;

use bulkhead_log::SharedSink;
use bulkhead_store::database::Notice;
use bulkhead_types::Event;

/// Holds back what is told before the run's first line.
pub struct Teller {
    sink: SharedSink,
    /// Absent once the first line is written. The database says little before it is open.
    waiting: Mutex<Option<Vec<Notice>>>,
}

impl Teller {
    /// Holds everything back.
    pub fn new(sink: SharedSink) -> Self {
        Self { sink, waiting: Mutex::new(Some(Vec::new())) }
    }

    /// The first line is written.
    pub fn go_on(&self) {
        let waited = self.waiting.lock().map(|mut waiting| waiting.take());
        waited.ok().flatten().into_iter().flatten().for_each(|notice| self.write(notice));
    }

    /// Tells it, now or when the first line is written.
    pub fn tell(&self, notice: Notice) {
        if let Ok(mut waiting) = self.waiting.lock()
            && let Some(waiting) = &mut *waiting
        {
            waiting.push(notice);
            return;
        }
        self.write(notice);
    }

    fn write(&self, notice: Notice) {
        let event = match notice {
            Notice::SetAside { reason, kept_as, removed } => Event::StoreSetAside {
                reason,
                kept_as: kept_as.display().to_string(),
                removed: removed.map(|path| path.display().to_string()),
            },
            Notice::Unavailable { reason, retries } => Event::StoreUnavailable { reason, retries },
            Notice::Available { crashes_written, crashes_dropped } => Event::StoreAvailable {
                crash_records_written: crashes_written,
                crash_records_dropped: crashes_dropped,
            },
            Notice::CheckCutShort => {
                tracing::warn!("the check of the database was too slow and was cut short");
                return;
            }
            Notice::Unreadable { agents, crashes } => {
                tracing::error!(
                    agents,
                    crashes,
                    "rows of the database say nothing and were left out"
                );
                return;
            }
        };
        self.sink.record(event);
    }
}

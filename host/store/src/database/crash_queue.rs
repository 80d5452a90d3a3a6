//! Crash records that wait for the writer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_types::CrashRecord;

use crate::crashes::weight;

/// How long a crash record may wait for others. A transaction for each costs more than the records.
pub(super) const GATHERING: Duration = Duration::from_millis(10);

/// Crash records of one transaction: what is asked for meanwhile waits so long.
pub(super) const AT_ONCE: usize = 128;

/// Records among which an older version is searched for: the files and lines of a fault that was seen before come
/// within that.
const NEAR: usize = 128;

/// How many may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct CrashBounds {
    pub records: usize,
    /// Of them together, in memory, roughly.
    pub bytes: usize,
}

/// What became of a record that was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pushed {
    /// The writer has to hear of it: there is one more than it knew of, or enough.
    pub wakes_the_writer: bool,
    /// Older ones that had to make room.
    pub dropped: u64,
}

/// Oldest first. Past a bound the oldest make room: a file that returns after a day gets the newest.
pub(super) struct CrashQueue {
    records: VecDeque<(Arc<CrashRecord>, usize)>,
    bytes: usize,
    /// When the oldest of them came, or when others had to wait because it was too many for one transaction.
    since: Option<Instant>,
    bounds: CrashBounds,
}

impl CrashQueue {
    pub fn new(bounds: CrashBounds) -> Self {
        Self { records: VecDeque::new(), bytes: 0, since: None, bounds }
    }

    /// Takes a record. One that waits is replaced by a newer version of it.
    pub fn push(&mut self, record: Arc<CrashRecord>) -> Pushed {
        let bytes = weight(&record);
        let is_it =
            |(waiting, _): &&mut (Arc<CrashRecord>, usize)| waiting.crash_id == record.crash_id;
        if let Some(waiting) = self.records.iter_mut().rev().take(NEAR).find(is_it) {
            self.bytes = self.bytes + bytes - waiting.1;
            *waiting = (record, bytes);
            return Pushed { wakes_the_writer: false, dropped: self.make_room() };
        }
        self.records.push_back((record, bytes));
        self.bytes += bytes;
        if self.records.len() == 1 {
            self.since = Some(Instant::now());
        }
        let wakes_the_writer = self.records.len() == 1 || self.records.len() == AT_ONCE;
        Pushed { wakes_the_writer, dropped: self.make_room() }
    }

    /// Puts back what could not be written. Says how many had to make room.
    pub fn put_back(&mut self, records: Vec<Arc<CrashRecord>>) -> u64 {
        for record in records.into_iter().rev() {
            let bytes = weight(&record);
            self.bytes += bytes;
            self.records.push_front((record, bytes));
        }
        self.since = self.since.or_else(|| (!self.is_empty()).then(Instant::now));
        self.make_room()
    }

    /// As many as one transaction takes.
    pub fn take(&mut self) -> Vec<Arc<CrashRecord>> {
        let some = self.records.len().min(AT_ONCE);
        let taken: Vec<_> = self.records.drain(..some).collect();
        self.bytes -= taken.iter().map(|(_, bytes)| bytes).sum::<usize>();
        self.since = self.since.filter(|_| !self.records.is_empty());
        taken.into_iter().map(|(record, _)| record).collect()
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// When they have to be written, however few they are.
    pub fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + GATHERING)
    }

    pub fn is_due(&self) -> bool {
        self.records.len() >= AT_ONCE || self.due().is_some_and(|due| Instant::now() >= due)
    }

    fn make_room(&mut self) -> u64 {
        let mut dropped = 0;
        let is_too_much = |queue: &Self| {
            queue.records.len() > queue.bounds.records.max(1)
                || (queue.bytes > queue.bounds.bytes && queue.records.len() > 1)
        };
        while is_too_much(self) {
            if let Some((_, bytes)) = self.records.pop_front() {
                (self.bytes, dropped) = (self.bytes - bytes, dropped + 1);
            }
        }
        dropped
    }
}

//! What waits to be stored, and when it is due. Callers only leave things here, and wait for nobody.
//!
//! | | due | at least apart |
//! | --- | --- | --- |
//! | crash records | at once | 200 ms |
//! | the digest | every heartbeat; at once when somebody asks | 1 s |
//!
//! After a failure nothing is due for a random time below 1 s, then below 2 s, up to the heartbeat: those whose sink was
//! away come back one after the other. It is half a second at least. One who waits for all to be stored is worth
//! one try without any wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bulkhead_types::{Backoff, CrashRecord};
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::agents::ROOM;
use crate::document::Kind;
use crate::left::CrashContent;

/// Crash records that are kept for the sink. The oldest makes room.
const MAX_RECORDS: usize = 64;

/// Largest record, in bytes of JSON. Of a larger one logs, samples and frames are left out.
const MAX_RECORD: usize = 128 * 1024;

/// Of all records of a document.
const MAX_RECORDS_BYTES: usize = 1536 * 1024;

const CRASH_GAP: Duration = Duration::from_millis(200);
const RUN_GAP: Duration = Duration::from_secs(1);
const FIRST_BACKOFF: Duration = Duration::from_secs(1);

/// What became of documents in this run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// The sink took them.
    pub stored: u64,
    /// Tries that failed.
    pub failed: u64,
    /// Crash records that had to make room before the sink took them.
    pub dropped: u64,
    /// How long ago the sink took the last document.
    pub age: Option<Duration>,
    /// For how long every try has failed, if the last one did.
    pub failing: Option<Duration>,
}

#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    changed: Notify,
    settled: Condvar,
    stored: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Each with the number of the change that brought it.
    records: VecDeque<(u64, Arc<CrashRecord>)>,
    crashes: Progress,
    run: Progress,
    /// Incarnations that were numbered since the digest was stored.
    numbered: u64,
    /// Somebody waits for all to be stored.
    hurries: bool,
    /// Until then nothing is due.
    retry_at: Option<Instant>,
    failures: u32,
    /// When the first of them was.
    fails_since: Option<Instant>,
    /// The ends of the runs before are reported.
    reported: bool,
    closed: bool,
}

/// How far one document is.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Changes so far.
    asked: u64,
    /// Of them, those that the sink has.
    stored: u64,
    stored_at: Option<Instant>,
}

/// What the thread does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Store(Kind),
    Wait(Instant),
    Close,
}

impl Outbox {
    /// Records of earlier runs, oldest first: this one's document takes the place of theirs some day.
    pub fn begin_with(&self, records: &[Arc<CrashRecord>]) {
        let newest = records.len().saturating_sub(MAX_RECORDS);
        let mut state = self.state.lock();
        for record in records[newest..].iter().rev() {
            let is_new = state.records.iter().all(|(_, known)| known.crash_id != record.crash_id);
            if is_new && state.records.len() < MAX_RECORDS {
                state.records.push_front((0, Arc::clone(record)));
            }
        }
    }

    /// A record, or one with its id once more.
    pub fn crashed(&self, record: Arc<CrashRecord>) {
        let mut state = self.state.lock();
        state.crashes.asked += 1;
        state.run.asked += 1;
        let change = state.crashes.asked;
        let is_it = |(_, known): &&mut (u64, Arc<CrashRecord>)| known.crash_id == record.crash_id;
        match state.records.iter_mut().find(is_it) {
            Some(known) => *known = (change, record),
            None => state.records.push_back((change, record)),
        }
        if state.records.len() > MAX_RECORDS {
            let lost = state.records.pop_front();
            let is_lost = lost.is_some_and(|(change, _)| change > state.crashes.stored);
            self.dropped.fetch_add(is_lost.into(), Relaxed);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Something changed that the digest has.
    pub fn changed(&self) {
        self.state.lock().run.asked += 1;
        self.changed.notify_one();
    }

    /// An incarnation was given a number. The digest has to follow before half of the room is used.
    pub fn numbered(&self) {
        let mut state = self.state.lock();
        state.numbered += 1;
        if state.numbered == ROOM / 2 {
            state.run.asked += 1;
            drop(state);
            self.changed.notify_one();
        }
    }

    /// The ends of the runs before this one are reported.
    pub fn reported(&self) {
        let mut state = self.state.lock();
        state.reported = true;
        state.run.asked += 1;
        drop(state);
        self.changed.notify_one();
    }

    pub fn are_reported(&self) -> bool {
        self.state.lock().reported
    }

    /// Waits until the sink has all, or `patience` is over. Says whether it has.
    pub fn flush(&self, patience: Duration) -> bool {
        let mut state = self.state.lock();
        state.run.asked += 1;
        state.hurries = true;
        let (run, crashes) = (state.run.asked, state.crashes.asked);
        self.changed.notify_one();
        let is_stored = |state: &State| state.run.stored >= run && state.crashes.stored >= crashes;
        let waits = |state: &mut State| !state.closed && !is_stored(state);
        self.settled.wait_while_for(&mut state, waits, patience);
        is_stored(&state)
    }

    /// Nothing more is stored.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
        self.settled.notify_all();
    }

    /// Resolves when something was left here.
    pub async fn has_changed(&self) {
        self.changed.notified().await;
    }

    pub fn next(&self, heartbeat: Duration, now: Instant) -> Next {
        self.state.lock().next(heartbeat, now)
    }

    /// How many changes a document has that is made now.
    pub fn asked(&self, kind: Kind) -> u64 {
        let mut state = self.state.lock();
        if kind == Kind::Run {
            state.numbered = 0;
        }
        state.progress(kind).asked
    }

    /// The newest records that fit, and how many changes they are.
    pub fn records(&self) -> (u64, CrashContent) {
        let (asked, records) = {
            let state = self.state.lock();
            let records: Vec<_> = state.records.iter().map(|(_, it)| Arc::clone(it)).collect();
            (state.crashes.asked, records)
        };
        (asked, CrashContent { records: fit(records) })
    }

    /// The sink has a document with so many changes.
    pub fn is_stored(&self, kind: Kind, asked: u64, now: Instant) {
        let mut state = self.state.lock();
        let progress = state.progress(kind);
        progress.stored = progress.stored.max(asked);
        progress.stored_at = Some(now);
        (state.retry_at, state.failures, state.fails_since) = (None, 0, None);
        state.hurries &= state.run.waits() || state.crashes.waits();
        drop(state);
        self.stored.fetch_add(1, Relaxed);
        self.settled.notify_all();
    }

    /// A try failed. `dice` is between 0 and 1.
    pub fn has_failed(&self, heartbeat: Duration, now: Instant, dice: f64) {
        let mut state = self.state.lock();
        let backoff = Backoff::new(FIRST_BACKOFF, heartbeat.max(FIRST_BACKOFF));
        // Not at once, whatever the dice say.
        let pause = backoff.pause(state.failures, dice).max(FIRST_BACKOFF / 2);
        state.failures = state.failures.saturating_add(1);
        state.fails_since.get_or_insert(now);
        state.retry_at = Some(now + pause);
        state.hurries = false;
        drop(state);
        self.failed.fetch_add(1, Relaxed);
    }

    pub fn figures(&self) -> Figures {
        let state = self.state.lock();
        let last = state.run.stored_at.max(state.crashes.stored_at);
        Figures {
            stored: self.stored.load(Relaxed),
            failed: self.failed.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            age: last.map(|last| last.elapsed()),
            failing: state.fails_since.map(|since| since.elapsed()),
        }
    }
}

impl Progress {
    fn waits(&self) -> bool {
        self.asked > self.stored
    }

    /// When it is due that was changed: not too soon after the last one.
    fn due(&self, gap: Duration, now: Instant) -> Option<Instant> {
        self.waits().then(|| self.stored_at.map_or(now, |last| last + gap))
    }
}

impl State {
    fn progress(&mut self, kind: Kind) -> &mut Progress {
        match kind {
            Kind::Run => &mut self.run,
            Kind::Crashes => &mut self.crashes,
        }
    }

    fn next(&self, heartbeat: Duration, now: Instant) -> Next {
        if self.closed {
            return Next::Close;
        }
        if let Some(at) = self.retry_at.filter(|at| *at > now && !self.hurries) {
            return Next::Wait(at);
        }
        let gap = |gap| if self.hurries { Duration::ZERO } else { gap };
        let crashes = self.crashes.due(gap(CRASH_GAP), now).map(|at| (at, Kind::Crashes));
        let asked = self.run.due(gap(RUN_GAP), now);
        let beat = self.run.stored_at.map_or(now, |last| last + heartbeat);
        let run = (asked.map_or(beat, |asked| asked.min(beat)), Kind::Run);
        let (at, kind) = crashes.filter(|(at, _)| *at <= run.0.max(now)).unwrap_or(run);
        if at <= now { Next::Store(kind) } else { Next::Wait(at) }
    }
}

/// The newest ones that a document has room for.
fn fit(records: Vec<Arc<CrashRecord>>) -> Vec<Arc<CrashRecord>> {
    let mut left = MAX_RECORDS_BYTES;
    let mut fitting: Vec<_> = records
        .into_iter()
        .rev()
        .map(|record| if size(&record) > MAX_RECORD { shortened(&record) } else { record })
        .take_while(|record| {
            let bytes = size(record);
            let fits = bytes <= left;
            left = left.saturating_sub(bytes);
            fits
        })
        .collect();
    fitting.reverse();
    fitting
}

fn size(record: &CrashRecord) -> usize {
    serde_json::to_vec(record).map_or(usize::MAX, |text| text.len())
}

/// Without what can be large.
fn shortened(record: &CrashRecord) -> Arc<CrashRecord> {
    let mut record = record.clone();
    record.resources.samples.clear();
    record.last_log_lines.clear();
    record.last_events.clear();
    if size(&record) > MAX_RECORD {
        record.frames = Default::default();
        record.exceptions.clear();
        record.active_tools.clear();
        record.tools_in_flight.clear();
        record.message.truncate(record.message.floor_char_boundary(MAX_RECORD / 8));
    }
    record.into()
}

#[cfg(test)]
pub(crate) mod tests;

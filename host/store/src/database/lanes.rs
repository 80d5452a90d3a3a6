//! What waits for the writer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_model::{AgentId, CrashRecord};
use tokio::sync::oneshot;

use super::NotDurable;
use super::image::{Due, Image};
use super::snapshots::Kept;

pub(super) type Waiter = oneshot::Sender<Result<(), NotDurable>>;

/// Something about snapshots, in the order in which it was asked for.
#[derive(Debug, Clone)]
pub(super) enum Work {
    Keep(Kept),
    CountFailure(u64),
    Forgive(u64),
    SetAside(u64, String),
}

impl Work {
    fn bytes(&self) -> usize {
        match self {
            Self::Keep(kept) => kept.snapshot.bytes.len(),
            _ => 0,
        }
    }
}

/// Everything that waits for the writer.
///
/// Agents need no queue: the image is changed at once and the writer takes whatever the file does not have,
/// so that is as many rows as there are agents at most. The other two are bounded queues.
pub(super) struct Lanes {
    pub image: Image,
    /// Told when everything that was there before them is written.
    pub waiters: Vec<Waiter>,
    works: VecDeque<Work>,
    work_bytes: usize,
    crashes: VecDeque<Arc<CrashRecord>>,
    /// When the oldest of them came, or when others had to wait because it was too many for one transaction.
    crashes_since: Option<Instant>,
    /// Snapshots that the writer is at.
    in_hand: Vec<Kept>,
    /// When the first change was made that is not urgent and not written.
    pub lazy_since: Option<Instant>,
    /// Somebody wants all of it written.
    pub flush: bool,
    pub writing: bool,
    pub closed: bool,
    pub bounds: Bounds,
}

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub works: usize,
    pub work_bytes: usize,
    pub crashes: usize,
}

/// What became of a crash record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// The writer comes for it by itself.
    Waits,
    /// The writer has to hear of it: there is one more than it knew of, or enough.
    TellsTheWriter,
    /// It is lost.
    NoRoom,
}

/// What the writer takes at once.
pub(super) struct Batch {
    pub rows: Vec<Due>,
    pub works: Vec<Work>,
    pub waiters: Vec<Waiter>,
    pub crashes: Vec<Arc<CrashRecord>>,
}

/// How long the history of agents that come back may wait to be written: it is as long as theirs, and in a storm
/// of crashes there is a new one every few milliseconds.
const LAZY: Duration = Duration::from_secs(1);

/// How long a crash record may wait for others. A transaction for each costs more than the records.
const GATHERING: Duration = Duration::from_millis(10);

/// Crash records of one transaction: what is asked for meanwhile waits so long.
const CRASHES_AT_ONCE: usize = 128;

/// Records among which an older version is looked for: the files and lines of a fault that was seen before come
/// within that.
const NEAR: usize = 128;

impl Lanes {
    pub fn new(image: Image, bounds: Bounds) -> Self {
        Self {
            image,
            waiters: Vec::new(),
            works: VecDeque::new(),
            work_bytes: 0,
            crashes: VecDeque::new(),
            crashes_since: None,
            in_hand: Vec::new(),
            lazy_since: None,
            flush: false,
            writing: false,
            closed: false,
            bounds,
        }
    }

    /// Whether the work has room. A change that is not about bytes always has some.
    pub fn push_work(&mut self, work: Work) -> bool {
        let bytes = self.work_bytes + work.bytes();
        let too_much = bytes > self.bounds.work_bytes || self.works.len() >= self.bounds.works;
        if self.closed
            || (too_much && work.bytes() > 0)
            || self.works.len() >= 2 * self.bounds.works
        {
            return false;
        }
        self.work_bytes = bytes;
        self.works.push_back(work);
        true
    }

    /// Takes a record if there is room. One that waits is replaced by a newer version of it.
    pub fn push_crash(&mut self, record: Arc<CrashRecord>) -> Pushed {
        if self.closed {
            return Pushed::NoRoom;
        }
        let is_it = |waiting: &&mut Arc<CrashRecord>| waiting.crash_id == record.crash_id;
        if let Some(waiting) = self.crashes.iter_mut().rev().take(NEAR).find(is_it) {
            *waiting = record;
            return Pushed::Waits;
        }
        if self.crashes.len() >= self.bounds.crashes {
            return Pushed::NoRoom;
        }
        self.crashes.push_back(record);
        match self.crashes.len() {
            1 => {
                self.crashes_since = Some(Instant::now());
                Pushed::TellsTheWriter
            }
            CRASHES_AT_ONCE => Pushed::TellsTheWriter,
            _ => Pushed::Waits,
        }
    }

    /// The newest snapshot of an agent that is not in the file yet.
    pub fn newest_snapshot(&self, agent: &AgentId) -> Option<Kept> {
        let waiting = self.works.iter().rev().filter_map(|work| match work {
            Work::Keep(kept) => Some(kept),
            _ => None,
        });
        let all = waiting.chain(self.in_hand.iter().rev());
        all.filter(|kept: &&Kept| kept.snapshot.agent == *agent)
            .find(|kept| !self.is_set_aside(kept.generation))
            .cloned()
    }

    fn is_set_aside(&self, generation: u64) -> bool {
        let is_it = |work: &Work| matches!(work, Work::SetAside(which, _) if *which == generation);
        self.works.iter().any(is_it)
    }

    /// Whether somebody waits, or something that is worth a transaction.
    pub fn has_work(&self, file_is_open: bool) -> bool {
        let for_a_file = file_is_open && (self.image.is_urgent() || self.is_lazy_due());
        let all = self.flush || self.closed || !file_is_open;
        for_a_file
            || self.flush
            || !self.waiters.is_empty()
            || !self.works.is_empty()
            || (!self.crashes.is_empty() && (all || self.are_crashes_due()))
    }

    /// Whether the file has everything but crash records.
    pub fn is_written(&self) -> bool {
        !self.writing
            && !self.closed
            && !self.image.is_urgent()
            && self.works.is_empty()
            && self.waiters.is_empty()
    }

    pub fn is_through(&self) -> bool {
        !self.writing
            && !self.flush
            && self.waiters.is_empty()
            && self.works.is_empty()
            && self.crashes.is_empty()
    }

    /// When something that waits is to be written, although nobody waits for it.
    pub fn due(&self) -> Option<Instant> {
        let crashes = self.crashes_since.map(|since| since + GATHERING);
        self.lazy_due().into_iter().chain(crashes).min()
    }

    fn lazy_due(&self) -> Option<Instant> {
        self.lazy_since.filter(|_| self.image.is_dirty()).map(|since| since + LAZY)
    }

    fn is_lazy_due(&self) -> bool {
        self.lazy_due().is_some_and(|due| Instant::now() >= due)
    }

    fn are_crashes_due(&self) -> bool {
        self.crashes.len() >= CRASHES_AT_ONCE
            || self.crashes_since.is_some_and(|since| since.elapsed() >= GATHERING)
    }

    pub fn take(&mut self) -> Batch {
        let all = self.flush || self.closed || self.is_lazy_due();
        if all {
            (self.flush, self.lazy_since) = (false, None);
        }
        let works: Vec<_> = self.works.drain(..).collect();
        self.work_bytes = 0;
        self.writing = true;
        self.in_hand = works
            .iter()
            .filter_map(|work| match work {
                Work::Keep(kept) => Some(kept.clone()),
                _ => None,
            })
            .collect();
        let crashes = self.crashes.len().min(CRASHES_AT_ONCE);
        let crashes = self.crashes.drain(..crashes).collect();
        self.crashes_since = self.crashes_since.filter(|_| !self.crashes.is_empty());
        Batch {
            rows: self.image.take(all),
            works,
            waiters: std::mem::take(&mut self.waiters),
            crashes,
        }
    }

    /// The rows and the snapshots of a batch are in the file, or came to nothing.
    pub fn state_is_done(&mut self, rows: Vec<Due>, written: bool) {
        match written {
            true => self.image.is_written(&rows),
            false => self.image.put_back(rows),
        }
        self.in_hand.clear();
    }

    pub fn batch_is_done(&mut self) {
        self.writing = false;
    }
}

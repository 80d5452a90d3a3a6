//! What waits for the writer.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_types::{AgentId, CrashRecord, Digest, UsageChange};

use super::crash_queue::{CrashBounds, CrashQueue};
use super::image::{Due, Image};
use super::snapshots::Kept;
use super::usage::UsageImage;
use super::waiters::Waiters;

/// Something about snapshots, in the order in which it was asked for.
#[derive(Debug, Clone)]
pub(super) enum Work {
    Keep(Kept),
    CountFailure(u64),
    Prove(u64, Digest),
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
/// so that is as many rows as there are agents at most. The other two are bounded queues. While there is no file,
/// crash records stay in theirs, and of the snapshots of each agent the newest.
pub(super) struct Lanes {
    pub image: Image,
    /// Like agents: changed at once, and written a little later.
    pub usage: UsageImage,
    /// Told when everything that was there before them is written.
    pub waiters: Waiters,
    works: VecDeque<Work>,
    /// What failed because there is no file to write to. Goes first when there is one, and counts as
    /// waiting until then.
    parked: Vec<Work>,
    work_bytes: usize,
    pub crashes: CrashQueue,
    /// Why there is no file to write to, while there is none.
    pub lost: Option<Arc<str>>,
    /// Why what earlier runs left is not known, until the file can be read.
    pub unread: Option<Arc<str>>,
    /// Agents that a file had which was opened later.
    pub late: Vec<AgentId>,
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
    pub crashes: CrashBounds,
}

/// What the writer takes at once.
pub(super) struct Batch {
    pub rows: Vec<Due>,
    pub usage: UsageChange,
    pub works: Vec<Work>,
    pub waiters: Waiters,
    pub crashes: Vec<Arc<CrashRecord>>,
    /// Somebody waits for all that can be written.
    pub flush: bool,
}

/// How long the history of agents that are restarted may wait to be written: it is as long as theirs, and in a storm
/// of crashes there is a new one every few milliseconds.
const LAZY: Duration = Duration::from_secs(1);

impl Lanes {
    pub fn new(image: Image, bounds: Bounds) -> Self {
        Self {
            image,
            usage: UsageImage::default(),
            waiters: Waiters::default(),
            works: VecDeque::new(),
            parked: Vec::new(),
            work_bytes: 0,
            crashes: CrashQueue::new(bounds.crashes),
            lost: None,
            unread: None,
            late: Vec::new(),
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
        let works = self.works.len() + self.parked.len();
        let too_much = bytes > self.bounds.work_bytes || works >= self.bounds.works;
        if self.closed || (too_much && work.bytes() > 0) || works >= 2 * self.bounds.works {
            return false;
        }
        self.work_bytes = bytes;
        self.works.push_back(work);
        true
    }

    /// The newest snapshot of an agent that is not in the file yet.
    pub fn newest_snapshot(&self, agent: &AgentId) -> Option<Kept> {
        let waiting = self.works.iter().rev().filter_map(|work| match work {
            Work::Keep(kept) => Some(kept),
            _ => None,
        });
        let parked = self.parked.iter().rev().filter_map(|work| match work {
            Work::Keep(kept) => Some(kept),
            _ => None,
        });
        let all = waiting.chain(self.in_hand.iter().rev()).chain(parked);
        let aside = self.set_aside();
        all.filter(|kept: &&Kept| kept.snapshot.agent == *agent)
            .find(|kept| !aside.contains(&kept.generation))
            .cloned()
    }

    /// Generations that are set aside, and not in the file yet.
    pub fn set_aside(&self) -> Vec<u64> {
        let which = |work: &Work| match work {
            Work::SetAside(which, _) => Some(*which),
            _ => None,
        };
        self.works.iter().chain(&self.parked).filter_map(which).collect()
    }

    /// Whether somebody waits, or something that is worth a transaction.
    pub fn has_work(&self) -> bool {
        let all = self.flush || self.closed;
        let is_worth_it = || {
            let are_crashes_due = !self.crashes.is_empty() && (all || self.crashes.is_due());
            self.image.is_urgent()
                || self.is_lazy_due()
                || !self.parked.is_empty()
                || are_crashes_due
        };
        self.flush
            || !self.waiters.is_empty()
            || !self.works.is_empty()
            || (self.lost.is_none() && is_worth_it())
    }

    /// Whether the file has everything but crash records.
    pub fn is_written(&self) -> bool {
        !self.writing
            && !self.closed
            && !self.image.is_urgent()
            && self.works.is_empty()
            && self.parked.is_empty()
            && self.waiters.is_empty()
    }

    pub fn is_through(&self) -> bool {
        !self.writing
            && !self.flush
            && self.waiters.is_empty()
            && self.works.is_empty()
            && (self.lost.is_some() || (self.crashes.is_empty() && self.parked.is_empty()))
    }

    /// When something that waits has to be written, although nobody waits for it.
    pub fn due(&self) -> Option<Instant> {
        self.lazy_due().into_iter().chain(self.crashes.due()).min()
    }

    fn lazy_due(&self) -> Option<Instant> {
        let is_dirty = self.image.is_dirty() || self.usage.is_dirty();
        self.lazy_since.filter(|_| is_dirty).map(|since| since + LAZY)
    }

    fn is_lazy_due(&self) -> bool {
        self.lazy_due().is_some_and(|due| Instant::now() >= due)
    }

    pub fn take(&mut self) -> Batch {
        let all = self.flush || self.closed || self.is_lazy_due();
        let flush = std::mem::take(&mut self.flush);
        if all {
            self.lazy_since = None;
        }
        let works: Vec<_> = self.parked.drain(..).chain(self.works.drain(..)).collect();
        self.work_bytes = 0;
        self.writing = true;
        self.in_hand = works
            .iter()
            .filter_map(|work| match work {
                Work::Keep(kept) => Some(kept.clone()),
                _ => None,
            })
            .collect();
        let crashes = if self.lost.is_some() { Vec::new() } else { self.crashes.take() };
        Batch {
            rows: self.image.take(all),
            usage: if all { self.usage.take() } else { UsageChange::default() },
            works,
            waiters: std::mem::take(&mut self.waiters),
            crashes,
            flush,
        }
    }

    /// The rows and the snapshots of a batch are in the file, or came to nothing: then they wait for a file.
    pub fn state_is_done(
        &mut self,
        rows: Vec<Due>,
        usage: UsageChange,
        works: Vec<Work>,
        written: bool,
    ) {
        match written {
            true => self.image.is_written(&rows),
            false => {
                self.image.put_back(rows);
                self.usage.put_back(usage);
                self.park(works);
            }
        }
        self.in_hand.clear();
    }

    /// Keeps what failed; of the snapshots of one agent the newest.
    fn park(&mut self, works: Vec<Work>) {
        let mut seen = HashSet::new();
        let mut parked: Vec<_> = works.into_iter().rev().collect();
        parked.retain(|work| match work {
            Work::Keep(kept) => seen.insert(kept.snapshot.agent.clone()),
            _ => true,
        });
        parked.reverse();
        self.work_bytes += parked.iter().map(Work::bytes).sum::<usize>();
        self.parked = parked;
    }

    pub fn batch_is_done(&mut self) {
        self.writing = false;
    }
}

//! The database: what was acknowledged is still there after the process is gone.
//!
//! ```text
//!   change ──▶ image of all agents ──┐
//!   snapshot ──▶ bounded queue ──────┼──▶ writer thread ──▶ one transaction for all that waits ──▶ bulkhead.db
//!   crash record ──▶ bounded queue ──┘        │
//!                 Receipt ◀───────────────────┘ after the commit
//! ```
//!
//! SQLite in WAL mode. A commit is written to its log and not synced: it survives the death of the process at
//! any byte. The death of the machine may take the commits since the last checkpoint, which is a second old
//! on a quiet host and 8 MiB on a busy one; what is older is there, and the file is whole either way.
//!
//! Nothing here waits for the disk but the writer, and callers that wait for a [`Receipt`]. Readers have connections
//! of their own and see the last commit. Without a directory or with a full disk the host goes on: the image is in
//! memory, receipts say [`NotDurable`], [`Notice`]s say why, crash records wait, and the file is tried again. A
//! damaged file gets another name and stays; the host begins a new one. A file of a newer program is left alone:
//! ask [`check_version`] before one is opened.

mod agents;
mod answers;
mod config;
mod crash_queue;
mod file;
mod file_state;
mod first_look;
mod image;
mod install;
mod lanes;
mod look;
mod pages;
mod reading;
mod records;
mod recovery;
mod run_time;
mod schema;
mod snapshots;
mod usage;
mod waiters;
mod wal;
mod writer;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use bulkhead_types::{
    AgentId, CrashRecord, Digest, Incarnation, Timestamp, UsageChange, UsageDay, UsageRow,
};
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

pub use answers::{NotDurable, Notice, Receipt, SnapshotRefused};
pub use config::{Config, MAX_SNAPSHOT_BYTES};
use crash_queue::CrashBounds;
use first_look::First;
pub use image::{AgentRow, Change, Private, RESERVED, TownKnows, Wanted};
use image::{Follow, Image};
pub use install::{InstallError, NUMBERS_LEFT_OUT, install};
use lanes::{Bounds, Lanes, Work};
pub use look::{NewerDatabase, ReadError, check_version, read_crashes, read_snapshot};
use pages::Tap;
pub use pages::{Changed, Follower, FollowerFigures, PageCopy, exists};
pub use records::{CrashQuery, Retention};
pub use snapshots::{Kept, Newest, Snapshot};
use writer::Writer;

/// What the file held at open.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// Agents, in no order.
    pub agents: Vec<AgentRow>,
    /// Agents whose rows this program cannot read. The rows are left as they are.
    pub unreadable: Vec<UnreadableAgent>,
    /// Why nothing was read although earlier runs left something, if it is so.
    pub unread: Option<String>,
    /// The newest crash records, oldest first.
    pub crashes: Vec<Arc<CrashRecord>>,
    /// Calls of language models, counted, in no order.
    pub usage: Vec<UsageRow>,
    /// The days that their budgets are measured by.
    pub usage_days: Vec<UsageDay>,
}

/// An agent whose row cannot be read. A start of it takes the row's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableAgent {
    /// Which agent.
    pub id: AgentId,
    /// Whether it is desired, as far as that can be read.
    pub wanted: Option<Wanted>,
}

/// Counts since the open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Crash records written.
    pub crashes_written: u64,
    /// Writes of crash records that failed. They wait.
    pub crash_errors: u64,
    /// Crash records that had to make room in the queue, and are in no file.
    pub crashes_dropped: u64,
    /// Crash records that wait now.
    pub crashes_waiting: usize,
}

/// The database of this host.
pub struct Database {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

type Report = Box<dyn Fn(Notice) + Send + Sync>;

struct Shared {
    config: Config,
    lanes: Mutex<Lanes>,
    filled: Condvar,
    drained: Condvar,
    figures: Figures,
    next_generation: AtomicU64,
    report: Report,
    /// Rises with every change of which agents are desired.
    members: watch::Sender<u64>,
    /// Agents with snapshots that were written and that nobody took from here. As many as agents are known.
    fresh: Mutex<HashSet<AgentId>>,
    /// Rises when there are more of them.
    freshened: watch::Sender<u64>,
    /// Hands on which pages change, if somebody wants to hear it.
    tap: Option<Mutex<Tap>>,
    /// Held by who writes the file, and by who copies it.
    writes: Mutex<()>,
}

#[derive(Default)]
struct Figures {
    crashes_written: AtomicU64,
    crash_errors: AtomicU64,
    crashes_dropped: AtomicU64,
}

/// How long the end of the database waits for what is queued.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// Changes about snapshots that may wait.
const MAX_WORKS: usize = 4096;

/// Whether a database keeps anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durability {
    /// It writes to its file.
    Kept,
    /// Its file cannot be written, for now or for good, and why: as [`Notice::Unavailable`] has it.
    Lost(Arc<str>),
    /// Nobody wants a file.
    Off,
}

/// Why nothing is durable in a database without a directory.
const NO_FILE: &str = "this host has no database";

/// Why nothing is durable any more.
const CLOSED: &str = "the database is closed";

impl Database {
    /// Opens the file, or makes it, and starts the writer. Never fails: without a file the database is an
    /// image in memory, and `report` is called.
    pub fn open(config: Config, report: impl Fn(Notice) + Send + Sync + 'static) -> (Self, Found) {
        let (writer, found) = Self::prepare(config, report);
        let shared = Arc::clone(&writer.shared);
        let thread =
            std::thread::Builder::new().name("bulkhead-store".into()).spawn(move || writer.run());
        let thread = thread.inspect_err(|error| {
            let reason = format!("start the writer of the database: {error}");
            shared.report(Notice::Unavailable { reason: reason.clone(), retries: false });
            let mut lanes = shared.lanes.lock();
            (lanes.closed, lanes.lost) = (true, Some(reason.into()));
        });
        (Self { shared, thread: thread.ok() }, found)
    }

    /// All of it but the thread.
    fn prepare(config: Config, report: impl Fn(Notice) + Send + Sync + 'static) -> (Writer, Found) {
        let bounds = Bounds {
            works: MAX_WORKS,
            work_bytes: config.snapshot_queue_bytes,
            crashes: CrashBounds { records: config.crash_queue, bytes: config.crash_queue_bytes },
        };
        let lanes = Lanes::new(Image::new(config.max_agents), bounds);
        let tap = config.follower.clone().zip(config.dir.clone());
        let tap = tap.map(|(follower, dir)| Mutex::new(Tap::new(follower, dir)));
        let shared = Arc::new(Shared {
            config,
            lanes: Mutex::new(lanes),
            filled: Condvar::new(),
            drained: Condvar::new(),
            figures: Figures::default(),
            next_generation: AtomicU64::new(1),
            report: Box::new(report),
            members: watch::Sender::new(0),
            fresh: Mutex::default(),
            freshened: watch::Sender::new(0),
            tap,
            writes: Mutex::new(()),
        });
        let (file, first) = shared.first_look();
        let First { found, forgotten, reserved, held, generation, ran } = first;
        shared.next_generation.fetch_max(generation + 1, Relaxed);
        {
            let mut lanes = shared.lanes.lock();
            lanes.image.load(found.agents.clone(), forgotten, reserved);
            lanes.usage.load(found.usage.clone(), found.usage_days.clone());
            lanes.lost = file.lost().cloned();
            lanes.unread = found.unread.as_deref().map(Arc::from);
        }
        (Writer::new(shared, file, held, ran), found)
    }

    /// One that keeps nothing, for tests and for those who want nothing kept.
    pub fn absent() -> Self {
        Self::open(Config::default(), |_| {}).0
    }

    /// Whether what it acknowledged is there after the end of the process.
    pub fn durability(&self) -> Durability {
        let lanes = self.shared.lanes.lock();
        match (self.has_file(), &lanes.lost) {
            (false, _) => Durability::Off,
            (true, Some(reason)) => Durability::Lost(Arc::clone(reason)),
            (true, None) if lanes.closed => Durability::Lost(CLOSED.into()),
            (true, None) => Durability::Kept,
        }
    }

    /// Whether there is anything to write to at all.
    pub fn has_file(&self) -> bool {
        self.shared.config.dir.is_some()
    }

    /// Changes what is kept of an agent. Does not wait; the receipt does.
    pub fn change(&self, id: &AgentId, change: Change) -> Receipt {
        self.with_lanes(|lanes| {
            if lanes.closed {
                return Receipt::never();
            }
            lanes.image.change(id, change, writer::now(), true);
            self.shared.publish_members(lanes);
            lanes.waiters.push()
        })
    }

    /// The same for callers that do not wait. The history of an agent that is restarted is written within a second,
    /// anything else at once.
    ///
    /// A receipt says that the change gives a number that the file has no room for. A caller that waits for it before
    /// the number is used gives none that a later run gives again.
    pub fn note(&self, id: &AgentId, change: Change) -> Option<Receipt> {
        let mut lanes = self.shared.lanes.lock();
        let urgent = change.is_urgent();
        let follow = lanes.image.change(id, change, writer::now(), urgent);
        self.shared.publish_members(&lanes);
        let mut receipt = None;
        match follow {
            Follow::Not => return None,
            Follow::Soon if lanes.lazy_since.is_some() => return None,
            Follow::Soon => lanes.lazy_since = Some(std::time::Instant::now()),
            Follow::First if self.has_file() && !lanes.closed => {
                receipt = Some(lanes.waiters.push());
            }
            Follow::First | Follow::AtOnce => {}
        }
        drop(lanes);
        self.shared.filled.notify_one();
        receipt
    }

    /// Resolves when everything that was changed before is written, but for what [`Database::note`] leaves for
    /// later: at once when it is.
    pub fn receipt(&self) -> Receipt {
        self.receipt_if(|lanes| !lanes.is_written())
    }

    /// The same of all that was changed before.
    pub fn receipt_of_all(&self) -> Receipt {
        self.receipt_if(|lanes| {
            lanes.flush |= lanes.image.is_dirty() || lanes.usage.is_dirty();
            lanes.flush || !lanes.is_written()
        })
    }

    fn receipt_if(&self, waits: impl FnOnce(&mut Lanes) -> bool) -> Receipt {
        let mut lanes = self.shared.lanes.lock();
        if lanes.closed {
            return Receipt::never();
        }
        if !waits(&mut lanes) {
            return Receipt::at_once();
        }
        let receipt = lanes.waiters.push();
        drop(lanes);
        self.shared.filled.notify_one();
        receipt
    }

    /// Goes on with what an earlier run knew of agents on another disk: of agents that are not known here all of it, of
    /// others the number, and the history if it is newer. Agents of which nobody knows anything go on after
    /// `forgotten`. Returns which rows changed. Written at once, and nobody waits for it.
    pub fn adopt(&self, rows: Vec<AgentRow>, forgotten: Incarnation) -> Vec<AgentId> {
        self.with_lanes(|lanes| lanes.image.adopt(rows, forgotten))
    }

    /// What is kept of agents now, in no order.
    pub fn agents(&self) -> Vec<AgentRow> {
        self.shared.lanes.lock().image.rows().cloned().collect()
    }

    /// The number of this one, if it is desired ([`AgentRow::is_member`]).
    pub fn member(&self, id: &AgentId) -> Option<Incarnation> {
        let lanes = self.shared.lanes.lock();
        lanes.image.row(id).filter(|row| row.is_member()).map(|row| row.incarnation)
    }

    /// Desired agents that were found only after the open, in no order. Nobody has brought them back.
    pub fn found_late(&self) -> Vec<AgentId> {
        let lanes = self.shared.lanes.lock();
        let is_member = |id: &&AgentId| lanes.image.row(id).is_some_and(AgentRow::is_member);
        lanes.late.iter().filter(is_member).cloned().collect()
    }

    /// Rises with every change of which agents are desired ([`AgentRow::is_member`]), and how.
    pub fn member_changes(&self) -> watch::Receiver<u64> {
        self.shared.members.subscribe()
    }

    /// What is reported to the town about agents changed in another way.
    pub fn members_changed(&self) {
        let mut lanes = self.shared.lanes.lock();
        lanes.image.members_changed();
        self.shared.publish_members(&lanes);
    }

    /// The town is about to be notified that these agents are desired. Written before anything that comes later
    /// of the same agents, and nobody waits for it.
    pub fn notifying_town(&self, agents: &[AgentId]) {
        let agents = agents.iter().collect();
        self.change_for_town(|lanes| lanes.image.notifying_town(&agents));
    }

    /// No notification since its last acknowledgement can have reached the town.
    pub fn town_not_notified(&self) {
        self.change_for_town(|lanes| lanes.image.town_not_notified());
    }

    /// The town has said or acknowledged that it wants these agents, and no others. Written at once, and nobody
    /// waits for it.
    pub fn town_wants(&self, agents: &[AgentId]) {
        let agents = agents.iter().collect();
        self.change_for_town(|lanes| lanes.image.town_wants(&agents));
    }

    fn change_for_town(&self, change: impl FnOnce(&mut Lanes) -> bool) {
        let mut lanes = self.shared.lanes.lock();
        let changed = change(&mut lanes);
        if changed && lanes.lazy_since.is_none() {
            lanes.lazy_since = Some(std::time::Instant::now());
        }
        drop(lanes);
        if changed {
            self.shared.filled.notify_one();
        }
    }

    /// Rises when snapshots were written.
    pub fn snapshot_changes(&self) -> watch::Receiver<u64> {
        self.shared.freshened.subscribe()
    }

    /// Agents with snapshots that were written since the last call.
    pub fn take_changed_snapshots(&self) -> Vec<AgentId> {
        let mut fresh = self.shared.fresh.lock();
        fresh.drain().collect()
    }

    /// The newest snapshot of this agent counts as one that was written just now.
    pub fn snapshot_changed(&self, agent: &AgentId) {
        self.shared.freshen(std::iter::once(agent));
    }

    /// Copies all pages of the file, for a [`Follower`]: nothing is written meanwhile. `at` is called at the moment of the copy.
    /// Reads the disk. `None`: nobody follows.
    pub fn copy<T>(&self, at: impl FnOnce() -> T) -> std::io::Result<Option<(PageCopy, T)>> {
        let Some(tap) = &self.shared.tap else { return Ok(None) };
        let _writes = self.shared.writes.lock();
        let copy = tap.lock().copy()?;
        Ok(Some((copy, at())))
    }

    /// Who follows the file, if somebody does.
    pub fn follower(&self) -> Option<&Arc<dyn Follower>> {
        self.shared.config.follower.as_ref()
    }

    /// Numbers up to this one were given to agents that are forgotten.
    pub fn forgotten(&self) -> Incarnation {
        self.shared.lanes.lock().image.forgotten()
    }

    /// Keeps a snapshot. The one before it stays as well.
    pub fn keep_snapshot(&self, snapshot: Snapshot) -> Result<Receipt, SnapshotRefused> {
        let (bytes, max_bytes) = (snapshot.bytes.len(), self.shared.config.max_snapshot_bytes);
        if bytes > max_bytes {
            return Err(SnapshotRefused::TooLarge { bytes, max_bytes });
        }
        self.with_lanes(|lanes| {
            // Under the lock, so that generations rise in the order of the queue.
            let generation = self.shared.next_generation.fetch_add(1, Relaxed);
            let agent = snapshot.agent.clone();
            let taken = lanes.push_work(Work::Keep(Kept { generation, snapshot, failures: 0 }));
            if taken && lanes.lost.is_none() {
                lanes.image.is_about_to_be_written(&agent);
            }
            if taken { Ok(lanes.waiters.push()) } else { Err(SnapshotRefused::Full) }
        })
    }

    /// A restore from this snapshot failed.
    pub fn count_snapshot_failure(&self, generation: u64) {
        self.with_lanes(|lanes| lanes.push_work(Work::CountFailure(generation)));
    }

    /// This code got through a turn after a restore from this snapshot: the failures before do not count.
    pub fn prove_snapshot(&self, generation: u64, code: Digest) {
        self.with_lanes(|lanes| lanes.push_work(Work::Prove(generation, code)));
    }

    /// This snapshot is not restored from any more. It is kept for a person.
    pub fn set_snapshot_aside(&self, generation: u64, reason: &str) {
        let work = Work::SetAside(generation, reason.to_owned());
        self.with_lanes(|lanes| lanes.push_work(work));
    }

    /// Keeps a crash record, or replaces the one with its id. While there is no file it waits; the oldest that wait
    /// are dropped and counted when there are too many.
    pub fn keep_crash(&self, record: Arc<CrashRecord>) {
        if !self.has_file() {
            return;
        }
        let mut lanes = self.shared.lanes.lock();
        if lanes.closed {
            self.shared.figures.crashes_dropped.fetch_add(1, Relaxed);
            return;
        }
        let pushed = lanes.crashes.push(record);
        drop(lanes);
        self.shared.figures.crashes_dropped.fetch_add(pushed.dropped, Relaxed);
        if pushed.wakes_the_writer {
            self.shared.filled.notify_one();
        }
    }

    /// Brings many crash records into the file, and waits for it. Says whether all of them are there.
    pub fn import_crashes(&self, records: &[Arc<CrashRecord>], patience: Duration) -> bool {
        let until = std::time::Instant::now() + patience;
        let before = self.counts();
        for some in records.chunks(self.shared.config.crash_queue.max(1)) {
            some.iter().for_each(|record| self.keep_crash(Arc::clone(record)));
            if !self.flush(until.saturating_duration_since(std::time::Instant::now())) {
                return false;
            }
        }
        let after = self.counts();
        self.has_file()
            && after.crashes_waiting == 0
            && after.crashes_dropped == before.crashes_dropped
    }

    /// Keeps how the use of language models changed. Written within a second, and nobody waits for it.
    pub fn record_usage(&self, change: UsageChange) {
        let mut lanes = self.shared.lanes.lock();
        if !self.has_file() || lanes.closed || usage::is_empty(&change) {
            return;
        }
        lanes.usage.change(change);
        let is_first = lanes.lazy_since.is_none();
        if is_first {
            lanes.lazy_since = Some(std::time::Instant::now());
        }
        drop(lanes);
        if is_first {
            self.shared.filled.notify_one();
        }
    }

    /// Counts since the open.
    pub fn counts(&self) -> Counts {
        let figures = &self.shared.figures;
        Counts {
            crashes_written: figures.crashes_written.load(Relaxed),
            crash_errors: figures.crash_errors.load(Relaxed),
            crashes_dropped: figures.crashes_dropped.load(Relaxed),
            crashes_waiting: self.shared.lanes.lock().crashes.len(),
        }
    }

    /// Waits until everything queued is written or refused, or `patience` is over. Returns whether it is. A lost
    /// file is tried once more; crash records that it does not take wait on.
    pub fn flush(&self, patience: Duration) -> bool {
        self.with_lanes(|lanes| lanes.flush = !lanes.closed);
        let mut lanes = self.shared.lanes.lock();
        let waits = |lanes: &mut Lanes| !lanes.is_through() && !lanes.closed;
        self.shared.drained.wait_while_for(&mut lanes, waits, patience);
        !waits(&mut lanes)
    }

    fn with_lanes<R>(&self, work: impl FnOnce(&mut Lanes) -> R) -> R {
        let result = work(&mut self.shared.lanes.lock());
        self.shared.filled.notify_one();
        result
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let flushed = self.flush(LAST_PATIENCE);
        self.with_lanes(|lanes| lanes.closed = true);
        // A thread that is stuck in a blocked disk is left behind.
        if let (true, Some(thread)) = (flushed, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn dir(&self) -> Option<&Path> {
        self.config.dir.as_deref()
    }

    fn publish_members(&self, lanes: &Lanes) {
        let now = lanes.image.members();
        self.members.send_if_modified(|before| std::mem::replace(before, now) != now);
    }

    /// Snapshots of these agents were written. What finds no room is reported with the agent's next one.
    fn freshen<'a>(&self, agents: impl Iterator<Item = &'a AgentId>) {
        let mut fresh = self.fresh.lock();
        let mut any = false;
        for agent in agents {
            if fresh.len() < self.config.max_agents || fresh.contains(agent) {
                fresh.insert(agent.clone());
                any = true;
            }
        }
        drop(fresh);
        if any {
            self.freshened.send_modify(|count| *count += 1);
        }
    }

    /// Puts back what could not be written, and counts what has no room any more.
    fn put_crashes_back(&self, crashes: Vec<Arc<CrashRecord>>) {
        let dropped = self.lanes.lock().crashes.put_back(crashes);
        self.figures.crashes_dropped.fetch_add(dropped, Relaxed);
    }

    /// Something was committed. To be called before the log of commits is emptied.
    fn committed(&self) {
        self.with_tap(Tap::look);
    }

    fn with_tap(&self, work: impl FnOnce(&mut Tap)) {
        if let Some(tap) = &self.tap {
            work(&mut tap.lock());
        }
    }

    fn report(&self, notice: Notice) {
        (self.report)(notice);
    }

    fn now(&self) -> Timestamp {
        writer::now()
    }
}

#[cfg(test)]
mod tests;

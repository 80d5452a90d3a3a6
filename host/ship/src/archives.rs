//! Workspaces that travel: what an agent leaves on this disk, packed and beside the log, so that it finds it on another machine.
//!
//! ```text
//!   an incarnation ends ─▶ survey ─ unchanged ─▶ nothing
//!                            │ changed
//!                            ▼
//!                          pack ── parts ─▶ TOWN/workspaces/AGENT.ID.0 …  ── then ─▶ TOWN/workspaces.json names ID
//!
//!   an agent begins ─▶ the index names an archive that this disk has not seen ─▶ unpack beside ─▶ rename ─▶ note
//! ```
//!
//! No object is ever written twice: an archive has a random number in the names of its parts. So a reader of the index finds the
//! archive that it names, or none, and never parts of two. The index has one writer, by its epoch and its version.
//!
//! What is here is believed before what is there only if this disk is known to have gone on from it (`note`).

mod due;
mod guards;
mod index;
mod note;
mod pack;
mod unpack;
mod walk;
mod work;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bulkhead_types::AgentId;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Mutex as Turn, Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::fault::ShipError;
use crate::place::Place;
use crate::settings::Settings;

use due::{DueList, Owed};
use guards::{Abort, UnderWay};
use index::Packed;

pub(crate) use index::Index;

/// Files, directories and links of a workspace that are packed at most: as many as a role allows, unless it says otherwise.
const MAX_ENTRIES: u64 = 65_536;

/// Workspaces that are packed or unpacked at a time.
const AT_ONCE: usize = 2;

/// Longest time to ship a workspace, and before it to wait for others. A start that replaces the agent waits for both.
const SHIPPING: Duration = Duration::from_secs(15);

/// What is packed of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of files.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

/// Why a workspace was not shipped, or not brought here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// It is larger than what is shipped. If there are too many entries, not all were counted.
    #[error(
        "the workspace has {bytes} bytes in {entries} entries, and {} bytes (ship.workspace_mb) in {} entries are shipped",
        .limits.bytes,
        .limits.entries
    )]
    TooLarge {
        /// Of files.
        bytes: u64,
        /// Files, directories and links.
        entries: u64,
        /// What is shipped.
        limits: Limits,
    },
    /// A file became shorter while it was read.
    #[error("{} was changed while it was read", .0.display())]
    Changed(PathBuf),
    /// The archive is not what was written.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// The place of the town.
    #[error(transparent)]
    Place(#[from] ShipError),
    /// It took longer than it may.
    #[error("it was not done in {0:?}")]
    Slow(Duration),
    /// Another machine has shipped a newer one, which was not brought here.
    #[error("another machine has shipped a newer one, which is not here")]
    Overtaken,
    /// The agent had no time left.
    #[error("it was interrupted")]
    Interrupted,
    /// This disk.
    #[error("{0}")]
    Disk(String),
}

impl ArchiveError {
    fn disk(doing: &str, path: &Path, error: &io::Error) -> Self {
        Self::Disk(format!("cannot {doing} {}: {error}", path.display()))
    }

    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too-large",
            Self::Changed(_) => "changed",
            Self::Damaged(_) => "damaged",
            Self::Place(ShipError::Unavailable(_)) => "unavailable",
            Self::Place(ShipError::Refused(_) | ShipError::NoPlace(_)) => "refused",
            Self::Place(ShipError::Newer { .. } | ShipError::Fenced { .. }) => "fenced",
            Self::Place(ShipError::Missing { .. }) => "missing",
            Self::Place(ShipError::Damaged { .. }) => "damaged",
            Self::Place(ShipError::Local(_)) | Self::Disk(_) => "disk",
            Self::Slow(_) => "timeout",
            Self::Overtaken => "overtaken",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A workspace that was shipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shipped {
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes that were written.
    pub packed_bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// What is none of them, or cannot be read.
    pub skipped: u64,
    /// How long it took.
    pub took: Duration,
}

/// A workspace that another machine had shipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// Bytes of its files.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// How long it took.
    pub took: Duration,
    /// Where the workspace is now that was on this disk, and had something that was not shipped.
    pub kept_as: Option<PathBuf>,
}

/// What became of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveNotice {
    /// It is shipped.
    Shipped(Shipped),
    /// It is not. One that is too large is reported once, until it is shipped.
    NotShipped(ArchiveError),
    /// It was brought here.
    Arrived(Arrived),
}

/// Counts since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArchiveFigures {
    /// Workspaces that were shipped.
    pub shipped: u64,
    /// Of those, the bytes that were written.
    pub bytes: u64,
    /// That were as they had been shipped.
    pub unchanged: u64,
    /// That could not be shipped.
    pub failed: u64,
    /// That are too large.
    pub too_large: u64,
    /// That were brought here.
    pub arrived: u64,
    /// Workspaces of agents that ended, and are not shipped as they are now.
    pub due: u64,
}

type Notify = Box<dyn Fn(&AgentId, ArchiveNotice) + Send + Sync>;

/// The archives of a town. Cheap to clone.
#[derive(Clone)]
pub struct Archives(Arc<Inner>);

/// What carries archives. Dropping it ends what is under way.
pub struct Carrier(Option<Runtime>);

struct Inner {
    place: Arc<Place>,
    index: Index,
    /// Of all workspaces.
    folder: PathBuf,
    limits: Limits,
    /// How long the place may not answer.
    wait: Duration,
    /// How long a workspace may take to be brought here.
    restore: Duration,
    runtime: Handle,
    at_once: Semaphore,
    /// Workspaces that are being shipped.
    under_way: watch::Sender<usize>,
    /// Agents whose workspace is not shipped as it is.
    due: DueList,
    /// How often each agent has begun. Notes are written under it.
    begun: Mutex<BTreeMap<AgentId, u64>>,
    /// Objects that nothing names any more.
    garbage: Mutex<Vec<String>>,
    /// Archives of which it is not known whether they are named.
    doubtful: Mutex<Vec<(AgentId, Packed)>>,
    /// Who ships what is due. Nobody ships a workspace twice at a time.
    shipping_due: Turn<()>,
    /// The process ends.
    closing: watch::Sender<bool>,
    /// When the place did not answer, if that was the last that was heard of it.
    failing: Mutex<Option<Instant>>,
    counts: Counts,
    notify: Notify,
}

#[derive(Default)]
struct Counts {
    shipped: AtomicU64,
    bytes: AtomicU64,
    unchanged: AtomicU64,
    failed: AtomicU64,
    too_large: AtomicU64,
    arrived: AtomicU64,
}

/// For a run that does not ship workspaces: agents may go on from what was shipped.
pub fn go_on_without_archives(folder: &Path) -> io::Result<()> {
    work::go_on(folder)
}

impl Archives {
    /// Of the workspaces in `folder`, by an index that was claimed. `notify` is called on threads of the carrier.
    pub(crate) fn begin(
        settings: &Settings,
        index: Index,
        limit_bytes: u64,
        folder: &Path,
        notify: impl Fn(&AgentId, ArchiveNotice) + Send + Sync + 'static,
    ) -> Result<(Self, Carrier), ShipError> {
        for below in work::DIRECTORIES {
            let below = folder.join(below);
            let made = std::fs::create_dir_all(&below);
            made.map_err(|error| ShipError::local(&format!("make {}", below.display()), &error))?;
        }
        work::clear(folder);
        // One thread for calls, and as many as there are archives for what may block.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(4 * AT_ONCE)
            .thread_name("bulkhead-spaces")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| ShipError::local("start a thread", &error))?;
        let inner = Inner {
            place: Arc::new(Place::new(settings)?),
            index,
            folder: folder.to_owned(),
            limits: Limits { bytes: limit_bytes, entries: MAX_ENTRIES },
            wait: settings.wait,
            restore: settings.restore,
            runtime: runtime.handle().clone(),
            at_once: Semaphore::new(AT_ONCE),
            under_way: watch::Sender::new(0),
            due: DueList::default(),
            begun: Mutex::default(),
            garbage: Mutex::default(),
            doubtful: Mutex::default(),
            shipping_due: Turn::default(),
            closing: watch::Sender::new(false),
            failing: Mutex::default(),
            counts: Counts::default(),
            notify: Box::new(notify),
        };
        let archives = Self(Arc::new(inner));
        let owed = work::owed(folder, archives.0.place.identity());
        owed.iter().for_each(|agent| archives.owe_archive(agent));
        Ok((archives, Carrier(Some(runtime))))
    }

    /// Whether there is an archive of an agent.
    pub fn has(&self, agent: &AgentId) -> bool {
        self.0.index.get(agent).is_some()
    }

    /// Whether the workspace of an agent on this disk was ever brought here or shipped.
    pub async fn knows(&self, agent: &AgentId) -> bool {
        let (inner, agent) = (Arc::clone(&self.0), agent.clone());
        // Calls of a place that hangs may fill the carrier's threads.
        let known = move || inner.note(&agent).is_some_and(|note| note.is_of_any());
        spawn_blocking(known).await.unwrap_or(false)
    }

    /// Whether another machine has shipped a workspace of an agent that this disk has not seen, or this disk may have lost some of
    /// what was shipped.
    pub async fn is_newer(&self, agent: &AgentId) -> Result<bool, ArchiveError> {
        let Some(packed) = self.0.index.get(agent) else { return Ok(false) };
        let (inner, agent) = (Arc::clone(&self.0), agent.clone());
        let is_here = spawn_blocking(move || inner.is_here(&agent, &packed)).await;
        is_here.unwrap_or(Err(ArchiveError::Interrupted)).map(|is_here| !is_here)
    }

    /// Brings the workspace of an agent here, if [`Self::is_newer`]. The agent does not run, and nobody else is at its workspace
    /// as long as there is `guard`. What was here and was not shipped stays, under another name.
    pub async fn arrive(
        &self,
        agent: &AgentId,
        guard: impl Send + 'static,
    ) -> Result<Option<Arrived>, ArchiveError> {
        let Some(packed) = self.0.index.get(agent) else { return Ok(None) };
        if !self.is_newer(agent).await? {
            return Ok(None);
        }
        let (inner, of) = (Arc::clone(&self.0), agent.clone());
        let arrived = self.carry(async move {
            let _permit = inner.at_once.acquire().await;
            let restore = inner.restore;
            let arrived = timeout(restore, inner.arrive(&of, &packed, guard)).await;
            arrived.unwrap_or(Err(ArchiveError::Slow(restore)))
        });
        let arrived = arrived.await?;
        self.0.counts.arrived.fetch_add(1, Ordering::Relaxed);
        (self.0.notify)(agent, ArchiveNotice::Arrived(arrived.clone()));
        Ok(Some(arrived))
    }

    /// The agent begins in its workspace, which is here. Its end ships it.
    pub async fn begins(&self, agent: &AgentId) -> Result<(), ArchiveError> {
        self.0.due.begins(agent);
        let (inner, agent) = (Arc::clone(&self.0), agent.clone());
        let noted = spawn_blocking(move || inner.begins(&agent)).await;
        noted.unwrap_or(Err(ArchiveError::Interrupted))
    }

    /// Ships the workspace of an agent, if it was changed since that was done last. Nobody writes to it meanwhile. If this is
    /// dropped, it is not shipped.
    pub async fn ship(&self, agent: &AgentId) -> Result<Option<Shipped>, ArchiveError> {
        self.try_to_ship(agent, Manner::Plain).await
    }

    async fn try_to_ship(
        &self,
        agent: &AgentId,
        manner: Manner,
    ) -> Result<Option<Shipped>, ArchiveError> {
        let _counted = UnderWay::begin(&self.0.under_way);
        let interrupted = OnDrop(Some((&self.0, agent, manner)));
        let (inner, of) = (Arc::clone(&self.0), agent.clone());
        let shipped = self.carry(async move {
            let patience = SHIPPING.max(inner.wait);
            let slow = |_| ArchiveError::Slow(patience);
            // Others that are packed meanwhile take nothing of its own time.
            let queued = async {
                let Some(changed) = inner.changed(&of).await? else { return Ok(None) };
                Ok::<_, ArchiveError>(Some((changed, inner.at_once.acquire().await)))
            };
            let queued = timeout(patience, queued).await.map_err(slow)??;
            let Some((changed, _permit)) = queued else { return Ok(None) };
            timeout(patience, inner.ship(&of, changed)).await.map_err(slow)?.map(Some)
        });
        let shipped = shipped.await;
        interrupted.disarm();
        self.0.judge(agent, &shipped, manner);
        shipped
    }

    /// Ships workspaces that could not be shipped when their agents ended, one after the other, while the place answers. `vacate`
    /// keeps an agent away from its workspace meanwhile, if it is not there. What fails again is tried less and less often.
    pub async fn ship_due<G>(&self, vacate: impl Fn(&AgentId) -> Option<G>) {
        let mut closing = self.0.closing.subscribe();
        for agent in self.0.due.agents(Some(Instant::now())) {
            let _turn = self.0.shipping_due.lock().await;
            let Some(_vacant) = vacate(&agent) else { continue };
            let tried = tokio::select! {
                biased;
                // An error would say that the sender is gone, which is ours.
                _ = closing.wait_for(|closing| *closing) => return,
                tried = self.serve(&agent, Manner::Again) => tried,
            };
            if matches!(tried, Err(ArchiveError::Place(ShipError::Unavailable(_)))) {
                break;
            }
        }
        let inner = Arc::clone(&self.0);
        let sweep = async move {
            inner.sweep().await;
            Ok(())
        };
        let _ = self.brief(sweep).await;
    }

    /// Does what is owed to an agent's archive, if anything still is.
    async fn serve(&self, agent: &AgentId, manner: Manner) -> Result<(), ArchiveError> {
        match self.0.due.owed(agent) {
            None | Some(Owed::Smaller) => Ok(()),
            Some(Owed::Archive) => self.try_to_ship(agent, manner).await.map(drop),
            Some(Owed::Withdrawal) => {
                let withdrawn = self.take_away(agent).await;
                if withdrawn.is_err() {
                    self.0.due.put_off(agent, Owed::Withdrawal);
                }
                withdrawn.map(drop)
            }
        }
    }

    /// What is here may be newer than the archive: it is to be shipped, when it can be.
    pub fn owe_archive(&self, agent: &AgentId) {
        self.0.due.owe(agent, Owed::Archive);
    }

    /// Removes the archive of an agent, which does not run, because all of its work is elsewhere. Whether there was one. One that
    /// stays is withdrawn later.
    pub async fn withdraw(&self, agent: &AgentId) -> Result<bool, ArchiveError> {
        // It would be taken for the newest.
        self.0.due.owe(agent, Owed::Withdrawal);
        self.take_away(agent).await
    }

    /// Removes all that is kept of the workspace of an agent, which does not run, but what is in its place. Whether there was an
    /// archive.
    pub async fn remove(&self, agent: &AgentId) -> Result<bool, ArchiveError> {
        let was_there = self.remove_archive(agent).await?;
        let (inner, agent) = (Arc::clone(&self.0), agent.clone());
        self.brief(async move { inner.delete_older(&agent).await }).await?;
        Ok(was_there)
    }

    /// Removes the archive of an agent, which does not run, with its workspace. Whether there was one. One that stays is one of a
    /// workspace that stays.
    pub async fn remove_archive(&self, agent: &AgentId) -> Result<bool, ArchiveError> {
        self.owe_archive(agent);
        self.take_away(agent).await
    }

    async fn take_away(&self, agent: &AgentId) -> Result<bool, ArchiveError> {
        let (inner, agent) = (Arc::clone(&self.0), agent.clone());
        self.brief(async move { inner.withdraw(&agent).await }).await
    }

    async fn brief<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ArchiveError>> + Send + 'static,
    ) -> Result<T, ArchiveError> {
        let patience = SHIPPING.max(self.0.wait);
        self.carry(async move {
            timeout(patience, work).await.unwrap_or(Err(ArchiveError::Slow(patience)))
        })
        .await
    }

    /// Waits for what is being shipped, ships what could not be shipped when its agent ended, and removes what nothing names any more, for `patience`. Returns how
    /// many workspaces are not shipped as they are.
    pub async fn finish(&self, patience: Duration) -> usize {
        let inner = Arc::clone(&self.0);
        self.0.closing.send_replace(true);
        let work = async {
            let _turn = self.0.shipping_due.lock().await;
            // An error would say that the sender is gone, which is ours.
            let _ = self.0.under_way.subscribe().wait_for(|count| *count == 0).await;
            let due = self.0.due.agents(None);
            join_all(due.iter().map(|agent| self.serve(agent, Manner::Plain))).await;
            self.carry(async move {
                inner.sweep().await;
                Ok(())
            })
            .await
        };
        let _ = timeout(patience, work).await;
        self.0.due.len()
    }

    /// Counts since the process began.
    pub fn figures(&self) -> ArchiveFigures {
        let Counts { shipped, bytes, unchanged, failed, too_large, arrived } = &self.0.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ArchiveFigures {
            shipped: read(shipped),
            bytes: read(bytes),
            unchanged: read(unchanged),
            failed: read(failed),
            too_large: read(too_large),
            arrived: read(arrived),
            due: self.0.due.len() as u64,
        }
    }

    /// Does something on the carrier. Dropping the future ends it.
    async fn carry<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ArchiveError>> + Send + 'static,
    ) -> Result<T, ArchiveError> {
        let work = self.0.runtime.spawn(work);
        let _abort = Abort(work.abort_handle());
        work.await.unwrap_or(Err(ArchiveError::Interrupted))
    }
}

impl Inner {
    /// What became of a try to ship.
    fn judge(
        &self,
        agent: &AgentId,
        shipped: &Result<Option<Shipped>, ArchiveError>,
        manner: Manner,
    ) {
        let count = |count: &AtomicU64, more| count.fetch_add(more, Ordering::Relaxed);
        let error = match shipped {
            Ok(done) => {
                self.due.settle(agent);
                match done {
                    None => drop(count(&self.counts.unchanged, 1)),
                    Some(done) => {
                        count(&self.counts.shipped, 1);
                        count(&self.counts.bytes, done.packed_bytes);
                        (self.notify)(agent, ArchiveNotice::Shipped(done.clone()));
                    }
                }
                return;
            }
            Err(error) => error,
        };
        let is_large = matches!(error, ArchiveError::TooLarge { .. });
        let owed = match self.due.owed(agent) {
            Some(Owed::Withdrawal) => Owed::Withdrawal,
            _ if is_large => Owed::Smaller,
            _ => Owed::Archive,
        };
        let before = self.due.put_off(agent, owed);
        if *error == ArchiveError::Overtaken {
            // The next begin brings it.
            self.due.settle(agent);
        }
        count(if is_large { &self.counts.too_large } else { &self.counts.failed }, 1);
        let is_news = match (is_large, manner) {
            (true, _) => before != Some(Owed::Smaller),
            (false, Manner::Again) => false,
            (false, Manner::Plain) => true,
        };
        if is_news {
            (self.notify)(agent, ArchiveNotice::NotShipped(error.clone()));
        }
    }
}

/// A try to ship.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It is reported if it fails.
    Plain,
    /// After one that was.
    Again,
}

/// Says that a workspace was not shipped, unless it is disarmed.
struct OnDrop<'a>(Option<(&'a Inner, &'a AgentId, Manner)>);

impl OnDrop<'_> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        if let Some((inner, agent, manner)) = self.0.take() {
            inner.judge(agent, &Err(ArchiveError::Interrupted), manner);
        }
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // A volume or a look-up of a name may hang for longer.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

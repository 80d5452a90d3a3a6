//! The directories of agents: what each takes, when it was used, whether it may go; and their removal.
//!
//! ```text
//! <workspaces>/<agent>/                   one agent's, with a repository or without
//! <workspaces>/.used/<agent>              when it was used last, by the host's clock
//! <workspaces>/.removed/<random>/<agent>  what is being deleted
//! ```
//!
//! No id of an agent begins with a dot. Times of files are the agent's to set, so they say nothing.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bulkhead_types::AgentId;
use bulkhead_types::time::Timestamp;
use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;

use crate::disk;
use crate::error::Error;
use crate::pushed::Pushed;
use crate::removal::{self, Freed};
use crate::size::{self, Size};
use crate::workspace::Workspace;
use crate::workspaces::Workspaces;

/// Workspaces that an inventory lists at most. Others are listed once some of these are gone.
pub const MAX_KEPT: usize = 10_000;

/// Repositories that git looks at, at a time.
const AT_ONCE: usize = 4;

/// How long a note stays about a directory that is not there.
const NOTE_WITHOUT_DIRECTORY: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a directory with something in it, of which the host made no repository, is not on any remote.
const NO_REPOSITORY: &str = "it is no repository of a rig";

/// The directory of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Whose.
    pub agent: AgentId,
    /// Where.
    pub path: PathBuf,
    /// What it takes on disk: blocks of files and directories. Holes take none.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// There is more than was counted: above 250,000 entries, below 256 directories, or not readable.
    pub truncated: bool,
    /// When it was used last, or found first.
    pub used: Timestamp,
    /// The rig, of a repository that has one.
    pub rig: Option<String>,
    /// The agent's branch, of a repository.
    pub branch: Option<String>,
    /// Whether everything in it is on the remote too. Without a repository of the host's making nothing is; an empty
    /// directory has nothing that could be lost.
    pub pushed: Pushed,
}

/// All directories of agents.
#[derive(Debug, Clone)]
pub struct Inventory {
    folder: PathBuf,
    workspaces: Option<Workspaces>,
    recent: Arc<Recent>,
}

/// When directories were used last in this run, and when that was noted on disk.
type Recent = Mutex<HashMap<AgentId, (Timestamp, Timestamp)>>;

/// A use so soon after one that is on disk is not written: what ends again and again costs no disk.
const NOTE_EVERY: Duration = Duration::from_secs(60);

/// Notes of earlier times are of a clock that was not set yet: 2026-01-01.
const EARLIEST: Timestamp = Timestamp(1_767_225_600_000);

/// A directory that is no longer an agent's. It is deleted later if this is dropped.
#[derive(Debug)]
#[must_use = "nothing is freed before it is deleted"]
pub struct Aside(PathBuf);

impl Inventory {
    /// Of the directories in `folder`, which is made if it is not there. Those that are repositories are known to
    /// `workspaces`.
    ///
    /// Fails if the folder cannot be written.
    pub fn new(folder: &Path, workspaces: Option<Workspaces>) -> Result<Self, Error> {
        let inventory = Self { folder: folder.to_owned(), workspaces, recent: Arc::default() };
        for below in [inventory.notes(), inventory.removed()] {
            fs::create_dir_all(&below).map_err(|error| Error::disk(&below, &error))?;
        }
        Ok(inventory)
    }

    fn notes(&self) -> PathBuf {
        self.folder.join(".used")
    }

    fn removed(&self) -> PathBuf {
        self.folder.join(".removed")
    }

    /// Notes that an agent uses its directory, which it may not have yet. For each start and end of an incarnation, and
    /// now and then in between, for a host that is killed notes no end.
    pub async fn used(&self, agent: &AgentId, at: Timestamp) -> Result<(), Error> {
        if !self.remember(agent, at) {
            return Ok(());
        }
        let note = self.notes().join(agent.as_str());
        disk::on(&note, move |note| write_note(note, at)).await
    }

    /// Takes note in memory. Whether it is to be written as well.
    fn remember(&self, agent: &AgentId, at: Timestamp) -> bool {
        let mut recent = self.recent.lock();
        if recent.len() >= MAX_KEPT {
            // What is on disk says no less of the others.
            recent.retain(|_, (_, noted)| at.since(*noted) < NOTE_EVERY);
        }
        match recent.get_mut(agent) {
            Some((last, noted)) if at >= *noted && at.since(*noted) < NOTE_EVERY => {
                *last = at;
                false
            }
            _ => {
                recent.insert(agent.clone(), (at, at));
                true
            }
        }
    }

    /// Whether everything in the directory of an agent is on the remote too. None if there is no directory.
    pub async fn pushed(&self, agent: &AgentId) -> Result<Option<Pushed>, Error> {
        let path = self.folder.join(agent.as_str());
        if !disk::on(&path, |path| Ok(disk::is_directory(path))).await? {
            return Ok(None);
        }
        Ok(Some(pushed(&path, self.workspace(agent).await.as_ref()).await))
    }

    /// The repository of an agent, if that is what its directory is.
    async fn workspace(&self, agent: &AgentId) -> Option<Workspace> {
        let workspace = self.workspaces.as_ref()?.workspace(agent.as_str()).await.ok()?;
        (workspace.record.path == self.folder.join(agent.as_str())).then_some(workspace)
    }

    /// All directories of agents, by name. What is no directory, or has no name of an agent, is not listed.
    ///
    /// Reads every directory and runs git in every repository: some milliseconds for each thousand files, and up to a
    /// tenth of a second for each repository.
    pub async fn list(&self, now: Timestamp) -> Result<Vec<Kept>, Error> {
        let notes = self.notes();
        let counted = disk::on(&self.folder, move |folder| count(folder, &notes, now)).await?;
        let agents = counted.iter().map(|(agent, ..)| agent.to_string()).collect();
        disk::on(&self.notes(), move |notes| forget(notes, &agents)).await?;
        let all = stream::iter(counted);
        let all = all.map(|(agent, size, used)| self.describe(agent, size, used, now));
        Ok(all.buffered(AT_ONCE).collect().await)
    }

    async fn describe(&self, agent: AgentId, size: Size, used: Timestamp, now: Timestamp) -> Kept {
        let path = self.folder.join(agent.as_str());
        let workspace = self.workspace(&agent).await;
        let pushed = pushed(&path, workspace.as_ref()).await;
        let noted = self.recent.lock().get(&agent).map(|(last, _)| *last);
        let used = noted.map_or(used, |noted| noted.min(now).max(used));
        let record = workspace.map(|workspace| workspace.record);
        let (rig, branch) = record.map(|record| (record.rig, record.branch)).unzip();
        let rig = rig.flatten().map(|rig| rig.name);
        let Size { bytes, entries, truncated } = size;
        Kept { agent, path, bytes, entries, truncated, used, rig, branch, pushed }
    }

    /// Takes the directory of an agent away, so that the next start finds none. Fast: [`Aside::delete`] frees the space.
    /// The agent does not run, and does not start before this is done. Returns none if there is no directory, or if it
    /// was used after `unless_used_after`, the time that the choice to remove it was made by.
    ///
    /// Fails with [`Error::Locked`] while the host itself is at work in a repository. A kill leaves the directory as it
    /// was or out of the way. Refs of the agent in a mirror stay, as all in a mirror does.
    pub async fn set_aside(
        &self,
        agent: &AgentId,
        unless_used_after: Option<Timestamp>,
    ) -> Result<Option<Aside>, Error> {
        let (path, note) = (self.folder.join(agent.as_str()), self.notes().join(agent.as_str()));
        let is_there = disk::on(&path, |path| Ok(disk::is_directory(path))).await?;
        let is_newer = match unless_used_after {
            Some(seen) => self.is_used_after(agent, seen).await?,
            None => false,
        };
        if is_newer || !is_there {
            return Ok(None);
        }
        let aside = self.removed().join(format!("{:016x}", fastrand::u64(..)));
        let target = aside.clone();
        let away = move |path: &Path| move_away(path, &target, &note);
        match &self.workspaces {
            Some(workspaces) => workspaces.set_aside(agent.as_str(), &path, away).await?,
            None => disk::on(&path, away).await?,
        }
        self.recent.lock().remove(agent);
        Ok(Some(Aside(aside)))
    }

    /// Whether it was used after a time.
    pub async fn is_used_after(&self, agent: &AgentId, seen: Timestamp) -> Result<bool, Error> {
        let noted = self.recent.lock().get(agent).map(|(last, _)| *last);
        let read = |note: &Path| Ok(read_note(note));
        let used = disk::on(&self.notes().join(agent.as_str()), read).await?;
        Ok(used.max(noted).is_some_and(|used| used > seen))
    }

    /// Deletes what earlier removals left: of a host that was killed, or whose disk did not let it.
    pub async fn clear(&self) -> Result<Freed, Error> {
        disk::on(&self.removed(), |removed| {
            let mut all = Freed::default();
            for entry in fs::read_dir(removed)? {
                all.add(removal::delete(&entry?.path())?);
            }
            Ok(all)
        })
        .await
    }
}

impl Aside {
    /// Deletes the directory with all that is in it. What cannot be deleted is left, and said.
    pub async fn delete(self) -> Result<Freed, Error> {
        disk::on(&self.0, removal::delete).await
    }
}

async fn pushed(path: &Path, workspace: Option<&Workspace>) -> Pushed {
    if let Some(workspace) = workspace {
        return workspace.pushed().await;
    }
    let is_empty = disk::on(path, |path| Ok(fs::read_dir(path)?.next().is_none())).await;
    match is_empty.unwrap_or(false) {
        true => Pushed::Yes,
        false => Pushed::no(NO_REPOSITORY),
    }
}

fn move_away(path: &Path, aside: &Path, note: &Path) -> io::Result<()> {
    fs::create_dir(aside)?;
    let target = aside.join(path.file_name().unwrap_or_default());
    if let Err(error) = rename(path, &target) {
        let _ = fs::remove_dir(aside);
        return Err(error);
    }
    // It is gone. A note about nothing means nothing.
    let _ = fs::remove_file(note);
    Ok(())
}

/// Moves a directory, also one that programs of its agent took the permission from.
fn rename(path: &Path, target: &Path) -> io::Result<()> {
    match fs::rename(path, target) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            fs::set_permissions(path, PermissionsExt::from_mode(0o700))?;
            fs::rename(path, target)
        }
        moved => moved,
    }
}

fn count(
    folder: &Path,
    notes: &Path,
    now: Timestamp,
) -> io::Result<Vec<(AgentId, Size, Timestamp)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(agent) = name.to_str().and_then(|name| AgentId::parse(name).ok()) else {
            continue;
        };
        let size = match size::measure(&entry.path()) {
            Ok(size) => size,
            // One that is gone, and what is no directory, a link among them.
            Err(_) if !disk::is_directory(&entry.path()) => continue,
            Err(_) => Size { truncated: true, ..Size::default() },
        };
        let used = last_use(&notes.join(agent.as_str()), now);
        all.push((agent, size, used));
        if all.len() == MAX_KEPT {
            break;
        }
    }
    all.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    Ok(all)
}

/// When a directory was used last. One of which nobody noted that, or by a clock that was not set, is used now; so is one
/// in the future: either clock may be wrong.
fn last_use(note: &Path, now: Timestamp) -> Timestamp {
    match read_note(note) {
        Some(used) if used > now => now,
        Some(used) if used >= EARLIEST => used,
        _ => {
            // Where the disk is full it is used now at each look.
            let _ = write_note(note, now);
            now
        }
    }
}

/// Removes notes about directories that are gone, and what a host that was killed left. One that is new may be about an
/// agent that starts.
fn forget(notes: &Path, agents: &HashSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(notes)? {
        let entry = entry?;
        let is_old = entry.metadata().and_then(|it| it.modified()).is_ok_and(|modified| {
            modified.elapsed().is_ok_and(|elapsed| elapsed > NOTE_WITHOUT_DIRECTORY)
        });
        let is_known = entry.file_name().to_str().is_some_and(|name| agents.contains(name));
        if is_old && !is_known {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn read_note(note: &Path) -> Option<Timestamp> {
    serde_json::from_slice(&fs::read(note).ok()?).ok()
}

fn write_note(note: &Path, at: Timestamp) -> io::Result<()> {
    disk::replace(note, &serde_json::to_vec(&at)?)
}

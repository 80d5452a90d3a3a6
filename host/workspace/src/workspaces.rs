//! All workspaces of this host.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::credential::Credentials;
use crate::disk;
use crate::error::Error;
use crate::git::{Author, Git};
use crate::merge::{self, Merge};
use crate::name::{Oid, check_segment};
use crate::prepare::{self, Prepared};
use crate::progress::OnProgress;
use crate::record::Record;
use crate::rig::{Request, Rig};
use crate::run::Run;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::workspace::Workspace;

/// All workspaces of this host, and the mirrors of their rigs.
#[derive(Clone)]
pub struct Workspaces {
    shared: Arc<Shared>,
}

/// What the mirror of a rig has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The commit of the default branch; none if the remote has no such branch.
    pub head: Option<Oid>,
    /// How many branches there are.
    pub branches: usize,
    /// How many tags there are.
    pub tags: usize,
}

impl Workspaces {
    /// Uses a directory for mirrors and records: `rigs/`, `agents/`, `preparing/`. No other process uses it, and it is on
    /// the file system of the workspaces.
    ///
    /// Fails if the directory cannot be written.
    pub fn new(
        root: &Path,
        run: Arc<dyn Run>,
        credentials: Arc<dyn Credentials>,
        settings: Settings,
    ) -> Result<Self, Error> {
        set_up(root).map_err(|error| Error::disk(root, &error))?;
        let shared = Shared::new(root.to_owned(), Git { run, settings }, credentials);
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Makes the workspace of an agent before the agent starts. One that is there for the same rig and branch is reused
    /// as the agent left it, without network. A workspace of another rig or branch is [`Error::Occupied`]: the agent's
    /// work is worth more than its start, so [`Workspaces::discard`] it first.
    ///
    /// May be dropped at any time; the next call starts over.
    pub async fn prepare(
        &self,
        rig: &Rig,
        request: &Request,
        progress: &OnProgress,
    ) -> Result<Prepared, Error> {
        prepare::prepare(&self.shared, rig, request, progress).await
    }

    /// Checks what a request can be refused for without any work: its parts, and, if the agent is there (`is_in_use`), whether
    /// its workspace is another one by the record. Nothing is changed, so the agent may be at work.
    pub async fn check(&self, rig: &Rig, request: &Request, is_in_use: bool) -> Result<(), Error> {
        prepare::check(&self.shared, rig, request)?;
        if is_in_use {
            prepare::existing(&self.shared, rig, request).await?;
        }
        Ok(())
    }

    /// Brings the mirror of a rig to what the remote has, or makes it.
    pub async fn fetch(&self, rig: &Rig, progress: &OnProgress) -> Result<Fetched, Error> {
        rig.check(self.shared.git.settings.protocols)?;
        let refs = self.shared.mirror(&rig.name)?.fetch(rig, progress).await?;
        let of_default = format!("refs/heads/{}", rig.default_branch);
        let head = refs.iter().find(|(name, _)| *name == of_default).map(|(_, head)| head.clone());
        let branches = refs.iter().filter(|(name, _)| name.starts_with("refs/heads/")).count();
        Ok(Fetched { head, branches, tags: refs.len() - branches })
    }

    /// The workspace of an agent. Fails with [`Error::Unprepared`] if there is none.
    pub async fn workspace(&self, agent: &str) -> Result<Workspace, Error> {
        check_segment("agent", agent)?;
        let record = Record::read(&self.shared.root, agent).await?;
        let record = record.filter(|record| disk::is_directory(&record.path));
        let record = record.ok_or_else(|| Error::Unprepared(agent.to_owned()))?;
        Ok(Workspace::new(Arc::clone(&self.shared), record))
    }

    /// Whether an agent that works on no repository may use a directory: one with its repository in it is
    /// [`Error::Occupied`], as for another rig.
    pub async fn check_free(&self, agent: &str, path: &Path) -> Result<(), Error> {
        // An id that names no agent of this crate has no record either.
        if check_segment("agent", agent).is_err() {
            return Ok(());
        }
        let record = Record::read(&self.shared.root, agent).await?;
        let is_there = disk::on(path, |path| Ok(disk::is_directory(&path.join(".git")))).await?;
        match record.filter(|record| is_there && record.path == path) {
            Some(record) => Err(Error::Occupied(record.contents())),
            None => Ok(()),
        }
    }

    /// Removes the workspace of an agent with everything that is not pushed. The agent does not run.
    pub async fn discard(&self, agent: &str) -> Result<(), Error> {
        check_segment("agent", agent)?;
        let exclusive = self.shared.exclusive(agent).await?;
        if let Some(record) = Record::read(&self.shared.root, agent).await? {
            disk::holding(&exclusive, &record.path, disk::remove).await?;
            Record::remove(&self.shared.root, agent, &exclusive).await?;
        }
        Ok(())
    }

    /// Forgets the workspace of an agent, which stays where it is: another one is about to take its place. The agent does not run.
    pub async fn forget(&self, agent: &str) -> Result<(), Error> {
        // An id that names no agent of this crate has no record either.
        if check_segment("agent", agent).is_err() {
            return Ok(());
        }
        let exclusive = self.shared.exclusive(agent).await?;
        Record::remove(&self.shared.root, agent, &exclusive).await
    }

    /// Moves the workspace of an agent out of the way, and forgets it. The agent does not run.
    pub(crate) async fn set_aside(
        &self,
        agent: &str,
        path: &Path,
        away: impl FnOnce(&Path) -> io::Result<()> + Send + 'static,
    ) -> Result<(), Error> {
        // An id that names no agent of this crate has no record either.
        if check_segment("agent", agent).is_err() {
            return disk::on(path, away).await;
        }
        let exclusive = self.shared.try_exclusive(agent)?;
        self.shared.git.run.settle(path).await;
        disk::holding(&exclusive, path, away).await?;
        // It is gone from here on: a record without it means nothing.
        if let Ok(Some(record)) = Record::read(&self.shared.root, agent).await
            && record.path == path
        {
            let _ = Record::remove(&self.shared.root, agent, &exclusive).await;
        }
        Ok(())
    }

    /// Merges a branch of the remote into another one, and pushes the result. Nothing is checked out.
    pub async fn merge(
        &self,
        rig: &Rig,
        source: &str,
        target: &str,
        message: &str,
        author: &Author,
    ) -> Result<Merge, Error> {
        merge::merge(&self.shared, rig, source, target, message, author).await
    }

    /// The objects of a rig's mirror. An agent's sandbox shows them read-only at [`OBJECTS`](crate::OBJECTS).
    pub fn objects(&self, rig: &str) -> Result<PathBuf, Error> {
        check_segment("rig", rig)?;
        Ok(self.shared.mirror(rig)?.path().join("objects"))
    }
}

fn set_up(root: &Path) -> io::Result<()> {
    // What a former process was about to build.
    disk::set_aside(&root.join("preparing"))?;
    ["rigs", "agents", "preparing"]
        .iter()
        .try_for_each(|below| fs::create_dir_all(root.join(below)))
}

impl fmt::Debug for Workspaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workspaces").field("root", &self.shared.root).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

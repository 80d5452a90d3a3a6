//! Calls of git in one workspace, one at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulkhead_tools::{DiskLimit, exceeds};

use crate::disk;
use crate::error::Error;
use crate::git::{Author, Call, Git};
use crate::locks;
use crate::name::Oid;
use crate::output::{Output, file_names};
use crate::run::Sandbox;
use crate::shared::Exclusive;
use crate::verdict;

/// A repository that an agent controls, while nothing else of the host is at work there.
pub(crate) struct Tree {
    git: Arc<Git>,
    path: PathBuf,
    /// The objects of the mirror, as the host sees them.
    objects: Option<PathBuf>,
    pub author: Author,
    /// What may lie in it.
    limit: Option<DiskLimit>,
    condition: Exclusive,
}

impl Tree {
    /// Takes a workspace over. What a killed git left behind is cleaned up.
    pub async fn new(
        git: Arc<Git>,
        path: PathBuf,
        objects: Option<PathBuf>,
        author: Author,
        limit: Option<DiskLimit>,
        condition: Exclusive,
    ) -> Result<Self, Error> {
        let mut tree = Self { git, path, objects, author, limit, condition };
        if tree.condition.interrupted.load(Ordering::Relaxed)
            || tree.condition.rebasing.lock().is_some()
        {
            tree.recover().await?;
        }
        Ok(tree)
    }

    /// Removes locks. No git of the agent may be running either, unless a git of the host was killed.
    pub async fn recover(&mut self) -> Result<(), Error> {
        self.git.run.settle(&self.path).await;
        disk::holding(&self.condition, &self.path, |path| locks::remove(path, ".git")).await?;
        self.condition.interrupted.store(false, Ordering::Relaxed);
        self.undo_rebase().await
    }

    /// Remembers where a branch is before it is rebased, for [`Tree::undo_rebase`].
    pub fn begin_rebase(&mut self, branch: &str, head: Oid) {
        *self.condition.rebasing.lock() = Some((branch.to_owned(), head));
    }

    /// The rebase is done.
    pub fn end_rebase(&mut self) {
        *self.condition.rebasing.lock() = None;
    }

    /// Undoes a rebase, if one has begun. Git cannot find its own way back if it was killed at a bad moment. There were
    /// no changes before, so the branch and the files are set to what they were.
    pub async fn undo_rebase(&mut self) -> Result<(), Error> {
        let Some((branch, head)) = self.condition.rebasing.lock().clone() else { return Ok(()) };
        for way in ["--abort", "--quit"] {
            self.call(self.git("rebase").arg(way).accept(&[0, 1, 128])).await?;
        }
        let branch = format!("refs/heads/{branch}");
        self.call(self.git("symbolic-ref").args(["HEAD", &branch])).await?;
        let reset = self.git("reset").args(["--hard", "--quiet", "--no-recurse-submodules"]);
        self.call(reset.arg(head.as_str())).await?;
        self.end_rebase();
        Ok(())
    }

    /// Whether there is room for more. What makes the repository larger asks first: most calls of git are over before
    /// the sandbox counts what there is.
    pub async fn check_room(&self) -> Result<(), Error> {
        let Some(limit) = self.limit else { return Ok(()) };
        match disk::on(&self.path, move |path| exceeds(path, limit)).await? {
            true => Err(Error::Full(limit)),
            false => Ok(()),
        }
    }

    /// Allows twice as much, for the one commit that saves what an agent leaves.
    pub fn double_limit(&mut self) {
        let twice = |DiskLimit { bytes, entries }| DiskLimit {
            bytes: bytes.saturating_mul(2),
            entries: entries.saturating_mul(2),
        };
        self.limit = self.limit.map(twice);
    }

    /// What work on the disk holds to its end.
    pub fn exclusive(&self) -> &Exclusive {
        &self.condition
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn settings(&self) -> &crate::settings::Settings {
        &self.git.settings
    }

    /// A call of git that is to be put together.
    pub fn git(&self, name: &'static str) -> Call {
        let (workspace, objects) = (self.path.clone(), self.objects.clone());
        let sandbox = Sandbox::Tree { workspace, objects, limit: self.limit };
        Call::tree(&self.git, sandbox, name).by(&self.author)
    }

    /// Makes a call.
    pub async fn call(&mut self, call: Call) -> Result<Output, Error> {
        let takes_locks = call.takes_locks();
        // It stays if this future is dropped.
        self.condition.interrupted.store(takes_locks, Ordering::Relaxed);
        let output = self.git.call(call).await;
        let was_killed = takes_locks && verdict::was_killed(&output);
        self.condition.interrupted.store(was_killed, Ordering::Relaxed);
        output
    }

    /// The commit that a revision of the workspace stands for.
    pub async fn commit_of(&mut self, revision: &str) -> Result<Option<Oid>, Error> {
        let call = self.git("rev-parse").args(["--verify", "--quiet", "--end-of-options"]);
        let call = call.arg(format!("{revision}^{{commit}}")).accept(&[0, 1, 128]);
        Ok(Oid::parse(&self.call(call).await?.stdout))
    }

    /// The files that a merge or a rebase stopped at.
    pub async fn conflicts(&mut self) -> Result<Vec<String>, Error> {
        let call = self.git("diff").args(["--name-only", "--diff-filter=U", "-z", "--no-ext-diff"]);
        Ok(file_names(&self.call(call.arg("--")).await?.stdout))
    }

    /// The branch that is checked out; none if HEAD is detached.
    pub async fn branch(&mut self) -> Result<Option<String>, Error> {
        let call = self.git("symbolic-ref").args(["--quiet", "--short", "HEAD"]).accept(&[0, 1]);
        let output = self.call(call).await?;
        Ok((output.status == 0).then(|| output.text().to_owned()))
    }
}

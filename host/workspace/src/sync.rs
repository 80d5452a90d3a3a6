//! Between a workspace and its remote, by way of the mirror.
//!
//! Commits leave a workspace as a pack that git writes to stdout in the agent's sandbox. The mirror checks and takes
//! it, and pushes it with the credential. The other way needs no transport: the workspace reads the mirror's objects,
//! so it only learns new values of refs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::commit::{Paths, check_message, commit};
use crate::disk;
use crate::error::Error;
use crate::import::agent_ref;
use crate::mirror::Mirror;
use crate::name::Oid;
use crate::progress::silent;
use crate::pushed::{Pushed, unfinished, unignored};
use crate::record::Record;
use crate::rig::Rig;
use crate::skeleton::Refs;
use crate::tree::Tree;
use crate::verdict;
use crate::workspace::Workspace;

/// What [`Workspace::fetch`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// The commit of the branch that the agent's branch is compared with; none if the remote has no such branch.
    pub upstream: Option<Oid>,
}

/// What [`Workspace::save`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// Everything was on the remote.
    Nothing,
    /// Everything is on the remote, the agent's branch at this commit.
    All(Oid),
    /// The agent's branch is on the remote, and not all that there is.
    Part {
        /// Where the branch is.
        commit: Oid,
        /// What is only here.
        why: String,
    },
}

impl Workspace {
    /// Fetches all branches and tags of the remote. Nothing that is checked out changes.
    pub async fn fetch(&self) -> Result<Fetch, Error> {
        let (rig, mirror) = self.mirror().await?;
        let refs = mirror.fetch(rig, &silent()).await?;
        let mut tree = self.tree().await?;
        take_refs(&mut tree, &refs).await?;
        let upstream = tree.commit_of(&self.upstream_ref()).await?;
        let foreign = self.foreign(&mirror, &mut tree).await?;
        for onto in upstream.iter().chain(&foreign) {
            self.complete(rig, &mirror, &mut tree, onto).await?;
        }
        Ok(Fetch { upstream })
    }

    /// What the remote has of the agent's branch, if others pushed that and the agent's commits are not on top of it.
    async fn foreign(&self, mirror: &Mirror, tree: &mut Tree) -> Result<Option<Oid>, Error> {
        let Record { agent, branch, .. } = &self.record;
        let Some(remote) = mirror.commit_of(&format!("refs/heads/{branch}")).await? else {
            return Ok(None);
        };
        if mirror.own_refs(agent, branch).await?.iter().any(|(_, own)| *own == remote) {
            return Ok(None);
        }
        let below = tree.git("merge-base").args(["--is-ancestor", remote.as_str(), "HEAD"]);
        let is_below = tree.call(below.accept(&[0, 1, 128])).await?.status == 0;
        Ok((!is_below).then_some(remote))
    }

    /// A rebase of a partial clone needs the files of both sides and of the commit that they have in common.
    async fn complete(
        &self,
        rig: &Rig,
        mirror: &Mirror,
        tree: &mut Tree,
        upstream: &Oid,
    ) -> Result<(), Error> {
        let base = tree.git("merge-base").args(["HEAD", upstream.as_str()]).accept(&[0, 1, 128]);
        let base = Oid::parse(&tree.call(base).await?.stdout);
        // What the agent's git says is checked: the mirror must have it.
        let base = match base {
            Some(base) => mirror.commit_of(base.as_str()).await?,
            None => None,
        };
        let commits: Vec<_> = base.iter().chain([upstream]).collect();
        mirror.complete(rig, &commits).await
    }

    /// Rebases the agent's branch onto what others pushed to it, or else onto the branch that it is compared with, as the
    /// remote was at the last fetch. A conflict is an error that names the files, and everything is as before. Returns
    /// the new head.
    pub async fn rebase(&self) -> Result<Oid, Error> {
        let (_, mirror) = self.mirror().await?;
        let mut tree = self.tree().await?;
        self.check_branch(&mut tree).await?;
        let status = tree.git("status").args(["--porcelain", "-z", "--untracked-files=no"]);
        if !tree.call(status.arg("--ignore-submodules=dirty")).await?.stdout.is_empty() {
            return Err(Error::Uncommitted);
        }
        let missing = || Error::BranchMissing(self.upstream().to_owned());
        let onto = match self.foreign(&mirror, &mut tree).await? {
            Some(foreign) => foreign,
            None => tree.commit_of(&self.upstream_ref()).await?.ok_or_else(missing)?,
        };
        let head = tree.commit_of("HEAD").await?.ok_or_else(missing)?;
        tree.check_room().await?;
        tree.begin_rebase(&self.record.branch, head);
        rebase(&mut tree, &onto).await?;
        tree.end_rebase();
        tree.commit_of("HEAD").await?.ok_or_else(missing)
    }

    /// Pushes the agent's branch, and no other. What others pushed is never overwritten: [`Error::Rejected`]. Returns the
    /// commit that the remote has now.
    pub async fn push(&self) -> Result<Oid, Error> {
        let (rig, mirror) = self.mirror().await?;
        let mut tree = self.tree().await?;
        self.push_from(rig, &mirror, &mut tree).await
    }

    async fn push_from(&self, rig: &Rig, mirror: &Mirror, tree: &mut Tree) -> Result<Oid, Error> {
        let (agent, branch) = (&self.record.agent, &self.record.branch);
        let commit = tree.commit_of(&format!("refs/heads/{branch}")).await?;
        let commit = commit.ok_or_else(|| Error::WrongBranch(format!("no branch {branch}")))?;
        if mirror.commit_of(commit.as_str()).await?.is_none() {
            let pack = self.pack(mirror, tree, &commit).await?;
            mirror.import(pack, &commit, &agent_ref("agents", agent, branch)).await?;
        }
        mirror.push(rig, agent, branch, &commit).await?;
        let remote = format!("refs/remotes/origin/{branch}");
        tree.call(tree.git("update-ref").args([&remote, commit.as_str()])).await?;
        Ok(commit)
    }

    /// Packs what the mirror lacks of a commit.
    async fn pack(&self, mirror: &Mirror, tree: &mut Tree, commit: &Oid) -> Result<Vec<u8>, Error> {
        let known = [
            format!("refs/heads/{}", self.record.upstream),
            format!("refs/heads/{}", self.record.branch),
            format!("refs/agents/{}", self.record.agent),
        ];
        let mut revisions = format!("{commit}\n");
        for (_, known) in mirror.refs(&known.each_ref().map(String::as_str)).await? {
            let _ = writeln!(revisions, "^{known}");
        }
        let call = tree.git("pack-objects").stdin(revisions).up_to(tree.settings().pack_bytes);
        // What comes from the mirror, the mirror has.
        let call =
            call.args(["--revs", "--stdout", "--thin", "--local", "--delta-base-offset", "-q"]);
        Ok(tree.call(call.arg("--missing=allow-any")).await?.stdout)
    }

    /// Commits everything to the agent's branch and pushes it, before the workspace goes away. What is on the remote already
    /// needs no network.
    pub async fn save(&self, message: &str) -> Result<Saved, Error> {
        check_message(message)?;
        if self.pushed().await == Pushed::Yes {
            return Ok(Saved::Nothing);
        }
        let commit = self.save_branch(message).await?;
        Ok(match self.pushed().await {
            Pushed::Yes => Saved::All(commit),
            Pushed::No { why } => Saved::Part { commit, why },
        })
    }

    async fn save_branch(&self, message: &str) -> Result<Oid, Error> {
        let (rig, mirror) = self.mirror().await?;
        let mut tree = self.tree().await?;
        self.check_branch(&mut tree).await?;
        // A commit would end it, with marks of conflicts in it.
        if let Some(name) = disk::on(tree.path(), |path| Ok(unfinished(path)?)).await? {
            return Err(Error::Unfinished(name));
        }
        tree.double_limit();
        add_unignored(&mut tree).await?;
        commit(&mut tree, message, &Paths::All).await?;
        let Record { agent, branch, .. } = &self.record;
        let tip = tree.commit_of(&format!("refs/heads/{branch}")).await?;
        let there = mirror.commit_of(&agent_ref("pushed", agent, branch)).await?;
        match tip.filter(|tip| there.as_ref() == Some(tip)) {
            Some(tip) => Ok(tip),
            None => self.push_from(rig, &mirror, &mut tree).await,
        }
    }

    /// The agent may have checked out something else.
    async fn check_branch(&self, tree: &mut Tree) -> Result<(), Error> {
        match tree.branch().await? {
            Some(branch) if branch == self.record.branch => Ok(()),
            Some(branch) => Err(Error::WrongBranch(format!("branch {branch}"))),
            None => Err(Error::WrongBranch("a commit without a branch".to_owned())),
        }
    }
}

/// Stages files that no `.gitignore` names, also those that other rules of the agent hide from git. Repositories in the
/// tree, which end with a slash, are the next commit's matter.
async fn add_unignored(tree: &mut Tree) -> Result<(), Error> {
    let others = tree.call(unignored(tree)).await?.stdout;
    let files = others.split_inclusive(|byte| *byte == 0).filter(|path| !path.ends_with(b"/\0"));
    let files = files.collect::<Vec<_>>().concat();
    if files.is_empty() {
        return Ok(());
    }
    tree.check_room().await?;
    let add = tree.git("add").args(["--force", "--pathspec-from-file=-", "--pathspec-file-nul"]);
    tree.call(add.stdin(files)).await?;
    Ok(())
}

/// Brings the workspace's refs of the remote to the values that the mirror has.
async fn take_refs(tree: &mut Tree, refs: &Refs) -> Result<(), Error> {
    let list = tree.git("for-each-ref").args(["--format=%(objectname) %(refname)"]);
    let list = tree.call(list.args(["refs/remotes/origin", "refs/tags"])).await?;
    let mut old: BTreeMap<_, _> = list
        .text()
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(oid, name)| (name.to_owned(), oid))
        .collect();
    old.remove("refs/remotes/origin/HEAD");
    let mut orders = String::new();
    for (name, oid) in refs {
        let name = match name.strip_prefix("refs/heads/") {
            Some(branch) => format!("refs/remotes/origin/{branch}"),
            None => name.clone(),
        };
        if old.remove(&name) != Some(oid.as_str()) {
            let _ = writeln!(orders, "update {name} {oid}");
        }
    }
    // Tags may be the agent's own. A branch of the remote that is gone would be in the way of `<it>/<more>`.
    let gone = old.keys().filter(|name| name.starts_with("refs/remotes/origin/"));
    let deletions: String = gone.map(|name| format!("delete {name}\n")).collect();
    for orders in [deletions, orders].into_iter().filter(|orders| !orders.is_empty()) {
        tree.call(tree.git("update-ref").arg("--stdin").stdin(orders)).await?;
    }
    Ok(())
}

async fn rebase(tree: &mut Tree, onto: &Oid) -> Result<(), Error> {
    let call = tree.git("rebase").args(["--no-autostash", "--no-gpg-sign", "--no-update-refs"]);
    let call = call.args(["--no-verify", "--no-fork-point", "--quiet", onto.as_str()]);
    let outcome = tree.call(call).await;
    let was_killed = verdict::was_killed(&outcome);
    let Err(error) = outcome else { return Ok(()) };
    if was_killed {
        tree.recover().await?;
        return Err(error);
    }
    let files = tree.conflicts().await?;
    tree.undo_rebase().await?;
    Err(if files.is_empty() { error } else { Error::Conflict { files } })
}

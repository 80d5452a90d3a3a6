//! Merging branches of a remote, in the mirror and without a checkout.

use crate::commit::check_message;
use crate::error::Error;
use crate::git::{Author, Call};
use crate::mirror::Mirror;
use crate::name::{Oid, check_branch};
use crate::output::{Output, file_names};
use crate::progress::silent;
use crate::rig::{Rig, check_author};
use crate::shared::Shared;

/// How often a merge is made again because somebody else pushed meanwhile.
const TRIES: usize = 3;

/// What became of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merge {
    /// The remote's target has both sides.
    Merged {
        /// Its commit.
        commit: Oid,
    },
    /// Both sides changed the same lines; the remote is as before.
    Conflict {
        /// The files, at most [`MAX_FILES`](crate::MAX_FILES).
        files: Vec<String>,
    },
}

/// What to merge.
struct Sides<'a> {
    source: &'a str,
    target: &'a str,
    message: &'a str,
    author: &'a Author,
}

/// Merges one branch of the remote into another one, and pushes the result.
pub(crate) async fn merge(
    shared: &Shared,
    rig: &Rig,
    source: &str,
    target: &str,
    message: &str,
    author: &Author,
) -> Result<Merge, Error> {
    rig.check(shared.git.settings.protocols)?;
    check_branch(source)?;
    check_branch(target)?;
    check_message(message)?;
    check_author(author)?;
    let mirror = shared.mirror(&rig.name)?;
    let sides = Sides { source, target, message, author };
    for _ in 1..TRIES {
        match merge_once(&mirror, rig, &sides).await {
            Err(Error::Rejected { why, .. }) if why.starts_with("[rejected]") => {}
            outcome => return outcome,
        }
    }
    merge_once(&mirror, rig, &sides).await
}

async fn merge_once(mirror: &Mirror, rig: &Rig, sides: &Sides<'_>) -> Result<Merge, Error> {
    mirror.fetch(rig, &silent()).await?;
    let source = head(mirror, sides.source).await?;
    let target = head(mirror, sides.target).await?;
    let base = mirror
        .call(call(mirror, "merge-base").args([&source, &target].map(Oid::as_str)).accept(&[0, 1]))
        .await?;
    let base = Oid::parse(&base.stdout);
    if base.as_ref() == Some(&source) {
        return Ok(Merge::Merged { commit: target });
    }
    let needed: Vec<_> = base.iter().chain([&source, &target]).collect();
    mirror.complete(rig, &needed).await?;
    let merged = merge_tree(mirror, &target, &source).await?;
    if merged.status == 1 {
        return Ok(Merge::Conflict { files: conflicting(&merged.stdout) });
    }
    let tree = merged.stdout.split(|byte| *byte == 0).next().and_then(Oid::parse);
    let tree = tree.ok_or_else(|| Error::invalid("merge", "git named no tree"))?;
    let commit = commit(mirror, sides, &tree, &target, &source).await?;
    mirror.push_once(rig, sides.target, &commit, None).await?;
    Ok(Merge::Merged { commit })
}

fn call(mirror: &Mirror, name: &'static str) -> Call {
    Call::mirror(&mirror.git, &mirror.path(), name)
}

async fn head(mirror: &Mirror, branch: &str) -> Result<Oid, Error> {
    let commit = mirror.commit_of(&format!("refs/heads/{branch}")).await?;
    commit.ok_or_else(|| Error::BranchMissing(branch.to_owned()))
}

async fn merge_tree(mirror: &Mirror, target: &Oid, source: &Oid) -> Result<Output, Error> {
    let call =
        call(mirror, "merge-tree").args(["--write-tree", "--name-only", "--no-messages", "-z"]);
    mirror.call(call.args([target, source].map(Oid::as_str)).accept(&[0, 1])).await
}

/// The tree with conflict markers, then the files.
fn conflicting(bytes: &[u8]) -> Vec<String> {
    file_names(bytes).split_off(1)
}

async fn commit(
    mirror: &Mirror,
    sides: &Sides<'_>,
    tree: &Oid,
    target: &Oid,
    source: &Oid,
) -> Result<Oid, Error> {
    let call = call(mirror, "commit-tree").by(sides.author).arg(tree.as_str());
    let call = call.args(["-p", target.as_str(), "-p", source.as_str(), "-F", "-"]);
    mirror.call(call.stdin(sides.message)).await?.oid("commit-tree")
}

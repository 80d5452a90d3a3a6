//! Whether everything in a workspace is on the remote too.
//!
//! An agent can write anything into its repository, so what is there only says what there is to look for. What the
//! remote has, the mirror knows. When in doubt the answer is no. An agent that hides its work from git loses its own.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, openat, openat2, statat};
use rustix::io::Errno;

use crate::disk::{self, DIRECTORY};
use crate::error::Error;
use crate::git::Call;
use crate::import::agent_namespace;
use crate::mirror::Mirror;
use crate::name::Oid;
use crate::status::{self, Status};
use crate::tree::Tree;
use crate::workspace::Workspace;

/// Commits of an agent's own refs that are compared with the mirror.
const MAX_COMMITS: usize = 1000;

/// Bytes of git's answer that are read: the head and one change.
const MAX_BYTES: usize = 16 * 1024;

/// Characters of a reason.
const MAX_WHY: usize = 300;

/// What git leaves in its directory while an operation of several steps is under way, and what holds more repositories.
const UNFINISHED: [&str; 9] = [
    "rebase-merge",
    "rebase-apply",
    "sequencer",
    "MERGE_HEAD",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "BISECT_LOG",
    "worktrees",
    "modules",
];

/// Configuration by which changes would look like none.
const HONEST: [(&str, &str); 3] =
    [("core.checkStat", "default"), ("core.fileMode", "true"), ("core.trustCtime", "true")];

/// Whether everything in a workspace is on the remote too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// It is, or was when the host fetched or pushed last: nothing is lost if the workspace goes.
    Yes,
    /// It is not, or nobody knows.
    No {
        /// What is only here, or why that is not known; at most 300 characters, none of them a control character.
        why: String,
    },
}

impl Pushed {
    /// Whether it is.
    pub fn is_pushed(&self) -> bool {
        *self == Self::Yes
    }

    pub(crate) fn no(why: impl AsRef<str>) -> Self {
        // Names of files and words of git may hold what a terminal obeys.
        let plain = |char: char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char };
        Self::No { why: why.as_ref().chars().map(plain).take(MAX_WHY).collect() }
    }
}

impl Workspace {
    /// Whether everything in the workspace is on the remote too, as the host knows the remote: all commits of HEAD, of
    /// branches, tags, notes and the stash are on a branch or tag of the remote or were pushed by this agent, and there
    /// is no change and no file but those that a `.gitignore` names. A workspace in which nothing was done is.
    ///
    /// Such files and checkpoints do not count, nor commits that no ref names. Asks no remote. Does not wait for work
    /// of the host in the workspace: while there is some, it is not pushed.
    pub async fn pushed(&self) -> Pushed {
        match self.own_work().await {
            Ok(None) => Pushed::Yes,
            Ok(Some(why)) => Pushed::no(why),
            Err(error) => Pushed::no(error.to_string()),
        }
    }

    /// What is only here.
    async fn own_work(&self) -> Result<Option<String>, Error> {
        if self.record.rig.is_none() {
            return Ok(Some("it has no remote".to_owned()));
        }
        let mut tree = self.try_tree().await?;
        if let Some(name) = disk::on(tree.path(), |path| Ok(unfinished(path)?)).await? {
            return Ok(Some(format!("there is .git/{name}")));
        }
        let status = honest_status(&mut tree).await?;
        if let Some(change) = status.changes.first() {
            return Ok(Some(format!("not committed: {}", String::from_utf8_lossy(&change.path))));
        }
        let (Some(head), false) = (status.head, status.truncated) else {
            return Ok(Some("git does not say what is checked out".to_owned()));
        };
        let others = unignored(&tree).at_most(MAX_BYTES);
        let others = others.args(["--directory", "--no-empty-directory"]);
        if let Some(path) = tree.call(others).await?.stdout.split(|byte| *byte == 0).next()
            && !path.is_empty()
        {
            return Ok(Some(format!("not committed: {}", String::from_utf8_lossy(path))));
        }
        if let Some(why) = hidden(&mut tree).await? {
            return Ok(Some(why));
        }
        let mut commits = own_refs(&mut tree).await?;
        commits.insert(0, ("HEAD".to_owned(), head));
        let (_, mirror) = self.mirror().await?;
        let unknown = unknown(&mirror, &self.record.agent, commits).await?;
        Ok(unknown.map(|name| format!("{name} is not on the remote")))
    }
}

/// What an operation that is under way left in the git directory.
pub(crate) fn unfinished(workspace: &Path) -> rustix::io::Result<Option<&'static str>> {
    let workspace = openat(CWD, workspace, DIRECTORY, Mode::empty())?;
    let git = openat(&workspace, ".git", DIRECTORY, Mode::empty())?;
    for name in UNFINISHED {
        match statat(&git, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(Some(name)),
        }
    }
    Ok(None)
}

/// What is checked out and what is not committed, with eyes of the host's.
async fn honest_status(tree: &mut Tree) -> Result<Status, Error> {
    let call = tree.git("status").reads().at_most(MAX_BYTES);
    let call = call.args(["--porcelain=v2", "-z", "--branch", "--no-ahead-behind", "--no-renames"]);
    let mut call = call.args(["--untracked-files=normal", "--ignore-submodules=none"]);
    for (n, (name, value)) in HONEST.iter().enumerate() {
        call = call.env(&format!("GIT_CONFIG_KEY_{n}"), name);
        call = call.env(&format!("GIT_CONFIG_VALUE_{n}"), value);
    }
    let output = tree.call(call.env("GIT_CONFIG_COUNT", HONEST.len().to_string())).await?;
    let mut status = status::parse(&output.stdout);
    status.truncated |= output.cut;
    Ok(status)
}

/// Lists files that git does not know and no `.gitignore` names. Rules elsewhere do not count: they are in no commit.
pub(crate) fn unignored(tree: &Tree) -> Call {
    let call = tree.git("ls-files").reads().args(["--others", "-z"]);
    call.arg("--exclude-per-directory=.gitignore")
}

/// Everything that refs of the agent point to. What the repository calls the remote's is none of it.
async fn own_refs(tree: &mut Tree) -> Result<Vec<(String, Oid)>, Error> {
    let call = tree.git("for-each-ref").reads().arg("--format=%(objectname) %(refname)");
    let output = tree.call(call).await?;
    let mut refs = Vec::new();
    // A name need be no text, and must hide no other.
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let (oid, name) = line.split_once(' ').unwrap_or_default();
        let oid = Oid::parse(oid.as_bytes()).ok_or_else(|| Error::invalid("ref", line))?;
        if !name.starts_with("refs/remotes/") && !name.starts_with("refs/bulkhead/") {
            refs.push((name.to_owned(), oid));
        }
    }
    Ok(refs)
}

/// One that the remote does not have and the agent did not push.
async fn unknown(
    mirror: &Mirror,
    agent: &str,
    mut commits: Vec<(String, Oid)>,
) -> Result<Option<String>, Error> {
    let pushed = agent_namespace("pushed", agent);
    let refs = mirror.refs(&["refs/heads", "refs/tags", &pushed]).await?;
    let known: HashSet<_> = refs.into_iter().map(|(_, oid)| oid).collect();
    commits.retain(|(_, oid)| !known.contains(oid));
    if commits.len() > MAX_COMMITS {
        return Ok(Some(format!("more than {MAX_COMMITS} refs, for example {}", commits[0].0)));
    }
    for (name, oid) in commits {
        let call = Call::mirror(&mirror.git, &mirror.path(), "rev-list").accept(&[0, 128]);
        let call = call.args(["--max-count=1", oid.as_str(), "--not", "--branches", "--tags"]);
        let output = mirror.call(call.arg(format!("--glob={pushed}"))).await?;
        if output.status != 0 || !output.stdout.is_empty() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// What git does not look at: files of which the index says that they never change, and repositories in the tree of
/// which a commit has nothing but an id.
async fn hidden(tree: &mut Tree) -> Result<Option<String>, Error> {
    let output = tree.call(tree.git("ls-files").reads().args(["-v", "--stage", "-z"])).await?;
    let mut entries = Vec::new();
    for entry in output.stdout.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
        let Some(entry) = entry.strip_prefix(b"H ") else {
            return Ok(Some(format!("git ignores changes of {}", path_of(entry))));
        };
        entries.push(entry);
    }
    let found = nested_repository(tree, entries.into_iter()).await?;
    Ok(found.map(|path| format!("a repository in {path}")))
}

/// A directory with a repository of its own, among entries of `ls-files --stage`.
pub(crate) async fn nested_repository(
    tree: &Tree,
    entries: impl Iterator<Item = &[u8]>,
) -> Result<Option<String>, Error> {
    let links = entries.filter(|entry| entry.starts_with(b"160000 "));
    let links: Vec<_> = links.map(|entry| bytes_of(entry).to_vec()).collect();
    let found = disk::on(tree.path(), move |path| {
        let workspace = openat(CWD, path, DIRECTORY, Mode::empty())?;
        Ok(links.into_iter().find(|link| may_hold_repository(&workspace, link)))
    });
    Ok(found.await?.map(|link| String::from_utf8_lossy(&link).into_owned()))
}

/// `<flag> <mode> <object> <stage>\t<path>`
fn bytes_of(entry: &[u8]) -> &[u8] {
    let tab = entry.iter().position(|byte| *byte == b'\t');
    tab.map_or(entry, |tab| &entry[tab + 1..])
}

fn path_of(entry: &[u8]) -> String {
    String::from_utf8_lossy(bytes_of(entry)).into_owned()
}

/// Whether there is a git directory at a path of the agent's, which leads out of the workspace nowhere.
fn may_hold_repository(workspace: &impl std::os::fd::AsFd, link: &[u8]) -> bool {
    let git = Path::new(std::ffi::OsStr::from_bytes(link)).join(".git");
    let flags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
    let resolve = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);
    let opened = openat2(workspace, git, flags, Mode::empty(), resolve);
    !matches!(opened, Err(Errno::NOENT | Errno::NOTDIR))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_path_that_leads_elsewhere_may_hold_a_repository() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir_all(path.join("top/full/.git")).unwrap();
        fs::create_dir_all(path.join("top/empty")).unwrap();
        fs::write(path.join("top/file"), "").unwrap();
        symlink("empty", path.join("top/link")).unwrap();
        let top = openat(CWD, path.join("top"), DIRECTORY, Mode::empty()).unwrap();
        let may = |link: &str| may_hold_repository(&top, link.as_bytes());
        assert!(!may("empty") && !may("absent") && !may("file"));
        assert!(may("full") && may("link") && may("..") && may("/") && may("nul\0"));
    }

    #[test]
    fn a_reason_is_short_and_plain() {
        let Pushed::No { why } = Pushed::no(format!("?? \x1b[2J{}", "é".repeat(1000))) else {
            unreachable!()
        };
        assert!(why.starts_with("?? \u{fffd}[2Jé") && why.chars().count() == MAX_WHY);
    }
}

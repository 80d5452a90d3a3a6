//! Committing.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::error::Error;
use crate::git::{Author, Call};
use crate::name::Oid;
use crate::output::Output;
use crate::rig::check_author;
use crate::tree::Tree;
use crate::verdict;
use crate::workspace::Workspace;

/// Longest message of a commit, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// What goes into a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paths {
    /// Everything that is not ignored. Repositories in the workspace that have no commit stay untracked.
    All,
    /// These files and directories, as they are or are gone, and what is staged already. Relative to the workspace;
    /// no patterns.
    Only(Vec<PathBuf>),
}

impl Workspace {
    /// Commits to what is checked out. Returns none if there is nothing to commit. Hooks do not run, and
    /// nothing is signed. Files of a merge that are not resolved yet are [`Error::Conflict`].
    pub async fn commit(
        &self,
        message: &str,
        author: &Author,
        paths: &Paths,
    ) -> Result<Option<Oid>, Error> {
        check_author(author)?;
        check_message(message)?;
        let mut tree = self.tree().await?;
        tree.author = author.clone();
        commit(&mut tree, message, paths).await
    }
}

pub(crate) fn check_message(message: &str) -> Result<(), Error> {
    if message.trim().is_empty() || message.len() > MAX_MESSAGE || message.contains('\0') {
        return Err(Error::invalid("message", "is empty, or longer than 64 KiB"));
    }
    Ok(())
}

/// Stages everything that is not ignored. Repositories without a commit, which git cannot stage, are left out and
/// returned.
pub(crate) async fn add_all(
    tree: &mut Tree,
    prepare: impl FnOnce(Call) -> Call,
) -> Result<Vec<String>, Error> {
    let add = tree.git("add").args(["--all", "--ignore-errors"]).accept(&[0, 1]);
    let output = tree.call(prepare(add)).await?;
    match output.status {
        0 => Ok(Vec::new()),
        _ => without_commit(&output).ok_or_else(|| verdict::of_status("add", &output)),
    }
}

/// Stages files and directories. One that cannot be staged is [`Error::Invalid`].
async fn add(tree: &mut Tree, paths: &[PathBuf]) -> Result<(), Error> {
    let mut list = Vec::new();
    for path in paths.iter().map(|path| path.as_os_str().as_bytes()) {
        if path.is_empty() || path.contains(&0) {
            return Err(Error::invalid("paths", "one is empty, or has a NUL in it"));
        }
        list.extend_from_slice(path);
        list.push(0);
    }
    let add = tree.git("add").args(["--all", "--pathspec-from-file=-", "--pathspec-file-nul"]);
    let output = tree.call(add.stdin(list).accept(&[0, 1, 128])).await?;
    match output.status {
        0 => Ok(()),
        _ => Err(of_paths(&output).unwrap_or_else(|| verdict::of_status("add", &output))),
    }
}

/// What git says of a path.
fn of_paths(output: &Output) -> Option<Error> {
    const SIGNS: &[&str] = &[
        "did not match any files",
        "is outside repository",
        "is beyond a symbolic link",
        "is in submodule",
        "ignored by one of your .gitignore files",
        "does not have a commit checked out",
    ];
    let words = verdict::last_words(&output.stderr);
    let is_of_path = words.lines().any(|line| SIGNS.iter().any(|sign| line.contains(sign)));
    is_of_path.then(|| Error::invalid("paths", words.replace('\n', " ")))
}

/// `error: 'path/' does not have a commit checked out`, for each. None if git complains about anything else.
fn without_commit(output: &Output) -> Option<Vec<String>> {
    let text = String::from_utf8_lossy(&output.stderr);
    let errors = text.lines().filter(|line| !line.starts_with("warning:"));
    let name = |line: &str| {
        let line = line.strip_prefix("error: '")?;
        Some(line.strip_suffix("/' does not have a commit checked out")?.to_owned())
    };
    let names = errors.map(name).collect::<Option<Vec<_>>>()?;
    (!names.is_empty()).then_some(names)
}

/// Stages and commits.
pub(crate) async fn commit(
    tree: &mut Tree,
    message: &str,
    paths: &Paths,
) -> Result<Option<Oid>, Error> {
    tree.check_room().await?;
    // To stage a file means that it is resolved, also with the marks in it.
    let files = tree.conflicts().await?;
    if !files.is_empty() {
        return Err(Error::Conflict { files });
    }
    match paths {
        Paths::All => drop(add_all(tree, |add| add).await?),
        Paths::Only(paths) => add(tree, paths).await?,
    }
    let staged = tree.git("diff").args(["--cached", "--quiet", "--no-ext-diff", "HEAD", "--"]);
    if tree.call(staged.accept(&[0, 1])).await?.status == 0 {
        return Ok(None);
    }
    let commit = tree.git("commit").args(["--quiet", "--no-verify", "--cleanup=whitespace"]);
    tree.call(commit.args(["--file=-"]).stdin(message)).await?;
    tree.commit_of("HEAD").await
}

//! Committing.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::error::Error;
use crate::git::Author;
use crate::name::Oid;
use crate::rig::check_author;
use crate::tree::Tree;
use crate::workspace::Workspace;

/// Longest message of a commit, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// What goes into a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paths {
    /// Everything that is not ignored.
    All,
    /// These files and directories, as they are or are gone, and what is staged already. Relative to the workspace;
    /// no patterns.
    Only(Vec<PathBuf>),
}

impl Workspace {
    /// Commits to what is checked out. Returns none if there is nothing to commit. Hooks do not run, and nothing is signed.
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

/// Stages and commits.
pub(crate) async fn commit(
    tree: &mut Tree,
    message: &str,
    paths: &Paths,
) -> Result<Option<Oid>, Error> {
    tree.check_room().await?;
    let add = tree.git("add").arg("--all");
    let add = match paths {
        Paths::All => add,
        Paths::Only(paths) => {
            let list = paths.iter().flat_map(|path| [path.as_os_str().as_bytes(), b"\0"].concat());
            add.args(["--pathspec-from-file=-", "--pathspec-file-nul"])
                .stdin(list.collect::<Vec<_>>())
        }
    };
    tree.call(add).await?;
    let staged = tree.git("diff").args(["--cached", "--quiet", "--no-ext-diff", "HEAD", "--"]);
    if tree.call(staged.accept(&[0, 1])).await?.status == 0 {
        return Ok(None);
    }
    let commit = tree.git("commit").args(["--quiet", "--no-verify", "--cleanup=whitespace"]);
    tree.call(commit.args(["--file=-"]).stdin(message)).await?;
    tree.commit_of("HEAD").await
}

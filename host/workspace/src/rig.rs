//! What a rig is, and what an agent asks for.

use std::path::PathBuf;

use bulkhead_tools::DiskLimit;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::git::Author;
use crate::name::{Oid, check_branch, check_segment};
use crate::remote::{self, Protocols};

/// A remote repository that agents work on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rig {
    /// Its name: letters, digits, dashes, dots, underscores; at most 128 bytes.
    pub name: String,
    /// Where it is. It holds no user and no password.
    pub url: String,
    /// The branch that work starts from.
    pub default_branch: String,
}

impl Rig {
    /// Checks all parts, and returns what a credential is bound to.
    pub(crate) fn check(&self, protocols: Protocols) -> Result<String, Error> {
        check_segment("rig", &self.name)?;
        check_branch(&self.default_branch)?;
        remote::check(&self.url, protocols)
    }
}

/// Checks a rig as a configuration or a request names it, over HTTP too.
///
/// Fails with [`Error::Invalid`].
pub fn check_rig(name: &str, url: &str, default_branch: &str) -> Result<(), Error> {
    let (name, url, default_branch) = (name.to_owned(), url.to_owned(), default_branch.to_owned());
    Rig { name, url, default_branch }.check(Protocols { http: true, file: false }).map(drop)
}

/// The workspace that an agent wants.
#[derive(Debug, Clone)]
pub struct Request {
    /// The agent's id: letters, digits, dashes, dots, underscores; at most 128 bytes.
    pub agent: String,
    /// The directory that becomes the workspace: absent, empty, or the workspace already. On the file system of the
    /// state directory.
    pub path: PathBuf,
    /// The agent's own branch. If the remote has it, the agent continues it.
    pub branch: String,
    /// Where a new branch starts: a branch or tag of the remote, or the full id of a commit. The default branch if there
    /// is none.
    pub start_point: Option<String>,
    /// An empty repository without a remote, for an agent that only writes things down. It needs no network.
    pub lightweight: bool,
    /// What is at the path may have been brought from another machine, where it was the workspace already: then it is adopted.
    pub was_brought: bool,
    /// Who the agent's commits are by.
    pub author: Author,
    /// What may lie in the workspace, the repository included.
    pub limit: DiskLimit,
}

impl Request {
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_segment("agent", &self.agent)?;
        check_branch(&self.branch)?;
        check_author(&self.author)?;
        if !self.path.is_absolute() {
            return Err(Error::invalid("path", "is not absolute"));
        }
        match &self.start_point {
            Some(start) if Oid::parse(start.as_bytes()).is_none() => {
                check_branch(start).map_err(|_| {
                    Error::invalid("start point", format!("{start:?} is no name of a ref"))
                })
            }
            _ => Ok(()),
        }
    }
}

/// Git takes lines, and angle brackets around the address.
pub(crate) fn check_author(author: &Author) -> Result<(), Error> {
    let is_bad = |text: &str| {
        text.trim().is_empty()
            || text.len() > 256
            || text.contains(|c: char| c.is_control() || "<>".contains(c))
    };
    if is_bad(&author.name) || is_bad(&author.email) {
        return Err(Error::invalid(
            "author",
            "empty, too long, or with characters that git refuses",
        ));
    }
    Ok(())
}

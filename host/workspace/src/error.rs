//! What can go wrong with a workspace.

use std::io;
use std::path::Path;

use bulkhead_tools::DiskLimit;

/// Files that an error names at most.
pub const MAX_FILES: usize = 100;

/// What took too long.
const REMOTE: &str = "the remote";

/// Why an operation on a workspace or a mirror failed.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A name, URL or other parameter is not acceptable, or names nothing.
    #[error("invalid {what}: {why}")]
    Invalid {
        /// Which parameter.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The remote has no such branch.
    #[error("no such branch on the remote: {0}")]
    BranchMissing(String),
    /// The remote wants another credential than the one that there is, also after a fresh one.
    #[error("the remote refused the credential: {0}")]
    Unauthorized(String),
    /// The remote has no such repository.
    #[error("no such repository: {0}")]
    NotFound(String),
    /// Git failed while it talked to the remote, to fetch or to push.
    #[error("git failed with the remote ({status}): {words}")]
    CloneFailed {
        /// How git ended.
        status: String,
        /// Git's last words, at most 2 KiB.
        words: String,
    },
    /// Git failed otherwise.
    #[error("git {command} failed ({status}): {words}")]
    GitFailed {
        /// The subcommand.
        command: &'static str,
        /// How git ended.
        status: String,
        /// Git's last words, at most 2 KiB.
        words: String,
    },
    /// A deadline passed.
    #[error("{0} took too long")]
    Timeout(&'static str),
    /// The disk is full.
    #[error("no space left on the disk: {0}")]
    NoSpace(String),
    /// Something is larger than its limit.
    #[error("{what} is larger than {limit_bytes} bytes")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its limit.
        limit_bytes: u64,
    },
    /// The files of a commit are more than the workspace may have.
    #[error("the files of the branch take {bytes} bytes and {entries} entries; {}", allowed(.limit))]
    DoesNotFit {
        /// Of all files in blocks, and of directories.
        bytes: u64,
        /// Files, directories and links.
        entries: u64,
        /// What the workspace may have.
        limit: DiskLimit,
    },
    /// The workspace has more than it may have.
    #[error("the workspace is full; {}", allowed(.0))]
    Full(DiskLimit),
    /// The rig or the workspace is in use for too long.
    #[error("{0} is in use")]
    Locked(String),
    /// The directory holds something else: the workspace of another rig or branch, or files of others.
    #[error("the workspace holds {0}")]
    Occupied(String),
    /// The agent has no workspace, or its repository is gone.
    #[error("no workspace of agent {0}")]
    Unprepared(String),
    /// The remote has commits that the push would lose, or does not accept the push.
    #[error("the push to {branch} was rejected: {why}")]
    Rejected {
        /// The branch of the remote.
        branch: String,
        /// The reason as git reports it.
        why: String,
    },
    /// Both sides changed the same lines. Everything is as it was before.
    #[error("conflict in {}", .files.join(", "))]
    Conflict {
        /// The files, at most [`MAX_FILES`].
        files: Vec<String>,
    },
    /// There are changes that are not committed.
    #[error("the workspace has uncommitted changes")]
    Uncommitted,
    /// Another branch than the agent's own is checked out.
    #[error("checked out is {0}")]
    WrongBranch(String),
    /// A merge, a rebase or the like is not finished.
    #[error("something is not finished: there is .git/{0}")]
    Unfinished(&'static str),
    /// A repository of its own in the workspace, of which git keeps no files.
    #[error("a repository in {0}: git keeps none of its files, so ignore it or move it away")]
    Nested(String),
    /// No such checkpoint.
    #[error("no such checkpoint: {0}")]
    NoCheckpoint(u64),
    /// The sandbox did not start git.
    #[error("{0}")]
    Sandbox(String),
    /// The host cannot use its own files.
    #[error("{0}")]
    Disk(String),
}

/// By the names of the keys.
fn allowed(DiskLimit { bytes, entries }: &DiskLimit) -> String {
    format!("it may have {bytes} bytes (workspace_mb) and {entries} entries (workspace_entries)")
}

impl Error {
    /// The kind, for answers and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::BranchMissing(_) => "branch-missing",
            Self::Unauthorized(_) => "unauthorized",
            Self::NotFound(_) => "not-found",
            Self::CloneFailed { .. } => "clone-failed",
            Self::GitFailed { .. } => "git-failed",
            Self::Timeout(_) => "timeout",
            Self::NoSpace(_) => "no-space",
            Self::TooLarge { .. } | Self::DoesNotFit { .. } | Self::Full(_) => "too-large",
            Self::Locked(_) => "locked",
            Self::Occupied(_) => "occupied",
            Self::Unprepared(_) => "unprepared",
            Self::Rejected { .. } => "rejected",
            Self::Conflict { .. } => "conflict",
            Self::Uncommitted => "uncommitted",
            Self::WrongBranch(_) => "wrong-branch",
            Self::Unfinished(_) => "unfinished",
            Self::Nested(_) => "nested-repository",
            Self::NoCheckpoint(_) => "no-checkpoint",
            Self::Sandbox(_) => "sandbox",
            Self::Disk(_) => "disk",
        }
    }

    /// Whether the remote was not reached, is too slow, or does not let the host in.
    pub fn is_of_remote(&self) -> bool {
        match self {
            Self::Timeout(what) => *what == REMOTE,
            Self::Unauthorized(_) | Self::NotFound(_) | Self::BranchMissing(_) => true,
            Self::CloneFailed { .. } => true,
            _ => false,
        }
    }

    /// The same error of a call that talks to the remote.
    pub(crate) fn with_remote(self) -> Self {
        match self {
            Self::GitFailed { status, words, .. } => Self::CloneFailed { status, words },
            Self::Timeout(_) => Self::Timeout(REMOTE),
            other => other,
        }
    }

    pub(crate) fn invalid(what: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid { what, why: why.into() }
    }

    /// An error of the file system, with the path that it is about.
    pub(crate) fn disk(path: &Path, error: &io::Error) -> Self {
        let text = format!("{}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace(text),
            _ => Self::Disk(text),
        }
    }
}

//! The repository that the agent works on.
//!
//! The role has `git = true`, and the start names a rig. The repository is in `/workspace`, on a branch of the agent's own.
//! What needs the network is done by the host: the agent has no credential.
//!
//! ```no_run
//! use bulkhead_guest::workspace;
//!
//! std::fs::write("/workspace/notes.md", "found it\n").map_err(|error| {
//!     bulkhead_guest::AgentError::failed("no-notes", error.to_string())
//! })?;
//! workspace::commit("note what was found", &[])?;
//! workspace::push()?;
//! # Ok::<(), bulkhead_guest::AgentError>(())
//! ```

use crate::AgentError;
use crate::bindings::bulkhead::agent::workspace as raw;

pub use raw::{
    Base, Change, ChangeKind, LogEntry, Patch, TreeStatus, WorkspaceError as Error, checkpoint,
    diff, fetch, log, push, rebase, restore, status,
};

/// Commits these files and directories, or everything that is not ignored if there are none. Returns the commit's id, or
/// none if there is nothing to commit.
pub fn commit(message: &str, paths: &[&str]) -> Result<Option<String>, Error> {
    let paths: Vec<String> = paths.iter().map(|&path| path.to_owned()).collect();
    raw::commit(message, &paths)
}

impl Error {
    /// A stable word for it: `workspace-conflict`, for example.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "workspace-invalid",
            Self::Conflict(_) => "workspace-conflict",
            Self::Rejected(_) => "workspace-rejected",
            Self::Unclean(_) => "workspace-unclean",
            Self::TooLarge(_) => "workspace-too-large",
            Self::RemoteFailed(_) => "workspace-remote-failed",
            Self::Unavailable(_) => "workspace-unavailable",
        }
    }

    /// One sentence.
    pub fn message(&self) -> String {
        match self {
            Self::Conflict(files) => format!("conflict in {}", files.join(", ")),
            Self::Invalid(text)
            | Self::Rejected(text)
            | Self::Unclean(text)
            | Self::TooLarge(text)
            | Self::RemoteFailed(text)
            | Self::Unavailable(text) => text.clone(),
        }
    }
}

impl From<Error> for AgentError {
    /// Fails the turn.
    fn from(error: Error) -> Self {
        Self::failed(error.code(), error.message())
    }
}

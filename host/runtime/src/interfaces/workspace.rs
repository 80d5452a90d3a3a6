//! `bulkhead:agent/workspace`: the repository that an agent works on.
//!
//! Git runs in the agent's own sandbox where it works on files, and in the host's where it has the network: see
//! [`bulkhead_workspace`]. A wait here has the bounds of git's own limits and of the turn.

use bulkhead_workspace::{
    Against, Author, Change, Error, Kind, Paths, Status, Workspace, Workspaces,
};
use wasmtime::Result;

use crate::bindings::bulkhead::agent::workspace as wit;
use crate::bindings::bulkhead::agent::workspace::{Host, WorkspaceError};
use crate::state::State;

/// Of a difference, at most.
const MAX_DIFF_BYTES: u64 = 4 * 1024 * 1024;

type Answer<T> = Result<std::result::Result<T, WorkspaceError>>;

impl Host for State {
    async fn status(&mut self) -> Answer<wit::TreeStatus> {
        self.git(async |workspace| workspace.status().await.map(status)).await
    }

    async fn diff(&mut self, against: wit::Base, max_bytes: u64) -> Answer<wit::Patch> {
        let against = match against {
            wit::Base::Head => Against::Head,
            wit::Base::Upstream => Against::Base,
        };
        let most = usize::try_from(max_bytes.min(MAX_DIFF_BYTES)).unwrap_or(usize::MAX);
        self.git(async |workspace| {
            let diff = workspace.diff(against, most).await?;
            Ok(wit::Patch { text: diff.text, truncated: diff.truncated })
        })
        .await
    }

    async fn commit(&mut self, message: String, paths: Vec<String>) -> Answer<Option<String>> {
        let paths = match paths.is_empty() {
            true => Paths::All,
            false => Paths::Only(paths.into_iter().map(Into::into).collect()),
        };
        let author = self
            .spec
            .git
            .as_ref()
            .map(|git| Author { name: git.author.name.clone(), email: git.author.email.clone() });
        self.git(async |workspace| {
            let author = author.ok_or_else(|| Error::Unprepared(String::new()))?;
            let id = workspace.commit(&message, &author, &paths).await?;
            Ok(id.map(|id| id.to_string()))
        })
        .await
    }

    async fn log(&mut self, max_commits: u32) -> Answer<Vec<wit::LogEntry>> {
        self.git(async |workspace| {
            let commits = workspace.log(max_commits as usize).await?.into_iter();
            Ok(commits
                .map(|commit| wit::LogEntry {
                    id: commit.id.to_string(),
                    author: commit.author,
                    time: commit.time,
                    subject: commit.subject,
                })
                .collect())
        })
        .await
    }

    async fn fetch(&mut self) -> Answer<Option<String>> {
        self.git(async |workspace| {
            Ok(workspace.fetch().await?.upstream.map(|commit| commit.to_string()))
        })
        .await
    }

    async fn rebase(&mut self) -> Answer<String> {
        self.git(async |workspace| Ok(workspace.rebase().await?.to_string())).await
    }

    async fn push(&mut self) -> Answer<String> {
        self.git(async |workspace| Ok(workspace.push().await?.to_string())).await
    }

    async fn checkpoint(&mut self, name: String) -> Answer<u64> {
        self.git(async |workspace| Ok(workspace.checkpoint(&name).await?.id)).await
    }

    async fn restore(&mut self, checkpoint: u64) -> Answer<()> {
        self.git(async |workspace| workspace.restore(checkpoint).await).await
    }
}

impl State {
    /// Does something with the agent's repository.
    async fn git<T>(
        &mut self,
        work: impl AsyncFnOnce(Workspace) -> std::result::Result<T, Error>,
    ) -> Answer<T> {
        self.meter.set_own_bounds();
        let Some(workspaces) = self.workspaces.clone().filter(|_| self.spec.git.is_some()) else {
            let text = "the workspace of this agent is no repository";
            return Ok(Err(WorkspaceError::Unavailable(text.into())));
        };
        let done = open(&workspaces, self.spec.id.as_str(), work).await;
        // What git has written is no write of the guest's.
        self.quota.recount();
        Ok(done.map_err(error))
    }
}

async fn open<T>(
    workspaces: &Workspaces,
    agent: &str,
    work: impl AsyncFnOnce(Workspace) -> std::result::Result<T, Error>,
) -> std::result::Result<T, Error> {
    work(workspaces.workspace(agent).await?).await
}

fn status(status: Status) -> wit::TreeStatus {
    wit::TreeStatus {
        branch: status.branch,
        head: status.head.map(|head| head.to_string()),
        ahead: status.ahead,
        behind: status.behind,
        changes: status.changes.into_iter().map(change).collect(),
        truncated: status.truncated,
    }
}

/// Names that are no UTF-8 are shown, and cannot be opened by what is shown.
fn change(change: Change) -> wit::Change {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    wit::Change {
        path: text(change.path),
        before: change.from.map(text),
        staged: kind(change.staged),
        unstaged: kind(change.unstaged),
    }
}

fn kind(kind: Kind) -> wit::ChangeKind {
    match kind {
        Kind::Unchanged => wit::ChangeKind::Unchanged,
        Kind::Modified => wit::ChangeKind::Modified,
        Kind::TypeChanged => wit::ChangeKind::TypeChanged,
        Kind::Added => wit::ChangeKind::Added,
        Kind::Deleted => wit::ChangeKind::Deleted,
        Kind::Renamed => wit::ChangeKind::Renamed,
        Kind::Copied => wit::ChangeKind::Copied,
        Kind::Unmerged => wit::ChangeKind::Unmerged,
        Kind::Untracked => wit::ChangeKind::Untracked,
    }
}

fn error(error: Error) -> WorkspaceError {
    match error {
        Error::Invalid { .. } | Error::NoCheckpoint(_) => {
            WorkspaceError::Invalid(error.to_string())
        }
        Error::Conflict { files } => WorkspaceError::Conflict(files),
        Error::Rejected { .. } => WorkspaceError::Rejected(error.to_string()),
        Error::Uncommitted | Error::WrongBranch(_) | Error::Unfinished(_) | Error::Nested(_) => {
            WorkspaceError::Unclean(error.to_string())
        }
        Error::TooLarge { .. } | Error::DoesNotFit { .. } | Error::Full(_) | Error::NoSpace(_) => {
            WorkspaceError::TooLarge(error.to_string())
        }
        _ if error.is_of_remote() => WorkspaceError::RemoteFailed(error.to_string()),
        _ => WorkspaceError::Unavailable(error.to_string()),
    }
}

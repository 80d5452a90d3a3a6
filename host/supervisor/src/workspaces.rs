//! Workspaces of agents and the repositories of rigs, as somebody outside works with them.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_agent::SendError;
use bulkhead_api::{
    ChangeView, DiffBase, DiffView, EntryKind, EntryView, ExecAnswer, ExecRequest, FilesView,
    MergeAnswer, MergeRequest, PrepareRequest, RigView, SeenView,
};
use bulkhead_runtime::{Exec, ExecError};
use bulkhead_types::time::millis;
use bulkhead_types::{AgentId, ToolEnd};
use bulkhead_workspace::{
    Against, Author, Change, Entry, Error, Kind, Merge, Seen, Workspaces, look, silent,
};
use tokio::time::sleep;

use crate::Supervisor;

/// The longest character in UTF-8: a part of a file has at least one.
const CHARACTER_BYTES: usize = 4;

/// Who merges are by where the request does not say. No mail gets there.
const AUTHOR: (&str, &str) = ("Bulkhead", "bulkhead@agents.invalid");

/// Programs that somebody outside runs in the place of agents, at a time. The launcher has places for more.
pub(crate) const MAX_EXECS: usize = 8;

/// How long the end of a program may take that ends with its agent.
const ENDING: Duration = Duration::from_secs(1);

/// Why nothing was shown of a workspace, or done with a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkspaceError {
    /// The agent has no workspace, or nothing is at that path of it.
    #[error("the workspace of agent {id} has nothing at {path:?}")]
    NotThere {
        /// Whose.
        id: AgentId,
        /// As it was asked for.
        path: String,
    },
    /// The directory of all workspaces cannot be used.
    #[error(
        "workspaces cannot be listed: the host could not use their directory when it was started"
    )]
    NoInventory,
    /// The agent has no workspace.
    #[error("agent {0} has no workspace")]
    None(AgentId),
    /// The agent is up, or restarts by itself.
    #[error("the workspace of agent {0} is in use: stop the agent first")]
    InUse(AgentId),
    /// There is work that is nowhere else.
    #[error("the workspace of agent {id} has work that is nowhere else: {why}")]
    NotPushed {
        /// Whose.
        id: AgentId,
        /// What is only there.
        why: String,
    },
    /// Its archive is where the town is shipped, and that cannot be reached: it would come back.
    #[error("the workspace of agent {id} was not removed: its archive could not be removed: {why}")]
    Archived {
        /// Whose.
        id: AgentId,
        /// Why not.
        why: String,
    },
    /// This host makes no repositories.
    #[error("this host has no repositories: no role of its configuration has `git = true`")]
    NoRepositories,
    /// Neither the configuration nor the request says what the rig's repository is.
    #[error("{0}")]
    NoRig(String),
    /// The request says what the configuration or the host does not allow.
    #[error("{0}")]
    WrongUrl(String),
    /// The host lost track of it.
    #[error("the host failed; its log has the details")]
    Lost,
    /// Git, the remote or the disk.
    #[error(transparent)]
    Git(#[from] Error),
}

/// Why a program was not run in an agent's place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecRefusal {
    /// There is no agent that runs.
    #[error(transparent)]
    Agent(#[from] SendError),
    /// The agent may not, or the host cannot.
    #[error(transparent)]
    Tool(#[from] ExecError),
    /// The agent ended, and the program with it.
    #[error("agent {0} ended while the program ran, which ended with it")]
    Ended(AgentId),
}

impl Supervisor {
    /// What is at a path of an agent's workspace; of a file at most `max_bytes` from `offset` on. The agent need not run.
    pub async fn files(
        &self,
        id: &AgentId,
        path: &str,
        offset: u64,
        max_bytes: usize,
    ) -> Result<FilesView, WorkspaceError> {
        let (workspace, wanted) = (self.0.config.workspace(id), PathBuf::from(path));
        let max_bytes = max_bytes.max(CHARACTER_BYTES);
        let seen =
            self.detached("files", async move {
                Ok(look(&workspace, &wanted, offset, max_bytes).await?)
            })
            .await?;
        let not_there = || WorkspaceError::NotThere { id: id.clone(), path: path.to_owned() };
        Ok(FilesView { path: path.to_owned(), seen: view(seen.ok_or_else(not_there)?, offset) })
    }

    /// What an agent did in its repository, at most `max_bytes` of it. The agent need not run.
    pub async fn diff(
        &self,
        id: &AgentId,
        against: DiffBase,
        max_bytes: usize,
    ) -> Result<DiffView, WorkspaceError> {
        let (workspaces, id) = (self.repositories()?.clone(), id.clone());
        let work = async move { difference(&workspaces, &id, against, max_bytes).await };
        self.detached("diff", work).await
    }

    /// Brings the host's mirror of a rig to what the remote has, so that starts need not.
    pub async fn prepare_rig(
        &self,
        rig: &str,
        request: PrepareRequest,
    ) -> Result<RigView, WorkspaceError> {
        let PrepareRequest { git_url, default_branch } = request;
        let workspaces = self.repositories()?.clone();
        let rig = self.rig(rig, git_url.as_deref(), default_branch.as_deref())?;
        let of = rig.clone();
        let fetch = async move { Ok(workspaces.fetch(&of, &silent()).await?) };
        let fetched = self.detached("prepare a rig", fetch).await?;
        Ok(RigView {
            rig: rig.name,
            url: rig.url,
            default_branch: rig.default_branch,
            head: fetched.head.map(|head| head.to_string()),
            branches: fetched.branches,
            tags: fetched.tags,
        })
    }

    /// Merges a branch of a rig's remote into another one, and pushes the result.
    pub async fn merge(
        &self,
        rig: &str,
        request: MergeRequest,
    ) -> Result<MergeAnswer, WorkspaceError> {
        let MergeRequest { source, target, message, author, git_url, default_branch } = request;
        let workspaces = self.repositories()?.clone();
        let rig = self.rig(rig, git_url.as_deref(), default_branch.as_deref())?;
        let target = target.unwrap_or_else(|| rig.default_branch.clone());
        let message = message.unwrap_or_else(|| format!("Merge branch '{source}' into {target}"));
        let (name, email) = author.map_or_else(
            || (AUTHOR.0.to_owned(), AUTHOR.1.to_owned()),
            |author| (author.name, author.email),
        );
        let author = Author { name, email };
        let into = target.clone();
        let merge =
            async move { Ok(workspaces.merge(&rig, &source, &into, &message, &author).await?) };
        match self.detached("merge", merge).await? {
            Merge::Merged { commit } => Ok(MergeAnswer { target, commit: commit.to_string() }),
            Merge::Conflict { files } => Err(Error::Conflict { files }.into()),
        }
    }

    /// Runs a program in the place of an agent that runs: one of its tools, in its workspace, under its limits.
    /// Dropping the future ends the program, and so does the end of the agent.
    pub async fn exec(
        &self,
        id: &AgentId,
        request: ExecRequest,
    ) -> Result<ExecAnswer, ExecRefusal> {
        let agent = self.0.current(id)?;
        let context = agent.instance_context()?;
        let ExecRequest { program, arguments, directory, environment, stdin } = request;
        let _place = self.0.execs.try_acquire().map_err(|_| {
            ExecError::Unavailable(format!("{MAX_EXECS} programs are run from outside already"))
        })?;
        let stdin = stdin.into_bytes();
        let exec = Exec { program, arguments, directory, environment, stdin };
        // The end of the agent ends it, and is its end.
        let over = async {
            agent.gone().await;
            sleep(ENDING).await;
        };
        let ended = tokio::select! {
            biased;
            ended = self.0.runtime.exec(context, exec) => ended?,
            () = over => return Err(ExecRefusal::Ended(id.clone())),
        };
        let is_cut = ended.end == ToolEnd::OutputLimit;
        let (stdout, stdout_is_whole) = checked_text(ended.stdout, is_cut);
        let (stderr, stderr_is_whole) = checked_text(ended.stderr, is_cut);
        Ok(ExecAnswer {
            end: ended.end,
            code: ended.code,
            signal: ended.signal,
            wall_ms: millis(ended.wall),
            cpu_ms: millis(ended.cpu),
            peak_memory_bytes: ended.peak_memory_bytes,
            stdout,
            stderr,
            utf8: stdout_is_whole && stderr_is_whole,
        })
    }

    /// Does something that takes its time, maybe on the disk, away from the caller's thread. It goes on when the caller has
    /// left: what is half done then would be in the way of others.
    pub(crate) async fn detached<T: Send + 'static>(
        &self,
        name: &str,
        work: impl Future<Output = Result<T, WorkspaceError>> + Send + 'static,
    ) -> Result<T, WorkspaceError> {
        let done = self.0.container.spawner().spawn_infallible(name, work).await;
        done.ok().flatten().ok_or(WorkspaceError::Lost)?
    }

    fn repositories(&self) -> Result<&Workspaces, WorkspaceError> {
        self.0.config.workspaces.as_ref().ok_or(WorkspaceError::NoRepositories)
    }

    fn rig(
        &self,
        name: &str,
        url: Option<&str>,
        default_branch: Option<&str>,
    ) -> Result<bulkhead_workspace::Rig, WorkspaceError> {
        let rig = self.0.config.catalog.rig(name, url, default_branch);
        rig.map_err(match url {
            None => WorkspaceError::NoRig,
            Some(_) => WorkspaceError::WrongUrl,
        })
    }
}

async fn difference(
    workspaces: &Workspaces,
    id: &AgentId,
    against: DiffBase,
    max_bytes: usize,
) -> Result<DiffView, WorkspaceError> {
    let workspace = workspaces.workspace(id.as_str()).await?;
    let base = match against {
        DiffBase::Upstream => Against::Base,
        DiffBase::Head => Against::Head,
    };
    let status = workspace.status().await?;
    let diff = workspace.diff(base, max_bytes).await?;
    let (patch, utf8) = checked_text(diff.text, diff.truncated);
    Ok(DiffView {
        branch: status.branch,
        head: status.head.map(|head| head.to_string()),
        upstream: if workspace.has_remote() {
            workspace.upstream().to_owned()
        } else {
            String::new()
        },
        ahead: status.ahead,
        behind: status.behind,
        uncommitted: status.changes.into_iter().map(change).collect(),
        more_uncommitted: status.truncated,
        against,
        patch,
        truncated: diff.truncated,
        utf8,
    })
}

fn text(bytes: Vec<u8>) -> String {
    checked_text(bytes, false).0
}

/// Bytes as text, and whether they are UTF-8. What is cut ends before a character that was cut.
fn checked_text(mut bytes: Vec<u8>, is_cut: bool) -> (String, bool) {
    if is_cut {
        bytes.truncate(whole_characters(&bytes));
    }
    String::from_utf8(bytes)
        .map(|text| (text, true))
        .unwrap_or_else(|error| (String::from_utf8_lossy(error.as_bytes()).into_owned(), false))
}

/// How many bytes there are before a character at the end that is not whole.
fn whole_characters(bytes: &[u8]) -> usize {
    let rest = bytes.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    let is_begun = std::str::from_utf8(rest).is_err_and(|error| error.error_len().is_none());
    if is_begun { bytes.len() - rest.len() } else { bytes.len() }
}

fn view(seen: Seen, offset: u64) -> SeenView {
    match seen {
        Seen::Directory { entries, truncated } => {
            SeenView::Directory { entries: entries.into_iter().map(entry).collect(), truncated }
        }
        Seen::File { bytes, mut contents, truncated } => {
            // A file that became shorter meanwhile may have nothing else.
            if let whole @ 1.. = whole_characters(&contents)
                && truncated
            {
                contents.truncate(whole);
            }
            let next_offset = truncated.then(|| offset.saturating_add(contents.len() as u64));
            let (text, utf8) = checked_text(contents, false);
            SeenView::File { bytes, offset, utf8, text, truncated, next_offset }
        }
        Seen::Link { target } => SeenView::Link { target: text(target) },
        Seen::Other => SeenView::Other,
    }
}

fn entry(Entry { name, kind, bytes, modified }: Entry) -> EntryView {
    let kind = match kind {
        bulkhead_workspace::EntryKind::Directory => EntryKind::Directory,
        bulkhead_workspace::EntryKind::File => EntryKind::File,
        bulkhead_workspace::EntryKind::Link => EntryKind::Link,
        bulkhead_workspace::EntryKind::Other => EntryKind::Other,
    };
    EntryView { name: text(name), kind, bytes, modified_at: modified }
}

fn change(change: Change) -> ChangeView {
    ChangeView {
        path: text(change.path),
        before: change.from.map(text),
        staged: word(change.staged).to_owned(),
        unstaged: word(change.unstaged).to_owned(),
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Unchanged => "unchanged",
        Kind::Modified => "modified",
        Kind::TypeChanged => "type-changed",
        Kind::Added => "added",
        Kind::Deleted => "deleted",
        Kind::Renamed => "renamed",
        Kind::Copied => "copied",
        Kind::Unmerged => "unmerged",
        Kind::Untracked => "untracked",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_is_said_and_a_cut_within_a_character_is_none() {
        for (bytes, is_cut, expected) in [
            (&b"a\xc3\xa4"[..], false, ("aä", true)),
            (b"a\xe4b", false, ("a\u{fffd}b", false)),
            (b"a\xe4b", true, ("a\u{fffd}b", false)),
            (b"a\xc3", true, ("a", true)),
            (b"\xe4a\xc3", true, ("\u{fffd}a", false)),
            (b"a\xc3", false, ("a\u{fffd}", false)),
        ] {
            let (shown, utf8) = checked_text(bytes.to_vec(), is_cut);
            assert_eq!((&*shown, utf8), expected, "{bytes:?}");
        }
    }

    #[test]
    fn the_parts_of_a_file_are_the_file_wherever_they_are_cut() {
        for file in ["aéééé€€😀😀z", "", "a"] {
            for most in CHARACTER_BYTES..12 {
                let (mut read, mut offset) = (String::new(), Some(0));
                while let Some(from) = offset {
                    let rest = &file.as_bytes()[usize::try_from(from).unwrap()..];
                    let contents = rest[..most.min(rest.len())].to_vec();
                    let truncated = contents.len() < rest.len();
                    let part = view(Seen::File { bytes: 9, contents, truncated }, from);
                    let SeenView::File { text, utf8, next_offset, .. } = part else {
                        panic!("a file")
                    };
                    assert!(utf8, "{text:?}");
                    read += &text;
                    offset = next_offset;
                }
                assert_eq!(read, file, "by {most}");
            }
        }
    }

    #[test]
    fn a_part_that_is_no_text_says_so_and_goes_on_behind_itself() {
        let seen = |contents: &[u8], truncated| {
            let contents = contents.to_vec();
            match view(Seen::File { bytes: 9, contents, truncated }, 3) {
                SeenView::File { utf8, next_offset, .. } => (utf8, next_offset),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(seen(b"a\xC3", true), (true, Some(4)));
        assert_eq!(seen(b"a\xC3", false), (false, None));
        assert_eq!(seen(b"\xFFa", true), (false, Some(5)));
        assert_eq!(seen(b"\xC3", true), (false, Some(4)));
    }
}

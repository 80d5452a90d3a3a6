//! Workspaces of agents and their repositories: `GET /agents/{id}/files`, `GET /agents/{id}/diff`,
//! `GET /workspaces`, `DELETE /workspaces/{id}`, `POST /rigs/{rig}/prepare`, `POST /rigs/{rig}/merge`.

use bulkhead_types::{AgentId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Issue, required, too_long};
use crate::unknown::parse_own;

/// Longest message of a merge, in bytes.
pub const MAX_MERGE_MESSAGE: usize = 64 * 1024;

/// What is at a path of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FilesView {
    /// As it was asked for.
    pub path: String,
    /// What it is.
    #[serde(flatten)]
    pub seen: SeenView,
}

/// A directory, a file or something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum SeenView {
    /// A directory.
    Directory {
        /// What is in it, by name; at most 1,000.
        entries: Vec<EntryView>,
        /// There is more.
        truncated: bool,
    },
    /// A file.
    File {
        /// Its length.
        bytes: u64,
        /// Where the part below begins.
        offset: u64,
        /// Whether the part is UTF-8. Elsewhere what is not is replaced.
        utf8: bool,
        /// The part that was asked for.
        text: String,
        /// There is more behind that part.
        truncated: bool,
        /// Where the next part begins, if there is one: a part ends before a character that would be cut. Older hosts do not say it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_offset: Option<u64>,
    },
    /// A symbolic link, which is not followed.
    Link {
        /// Where it leads.
        target: String,
    },
    /// A pipe, a socket or a device, which is not opened.
    Other,
}

/// What is in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryView {
    /// Its name. What is not UTF-8 is replaced.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Length of a file; otherwise 0.
    pub bytes: u64,
    /// When it was changed, by the agent's own account.
    pub modified_at: Timestamp,
}

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A file.
    File,
    /// A symbolic link.
    Link,
    /// A pipe, a socket or a device.
    Other,
}

/// `GET /workspaces`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceList {
    /// By agent, at most 10,000.
    pub workspaces: Vec<WorkspaceView>,
}

/// The workspace of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceView {
    /// Whose.
    pub agent_id: AgentId,
    /// The rig, of a repository that has one.
    pub rig: Option<String>,
    /// The agent's branch, of a repository.
    pub branch: Option<String>,
    /// What it takes on disk. Objects of the rig's mirror are not in it.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// There is more than was counted: above 250,000 entries, below 256 directories, or not readable.
    pub truncated: bool,
    /// When its agent used it last, as far as the host noted that.
    pub used_at: Timestamp,
    /// Its agent is up, or restarts by itself.
    pub in_use: bool,
    /// What is only here. Null: everything is on the remote as well.
    pub not_pushed: Option<String>,
}

/// A workspace that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemovedWorkspace {
    /// Freed on disk.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// Why something is left on disk, for the next boot to delete.
    pub left: Option<String>,
}

/// What a difference is taken against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiffBase {
    /// Where the agent's branch left the remote's: all that the agent did.
    #[default]
    Upstream,
    /// The commit that is checked out: what is not committed.
    Head,
}

impl DiffBase {
    /// As in a request.
    pub const WORDS: &'static [&'static str] = &["upstream", "head"];
}

/// What an agent did in its repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiffView {
    /// The branch that is checked out; null: none.
    pub branch: Option<String>,
    /// The commit that is checked out.
    pub head: Option<String>,
    /// The branch of the remote that the agent's one is compared with. Empty: it has no remote, and the difference to
    /// `upstream` is all that there is.
    pub upstream: String,
    /// Commits that `upstream` does not have, as it was at the last fetch.
    pub ahead: u64,
    /// Commits of `upstream` that the agent's branch does not have.
    pub behind: u64,
    /// Files that are not committed as they are, at most 1,000.
    pub uncommitted: Vec<ChangeView>,
    /// There are more.
    pub more_uncommitted: bool,
    /// What the difference is taken against.
    pub against: DiffBase,
    /// The difference, as `git diff` writes it. Files that git does not know are not in it. What is not UTF-8 is replaced.
    pub patch: String,
    /// There is more of it.
    pub truncated: bool,
    /// Whether the patch is UTF-8. If not, it does not apply: `git diff` in the workspace has the bytes. Older hosts do not say it.
    #[serde(default = "crate::exec::assumed_utf8")]
    pub utf8: bool,
}

/// A file that is not committed as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeView {
    /// Its path. What is not UTF-8 is replaced.
    pub path: String,
    /// The name that a renamed or copied file had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What the index has, compared with the commit: `modified`, `added`, `deleted`, …; `unchanged`.
    pub staged: String,
    /// What the tree has, compared with the index; `untracked`: git does not know the file.
    pub unstaged: String,
}

/// Which repository a rig is, where the configuration does not say it.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrepareRequest {
    /// `https://`, without user and password.
    pub git_url: Option<String>,
    /// The branch that work starts from; `main` when nothing says it.
    pub default_branch: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPrepare {
    git_url: Option<String>,
    default_branch: Option<String>,
}

impl PrepareRequest {
    /// Parses and checks a body; none is one without fields.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<Issue>> {
        let is_empty = body.trim_ascii().is_empty();
        let RawPrepare { git_url, default_branch } =
            if is_empty { RawPrepare::default() } else { parse_own(body)? };
        Ok(Self { git_url, default_branch })
    }
}

/// The repository of a rig, as the host has it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RigView {
    /// Its name.
    pub rig: String,
    /// Where it is.
    pub url: String,
    /// The branch that work starts from.
    pub default_branch: String,
    /// Its commit; null: the remote has no such branch.
    pub head: Option<String>,
    /// Branches of the remote.
    pub branches: usize,
    /// Tags of the remote.
    pub tags: usize,
}

/// Merges a branch of a rig's repository into another one, and pushes the result.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct MergeRequest {
    /// The branch with the work.
    #[schemars(length(min = 1))]
    pub source: String,
    /// The branch that gets it; the default branch when the request does not say.
    pub target: Option<String>,
    /// Of the commit; the host writes one when the request does not.
    #[schemars(length(max = MAX_MERGE_MESSAGE))]
    pub message: Option<String>,
    /// Who the commit is by; `Bulkhead` when the request does not say.
    pub author: Option<AuthorRequest>,
    /// As of [`PrepareRequest`].
    #[schemars(rename = "gitUrl")]
    pub git_url: Option<String>,
    /// As of [`PrepareRequest`].
    pub default_branch: Option<String>,
}

/// Who a commit is by.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthorRequest {
    /// For people.
    pub name: String,
    /// An address.
    pub email: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMerge {
    source: Option<String>,
    target: Option<String>,
    message: Option<String>,
    author: Option<AuthorRequest>,
    git_url: Option<String>,
    default_branch: Option<String>,
}

impl MergeRequest {
    /// Parses and checks a body.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<Issue>> {
        let RawMerge { source, target, message, author, git_url, default_branch } =
            parse_own(body)?;
        let issues: Vec<_> = [
            required("source", source.as_deref()),
            target.as_deref().and_then(|target| required("target", Some(target))),
            message.as_deref().and_then(|message| required("message", Some(message))),
            too_long("message", message.as_deref(), MAX_MERGE_MESSAGE),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !issues.is_empty() {
            return Err(issues);
        }
        let source = source.unwrap_or_default();
        Ok(Self { source, target, message, author, git_url, default_branch })
    }
}

/// What both sides of a merge are in now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MergeAnswer {
    /// The branch that got the work.
    pub target: String,
    /// Its commit on the remote.
    pub commit: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_says_what_is_wrong_with_it() {
        for (body, path) in [
            ("{}", "source"),
            (r#"{"source":""}"#, "source"),
            (r#"{"source":"a","target":""}"#, "target"),
            (r#"{"source":"a","message":""}"#, "message"),
            (r#"{"source":"a","author":{"name":"A"}}"#, "author"),
            (r#"{"source":"a","into":"b"}"#, "into"),
        ] {
            assert_eq!(MergeRequest::parse(body.as_bytes()).unwrap_err()[0].path, path, "{body}");
        }
        let merge = MergeRequest::parse(br#"{"source":"bulkhead/toast"}"#).unwrap();
        assert_eq!((&*merge.source, merge.target), ("bulkhead/toast", None));
    }

    #[test]
    fn a_rig_of_the_configuration_is_prepared_without_a_body() {
        assert_eq!(PrepareRequest::parse(b" "), Ok(PrepareRequest::default()));
        let issues = PrepareRequest::parse(br#"{"url":"https://host/x"}"#).unwrap_err();
        assert_eq!(issues[0].path, "url");
    }

    #[test]
    fn what_is_at_a_path_says_what_it_is() {
        let view = FilesView { path: "x".into(), seen: SeenView::Other };
        assert_eq!(serde_json::to_string(&view).unwrap(), r#"{"path":"x","kind":"other"}"#);
    }
}

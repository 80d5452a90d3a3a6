//! The tools for a workspace that is a repository. What the host answers is put into words.

use bulkhead_guest::model::{Tool, ToolCall};
use bulkhead_guest::workspace::{Base, Change, ChangeKind, Error, Patch, TreeStatus};
use serde::Deserialize;
use serde_json::json;

use crate::git::Git;
use crate::workspace::Workspace;

/// Of one patch.
const MAX_PATCH_BYTES: u64 = 32 * 1024;
/// Files that are listed.
pub const MAX_LISTED: usize = 50;

/// The names of the tools.
pub const NAMES: [&str; 4] = ["diff", "commit", "push", "rebase"];

/// The tools with their schemas.
pub fn offered() -> Vec<Tool> {
    let [diff, commit, push, rebase] = NAMES;
    let nothing = || json!({ "type": "object", "properties": {} });
    vec![
        Tool::new(
            diff,
            "Show the branch, the files that are not committed, and as a patch of up to 32 KiB all \
                that was changed since the branch began.",
            nothing(),
        ),
        Tool::new(
            commit,
            "Commit to the branch. Hooks do not run.",
            json!({
                "type": "object",
                "properties": {
                    "message": {
                        "type": "string",
                        "description": "A short line; if more is to be said, an empty line and the rest.",
                    },
                    "paths": {
                        "type": "array",
                        "items": { "type": "string" },
                        "description": "Files and directories. Default: everything that is not ignored.",
                    },
                },
                "required": ["message"],
            }),
        ),
        Tool::new(
            push,
            "Send the branch with its commits to the server. Commits of others are never overwritten.",
            nothing(),
        ),
        Tool::new(
            rebase,
            "Fetch what others pushed, and put your commits on top of the branch that yours began \
                from. Everything has to be committed. In a conflict nothing changes.",
            nothing(),
        ),
    ]
}

/// What the model wants committed.
#[derive(Debug, Deserialize)]
struct Order {
    message: String,
    #[serde(default)]
    paths: Vec<String>,
}

/// Runs one of [`NAMES`].
pub fn run(call: &ToolCall, workspace: &Workspace, git: &dyn Git) -> Result<String, String> {
    match call.name.as_str() {
        "diff" => diff(git).map_err(explain),
        "commit" => call.arguments::<Order>()?.run(workspace, git),
        "push" => {
            let id = git.push().map_err(explain)?;
            Ok(format!("pushed: the branch on the server is at commit {id}"))
        }
        "rebase" => {
            let id = git.fetch().and_then(|_| git.rebase()).map_err(explain)?;
            Ok(format!("rebased: your branch is at commit {id}"))
        }
        other => Err(format!("no such tool: {other}")),
    }
}

impl Order {
    fn run(&self, workspace: &Workspace, git: &dyn Git) -> Result<String, String> {
        let paths = self.paths(workspace)?;
        let paths: Vec<_> = paths.iter().map(String::as_str).collect();
        Ok(match git.commit(&self.message, &paths).map_err(explain)? {
            Some(id) => format!("committed: {id}"),
            None => "nothing to commit: no file differs from the last commit".to_owned(),
        })
    }

    /// Relative to the workspace; the workspace itself is `.`.
    fn paths(&self, workspace: &Workspace) -> Result<Vec<String>, String> {
        let relative = |path: &String| {
            let path = workspace.resolve(path)?;
            let relative = workspace.relative(&path);
            Ok(if relative.is_empty() { ".".to_owned() } else { relative.into_owned() })
        };
        self.paths.iter().map(relative).collect()
    }
}

/// The state in a line or more, then the patch.
fn diff(git: &dyn Git) -> Result<String, Error> {
    let status = git.status()?;
    // A repository without a remote has nothing that its branch began from.
    let patch = git
        .diff(Base::Upstream, MAX_PATCH_BYTES)
        .or_else(|_| git.diff(Base::Head, MAX_PATCH_BYTES))?;
    Ok(format!("{}\n\n{}", state(&status), shown(&patch)))
}

fn state(status: &TreeStatus) -> String {
    let branch = status.branch.as_deref().unwrap_or("none");
    let head = status.head.as_deref().unwrap_or("none");
    let mut text = format!(
        "branch {branch}, commit {head}: {} ahead of where it began, {} behind",
        status.ahead, status.behind
    );
    let changes = listed(status, |change| format!("\n{} {}", word(change), change.path));
    if !changes.is_empty() {
        text.push_str("\nnot committed:");
        text.extend(changes);
    }
    text
}

/// The files that are not committed, a bounded number of them, each as `show` says.
pub fn listed(status: &TreeStatus, show: impl Fn(&Change) -> String) -> Vec<String> {
    status.changes.iter().take(MAX_LISTED).map(show).collect()
}

fn word(change: &Change) -> &'static str {
    let kind = match change.unstaged {
        ChangeKind::Unchanged => change.staged,
        kind => kind,
    };
    match kind {
        ChangeKind::Added | ChangeKind::Untracked => "new",
        ChangeKind::Deleted => "deleted",
        ChangeKind::Renamed => "renamed",
        ChangeKind::Copied => "copied",
        ChangeKind::Unmerged => "in conflict",
        ChangeKind::Unchanged | ChangeKind::Modified | ChangeKind::TypeChanged => "changed",
    }
}

fn shown(patch: &Patch) -> String {
    let text = String::from_utf8_lossy(&patch.text);
    match (text.is_empty(), patch.truncated) {
        (true, _) => "[no file that git knows is changed]".to_owned(),
        (false, true) => format!("{text}\n[the patch is longer; `read` the files]"),
        (false, false) => text.into_owned(),
    }
}

/// Why it failed, and what can be done.
fn explain(error: Error) -> String {
    match error {
        Error::Conflict(files) => {
            let files = files.iter().take(MAX_LISTED).map(String::as_str).collect::<Vec<_>>();
            format!(
                "you and others changed the same lines of {}; nothing was rebased, and everything is as it was",
                files.join(", ")
            )
        }
        Error::Rejected(why) => format!(
            "{why}. If others pushed to this branch, `rebase` puts your commits on top of theirs, and `push` then \
             takes them. Else call `done` and say why"
        ),
        other => other.message(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::tests::Scripted;

    fn change(path: &str, staged: ChangeKind, unstaged: ChangeKind) -> Change {
        Change { path: path.into(), before: None, staged, unstaged }
    }

    fn ask(tool: &str, arguments: &str, git: &Scripted) -> Result<String, String> {
        let call = ToolCall { id: "a".into(), name: tool.into(), arguments: arguments.into() };
        run(&call, &Workspace::new("/workspace"), git)
    }

    #[test]
    fn a_difference_begins_with_where_the_work_is() {
        let mut git = Scripted::new();
        let unchanged = ChangeKind::Unchanged;
        git.status.as_mut().unwrap().changes = vec![
            change("a.sh", unchanged, ChangeKind::Modified),
            change("b.sh", ChangeKind::Added, unchanged),
            change("c.sh", unchanged, ChangeKind::Untracked),
        ];
        git.patch = Ok(Patch { text: b"-1\n+2\n".to_vec(), truncated: false });
        assert_eq!(
            ask("diff", "{}", &git).unwrap(),
            "branch work, commit b1: 1 ahead of where it began, 0 behind\n\
             not committed:\nchanged a.sh\nnew b.sh\nnew c.sh\n\n-1\n+2\n"
        );
    }

    #[test]
    fn a_patch_that_is_cut_or_empty_says_so() {
        let mut git = Scripted::new();
        assert!(
            ask("diff", "{}", &git).unwrap().ends_with("\n\n[no file that git knows is changed]")
        );
        git.patch = Ok(Patch { text: vec![0xff; 10], truncated: true });
        assert!(
            ask("diff", "{}", &git).unwrap().ends_with("\n[the patch is longer; `read` the files]")
        );
        let many = vec![change("x", ChangeKind::Unchanged, ChangeKind::Untracked); 1000];
        git.status.as_mut().unwrap().changes = many;
        assert_eq!(ask("diff", "{}", &git).unwrap().matches("new x").count(), MAX_LISTED);
    }

    #[test]
    fn without_a_remote_the_difference_is_that_since_the_commit() {
        let git = Scripted {
            patch: Err(Error::Unavailable("git diff failed".into())),
            ..Scripted::new()
        };
        assert!(ask("diff", "{}", &git).unwrap().ends_with("\n\nsince the commit\n"));
    }

    #[test]
    fn a_commit_says_its_id_or_that_there_is_none() {
        let mut git = Scripted::new();
        assert_eq!(ask("commit", r#"{"message":"fix"}"#, &git).unwrap(), "committed: b1");
        git.commit = Ok(None);
        assert!(
            ask("commit", r#"{"message":"fix"}"#, &git).unwrap().starts_with("nothing to commit")
        );
        assert!(ask("commit", "{}", &git).unwrap_err().contains("`message`"));
    }

    #[test]
    fn what_is_committed_is_inside_of_the_workspace() {
        let order = |paths: &[&str]| Order {
            message: "fix".into(),
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        };
        let workspace = Workspace::new("/workspace");
        let paths = order(&["a/b", "/workspace/c", "./d", "/workspace", "."]).paths(&workspace);
        assert_eq!(paths.unwrap(), ["a/b", "c", "d", ".", "."]);
        let error = order(&["../x"]).paths(&workspace).unwrap_err();
        assert!(error.contains("`../x` is outside"), "{error}");
    }

    #[test]
    fn a_push_and_a_rebase_say_where_the_branch_is() {
        let git = Scripted::new();
        assert_eq!(
            ask("push", "{}", &git).unwrap(),
            "pushed: the branch on the server is at commit b1"
        );
        assert_eq!(ask("rebase", "{}", &git).unwrap(), "rebased: your branch is at commit b2");
    }

    #[test]
    fn a_failure_says_what_can_be_done() {
        let git = Scripted {
            push: Err(Error::Rejected("the push to work was rejected: [rejected]".into())),
            rebase: Err(Error::Conflict(vec!["a.sh".into(), "b.sh".into()])),
            commit: Err(Error::TooLarge("no space left on the disk".into())),
            ..Scripted::new()
        };
        let rejected = ask("push", "{}", &git).unwrap_err();
        assert!(rejected.starts_with("the push to work was rejected: [rejected]. "), "{rejected}");
        assert!(rejected.contains("`rebase`") && rejected.contains("`done`"), "{rejected}");
        let conflict = ask("rebase", "{}", &git).unwrap_err();
        assert!(conflict.contains("a.sh, b.sh; nothing was rebased"), "{conflict}");
        let full = ask("commit", r#"{"message":"fix"}"#, &git).unwrap_err();
        assert_eq!(full, "no space left on the disk");
    }

    #[test]
    fn nothing_is_rebased_if_nothing_could_be_fetched() {
        let git = Scripted {
            fetch: Err(Error::RemoteFailed("cannot fetch".into())),
            rebase: Ok("not asked for".into()),
            ..Scripted::new()
        };
        assert_eq!(ask("rebase", "{}", &git).unwrap_err(), "cannot fetch");
    }
}

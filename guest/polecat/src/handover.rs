//! Where the work is when a task ends in a repository: on the server, only in the workspace, or not even committed.

use bulkhead_guest::workspace::Error;

use crate::git::Git;
use crate::repository::{MAX_LISTED, listed};

/// What was found at the end of a task.
#[derive(Debug)]
pub struct Handover {
    branch: Option<String>,
    head: Option<String>,
    /// It has commits that the branch lacks from which it began.
    has_commits: bool,
    /// The server's branch is at the same commit.
    is_pushed: bool,
    /// At most [`MAX_LISTED`] files.
    uncommitted: Vec<String>,
    are_more: bool,
}

impl Handover {
    /// Looks.
    pub fn of(git: &dyn Git) -> Result<Self, Error> {
        let status = git.status()?;
        let published = status.branch.as_deref().and_then(|branch| git.published(branch));
        Ok(Self {
            is_pushed: published.is_some() && published == status.head,
            has_commits: status.ahead > 0,
            uncommitted: listed(&status, |change| change.path.clone()),
            are_more: status.truncated || status.changes.len() > MAX_LISTED,
            branch: status.branch,
            head: status.head,
        })
    }

    /// For the model, where something would be left behind.
    pub fn reminder(&self) -> Option<String> {
        let left: Vec<_> = [self.uncommitted(), self.unpushed()].into_iter().flatten().collect();
        (!left.is_empty()).then(|| {
            format!(
                "The task has not ended yet. {} `commit` what belongs to the task and `push` it, then call \
                 `done` again; or call `done` again to leave it so.",
                left.join(" ")
            )
        })
    }

    /// For the reader of the summary. Empty where nothing was changed.
    pub fn words(&self) -> String {
        let found = [self.pushed(), self.uncommitted(), self.unpushed()];
        found.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    fn pushed(&self) -> Option<String> {
        let (branch, head) = (self.branch.as_ref()?, self.head.as_ref()?);
        self.is_pushed.then(|| format!("Branch {branch} is pushed, with commit {head}."))
    }

    fn unpushed(&self) -> Option<String> {
        let branch =
            self.branch.as_ref().map_or("no branch".into(), |name| format!("branch {name}"));
        let head = self.head.as_ref()?;
        let is_left = self.has_commits && !self.is_pushed;
        is_left.then(|| format!("Commit {head} of {branch} is not pushed."))
    }

    fn uncommitted(&self) -> Option<String> {
        let more = if self.are_more { " and more" } else { "" };
        let files = self.uncommitted.join(", ");
        (!files.is_empty()).then(|| format!("Not committed: {files}{more}."))
    }
}

/// The summary, and below it where the work is.
pub fn reply(summary: String, handover: Result<Handover, Error>) -> String {
    let words = match handover {
        Ok(handover) => handover.words(),
        Err(error) => {
            format!("Whether everything is committed and pushed is unknown: {}.", error.message())
        }
    };
    [summary, words].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use bulkhead_guest::workspace::{Change, ChangeKind, TreeStatus};

    use super::*;
    use crate::git::tests::Scripted;

    fn handover(published: Option<&str>, change: impl FnOnce(&mut TreeStatus)) -> Handover {
        let mut git = Scripted { published: published.map(str::to_owned), ..Scripted::new() };
        change(git.status.as_mut().unwrap());
        Handover::of(&git).unwrap()
    }

    fn files(status: &mut TreeStatus, number: usize) {
        status.changes = (0..number)
            .map(|number| Change {
                path: format!("{number}.sh"),
                before: None,
                staged: ChangeKind::Unchanged,
                unstaged: ChangeKind::Modified,
            })
            .collect();
    }

    #[test]
    fn work_that_is_on_the_server_is_named_and_nobody_is_reminded() {
        let done = handover(Some("b1"), |_| ());
        assert_eq!(done.words(), "Branch work is pushed, with commit b1.");
        assert_eq!(done.reminder(), None);
    }

    #[test]
    fn a_commit_that_is_not_pushed_is_left_behind() {
        for published in [None, Some("a0")] {
            let left = handover(published, |_| ());
            assert_eq!(left.words(), "Commit b1 of branch work is not pushed.");
            let reminder = left.reminder().unwrap();
            assert!(
                reminder.contains("Commit b1 of branch work is not pushed. `commit`"),
                "{reminder}"
            );
        }
        let elsewhere = handover(Some("b1"), |status| status.branch = None);
        assert_eq!(elsewhere.words(), "Commit b1 of no branch is not pushed.");
    }

    #[test]
    fn files_that_are_not_committed_are_named_beside_what_is_pushed() {
        let left = handover(Some("b1"), |status| files(status, 2));
        assert_eq!(
            left.words(),
            "Branch work is pushed, with commit b1. Not committed: 0.sh, 1.sh."
        );
        assert!(
            left.reminder().unwrap().contains("ended yet. Not committed: 0.sh, 1.sh. `commit`")
        );
        let many = handover(Some("b1"), |status| files(status, MAX_LISTED + 1));
        assert!(many.words().ends_with(" 49.sh and more."), "{}", many.words());
    }

    #[test]
    fn where_nothing_was_changed_nothing_is_said() {
        let nothing = handover(None, |status| status.ahead = 0);
        assert_eq!((nothing.words().as_str(), nothing.reminder()), ("", None));
        assert_eq!(reply("read it".into(), Ok(nothing)), "read it");
    }

    #[test]
    fn the_summary_comes_first() {
        let done = reply("fixed".into(), Ok(handover(Some("b1"), |_| ())));
        assert_eq!(done, "fixed\n\nBranch work is pushed, with commit b1.");
        let silent = reply(String::new(), Ok(handover(Some("b1"), |_| ())));
        assert_eq!(silent, "Branch work is pushed, with commit b1.");
        let unknown = reply("fixed".into(), Err(Error::Unavailable("no git".into())));
        assert!(unknown.ends_with("committed and pushed is unknown: no git."), "{unknown}");
    }
}

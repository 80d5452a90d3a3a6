//! The host's git, and what of it lies in the workspace.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use bulkhead_guest::warn;
use bulkhead_guest::workspace::{self, Base, Error, Patch, TreeStatus};

use crate::WORKSPACE;

/// Read of a file that lists refs: some ten thousand of them.
const MAX_REFS_BYTES: u64 = 4 * 1024 * 1024;

/// What is done with the repository that the workspace is.
pub trait Git {
    fn status(&self) -> Result<TreeStatus, Error>;
    fn diff(&self, against: Base, max_bytes: u64) -> Result<Patch, Error>;
    fn commit(&self, message: &str, paths: &[&str]) -> Result<Option<String>, Error>;
    fn push(&self) -> Result<String, Error>;
    fn fetch(&self) -> Result<Option<String>, Error>;
    fn rebase(&self) -> Result<String, Error>;
    /// The commit of this branch on the server, as of the last push or fetch.
    fn published(&self, branch: &str) -> Option<String>;
}

/// The repository of this agent.
pub struct ByHost;

impl ByHost {
    /// Asks the host whether the workspace is one.
    pub fn find() -> Option<Self> {
        match workspace::status() {
            Err(Error::Unavailable(why)) => {
                if Path::new(WORKSPACE).join(".git").exists() {
                    warn!("repository cannot be used", why = why);
                }
                None
            }
            // Whatever else is wrong with it, the model should read it.
            _ => Some(Self),
        }
    }
}

impl Git for ByHost {
    fn status(&self) -> Result<TreeStatus, Error> {
        workspace::status()
    }

    fn diff(&self, against: Base, max_bytes: u64) -> Result<Patch, Error> {
        workspace::diff(against, max_bytes)
    }

    fn commit(&self, message: &str, paths: &[&str]) -> Result<Option<String>, Error> {
        workspace::commit(message, paths)
    }

    fn push(&self) -> Result<String, Error> {
        workspace::push()
    }

    fn fetch(&self) -> Result<Option<String>, Error> {
        workspace::fetch()
    }

    fn rebase(&self) -> Result<String, Error> {
        workspace::rebase()
    }

    fn published(&self, branch: &str) -> Option<String> {
        remote_ref(Path::new(WORKSPACE), branch)
    }
}

/// The value of `refs/remotes/origin/BRANCH`: in a file of its own, or in the one for all.
fn remote_ref(root: &Path, branch: &str) -> Option<String> {
    let (git, name) = (root.join(".git"), format!("refs/remotes/origin/{branch}"));
    if let Ok(loose) = fs::read_to_string(git.join(&name)) {
        return Some(loose.trim_end().to_owned());
    }
    let mut packed = String::new();
    let file = File::open(git.join("packed-refs")).ok()?;
    file.take(MAX_REFS_BYTES).read_to_string(&mut packed).ok()?;
    let mut refs = packed.lines().filter_map(|line| line.split_once(' '));
    refs.find(|(_, of)| *of == name).map(|(id, _)| id.to_owned())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A repository that answers what it is told to.
    pub struct Scripted {
        pub status: Result<TreeStatus, Error>,
        pub patch: Result<Patch, Error>,
        pub commit: Result<Option<String>, Error>,
        pub push: Result<String, Error>,
        pub fetch: Result<Option<String>, Error>,
        pub rebase: Result<String, Error>,
        pub published: Option<String>,
    }

    impl Scripted {
        /// On the branch `work`, which has the commit `b1` more than the server's `main` and is not pushed.
        pub fn new() -> Self {
            Self {
                status: Ok(TreeStatus {
                    branch: Some("work".into()),
                    head: Some("b1".into()),
                    ahead: 1,
                    behind: 0,
                    changes: Vec::new(),
                    truncated: false,
                }),
                patch: Ok(Patch { text: Vec::new(), truncated: false }),
                commit: Ok(Some("b1".into())),
                push: Ok("b1".into()),
                fetch: Ok(None),
                rebase: Ok("b2".into()),
                published: None,
            }
        }
    }

    impl Git for Scripted {
        fn status(&self) -> Result<TreeStatus, Error> {
            self.status.clone()
        }

        fn diff(&self, against: Base, _max_bytes: u64) -> Result<Patch, Error> {
            match against {
                Base::Upstream => self.patch.clone(),
                Base::Head => Ok(Patch { text: b"since the commit\n".to_vec(), truncated: false }),
            }
        }

        fn commit(&self, _message: &str, _paths: &[&str]) -> Result<Option<String>, Error> {
            self.commit.clone()
        }

        fn push(&self) -> Result<String, Error> {
            self.push.clone()
        }

        fn fetch(&self) -> Result<Option<String>, Error> {
            self.fetch.clone()
        }

        fn rebase(&self) -> Result<String, Error> {
            self.rebase.clone()
        }

        fn published(&self, branch: &str) -> Option<String> {
            self.published.clone().filter(|_| branch == "work")
        }
    }

    #[test]
    fn a_ref_is_found_where_git_keeps_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        assert_eq!(remote_ref(root, "a/b"), None);
        fs::create_dir_all(root.join(".git/refs/remotes/origin/a")).unwrap();
        let packed = "# pack-refs with: sorted \n11 refs/heads/a/b\n22 refs/remotes/origin/a/b\n\
                      33 refs/remotes/origin/a/bc\n";
        fs::write(root.join(".git/packed-refs"), packed).unwrap();
        assert_eq!(remote_ref(root, "a/b").as_deref(), Some("22"));
        assert_eq!(remote_ref(root, "b"), None);
        fs::write(root.join(".git/refs/remotes/origin/a/b"), "44\n").unwrap();
        assert_eq!(remote_ref(root, "a/b").as_deref(), Some("44"), "its own file is the newer one");
    }
}

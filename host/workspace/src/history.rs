//! Differences and commits.

use crate::error::Error;
use crate::name::Oid;
use crate::workspace::Workspace;

/// Commits that [`Workspace::log`] returns at most.
pub const MAX_COMMITS: usize = 1000;

/// Bytes of one subject that are kept.
const MAX_SUBJECT: usize = 500;

/// What a difference is taken against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// The commit that is checked out: what is not committed. Files that git does not know are left out.
    Head,
    /// Where the agent's branch left the remote's: everything that the agent did. Without a remote that is all there is.
    Base,
}

/// The tree without files, which git knows everywhere.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// A difference as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// As `git diff` writes it; files need not be UTF-8.
    pub text: Vec<u8>,
    /// There is more.
    pub truncated: bool,
}

/// One commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its id.
    pub id: Oid,
    /// Who wrote it.
    pub author: String,
    /// When, in seconds since 1970.
    pub time: i64,
    /// The first line of its message, at most 500 characters.
    pub subject: String,
}

impl Workspace {
    /// What is changed in the tree, at most `max_bytes` of it.
    pub async fn diff(&self, against: Against, max_bytes: usize) -> Result<Diff, Error> {
        let mut tree = self.tree().await?;
        let call = tree.git("diff").reads().at_most(max_bytes);
        let call = call.args(["--no-ext-diff", "--no-textconv", "--no-color", "--find-renames"]);
        let call = call.args(["--ignore-submodules=dirty"]);
        let call = match against {
            Against::Head => call.arg("HEAD"),
            Against::Base if !self.has_remote() => call.arg(EMPTY_TREE),
            Against::Base => {
                // The agent may have removed it, or a fetch that found it gone.
                let upstream = tree.commit_of(&self.upstream_ref()).await?;
                let missing = || Error::BranchMissing(self.upstream().to_owned());
                call.arg("--merge-base").arg(upstream.ok_or_else(missing)?.as_str())
            }
        };
        let output = tree.call(call.arg("--")).await?;
        let mut text = output.stdout;
        let truncated = output.cut || text.len() > max_bytes;
        text.truncate(max_bytes);
        Ok(Diff { text, truncated })
    }

    /// The newest commits of what is checked out, at most [`MAX_COMMITS`].
    pub async fn log(&self, max_commits: usize) -> Result<Vec<Commit>, Error> {
        let mut tree = self.tree().await?;
        let count = format!("--max-count={}", max_commits.min(MAX_COMMITS));
        let call = tree.git("log").reads().args(["-z", "--no-show-signature", "--no-color"]);
        let call =
            call.args(["--no-patch", "--format=%H%x01%an%x01%at%x01%s", &count, "HEAD", "--"]);
        let output = tree.call(call).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.split('\0').filter_map(read_commit).collect())
    }
}

fn read_commit(line: &str) -> Option<Commit> {
    let mut parts = line.splitn(4, '\x01');
    let id = Oid::parse(parts.next()?.as_bytes())?;
    let author = parts.next()?.chars().take(MAX_SUBJECT).collect();
    let time = parts.next()?.parse().unwrap_or_default();
    Some(Commit { id, author, time, subject: parts.next()?.chars().take(MAX_SUBJECT).collect() })
}

//! What is changed in a workspace.

use crate::error::Error;
use crate::name::Oid;
use crate::workspace::Workspace;

/// Changed files that are listed at most.
pub const MAX_CHANGES: usize = 1000;

/// Bytes of git's answer that are read; a path has at most 4 KiB.
const MAX_BYTES: usize = 4 << 20;

/// What is changed in a workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The branch that is checked out; none if HEAD is detached.
    pub branch: Option<String>,
    /// The commit that is checked out.
    pub head: Option<Oid>,
    /// Commits that the remote's branch does not have. The remote is as it was at the last fetch.
    pub ahead: u64,
    /// Commits of the remote's branch that this one does not have.
    pub behind: u64,
    /// Changed files, at most [`MAX_CHANGES`].
    pub changes: Vec<Change>,
    /// There are more.
    pub truncated: bool,
}

/// One changed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The file, as bytes: names may contain line breaks, and need not be UTF-8.
    pub path: Vec<u8>,
    /// The name that a renamed or copied file had before.
    pub from: Option<Vec<u8>>,
    /// What the index has, compared with HEAD.
    pub staged: Kind,
    /// What the tree has, compared with the index.
    pub unstaged: Kind,
}

/// How a file is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is not.
    Unchanged,
    /// Its contents or its mode.
    Modified,
    /// It became a link, or a file.
    TypeChanged,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
    /// It has a new name.
    Renamed,
    /// It is a copy.
    Copied,
    /// A merge stopped at it.
    Unmerged,
    /// Git does not know it.
    Untracked,
}

impl Workspace {
    /// The branch, how far it is from its remote one, and what is not committed.
    pub async fn status(&self) -> Result<Status, Error> {
        let mut tree = self.tree().await?;
        let call = tree.git("status").reads().at_most(MAX_BYTES).args([
            "--porcelain=v2",
            "-z",
            "--branch",
            "--untracked-files=all",
            "--ignore-submodules=dirty",
        ]);
        let output = tree.call(call).await?;
        let mut status = parse(&output.stdout);
        status.truncated |= output.cut;
        let count = tree.git("rev-list").reads().accept(&[0, 128]);
        let range = format!("HEAD...{}", self.upstream_ref());
        let count = count.args(["--left-right", "--count", &range, "--"]);
        (status.ahead, status.behind) = distance(tree.call(count).await?.text());
        Ok(status)
    }
}

/// `<ahead>\t<behind>`. Without a remote branch nothing is ahead or behind.
fn distance(text: &str) -> (u64, u64) {
    let (ahead, behind) = text.split_once('\t').unwrap_or_default();
    (ahead.parse().unwrap_or_default(), behind.parse().unwrap_or_default())
}

/// Reads `status --porcelain=v2 -z --branch`. An entry that the limit cut is left out.
pub(crate) fn parse(bytes: &[u8]) -> Status {
    let mut status = Status::default();
    let whole = bytes.iter().rposition(|byte| *byte == 0).map_or(0, |end| end);
    let mut entries = bytes[..whole].split(|byte| *byte == 0);
    while let Some(entry) = entries.next() {
        if let Some(header) = entry.strip_prefix(b"# ") {
            read_header(&mut status, header);
        } else if let Some(mut change) = read_change(entry) {
            if entry.starts_with(b"2 ") {
                change.from = entries.next().map(<[u8]>::to_vec);
            }
            match status.changes.len() < MAX_CHANGES {
                true => status.changes.push(change),
                false => status.truncated = true,
            }
        }
    }
    status
}

fn read_header(status: &mut Status, header: &[u8]) {
    if let Some(oid) = header.strip_prefix(b"branch.oid ") {
        status.head = Oid::parse(oid);
    } else if let Some(branch) = header.strip_prefix(b"branch.head ") {
        let branch = String::from_utf8_lossy(branch).into_owned();
        status.branch = (branch != "(detached)").then_some(branch);
    }
}

/// Fields before the path: `1 XY sub mH mI mW hH hI`, `2 … score`, `u XY sub m1 m2 m3 mW h1 h2 h3`, `?`.
fn read_change(entry: &[u8]) -> Option<Change> {
    let (fields, unmerged) = match entry.first()? {
        b'1' => (8, false),
        b'2' => (9, false),
        b'u' => (10, true),
        b'?' => {
            let (path, kind) = (entry.get(2..)?.to_vec(), Kind::Untracked);
            return Some(Change { path, from: None, staged: Kind::Unchanged, unstaged: kind });
        }
        _ => return None,
    };
    let path = entry.splitn(fields + 1, |byte| *byte == b' ').nth(fields)?.to_vec();
    let kind = |at: usize| if unmerged { Kind::Unmerged } else { Kind::of(entry[at]) };
    (entry.len() > 4).then(|| Change { path, from: None, staged: kind(2), unstaged: kind(3) })
}

impl Kind {
    fn of(letter: u8) -> Self {
        match letter {
            b'M' => Self::Modified,
            b'T' => Self::TypeChanged,
            b'A' => Self::Added,
            b'D' => Self::Deleted,
            b'R' => Self::Renamed,
            b'C' => Self::Copied,
            b'U' => Self::Unmerged,
            _ => Self::Unchanged,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_with_spaces_line_breaks_and_dashes_survive() {
        let oid = "a".repeat(40);
        let text = format!(
            "# branch.oid {oid}\0# branch.head x/y\01 .M N... 100644 100644 100644 {oid} {oid} -a b\nc\0\
             2 R. N... 100644 100644 100644 {oid} {oid} R100 new name\0old\nname\0\
             u UU N... 1 2 3 4 {oid} {oid} {oid} both\0? un tracked\0? cut o"
        );
        let status = parse(text.as_bytes());
        assert_eq!(status.branch.as_deref(), Some("x/y"));
        assert_eq!(status.head.unwrap().as_str(), oid);
        let paths: Vec<_> = status.changes.iter().map(|change| change.path.as_slice()).collect();
        assert_eq!(paths, [&b"-a b\nc"[..], b"new name", b"both", b"un tracked"]);
        assert_eq!(status.changes[0].unstaged, Kind::Modified);
        assert_eq!(status.changes[1].from.as_deref(), Some(&b"old\nname"[..]));
        assert_eq!(status.changes[2].staged, Kind::Unmerged);
    }

    proptest! {
        #[test]
        fn no_answer_of_a_hostile_git_panics(bytes in prop::collection::vec(
            prop::sample::select(b"12u?# \0MAR.xab".to_vec()), 0..200)) {
            parse(&bytes);
        }
    }
}

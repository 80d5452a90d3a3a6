//! Checkpoints of a workspace: what is staged and what is in the tree, with files that git does not know.
//!
//! A checkpoint is a commit of the tree. Its parents are HEAD and a commit of the index, as in a stash. It is made in
//! an index of its own, so neither HEAD nor the index nor a branch changes. Ignored files are not part of it, and a
//! restore leaves them alone, whatever is ignored by then. Of repositories inside the workspace git keeps no files, so they are refused.

use crate::commit::add_all;
use crate::error::Error;
use crate::git::Call;
use crate::name::Oid;
use crate::pushed::nested_repository;
use crate::tree::Tree;
use crate::workspace::Workspace;

/// Where checkpoints are.
const REFS: &str = "refs/bulkhead/checkpoints/";

/// Longest name of a checkpoint, in bytes.
const MAX_NAME: usize = 200;

/// The index in which checkpoints are made.
const INDEX: &str = ".git/bulkhead-index";

/// The index with the rules of a checkpoint, what is ignored, in the git directory.
const RULES: &str = "bulkhead-rules";

/// A checkpoint of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its number. A later checkpoint has a larger one.
    pub id: u64,
    /// Its name; need not be unique.
    pub name: String,
    /// The commit that was checked out.
    pub head: Oid,
}

impl Workspace {
    /// Keeps the state of the tree and the index. The oldest checkpoints are dropped. A repository inside the workspace
    /// that is not ignored is [`Error::Nested`].
    pub async fn checkpoint(&self, name: &str) -> Result<Checkpoint, Error> {
        if name.is_empty() || name.len() > MAX_NAME || name.contains(char::is_control) {
            return Err(Error::invalid("checkpoint", "its name is empty, too long or no line"));
        }
        let mut tree = self.tree().await?;
        let head = tree.commit_of("HEAD").await?;
        let head = head.ok_or_else(|| Error::WrongBranch("nothing".to_owned()))?;
        let known = list(&mut tree).await?;
        let id = known.last().map_or(1, |last| last.id + 1);
        let commit = keep(&mut tree, name, &head).await?;
        tree.call(tree.git("update-ref").args([&reference(id), commit.as_str()])).await?;
        drop_oldest(&mut tree, &known).await?;
        Ok(Checkpoint { id, name: name.to_owned(), head })
    }

    /// The checkpoints that are kept, oldest first.
    pub async fn checkpoints(&self) -> Result<Vec<Checkpoint>, Error> {
        list(&mut self.tree().await?).await
    }

    /// Makes the tree and the index what they were. Files that came later are removed; those that are ignored stay, and
    /// those that the checkpoint's own rules ignore. HEAD and the branch stay where they are, so no commit is lost.
    pub async fn restore(&self, id: u64) -> Result<(), Error> {
        let mut tree = self.tree().await?;
        let commit = tree.commit_of(&reference(id)).await?.ok_or(Error::NoCheckpoint(id))?;
        stage_all(&mut tree).await?;
        forget_ignored(&mut tree, &commit).await?;
        // With all files in the index, git knows what to remove.
        let call = in_own_index(tree.git("read-tree"));
        tree.call(call.args(["--reset", "-u", commit.as_str()])).await?;
        let index = tree.git("read-tree").arg("--reset");
        tree.call(index.arg(format!("{commit}^2"))).await?;
        let refresh = tree.git("update-index").args(["-q", "--refresh"]).accept(&[0, 1]);
        tree.call(refresh).await?;
        Ok(())
    }
}

fn reference(id: u64) -> String {
    format!("{REFS}{id}")
}

fn in_own_index(call: Call) -> Call {
    call.env("GIT_INDEX_FILE", INDEX)
}

/// Stages the whole tree in the index of its own. It starts from HEAD with what git knows of unchanged files, so only
/// changed files are read. Returns repositories that it left out.
async fn stage_all(tree: &mut Tree) -> Result<Vec<String>, Error> {
    tree.check_room().await?;
    let start = tree.git("read-tree").arg(format!("--index-output={INDEX}"));
    tree.call(start.args(["--reset", "HEAD"])).await?;
    add_all(tree, in_own_index).await
}

/// Git keeps no files of a repository in the workspace, so a restore would bring an empty directory.
async fn refuse_repositories(tree: &mut Tree, left_out: Vec<String>) -> Result<(), Error> {
    let staged = in_own_index(tree.git("ls-files").reads().args(["--stage", "-z"]));
    let staged = tree.call(staged).await?.stdout;
    let nested = nested_repository(tree, names(&staged)).await?;
    nested.or(left_out.into_iter().next()).map_or(Ok(()), |name| Err(Error::Nested(name)))
}

/// Drops files from the index of its own that the rules of a checkpoint ignore: they may have been there, and no
/// checkpoint has them.
async fn forget_ignored(tree: &mut Tree, checkpoint: &Oid) -> Result<(), Error> {
    let later = tree.git("diff-index").args(["--cached", "--name-only", "--diff-filter=A", "-z"]);
    let later = in_own_index(later.arg("--no-renames").arg(checkpoint.as_str()));
    let later = tree.call(later).await?.stdout;
    if later.is_empty() {
        return Ok(());
    }
    let files = tree.git("ls-tree").args(["-r", "-z", "--name-only", checkpoint.as_str()]);
    let files = tree.call(files).await?.stdout;
    let rules = names(&files)
        .filter(|path| path.rsplit(|byte| *byte == b'/').next() == Some(b".gitignore"));
    let rules = rules.flat_map(|path| [path, b"\0"].concat()).collect::<Vec<_>>();
    let read = tree.git("read-tree").arg(format!("--index-output=.git/{RULES}"));
    tree.call(read.arg(checkpoint.as_str())).await?;
    // Git reads the rules of such files from the index where the tree has none, and the git directory is such a tree.
    let skip = tree.git("update-index").args(["--skip-worktree", "-z", "--stdin"]).stdin(rules);
    tree.call(skip.env("GIT_INDEX_FILE", format!(".git/{RULES}"))).await?;
    let check = tree.git("check-ignore").reads().args(["-z", "--stdin"]).accept(&[0, 1]);
    let check = check.env("GIT_INDEX_FILE", RULES).env("GIT_WORK_TREE", ".git");
    // It knows no literal names; behind `./` every name is one.
    let check = check.env("GIT_LITERAL_PATHSPECS", "0");
    let later = names(&later).flat_map(|path| [b"./", path, b"\0"].concat());
    let ignored = tree.call(check.stdin(later.collect::<Vec<_>>())).await?.stdout;
    let ignored = names(&ignored).filter_map(|path| path.strip_prefix(b"./"));
    let ignored = ignored.flat_map(|path| [path, b"\0"].concat()).collect::<Vec<_>>();
    let forget = tree.git("update-index").args(["--force-remove", "-z", "--stdin"]);
    tree.call(in_own_index(forget.stdin(ignored))).await?;
    Ok(())
}

/// What stands before each NUL.
fn names(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty())
}

async fn keep(tree: &mut Tree, name: &str, head: &Oid) -> Result<Oid, Error> {
    // An index with conflicts is no tree; then what is in the tree counts.
    let staged = tree.call(tree.git("write-tree").accept(&[0, 128])).await?;
    let left_out = stage_all(tree).await?;
    refuse_repositories(tree, left_out).await?;
    let all = tree.call(in_own_index(tree.git("write-tree"))).await?.oid("write-tree")?;
    let staged = Oid::parse(&staged.stdout).unwrap_or_else(|| all.clone());
    let index = commit_tree(tree, &staged, &[head], "index").await?;
    commit_tree(tree, &all, &[head, &index], name).await
}

async fn commit_tree(
    tree: &mut Tree,
    of: &Oid,
    parents: &[&Oid],
    message: &str,
) -> Result<Oid, Error> {
    let parents = parents.iter().flat_map(|parent| ["-p", parent.as_str()]);
    let call = tree.git("commit-tree").arg(of.as_str()).args(parents).args(["-F", "-"]);
    tree.call(call.stdin(message)).await?.oid("commit-tree")
}

async fn list(tree: &mut Tree) -> Result<Vec<Checkpoint>, Error> {
    let format = "--format=%(refname:lstrip=3) %(parent) %(subject)";
    let call = tree.git("for-each-ref").reads().args([format, REFS]);
    let output = tree.call(call).await?;
    let mut known: Vec<_> = output.text().lines().filter_map(read).collect();
    known.sort_by_key(|checkpoint| checkpoint.id);
    Ok(known)
}

/// `<id> <head> <index> <name>`
fn read(line: &str) -> Option<Checkpoint> {
    let mut parts = line.splitn(4, ' ');
    let id = parts.next()?.parse().ok()?;
    let head = Oid::parse(parts.next()?.as_bytes())?;
    Some(Checkpoint { id, head, name: parts.nth(1)?.to_owned() })
}

async fn drop_oldest(tree: &mut Tree, known: &[Checkpoint]) -> Result<(), Error> {
    let surplus = (known.len() + 1).saturating_sub(tree.settings().checkpoints.max(1));
    for checkpoint in &known[..surplus] {
        tree.call(tree.git("update-ref").args(["-d", &reference(checkpoint.id)])).await?;
    }
    Ok(())
}

//! Checkpoints of a workspace: what is staged and what is in the tree, with files that git does not know.
//!
//! A checkpoint is a commit of the tree. Its parents are HEAD and a commit of the index, as in a stash. It is made in
//! an index of its own, so neither HEAD nor the index nor a branch changes. Ignored files and repositories inside the
//! workspace are not part of it.

use crate::error::Error;
use crate::git::Call;
use crate::name::Oid;
use crate::tree::Tree;
use crate::workspace::Workspace;

/// Where checkpoints are.
const REFS: &str = "refs/bulkhead/checkpoints/";

/// Longest name of a checkpoint, in bytes.
const MAX_NAME: usize = 200;

/// The index in which checkpoints are made.
const INDEX: &str = ".git/bulkhead-index";

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
    /// Keeps the state of the tree and the index. The oldest checkpoints are dropped.
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

    /// Makes the tree and the index what they were. Files that came later are removed, ignored ones stay. HEAD and the
    /// branch stay where they are, so no commit is lost.
    pub async fn restore(&self, id: u64) -> Result<(), Error> {
        let mut tree = self.tree().await?;
        let commit = tree.commit_of(&reference(id)).await?.ok_or(Error::NoCheckpoint(id))?;
        stage_all(&mut tree).await?;
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
/// changed files are read.
async fn stage_all(tree: &mut Tree) -> Result<(), Error> {
    tree.check_room().await?;
    let start = tree.git("read-tree").arg(format!("--index-output={INDEX}"));
    tree.call(start.args(["--reset", "HEAD"])).await?;
    tree.call(in_own_index(tree.git("add").arg("--all"))).await?;
    Ok(())
}

async fn keep(tree: &mut Tree, name: &str, head: &Oid) -> Result<Oid, Error> {
    // An index with conflicts is no tree; then what is in the tree counts.
    let staged = tree.call(tree.git("write-tree").accept(&[0, 128])).await?;
    stage_all(tree).await?;
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

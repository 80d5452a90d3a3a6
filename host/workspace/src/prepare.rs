//! Making a workspace.
//!
//! ```text
//! record fits, repository there ─▶ reuse it as it is
//! brought from another machine, repository there ─▶ fetch the mirror ─▶ write record ─▶ reuse it as it is
//! otherwise ─▶ fetch the mirror ─▶ choose where to start ─▶ build in preparing/ ─▶ write record ─▶ rename into place
//! ```
//!
//! A kill at any point leaves at most a directory in `preparing/`, which the next request of the agent removes, and a
//! record without a workspace, which the next one replaces.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_tools::DiskLimit;
use tokio::time::timeout;

use crate::disk;
use crate::error::Error;
use crate::git::Call;
use crate::mirror::Mirror;
use crate::name::Oid;
use crate::progress::{OnProgress, watch};
use crate::record::Record;
use crate::rig::{Request, Rig};
use crate::shared::{Exclusive, Shared};
use crate::skeleton::{Refs, Remote, Repository};
use crate::tree::Tree;

/// As [`DiskLimit`] counts.
const BLOCK_BYTES: u64 = 4096;

/// A workspace that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The agent's branch.
    pub branch: String,
    /// The commit that is checked out.
    pub head: Oid,
    /// The branch of the remote that the agent's branch is compared with and rebased onto.
    pub upstream: String,
    /// The workspace was there and is as the agent left it.
    pub reused: bool,
}

/// Where a branch starts.
struct Start {
    commit: Oid,
    upstream: String,
}

/// Makes the workspace of a request, or finds it.
pub(crate) async fn prepare(
    shared: &Arc<Shared>,
    rig: &Rig,
    request: &Request,
    progress: &OnProgress,
) -> Result<Prepared, Error> {
    check(shared, rig, request)?;
    let work = prepare_unlimited(shared, rig, request, progress);
    let limited = timeout(shared.git.settings.prepare_wall, work).await;
    limited.unwrap_or(Err(Error::Timeout("prepare")))
}

/// Checks all parts of a request.
pub(crate) fn check(shared: &Shared, rig: &Rig, request: &Request) -> Result<(), Error> {
    request.check()?;
    match request.lightweight {
        true => Ok(()),
        false => rig.check(shared.git.settings.protocols).map(drop),
    }
}

async fn prepare_unlimited(
    shared: &Arc<Shared>,
    rig: &Rig,
    request: &Request,
    progress: &OnProgress,
) -> Result<Prepared, Error> {
    let exclusive = shared.exclusive(&request.agent).await?;
    let building = clear(shared, &request.agent, &exclusive).await?;
    match existing(shared, rig, request).await? {
        Existing::Here(record) => {
            let record = update(shared, *record, rig, request, &exclusive).await?;
            reuse(shared, record, exclusive).await
        }
        Existing::Brought => adopt(shared, rig, request, exclusive, progress).await,
        Existing::None if request.lightweight => {
            lightweight(shared, rig, request, exclusive, building).await
        }
        Existing::None => create(shared, rig, request, exclusive, building, progress).await,
    }
}

/// What there is of a workspace.
pub(crate) enum Existing {
    Here(Box<Record>),
    /// Without a record of this host's.
    Brought,
    None,
}

/// Removes what an interrupted request of the agent left, and returns where to build.
async fn clear(shared: &Shared, agent: &str, exclusive: &Exclusive) -> Result<PathBuf, Error> {
    let building = shared.root.join("preparing").join(agent);
    disk::holding(exclusive, &building, disk::set_aside).await?;
    Ok(building)
}

/// What there is, if it is the workspace that is wanted.
pub(crate) async fn existing(
    shared: &Shared,
    rig: &Rig,
    request: &Request,
) -> Result<Existing, Error> {
    let record = Record::read(&shared.root, &request.agent).await?;
    let (is_there, is_empty) = disk::on(&request.path, look).await?;
    match record {
        Some(record) if is_there && record.serves(rig, request) => {
            Ok(Existing::Here(Box::new(record)))
        }
        Some(record) if is_there => Err(Error::Occupied(record.contents())),
        None if is_there && request.was_brought => Ok(Existing::Brought),
        _ if !is_empty => {
            Err(Error::Occupied("files that are no workspace of this agent".to_owned()))
        }
        _ => Ok(Existing::None),
    }
}

/// A rig may have moved, and an agent may have another name.
async fn update(
    shared: &Shared,
    record: Record,
    rig: &Rig,
    request: &Request,
    exclusive: &Exclusive,
) -> Result<Record, Error> {
    let new = Record::new(rig, request, &record.upstream);
    if new != record {
        new.write(&shared.root, exclusive).await?;
    }
    Ok(new)
}

/// Whether there is a repository, and whether there is nothing.
fn look(path: &Path) -> io::Result<(bool, bool)> {
    let is_empty = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(error),
    };
    Ok((disk::is_directory(&path.join(".git")), is_empty))
}

async fn reuse(shared: &Shared, record: Record, exclusive: Exclusive) -> Result<Prepared, Error> {
    let objects = record.rig.as_ref().map(|rig| objects(shared, rig)).transpose()?;
    let Record { path, branch, upstream, author, limit, .. } = record;
    let git = Arc::clone(&shared.git);
    let mut tree = Tree::new(git, path, objects, author, limit, exclusive).await?;
    // The agent does not run yet, so no git does.
    tree.recover().await?;
    let head = tree.commit_of("HEAD").await?.ok_or_else(broken)?;
    Ok(Prepared { branch, head, upstream, reused: true })
}

/// Takes a repository over that another machine's host made and shipped. Its own commits are in it, and the others in the mirror,
/// unless the remote has lost them since.
async fn adopt(
    shared: &Arc<Shared>,
    rig: &Rig,
    request: &Request,
    exclusive: Exclusive,
    progress: &OnProgress,
) -> Result<Prepared, Error> {
    let (mut upstream, mut is_partial) = (request.branch.clone(), false);
    if !request.lightweight {
        let mirror = shared.mirror(&rig.name)?;
        let refs = mirror.fetch(rig, progress).await?;
        upstream = choose(&mirror, &refs, rig, request).await?.upstream;
        is_partial = mirror.is_partial().await?;
    }
    let record = Record::new(rig, request, &upstream);
    let (git, path) = (Arc::clone(&shared.git), record.path.clone());
    let mirrored = record.rig.as_ref().map(|rig| objects(shared, rig)).transpose()?;
    let (author, limit) = (record.author.clone(), record.limit);
    let mut tree = Tree::new(git, path, mirrored, author, limit, exclusive).await?;
    tree.recover().await?;
    let call = tree.git("rev-list").arg("--quiet");
    // Contents of files may be missing in a partial clone.
    let call = if is_partial { call } else { call.arg("--objects") };
    tree.call(call.args(["HEAD", "--not", "--remotes=origin"])).await?;
    let head = tree.commit_of("HEAD").await?.ok_or_else(broken)?;
    record.write(&shared.root, tree.exclusive()).await?;
    Ok(Prepared { branch: record.branch, head, upstream, reused: true })
}

/// Of a repository that is there, and of which git finds nothing.
fn broken() -> Error {
    Error::Occupied("a repository that is broken: its HEAD names no commit".to_owned())
}

fn objects(shared: &Shared, rig: &Rig) -> Result<PathBuf, Error> {
    Ok(shared.mirror(&rig.name)?.path().join("objects"))
}

async fn create(
    shared: &Arc<Shared>,
    rig: &Rig,
    request: &Request,
    exclusive: Exclusive,
    building: PathBuf,
    progress: &OnProgress,
) -> Result<Prepared, Error> {
    let mirror = shared.mirror(&rig.name)?;
    let refs = mirror.fetch(rig, progress).await?;
    let start = choose(&mirror, &refs, rig, request).await?;
    mirror.complete(rig, &[&start.commit]).await?;
    check_size(&mirror, &start.commit, request.limit).await?;
    let inside = shared.git.objects(&mirror.path());
    let remote = Remote {
        url: &rig.url,
        default_branch: &rig.default_branch,
        upstream: &start.upstream,
        objects: &inside,
        refs: &refs,
        start: &start.commit,
        partial: mirror.is_partial().await?,
    };
    write(request, Some(remote), &building)?;
    let objects = Some(mirror.path().join("objects"));
    let (git, author) = (Arc::clone(&shared.git), request.author.clone());
    let mut tree =
        Tree::new(git, building, objects, author, Some(request.limit), exclusive).await?;
    let checkout = tree.git("reset").args(["--hard", "--quiet", "--no-recurse-submodules"]);
    tree.call(checkout.watch(watch(Arc::clone(progress)))).await?;
    // With the repository beside the files.
    tree.check_room().await?;
    install(shared, &Record::new(rig, request, &start.upstream), &tree).await?;
    let (branch, head, upstream) = (request.branch.clone(), start.commit, start.upstream);
    Ok(Prepared { branch, head, upstream, reused: false })
}

async fn lightweight(
    shared: &Arc<Shared>,
    rig: &Rig,
    request: &Request,
    exclusive: Exclusive,
    building: PathBuf,
) -> Result<Prepared, Error> {
    write(request, None, &building)?;
    let (git, author) = (Arc::clone(&shared.git), request.author.clone());
    let mut tree = Tree::new(git, building, None, author, Some(request.limit), exclusive).await?;
    let commit = tree.git("commit").args(["--quiet", "--allow-empty", "--message=empty workspace"]);
    tree.call(commit).await?;
    let head = tree.commit_of("HEAD").await?;
    let head = head.ok_or_else(|| Error::Unprepared(request.agent.clone()))?;
    install(shared, &Record::new(rig, request, &request.branch), &tree).await?;
    let branch = request.branch.clone();
    Ok(Prepared { upstream: branch.clone(), branch, head, reused: false })
}

fn write(request: &Request, remote: Option<Remote<'_>>, building: &Path) -> Result<(), Error> {
    let repository = Repository { branch: &request.branch, author: &request.author, remote };
    repository.write(building).map_err(|error| Error::disk(building, &error))
}

/// Puts a workspace that is built into its place, where there is nothing or an empty directory.
async fn install(shared: &Shared, record: &Record, tree: &Tree) -> Result<(), Error> {
    record.write(&shared.root, tree.exclusive()).await?;
    let built = tree.path().to_owned();
    disk::holding(tree.exclusive(), &record.path, |path| {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::rename(built, path)
    })
    .await
}

/// The agent's branch if the remote has it, or else the start point, or else the default branch.
async fn choose(
    mirror: &Mirror,
    refs: &Refs,
    rig: &Rig,
    request: &Request,
) -> Result<Start, Error> {
    let of_branch = |branch: &str| {
        let commit = find(refs, &format!("refs/heads/{branch}"))?;
        Some(Start { commit, upstream: branch.to_owned() })
    };
    if let Some(start) = of_branch(&request.branch) {
        // Work goes on; it is compared with what it started from.
        return Ok(Start { upstream: base_of(refs, rig, request), ..start });
    }
    let Some(point) = &request.start_point else {
        let branch = &rig.default_branch;
        return of_branch(branch).ok_or_else(|| Error::BranchMissing(branch.clone()));
    };
    if let Some(start) = of_branch(point) {
        return Ok(start);
    }
    let commit = commit_at(mirror, refs, point).await?;
    let commit =
        commit.ok_or_else(|| Error::invalid("start point", format!("no such ref: {point}")))?;
    Ok(Start { commit, upstream: rig.default_branch.clone() })
}

fn base_of(refs: &Refs, rig: &Rig, request: &Request) -> String {
    let point = request.start_point.as_ref();
    let point = point.filter(|point| find(refs, &format!("refs/heads/{point}")).is_some());
    point.unwrap_or(&rig.default_branch).clone()
}

fn find(refs: &Refs, name: &str) -> Option<Oid> {
    let found = refs.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
    Some(refs[found].1.clone())
}

/// The commit behind a tag, or behind an id that the mirror has.
async fn commit_at(mirror: &Mirror, refs: &Refs, point: &str) -> Result<Option<Oid>, Error> {
    let tag = format!("refs/tags/{point}");
    match find(refs, &tag) {
        Some(_) => mirror.commit_of(&tag).await,
        None if Oid::parse(point.as_bytes()).is_some() => mirror.commit_of(point).await,
        None => Ok(None),
    }
}

/// Whether the files of a commit fit. Their sizes are known before one of them is written.
async fn check_size(mirror: &Mirror, commit: &Oid, limit: DiskLimit) -> Result<(), Error> {
    let limit_bytes = mirror.git.settings.checkout_bytes;
    let call = Call::mirror(&mirror.git, &mirror.path(), "ls-tree");
    let call = call.args(["-r", "-t", "-z", "--format=%(objectsize)", commit.as_str()]);
    let output = mirror.call(call).await?;
    let (mut bytes, mut on_disk, mut entries) = (0_u64, 0_u64, 0);
    for size in output.text().split_terminator('\0') {
        // Directories have none, nor have submodules, which are empty directories.
        let size = size.trim().parse::<u64>().ok();
        bytes = bytes.saturating_add(size.unwrap_or(0));
        on_disk = on_disk.saturating_add(size.map_or(BLOCK_BYTES, in_blocks));
        entries += 1;
    }
    if bytes > limit_bytes {
        return Err(Error::TooLarge { what: "the checkout", limit_bytes });
    }
    if on_disk > limit.bytes || entries > limit.entries {
        return Err(Error::DoesNotFit { bytes: on_disk, entries, limit });
    }
    Ok(())
}

/// As [`DiskLimit`] counts a file.
fn in_blocks(size: u64) -> u64 {
    size.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)
}

use std::fs;

use bulkhead_tools::DiskLimit;

use super::*;
use crate::credential::NoCredentials;
use crate::disk::gate::{drop_at, runtime};
use crate::progress::silent;
use crate::run::{Command, End, Finished, RunError};
use futures_util::future::BoxFuture;
use tempfile::TempDir;

/// Git that does nothing, and answers with a commit.
struct NoGit;

impl Run for NoGit {
    fn run(&self, _: Command) -> BoxFuture<'_, Result<Finished, RunError>> {
        let (stdout, stderr) = ("1".repeat(40).into_bytes(), Vec::new());
        let finished = Finished { end: End::Exited(0), stdout, stderr, cut: false };
        Box::pin(std::future::ready(Ok(finished)))
    }

    fn settle<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

struct World {
    folder: TempDir,
    workspaces: Workspaces,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("state");
        let (run, settings) = (Arc::new(NoGit), Settings::default());
        let workspaces = Workspaces::new(&root, run, Arc::new(NoCredentials), settings).unwrap();
        Self { folder, workspaces }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("workspaces/ann")
    }

    async fn prepare(&self, author: &str) -> Result<Prepared, Error> {
        let rig = Rig {
            name: "town".to_owned(),
            url: "https://example.com/town".to_owned(),
            default_branch: "main".to_owned(),
        };
        let request = Request {
            agent: "ann".to_owned(),
            path: self.path(),
            branch: "agent/ann".to_owned(),
            start_point: None,
            lightweight: true,
            was_brought: false,
            author: Author { name: author.to_owned(), email: "a@example.com".to_owned() },
            limit: DiskLimit { bytes: 1 << 30, entries: 1000 },
        };
        self.workspaces.prepare(&rig, &request, &silent()).await
    }

    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let (mut files, mut folders) = (Vec::new(), vec![self.folder.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => files.push((path.clone(), fs::read(&path).unwrap())),
                }
            }
            files.push((folder, Vec::new()));
        }
        files.sort();
        files
    }
}

/// Drops a request at each piece of its work on the disk.
fn nothing_changes_without_the_lock(
    begin: impl AsyncFn(&World),
    request: impl AsyncFn(&World) -> Result<(), Error>,
) {
    runtime().block_on(async {
        let mut changes = 0;
        for step in 0.. {
            let world = World::new();
            begin(&world).await;
            let Some(gate) = drop_at(step, request(&world)).await else { break };
            let before = world.files();
            let is_locked = world.workspaces.shared.try_exclusive("ann").is_err();
            gate.open().await;
            let is_changed = world.files() != before;
            assert!(is_locked || !is_changed, "step {step} changed files without the lock");
            assert!(world.workspaces.shared.try_exclusive("ann").is_ok(), "step {step}");
            changes += usize::from(is_changed);
        }
        assert!(changes > 0, "nothing was changed");
    });
}

#[test]
fn what_a_dropped_prepare_goes_on_to_build_is_built_under_the_lock() {
    let begin = async |world: &World| {
        let left = world.folder.path().join("state/preparing/ann");
        fs::create_dir(left).unwrap();
    };
    nothing_changes_without_the_lock(begin, async |world| world.prepare("A").await.map(drop));
}

#[test]
fn what_a_dropped_prepare_goes_on_to_reuse_is_changed_under_the_lock() {
    let begin = async |world: &World| {
        world.prepare("A").await.unwrap();
        fs::write(world.path().join(".git/index.lock"), "").unwrap();
    };
    nothing_changes_without_the_lock(begin, async |world| world.prepare("B").await.map(drop));
}

#[test]
fn what_a_dropped_removal_goes_on_to_remove_is_removed_under_the_lock() {
    let begin = async |world: &World| drop(world.prepare("A").await.unwrap());
    nothing_changes_without_the_lock(begin, async |world| world.workspaces.discard("ann").await);
    nothing_changes_without_the_lock(begin, async |world| world.workspaces.forget("ann").await);
    nothing_changes_without_the_lock(begin, async |world| {
        world.workspaces.set_aside("ann", &world.path(), disk::remove).await
    });
}

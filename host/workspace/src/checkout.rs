//! The files of a commit, checked out once for all workspaces that begin with them.
//!
//! ```text
//! first workspace of a commit   git checks it out in its own place
//! second one                    git checks it out in checkouts/, and that is copied
//! all others                    copied
//! ```
//!
//! Git inflates and hashes what it writes. A copy takes a third of that, and shares blocks where the file system can.
//! Most rigs have one agent at a commit, and nothing is kept for it. Of each rig the files of one commit are kept, until
//! another commit is asked for. What a former process kept is removed: after a crash of the machine files may be empty.
//!
//! No agent sees what is kept: git wrote it in a sandbox of its own, and the host copies it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::setpriority_process;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, Semaphore, oneshot};

use crate::copy::{self, Copied};
use crate::disk;
use crate::error::Error;
use crate::index;
use crate::known::known;
use crate::name::Oid;

/// Copies at a time. They are the disk's work, and agents have the processors.
const COPIES: usize = 2;

/// Of the threads that copy.
const NICE: i32 = 10;

/// What is kept of all rigs.
pub(crate) struct Checkouts {
    folder: PathBuf,
    rigs: Mutex<HashMap<String, Arc<AsyncMutex<Option<Last>>>>>,
    copies: Arc<Semaphore>,
}

/// The commit that a workspace of the rig began with last.
struct Last {
    commit: Oid,
    kept: Kept,
}

enum Kept {
    /// For the first workspace nothing is kept.
    Nothing,
    /// That failed, and the next try would fail too.
    Failed,
    Files(Arc<Checkout>),
}

/// The files of one commit, as git writes them. Removed when it is dropped.
pub(crate) struct Checkout {
    path: PathBuf,
    copies: Arc<Semaphore>,
}

impl Checkouts {
    /// Keeps them in a directory, whose contents are another process's and go.
    pub fn new(folder: PathBuf) -> io::Result<Self> {
        remove_later(&folder)?;
        fs::create_dir_all(&folder)?;
        let copies = Arc::new(Semaphore::new(COPIES));
        Ok(Self { folder, rigs: Mutex::default(), copies })
    }

    /// The files of a commit; none for its first workspace, or when they could not be checked out. Others wait while
    /// `check_out` works in the directory that it gets.
    pub async fn of(
        &self,
        rig: &str,
        commit: &Oid,
        check_out: impl AsyncFnOnce(&Path) -> Result<(), Error>,
    ) -> Result<Option<Arc<Checkout>>, Error> {
        let of_rig = known(&self.rigs, rig, AsyncMutex::default)?;
        let mut last = of_rig.lock().await;
        let Some(last) = last.as_mut().filter(|last| last.commit == *commit) else {
            *last = Some(Last { commit: commit.clone(), kept: Kept::Nothing });
            return Ok(None);
        };
        if matches!(last.kept, Kept::Nothing) {
            let path = self.folder.join(format!("{:016x}", fastrand::u64(..)));
            let made = Checkout { path, copies: Arc::clone(&self.copies) };
            last.kept = match check_out(&made.path).await {
                Ok(()) => Kept::Files(Arc::new(made)),
                // The workspace's own checkout says why.
                Err(_) => Kept::Failed,
            };
        }
        Ok(match &last.kept {
            Kept::Files(files) => Some(Arc::clone(files)),
            Kept::Nothing | Kept::Failed => None,
        })
    }
}

impl Checkout {
    /// Copies all files into a repository without files, and the index. The lock is held until that is done, also when this
    /// future is dropped.
    pub async fn copy_to<G: Send + Sync + 'static>(
        self: Arc<Self>,
        repository: &Path,
        lock: &Arc<G>,
    ) -> io::Result<()> {
        let turn = Arc::clone(&self.copies).acquire_owned().await.map_err(io::Error::other)?;
        let (done, copied) = oneshot::channel();
        let (to, lock) = (repository.to_owned(), Arc::clone(lock));
        let work = move || {
            // Linux keeps niceness by thread. A refusal costs fairness, and nothing else.
            let _ = setpriority_process(Some(rustix::thread::gettid()), NICE);
            let _ = done.send(self.copy(&to));
            drop((turn, lock));
        };
        std::thread::Builder::new().name("bulkhead-copy".to_owned()).spawn(work)?;
        copied.await.map_err(io::Error::other)?
    }

    fn copy(&self, to: &Path) -> io::Result<()> {
        let mut copied = Copied::new();
        copy::tree(&self.path, to, ".git", &mut copied)?;
        let (from, to) = (self.path.join(".git/index"), to.join(".git/index"));
        let mut bytes = fs::read(&from)?;
        index::refresh(&mut bytes, &copied)
            .ok_or_else(|| io::Error::other("an index of another version"))?;
        fs::write(&to, bytes)?;
        copy::attributes(&from, &to)
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let _ = remove_later(&self.path);
    }
}

/// Moves a directory out of the way, and removes it meanwhile.
fn remove_later(path: &Path) -> io::Result<()> {
    match Handle::try_current() {
        Ok(runtime) if path.exists() => {
            let old = path.with_extension(format!("old-{:016x}", fastrand::u64(..)));
            fs::rename(path, &old)?;
            drop(runtime.spawn_blocking(move || disk::remove(&old)));
            Ok(())
        }
        _ => disk::remove(path),
    }
}

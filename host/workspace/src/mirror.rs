//! The bare mirror of a rig.
//!
//! ```text
//! rigs/<rig>/lock         held while this process uses the rig
//! rigs/<rig>/mirror.git   refs/heads, refs/tags       as the remote has them
//!                         refs/agents/<agent>/…       what came out of a workspace
//!                         refs/pushed/<agent>/…       what the agent itself pushed last
//!                         refs/pushing/<agent>/…/<id> what it was about to push, and may have
//! ```
//!
//! Only the host writes its configuration. Calls of git may overlap: they add objects and refs, and nothing removes
//! objects. Cleaning up after a killed git waits until no git runs.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::sync::{Mutex, OnceCell, OwnedRwLockReadGuard, RwLock};
use tokio::time::{Instant, sleep, timeout};

use crate::credential::{Credential, Credentials};
use crate::disk;
use crate::error::Error;
use crate::git::{Call, Git};
use crate::locks;
use crate::name::Oid;
use crate::output::Output;
use crate::rig::Rig;
use crate::skeleton::{self, MirrorConfig, Refs};
use crate::verdict;

/// How often a lock that another process holds is tried.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// How often the size of a growing mirror is measured.
const SIZE_POLL: Duration = Duration::from_millis(200);

/// The outcome of the last fetch.
pub(crate) struct Fetched {
    pub began: Instant,
    pub outcome: Result<Arc<Refs>, Error>,
}

/// Proof that nothing is cleaned up in a mirror. Work on the disk has a clone, and holds it to its end.
pub(crate) type Active = Arc<OwnedRwLockReadGuard<()>>;

/// The mirror of one rig.
pub(crate) struct Mirror {
    pub git: Arc<Git>,
    pub credentials: Arc<dyn Credentials>,
    /// `rigs/<rig>`
    folder: PathBuf,
    /// Each call of git holds it shared; cleaning up holds it alone.
    activity: Arc<RwLock<()>>,
    /// A call of git ended before its time, and may have left locks and half a pack behind.
    interrupted: AtomicBool,
    lock: OnceCell<File>,
    /// Held while the repository and its configuration are made.
    set_up: Arc<Mutex<()>>,
    pub fetched: Mutex<Option<Fetched>>,
}

impl Mirror {
    pub fn new(git: Arc<Git>, credentials: Arc<dyn Credentials>, folder: PathBuf) -> Self {
        let (activity, set_up, fetched) = (Arc::default(), Arc::default(), Mutex::default());
        // Of a former process nothing is known.
        let interrupted = AtomicBool::new(true);
        let lock = OnceCell::new();
        Self { git, credentials, folder, activity, interrupted, lock, set_up, fetched }
    }

    /// The repository.
    pub fn path(&self) -> PathBuf {
        self.folder.join("mirror.git")
    }

    /// Makes the mirror, if there is none, and brings its configuration up to date.
    pub async fn open(&self, rig: &Rig) -> Result<(), Error> {
        let origin = rig.check(self.git.settings.protocols)?;
        self.lock.get_or_try_init(|| self.lock_folder(&rig.name)).await?;
        let (url, partial) = (rig.url.clone(), self.git.settings.partial.contains(&rig.name));
        let turn = Arc::clone(&self.set_up).lock_owned();
        let turn = timeout(self.git.settings.lock_wait, turn).await;
        let turn = Arc::new(turn.map_err(|_| Error::Locked(format!("rig {}", rig.name)))?);
        let made = move |folder: &Path| set_up(folder, &url, &origin, partial);
        disk::holding(&turn, &self.folder, made).await
    }

    async fn lock_folder(&self, rig: &str) -> Result<File, Error> {
        let deadline = Instant::now() + self.git.settings.lock_wait;
        loop {
            if let Some(lock) = disk::on(&self.folder, try_lock).await? {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                return Err(Error::Locked(format!("rig {rig}")));
            }
            sleep(LOCK_POLL).await;
        }
    }

    /// Makes a call of git in the mirror.
    pub async fn call(&self, call: Call) -> Result<Output, Error> {
        let active = self.begin().await?;
        self.call_within(&active, call).await
    }

    /// Begins work that is more than one call of git. What was left behind before is cleaned up, and nothing until it ends.
    pub async fn begin(&self) -> Result<Active, Error> {
        self.clean().await?;
        Ok(Arc::new(Arc::clone(&self.activity).read_owned().await))
    }

    /// Makes a call of git as a part of such work.
    pub async fn call_within(&self, _: &Active, call: Call) -> Result<Output, Error> {
        let mut ended = self.until_ended();
        let output = self.git.call(call).await;
        ended.in_order = !verdict::was_killed(&output);
        output
    }

    /// Something begins that may leave something behind, unless it ends in order.
    pub fn until_ended(&self) -> Ended<'_> {
        Ended { interrupted: &self.interrupted, in_order: false }
    }

    /// Removes what a killed git left behind, once no git runs.
    async fn clean(&self) -> Result<(), Error> {
        if !self.interrupted.load(Ordering::Acquire) {
            return Ok(());
        }
        let wait = self.git.settings.lock_wait;
        let alone = timeout(wait, Arc::clone(&self.activity).write_owned()).await;
        let alone = alone.map_err(|_| Error::Locked(self.folder.display().to_string()))?;
        let alone = Arc::new(alone);
        if self.interrupted.load(Ordering::Acquire) {
            self.git.run.settle(&self.path()).await;
            disk::holding(&alone, &self.folder, remove_remains).await?;
            self.interrupted.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Makes a call that talks to the remote. It is made a second time, if the remote refuses the first one and there is
    /// a fresh credential.
    pub async fn call_remote(&self, rig: &Rig, make: impl Fn() -> Call) -> Result<Output, Error> {
        let get = |fresh| self.credentials.get(&rig.name, &rig.url, fresh);
        let call = |credential: Option<Credential>| async {
            let lines = credential.map(|credential| credential.lines()).transpose()?;
            let call = make().credential(lines.unwrap_or_default());
            self.call(call).await.map_err(Error::with_remote)
        };
        let refused = match call(get(false).await).await {
            Err(refused @ Error::Unauthorized(_)) => refused,
            outcome => return outcome,
        };
        match get(true).await {
            // Without a credential the remote would say less than it has said.
            None => Err(refused),
            fresh => call(fresh).await,
        }
    }

    /// Interrupts work on the mirror when the mirror becomes larger than its limit.
    pub async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            too_large = self.until_too_large() => Err(too_large),
            done = work => done,
        }
    }

    async fn until_too_large(&self) -> Error {
        loop {
            if let Err(error) = self.check_size(0).await {
                return error;
            }
            sleep(SIZE_POLL).await;
        }
    }

    /// Whether so many bytes more fit.
    pub async fn check_size(&self, more: u64) -> Result<(), Error> {
        let limit_bytes = self.git.settings.mirror_bytes;
        let size = disk::on(&self.path().join("objects/pack"), size_of).await?;
        if size.saturating_add(more) > limit_bytes {
            return Err(Error::TooLarge { what: "the mirror", limit_bytes });
        }
        Ok(())
    }

    /// Whether contents of files may be missing.
    pub async fn is_partial(&self) -> Result<bool, Error> {
        let config = self.path().join("config");
        disk::on(&config, |path| Ok(skeleton::is_partial(&fs::read_to_string(path)?))).await
    }

    /// Refs that match patterns of `for-each-ref`, sorted by name unless an option of it says otherwise.
    pub async fn refs(&self, patterns: &[&str]) -> Result<Refs, Error> {
        let call = Call::mirror(&self.git, &self.path(), "for-each-ref")
            .arg("--format=%(objectname) %(refname)")
            .args(patterns);
        let output = self.call(call).await?;
        Ok(output.stdout.split(|byte| *byte == b'\n').filter_map(read_ref).collect())
    }

    /// The commit that a revision stands for.
    pub async fn commit_of(&self, revision: &str) -> Result<Option<Oid>, Error> {
        let call = Call::mirror(&self.git, &self.path(), "rev-parse")
            .args(["--verify", "--quiet", "--end-of-options"])
            .arg(format!("{revision}^{{commit}}"))
            .accept(&[0, 1, 128]);
        Ok(Oid::parse(&self.call(call).await?.stdout))
    }
}

/// Notes that something did not end in order, also when its future is dropped.
pub(crate) struct Ended<'a> {
    interrupted: &'a AtomicBool,
    pub in_order: bool,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if !self.in_order {
            self.interrupted.store(true, Ordering::Release);
        }
    }
}

/// A name that is no UTF-8 is no name for a request either: it is left out.
fn read_ref(line: &[u8]) -> Option<(String, Oid)> {
    let line = std::str::from_utf8(line).ok()?;
    let (oid, name) = line.split_once(' ')?;
    Some((name.to_owned(), Oid::parse(oid.as_bytes())?))
}

fn try_lock(folder: &Path) -> io::Result<Option<File>> {
    fs::create_dir_all(folder)?;
    let file = File::options().create(true).append(true).open(folder.join("lock"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A mirror is built beside its place, so that there is never half a one. One without its configuration is repaired:
/// its objects are in use.
fn set_up(folder: &Path, url: &str, origin: &str, partial: bool) -> io::Result<()> {
    let mirror = folder.join("mirror.git");
    let config = mirror.join("config");
    if let Ok(old) = fs::read_to_string(&config) {
        let new = MirrorConfig { url, origin, partial: skeleton::is_partial(&old) }.text();
        return if old == new { Ok(()) } else { disk::replace(&config, new.as_bytes()) };
    }
    let config = MirrorConfig { url, origin, partial };
    if disk::is_directory(&mirror) {
        return skeleton::write_mirror(&mirror, &config);
    }
    let new = folder.join("mirror.new");
    disk::remove(&new)?;
    skeleton::write_mirror(&new, &config)?;
    fs::rename(new, mirror)
}

fn remove_remains(folder: &Path) -> io::Result<()> {
    locks::remove(folder, "mirror.git")?;
    let mirror = folder.join("mirror.git");
    for entry in fs::read_dir(mirror.join("objects/pack"))? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b"tmp_") {
            fs::remove_file(entry.path())?;
        }
    }
    for entry in fs::read_dir(&mirror)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b"incoming-") {
            disk::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Bytes of the files in a directory. One that vanishes meanwhile counts nothing.
fn size_of(folder: &Path) -> io::Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        size += entry?.metadata().map_or(0, |metadata| metadata.len());
    }
    Ok(size)
}

#[cfg(test)]
mod tests;

//! A record in a directory, as the file `TOWN.lease.json`. Beside it `TOWN.lease.lock`, on which writers lock each other
//! out (`flock`), and which nobody removes.
//!
//! A record is written beside its place, synced, and moved there, so that a reader sees a whole one. For copies on one
//! machine, or on a file system whose locks hold for all machines until the one that has them is gone. Of NFS that is not
//! true: its server takes a lock away from a client that is silent, and the client writes on when it wakes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bulkhead_bucket::Name;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::{Names, Register, Written};
use crate::document::{self, MAX_BYTES};
use crate::fault::RegisterError;
use crate::protocol::{Record, Version};

/// Calls at once. Those that a volume does not answer stay, and no more are made.
const MAX_CALLS: usize = 4;

/// Follows the name of the town.
const RECORD: &str = ".lease.json";

/// Between two looks at the lock of another writer, which has it for as long as a disk takes.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

pub(super) struct Directory {
    at: Arc<Place>,
    calls: Arc<Semaphore>,
}

struct Place {
    dir: PathBuf,
    record: PathBuf,
    lock: PathBuf,
    /// For the lock.
    patience: Duration,
}

impl Directory {
    pub fn new(dir: &Path, town: &Name, patience: Duration) -> Self {
        let file = |end: &str| dir.join(format!("{}.lease.{end}", town.as_str()));
        let (record, lock) = (file("json"), file("lock"));
        let at = Arc::new(Place { dir: dir.to_owned(), record, lock, patience });
        Self { at, calls: Arc::new(Semaphore::new(MAX_CALLS)) }
    }

    /// On another thread: a volume may hang for ever.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Place) -> Result<T, RegisterError> + Send + 'static,
    ) -> Result<T, RegisterError> {
        let permit = Arc::clone(&self.calls).try_acquire_owned().map_err(|_| {
            RegisterError::unavailable("the volume of the lease has not answered earlier calls")
        })?;
        let at = Arc::clone(&self.at);
        let called = spawn_blocking(move || {
            let _permit = permit;
            work(&at)
        });
        let panicked = |_| Err(RegisterError::unavailable("the call panicked"));
        called.await.unwrap_or_else(panicked)
    }
}

#[async_trait]
impl Register for Directory {
    /// Whether the file system has locks that a second descriptor of this process meets.
    async fn probe(&self) -> Result<(), RegisterError> {
        self.call(|at| {
            let _lock = at.lock()?;
            let second = at.open_lock()?;
            match flock(&second, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::AGAIN) => Ok(()),
                Err(error) => Err(at.failed("lock", &at.lock, &error.into())),
                Ok(()) => {
                    let text = format!("{} is on a file system without locks", at.dir.display());
                    Err(RegisterError::misbehaves(text))
                }
            }
        })
        .await
    }

    async fn read(&self) -> Result<Option<(Version, Record)>, RegisterError> {
        self.call(Place::read).await
    }

    async fn write_if(
        &self,
        expected: Option<&Version>,
        record: &Record,
    ) -> Result<Written, RegisterError> {
        let (expected, record) = (expected.cloned(), record.clone());
        self.call(move |at| at.write_if(expected.as_ref(), &record)).await
    }
}

impl Place {
    fn read(&self) -> Result<Option<(Version, Record)>, RegisterError> {
        // A pipe that nobody writes to must not hold the call.
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let opened = OpenOptions::new().read(true).custom_flags(nonblocking).open(&self.record);
        let file = match opened {
            Ok(file) => file,
            // A directory that is not mounted is no reason to believe that nobody holds the lease.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.dir.is_dir() => {
                return Ok(None);
            }
            Err(error) => return Err(self.failed("read", &self.record, &error)),
        };
        let mut bytes = Vec::new();
        // One more, so that a larger one is not whole.
        let read = file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| self.failed("read", &self.record, &error))?;
        let record = document::decode(&bytes)?;
        Ok(Some((version(&record), record)))
    }

    fn write_if(
        &self,
        expected: Option<&Version>,
        record: &Record,
    ) -> Result<Written, RegisterError> {
        let bytes = document::encode(record)?;
        let _lock = self.lock()?;
        let there = self.read()?.map(|(version, _)| version);
        if there.as_ref() != expected {
            return Ok(Written::Conflict);
        }
        let new = self.record.with_extension("new");
        let written = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let nofollow = OFlags::NOFOLLOW.bits().cast_signed();
            options.write(true).create(true).truncate(true).mode(0o600).custom_flags(nofollow);
            let mut file = options.open(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&new, &self.record)?;
            File::open(&self.dir)?.sync_all()
        };
        written().map_err(|error| self.failed("write", &self.record, &error))?;
        Ok(Written::Stored(version(record)))
    }

    fn open_lock(&self) -> Result<File, RegisterError> {
        let nofollow = OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow);
        options.open(&self.lock).map_err(|error| self.failed("open", &self.lock, &error))
    }

    /// Held until the file is closed. A writer that was frozen keeps it: nobody writes meanwhile.
    fn lock(&self) -> Result<File, RegisterError> {
        let (file, began) = (self.open_lock()?, Instant::now());
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(Errno::AGAIN | Errno::INTR) if began.elapsed() < self.patience => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(Errno::AGAIN | Errno::INTR) => {
                    let text = format!("another process has locked {}", self.lock.display());
                    return Err(RegisterError::unavailable(text));
                }
                Err(error) => return Err(self.failed("lock", &self.lock, &error.into())),
            }
        }
    }

    fn failed(&self, doing: &str, path: &Path, error: &io::Error) -> RegisterError {
        let text = format!("{doing} {}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded => RegisterError::refused(text),
            _ => RegisterError::unavailable(text),
        }
    }
}

/// Those of all towns.
pub(super) struct Records {
    dir: PathBuf,
    patience: Duration,
}

impl Records {
    pub fn new(dir: &Path, patience: Duration) -> Self {
        Self { dir: dir.to_owned(), patience }
    }
}

#[async_trait]
impl super::Records for Records {
    async fn names(&self, most: usize) -> Result<Names, RegisterError> {
        let dir = self.dir.clone();
        let listed = spawn_blocking(move || names(&dir, most)).await;
        listed.unwrap_or_else(|_| Err(RegisterError::unavailable("the call panicked")))
    }

    async fn read(&self, town: &Name) -> Result<Option<Record>, RegisterError> {
        let read = Directory::new(&self.dir, town, self.patience).read().await?;
        Ok(read.map(|(_, record)| record))
    }
}

fn names(dir: &Path, most: usize) -> Result<Names, RegisterError> {
    let failed =
        |error: io::Error| RegisterError::unavailable(format!("read {}: {error}", dir.display()));
    let mut found = Names::default();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let file = entry.map_err(failed)?.file_name();
        let town = file.to_str().and_then(|file| file.strip_suffix(RECORD));
        let Some(name) = town.and_then(|town| Name::parse(town).ok()) else { continue };
        if found.names.len() == most {
            found.has_more = true;
            break;
        }
        found.names.push(name);
    }
    Ok(found)
}

/// A nonce is of one write alone.
fn version(record: &Record) -> Version {
    Version(document::nonce(record).into())
}

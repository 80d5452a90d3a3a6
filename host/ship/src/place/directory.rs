//! Objects in a directory, as files `TOWN/KEY`: on a volume that other machines see, as a rule.
//!
//! A file is written beside its place and synced. The first one with its name is linked there, which fails if there is one. One
//! that replaces another is moved there under a lock (`flock`), after a look at the one that is there; its version is the
//! digest of its content. The directory itself has to exist: one that is not mounted is a fault. Files are for this user alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::{MAX_OBJECT_BYTES, Put};
use crate::fault::ShipError;
use crate::segment::hex_digest;

/// Calls at once. Those that a volume does not answer stay, and no more are made.
const MAX_CALLS: usize = 16;

/// Between two looks at the lock of another writer.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

pub(super) struct Directory {
    at: Arc<At>,
    calls: Arc<Semaphore>,
}

struct At {
    base: PathBuf,
    town: PathBuf,
    /// For the lock.
    patience: Duration,
}

impl Directory {
    pub fn new(base: &Path, town: &str, patience: Duration) -> Self {
        let (base, town) = (base.to_owned(), base.join(town));
        let at = Arc::new(At { base, town, patience });
        Self { at, calls: Arc::new(Semaphore::new(MAX_CALLS)) }
    }

    pub async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        version: Option<&str>,
    ) -> Result<Put, ShipError> {
        let (key, version) = (key.to_owned(), version.map(str::to_owned));
        self.call(move |at| at.put(&key, &bytes, version.as_deref())).await
    }

    pub async fn get(&self, key: &str) -> Result<Option<(Bytes, String)>, ShipError> {
        let key = key.to_owned();
        self.call(move |at| {
            at.is_there()?;
            Ok(at.get(&key)?.map(|bytes| {
                let version = hex_digest(&bytes);
                (Bytes::from(bytes), version)
            }))
        })
        .await
    }

    pub async fn remove(&self, key: &str) -> Result<(), ShipError> {
        let key = key.to_owned();
        self.call(move |at| match fs::remove_file(at.town.join(&key)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(of(&error)),
            _ => Ok(()),
        })
        .await
    }

    /// On another thread: a volume may hang for ever.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&At) -> Result<T, ShipError> + Send + 'static,
    ) -> Result<T, ShipError> {
        let permit = Arc::clone(&self.calls).try_acquire_owned().map_err(|_| {
            ShipError::Unavailable("the volume has not answered earlier calls".into())
        })?;
        let at = Arc::clone(&self.at);
        let called = spawn_blocking(move || {
            let _permit = permit;
            work(&at)
        });
        called.await.unwrap_or_else(|_| Err(ShipError::Unavailable("the call panicked".into())))
    }
}

impl At {
    fn is_there(&self) -> Result<(), ShipError> {
        match fs::metadata(&self.base) {
            Ok(meta) if meta.is_dir() => Ok(()),
            Ok(_) => Err(ShipError::Refused(format!("{} is no directory", self.base.display()))),
            Err(error) => {
                Err(ShipError::Unavailable(format!("open {}: {error}", self.base.display())))
            }
        }
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, ShipError> {
        // A pipe that nobody writes to must not hold the call.
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let opened =
            OpenOptions::new().read(true).custom_flags(nonblocking).open(self.town.join(key));
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(of(&error)),
        };
        let mut bytes = Vec::new();
        let limit = 2 * MAX_OBJECT_BYTES as u64;
        file.take(limit).read_to_end(&mut bytes).map_err(|error| of(&error))?;
        Ok(Some(bytes))
    }

    fn put(&self, key: &str, bytes: &[u8], version: Option<&str>) -> Result<Put, ShipError> {
        self.is_there()?;
        let place = self.town.join(key);
        let dir = place.parent().unwrap_or(&self.town);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|error| of(&error))?;
        // Two writers at once need two names.
        let new = dir.join(format!(".{:032x}.new", crate::segment::random()?));
        let put = self.put_by(key, &new, &place, bytes, version);
        let _ = fs::remove_file(&new);
        put
    }

    fn put_by(
        &self,
        key: &str,
        new: &Path,
        place: &Path,
        bytes: &[u8],
        version: Option<&str>,
    ) -> Result<Put, ShipError> {
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let nofollow = OFlags::NOFOLLOW.bits().cast_signed();
            options.write(true).create_new(true).mode(0o600).custom_flags(nofollow);
            let mut file = options.open(new)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|error| of(&error))?;
        match version {
            None => match fs::hard_link(new, place) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Put::Conflict),
                linked => linked.map_err(|error| of(&error))?,
            },
            Some(version) => {
                let _lock = self.lock()?;
                let there = self.get(key)?.map(|bytes| hex_digest(&bytes));
                if there.as_deref() != Some(version) {
                    return Ok(Put::Conflict);
                }
                // It may have been frozen since the last look.
                bulkhead_fence::pass();
                fs::rename(new, place).map_err(|error| of(&error))?;
            }
        }
        let dir = place.parent().unwrap_or(&self.town);
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| of(&error))?;
        Ok(Put::Stored(hex_digest(bytes)))
    }

    /// Held until the file is closed.
    fn lock(&self) -> Result<File, ShipError> {
        let mut options = OpenOptions::new();
        let nofollow = OFlags::NOFOLLOW.bits().cast_signed();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow);
        let file = options.open(self.town.join("lock")).map_err(|error| of(&error))?;
        let began = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(Errno::AGAIN | Errno::INTR) if began.elapsed() < self.patience => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(Errno::AGAIN | Errno::INTR) => {
                    let text = "another process has locked the directory";
                    return Err(ShipError::Unavailable(text.into()));
                }
                Err(error) => return Err(of(&error.into())),
            }
        }
    }
}

fn of(error: &io::Error) -> ShipError {
    match error.kind() {
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::StorageFull
        | ErrorKind::QuotaExceeded => ShipError::Refused(error.to_string()),
        _ => ShipError::Unavailable(error.to_string()),
    }
}

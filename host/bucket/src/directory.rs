//! Documents in a directory, as files below it: on a volume that other machines see, as a rule.
//!
//! A file is written beside its place and synced, so that a reader sees a whole one. The first one with its name is linked
//! there, which fails if there is one. One that replaces another is moved there under a lock (`flock`), after a look at the one
//! that is there; its tag is the digest of its content. The directory itself has to exist: one that is not mounted is a fault,
//! and not empty. Files are for this user alone.
//!
//! Conditions hold for processes on one machine, or on a file system whose locks hold for all machines until the one that has
//! them is gone. Of NFS that is not true: its server takes a lock away from a client that is silent, and the client writes on
//! when it wakes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::fault::{Cause, Fault};
use crate::{Object, Put};

/// Between two looks at the lock of another writer, which has it for as long as a disk takes.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Ends the name of a file that is being written.
const NEW: &str = ".new";

/// Age from which on such a file belongs to nobody: its writer died.
const LEFT_AFTER: Duration = Duration::from_secs(60);

/// Documents in a directory.
#[derive(Debug)]
pub struct Directory {
    at: Arc<At>,
    calls: Arc<Semaphore>,
}

/// What a directory of documents may take.
#[derive(Debug, Clone)]
pub struct DirectoryRules {
    /// The file below the directory on which writers lock each other out. Nobody removes it.
    pub lock: String,
    /// For the lock of another writer.
    pub patience: Duration,
    /// Calls at once. Those that a volume does not answer stay, and no more are made.
    pub calls: usize,
    /// Largest document that is read, in bytes. A larger one is read up to there, so that it is not whole.
    pub max_bytes: usize,
}

#[derive(Debug)]
struct At {
    base: PathBuf,
    lock: PathBuf,
    rules: DirectoryRules,
}

impl Directory {
    /// Nothing is called yet.
    pub fn new(base: &Path, rules: DirectoryRules) -> Self {
        let (base, lock, calls) = (base.to_owned(), base.join(&rules.lock), rules.calls);
        Self { at: Arc::new(At { base, lock, rules }), calls: Arc::new(Semaphore::new(calls)) }
    }

    /// Puts a document in the place of the one with the tag `expected`, or where there is none. `key` is a path below the
    /// directory.
    pub async fn put_if(
        &self,
        key: &str,
        bytes: Bytes,
        expected: Option<&str>,
    ) -> Result<Put, Fault> {
        let (key, expected) = (key.to_owned(), expected.map(str::to_owned));
        self.call(move |at| at.put(&key, &bytes, expected.as_deref())).await
    }

    /// Reads a document. `None`: there is none.
    pub async fn get(&self, key: &str) -> Result<Option<Object>, Fault> {
        let key = key.to_owned();
        self.call(move |at| {
            let object = |bytes: Vec<u8>| Object { etag: digest(&bytes), bytes: bytes.into() };
            let there = at.get(&key)?;
            if there.is_none() {
                at.is_there()?;
            }
            Ok(there.map(object))
        })
        .await
    }

    /// Removes a document. One that is not there is no failure.
    pub async fn remove(&self, key: &str) -> Result<(), Fault> {
        let key = key.to_owned();
        self.call(move |at| match fs::remove_file(at.base.join(&key)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(of(&error)),
            _ => Ok(()),
        })
        .await
    }

    /// Removes what writers left that died while they wrote documents whose keys begin so.
    pub async fn tidy(&self, prefix: &str) -> Result<(), Fault> {
        let prefix = prefix.to_owned();
        self.call(move |at| at.tidy(&prefix)).await
    }

    /// Whether the file system has hard links, and locks, which a second descriptor of this process meets.
    pub async fn honours_conditions(&self) -> Result<bool, Fault> {
        self.call(|at| {
            if !at.has_links()? {
                return Ok(false);
            }
            let _lock = at.lock()?;
            match flock(&at.open_lock()?, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => Ok(false),
                Err(Errno::AGAIN) => Ok(true),
                Err(error) => Err(of(&error.into())),
            }
        })
        .await
    }

    /// On another thread: a volume may hang for ever.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&At) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let permit = Arc::clone(&self.calls).try_acquire_owned();
        let permit =
            permit.map_err(|_| unavailable("the volume has not answered earlier calls"))?;
        let at = Arc::clone(&self.at);
        let called = spawn_blocking(move || {
            let _permit = permit;
            work(&at)
        });
        called.await.unwrap_or_else(|_| Err(unavailable("the call panicked")))
    }
}

impl At {
    fn is_there(&self) -> Result<(), Fault> {
        match fs::metadata(&self.base) {
            Ok(meta) if meta.is_dir() => Ok(()),
            Ok(_) => Err(Fault {
                cause: Cause::Refused,
                message: format!("{} is no directory", self.base.display()),
            }),
            Err(error) => Err(unavailable(format!("open {}: {error}", self.base.display()))),
        }
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Fault> {
        // A pipe that nobody writes to must not hold the call.
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let opened =
            OpenOptions::new().read(true).custom_flags(nonblocking).open(self.base.join(key));
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(of(&error)),
        };
        let mut bytes = Vec::new();
        // One more, so that a larger one is not whole.
        let limit = self.rules.max_bytes as u64 + 1;
        file.take(limit).read_to_end(&mut bytes).map_err(|error| of(&error))?;
        Ok(Some(bytes))
    }

    fn put(&self, key: &str, bytes: &[u8], expected: Option<&str>) -> Result<Put, Fault> {
        self.is_there()?;
        let place = self.base.join(key);
        let dir = place.parent().unwrap_or(&self.base);
        if dir != self.base {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(|error| of(&error))?;
        }
        let name = place.file_name().unwrap_or_default().display().to_string();
        // Two writers at once need two names.
        let new = dir.join(format!(".{name}.{:032x}{NEW}", random()?));
        let put = self.put_by(key, &new, &place, bytes, expected);
        let _ = fs::remove_file(&new);
        if let Ok(Put::Stored { .. }) = put {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| of(&error))?;
        }
        put
    }

    fn put_by(
        &self,
        key: &str,
        new: &Path,
        place: &Path,
        bytes: &[u8],
        expected: Option<&str>,
    ) -> Result<Put, Fault> {
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let nofollow = OFlags::NOFOLLOW.bits().cast_signed();
            options.write(true).create_new(true).mode(0o600).custom_flags(nofollow);
            let mut file = options.open(new)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|error| of(&error))?;
        match expected {
            None => match fs::hard_link(new, place) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Put::Conflict),
                linked => linked.map_err(|error| of(&error))?,
            },
            Some(expected) => {
                let _lock = self.lock()?;
                let there = self.get(key)?.map(|bytes| digest(&bytes));
                if there.as_deref() != Some(expected) {
                    return Ok(Put::Conflict);
                }
                // It may have been frozen since the last look.
                bulkhead_fence::pass();
                fs::rename(new, place).map_err(|error| of(&error))?;
            }
        }
        Ok(Put::Stored { etag: digest(bytes) })
    }

    /// What a process leaves that dies here is empty, and named as files are that are being written.
    fn has_links(&self) -> Result<bool, Fault> {
        let name = |number: u128| self.base.join(format!(".{number:032x}{NEW}"));
        let (one, other) = (name(random()?), name(random()?));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&one);
        file.map_err(|error| of(&error))?;
        let linked = fs::hard_link(&one, &other);
        let _ = fs::remove_file(&other);
        let _ = fs::remove_file(&one);
        match linked {
            Ok(()) => Ok(true),
            // FAT, and network file systems without links.
            Err(error)
                if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) =>
            {
                Ok(false)
            }
            Err(error) => Err(of(&error)),
        }
    }

    fn open_lock(&self) -> Result<File, Fault> {
        let mut options = OpenOptions::new();
        let nofollow = OFlags::NOFOLLOW.bits().cast_signed();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow);
        options.open(&self.lock).map_err(|error| of(&error))
    }

    /// Held until the file is closed. A writer that was frozen keeps it: nobody replaces anything meanwhile.
    fn lock(&self) -> Result<File, Fault> {
        let (file, began) = (self.open_lock()?, Instant::now());
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(Errno::AGAIN | Errno::INTR) if began.elapsed() < self.rules.patience => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(Errno::AGAIN | Errno::INTR) => {
                    let lock = self.lock.display();
                    return Err(unavailable(format!("another process has locked {lock}")));
                }
                Err(error) => return Err(of(&error.into())),
            }
        }
    }

    /// `prefix`: of keys, so its last part is the beginning of names.
    fn tidy(&self, prefix: &str) -> Result<(), Fault> {
        let (dir, name) = prefix.rsplit_once('/').unwrap_or(("", prefix));
        let dir = self.base.join(dir);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(of(&error)),
        };
        let (begins, now) = (format!(".{name}"), std::time::SystemTime::now());
        for entry in entries.flatten() {
            let file = entry.file_name();
            let is_new =
                file.to_str().is_some_and(|it| it.starts_with(&begins) && it.ends_with(NEW));
            let modified = entry.metadata().and_then(|meta| meta.modified());
            let age = modified.ok().and_then(|modified| now.duration_since(modified).ok());
            if is_new && age.is_some_and(|age| age >= LEFT_AFTER) {
                // Or the next time.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn random() -> Result<u128, Fault> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| unavailable(format!("no random number: {error}")))?;
    Ok(u128::from_ne_bytes(bytes))
}

fn unavailable(message: impl Into<String>) -> Fault {
    Fault { cause: Cause::Protocol, message: message.into() }
}

fn of(error: &io::Error) -> Fault {
    let cause = match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Cause::Refused,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Cause::Full,
        _ => Cause::Protocol,
    };
    Fault { cause, message: error.to_string() }
}

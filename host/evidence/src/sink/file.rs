//! Documents in a directory, as files `NAME/DOCUMENT`: on another volume, as a rule.
//!
//! A file is written beside its place, synced, and moved there. The directory itself has to exist: one that is not
//! mounted is a fault, and not a reason to write to the disk under it. Files are for this user alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::OFlags;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::fault::{Cause, Fault};
use crate::{Name, document};

/// Calls at once: one for each document of a boot. Those that a volume does not answer stay, and no more are made.
const MAX_CALLS: usize = 4;

pub(crate) struct Directory {
    dir: PathBuf,
    calls: Arc<Semaphore>,
}

impl Directory {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, calls: Arc::new(Semaphore::new(MAX_CALLS)) }
    }

    pub async fn put(
        &self,
        name: &Name,
        document: &'static str,
        bytes: Bytes,
    ) -> Result<(), Fault> {
        let (dir, name) = (self.dir.clone(), name.clone());
        self.call(move || write(&dir, &dir.join(name.as_str()), document, &bytes)).await
    }

    pub async fn get(&self, name: &Name, document: &'static str) -> Result<Option<Bytes>, Fault> {
        let (dir, path) = (self.dir.clone(), self.dir.join(name.as_str()).join(document));
        self.call(move || read(&dir, &path)).await
    }

    /// On another thread: a volume may hang for ever.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let permit = Arc::clone(&self.calls).try_acquire_owned();
        let permit = permit.map_err(|_| {
            Fault::new(Cause::Deadline, "the volume of the sink has not answered earlier calls")
        })?;
        let called = spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        called.await.unwrap_or_else(|_| Err(Fault::new(Cause::Disk, "the call panicked")))
    }
}

fn write(base: &Path, dir: &Path, document: &str, bytes: &[u8]) -> Result<(), Fault> {
    is_there(base)?;
    let (new, place) = (dir.join(format!("{document}.new")), dir.join(document));
    let written = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut options = OpenOptions::new();
        let nofollow = OFlags::NOFOLLOW.bits().cast_signed();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(nofollow);
        let mut file = options.open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &place)?;
        File::open(dir)?.sync_all()
    };
    written().map_err(|error| {
        let _ = fs::remove_file(&new);
        Fault::of_io(&format!("write {}", place.display()), &error)
    })
}

fn read(base: &Path, path: &Path) -> Result<Option<Bytes>, Fault> {
    is_there(base)?;
    let failed = |error: &io::Error| Fault::of_io(&format!("read {}", path.display()), error);
    // A pipe that nobody writes to must not hold the boot.
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    let mut bytes = Vec::new();
    // One more, so that a larger one is not whole.
    let read = file.take(document::MAX_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| failed(&error))?;
    Ok(Some(bytes.into()))
}

fn is_there(base: &Path) -> Result<(), Fault> {
    let meta = fs::metadata(base);
    let meta = meta.map_err(|error| Fault::of_io(&format!("open {}", base.display()), &error))?;
    match meta.is_dir() {
        true => Ok(()),
        false => Err(Fault::new(Cause::Disk, format!("{} is no directory", base.display()))),
    }
}

//! Documents in a directory, as files `NAME/DOCUMENT`: on another volume, as a rule.
//!
//! A file is written beside its place under a name of its own, synced, and moved there, unless a later one is there by then: a
//! call that was given up may go on when the volume answers again. The directory itself has to exist: one that is not
//! mounted is a fault, and not a reason to write to the disk under it. Files are for this user alone.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::OFlags;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::fault::{Cause, Fault};
use crate::{Name, document};

/// Calls at once: one for each document of a boot. Those that a volume does not answer stay, and no more are made.
const MAX_CALLS: usize = 4;

/// Ends the name of a file that is being written.
const NEW: &str = ".new";

/// Age from which on such a file belongs to nobody: its writer died.
const LEFT_AFTER: Duration = Duration::from_secs(60);

/// The number of the call whose document is in place.
type Placed = Arc<Mutex<u64>>;

pub(crate) struct Directory {
    dir: PathBuf,
    calls: Arc<Semaphore>,
    /// Documents that were to be put so far.
    puts: AtomicU64,
    /// By the place: four at most.
    placed: Mutex<BTreeMap<PathBuf, Placed>>,
}

impl Directory {
    pub fn new(dir: PathBuf) -> Self {
        let calls = Arc::new(Semaphore::new(MAX_CALLS));
        Self { dir, calls, puts: AtomicU64::new(0), placed: Mutex::default() }
    }

    pub async fn put(
        &self,
        name: &Name,
        document: &'static str,
        bytes: Bytes,
    ) -> Result<(), Fault> {
        let put = self.begin(name, document, bytes);
        self.call(move || put.write()).await
    }

    /// Gives it its place in the order of all puts.
    fn begin(&self, name: &Name, document: &'static str, bytes: Bytes) -> Put {
        let dir = self.dir.join(name.as_str());
        let placed = Arc::clone(self.placed.lock().entry(dir.join(document)).or_default());
        let number = self.puts.fetch_add(1, Ordering::Relaxed) + 1;
        Put { base: self.dir.clone(), dir, document, bytes, number, placed }
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

/// One document on its way.
struct Put {
    base: PathBuf,
    dir: PathBuf,
    document: &'static str,
    bytes: Bytes,
    number: u64,
    placed: Placed,
}

impl Put {
    fn write(&self) -> Result<(), Fault> {
        is_there(&self.base)?;
        let place = self.dir.join(self.document);
        let new = format!(".{}.{:016x}{NEW}", self.document, fastrand::u64(..));
        let new = self.dir.join(new);
        let written = self.write_by(&new, &place);
        let _ = fs::remove_file(&new);
        tidy(&self.dir);
        written.map_err(|error| Fault::of_io(&format!("write {}", place.display()), &error))
    }

    fn write_by(&self, new: &Path, place: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let mut options = OpenOptions::new();
        let nofollow = OFlags::NOFOLLOW.bits().cast_signed();
        options.write(true).create_new(true).mode(0o600).custom_flags(nofollow);
        let mut file = options.open(new)?;
        file.write_all(&self.bytes)?;
        file.sync_all()?;
        // Held while it is moved: a later one waits for a volume that hangs now.
        let mut placed = self.placed.lock();
        if *placed < self.number {
            fs::rename(new, place)?;
            *placed = self.number;
        }
        drop(placed);
        File::open(&self.dir)?.sync_all()
    }
}

/// Removes what writers left that died.
fn tidy(dir: &Path) {
    let now = SystemTime::now();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|meta| meta.modified());
        let age = modified.ok().and_then(|modified| now.duration_since(modified).ok());
        let is_new = entry.file_name().as_encoded_bytes().ends_with(NEW.as_bytes());
        if is_new && age.is_some_and(|age| age >= LEFT_AFTER) {
            // Or the next time.
            let _ = fs::remove_file(entry.path());
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> (tempfile::TempDir, Directory, Name) {
        let folder = tempfile::tempdir().unwrap();
        let sink = Directory::new(folder.path().to_owned());
        (folder, sink, Name::parse("town-7").unwrap())
    }

    fn files(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_call_that_goes_on_late_replaces_no_later_document() {
        let (folder, sink, name) = world();
        let begin = |document, text: &'static str| sink.begin(&name, document, text.into());
        let (early, late) = (begin("run-0.json", "older"), begin("run-0.json", "newer"));
        let other = begin("run-1.json", "other");
        late.write().unwrap();
        early.write().unwrap();
        other.write().unwrap();
        let dir = folder.path().join("town-7");
        assert_eq!(fs::read_to_string(dir.join("run-0.json")).unwrap(), "newer");
        assert_eq!(files(&dir), ["run-0.json", "run-1.json"]);
        begin("run-0.json", "newest").write().unwrap();
        assert_eq!(fs::read_to_string(dir.join("run-0.json")).unwrap(), "newest");
    }

    #[test]
    fn a_call_touches_no_file_of_another_one_and_what_dead_ones_left_goes() {
        let (folder, sink, name) = world();
        let dir = folder.path().join("town-7");
        fs::create_dir(&dir).unwrap();
        let left = SystemTime::now() - LEFT_AFTER - Duration::from_secs(1);
        let under_way = ["run-0.json.new", ".run-0.json.0000000000000001.new"];
        let dead = [".run-0.json.0000000000000002.new", "crashes-0.json.new"];
        for file in under_way.iter().chain(&dead) {
            fs::write(dir.join(file), "of another one").unwrap();
        }
        for file in dead {
            File::options().write(true).open(dir.join(file)).unwrap().set_modified(left).unwrap();
        }
        sink.begin(&name, "run-0.json", "own".into()).write().unwrap();
        assert_eq!(files(&dir), [under_way[1], "run-0.json", under_way[0]]);
        assert_eq!(fs::read_to_string(dir.join(under_way[0])).unwrap(), "of another one");
    }
}

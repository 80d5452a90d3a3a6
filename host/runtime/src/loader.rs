//! From a file to a component that can be instantiated, and what waits for what.
//!
//! ```text
//!   path ─ stat ─▶ known file? ── yes ─▶ Loaded                       (a start of a known component)
//!                    │ no
//!                    ▼  one job per file, however many starts wait for it; it ends when none does any more
//!                  `loading`
//! ```
//!
//! A file of another world, or one that the compiler died of, stays so until it changes, so that is remembered as well
//! and costs no second compile. The map holds one entry for each configured path.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use bulkhead_log::SharedSink;
use bulkhead_types::Digest;
use parking_lot::Mutex;
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::compile::Stopped;
use crate::engine::CodeSettings;
pub use crate::load_error::LoadError;
use crate::loaded::Outcome;
use crate::loading::{Job, Shared};
use crate::needs::Needs;
use crate::state::State;
use crate::{RuntimeConfig, Vouched};

/// Loads components, each file once.
pub(crate) struct Loader {
    shared: Arc<Shared>,
    vouched: Vouched,
    known: Mutex<HashMap<PathBuf, Known>>,
}

/// A file as it was when it was loaded, and what came of it.
struct Known {
    file: FileIdentity,
    job: Arc<Job>,
}

/// A start that waits for a job. When the last one is gone, so is the job.
struct Waiting<'a> {
    loader: &'a Loader,
    path: &'a Path,
    job: Arc<Job>,
}

/// Changes when the file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileIdentity {
    fn of(path: &Path) -> io::Result<Self> {
        let meta = std::fs::metadata(path)?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        Ok(Self {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

impl Loader {
    pub(crate) fn new(
        config: &RuntimeConfig,
        engine: Engine,
        linker: Linker<State>,
        code: CodeSettings,
        room: Needs,
        sink: SharedSink,
    ) -> io::Result<Self> {
        let shared = Shared::new(config, engine, linker, code, room, sink)?;
        let (shared, vouched) = (Arc::new(shared), config.vouched.clone());
        Ok(Self { shared, vouched, known: Mutex::default() })
    }

    /// Loads the component in `path`, or joins the load that is under way. A job that nobody waits for any more is
    /// ended, and the process that compiles for it is killed.
    pub(crate) async fn load(&self, name: &Arc<str>, path: &Path) -> Outcome {
        let vouched = self.vouched.digest(name, path);
        let vouched =
            vouched.map_err(|reason| LoadError::NotThere { name: Arc::clone(name), reason })?;
        // A `stat` of a local file takes microseconds, a trip to another thread takes more.
        let file =
            FileIdentity::of(path).map_err(|error| LoadError::unreadable(name, path, &error))?;
        self.wait_for(name, path, file, vouched).job.outcome().await
    }

    /// The job for this very file, done or under way.
    fn wait_for<'a>(
        &'a self,
        name: &Arc<str>,
        path: &'a Path,
        file: FileIdentity,
        vouched: Option<Digest>,
    ) -> Waiting<'a> {
        let mut known = self.known.lock();
        let is_same = |known: &&Known| known.file == file && known.job.vouched == vouched;
        let found = known.get(path).filter(is_same);
        let (job, is_new) = match found {
            Some(known) => (Arc::clone(&known.job), false),
            None => (Arc::new(Job::new(name, path, vouched)), true),
        };
        job.waiting.fetch_add(1, Relaxed);
        if is_new {
            known.insert(path.to_owned(), Known { file, job: Arc::clone(&job) });
        }
        drop(known);
        if is_new {
            Arc::clone(&self.shared).begin(Arc::clone(&job));
        }
        Waiting { loader: self, path, job }
    }

    /// Since when the component in `path` is compiled. `None` when it is not: it waits for a thread, is read, or is
    /// loaded.
    pub(crate) fn compiling_since(&self, path: &Path) -> Option<Instant> {
        let known = self.known.lock();
        known.get(path).filter(|known| !known.job.is_done())?.job.compiling_since()
    }

    /// Bytes that processes may take now that compile, all together.
    pub(crate) fn compiling_bytes(&self) -> u64 {
        self.shared.compiler().taken_bytes()
    }

    /// Ends what is being compiled, and while the container is draining all that is being loaded. Callers that wait for
    /// it get the reason.
    pub(crate) fn stop_compiling(&self, why: Stopped) {
        if why == Stopped::Draining {
            self.shared.drain();
        }
        let jobs: Vec<_> = self.known.lock().values().map(|known| Arc::clone(&known.job)).collect();
        let ends = |job: &&Arc<Job>| why == Stopped::Draining || job.compiling_since().is_some();
        jobs.iter().filter(|job| !job.is_done()).filter(ends).for_each(|job| job.stop(why));
    }

    fn forget(&self, path: &Path, job: &Arc<Job>) {
        let mut known = self.known.lock();
        if known.get(path).is_some_and(|known| Arc::ptr_eq(&known.job, job)) {
            known.remove(path);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.job.is_done() {
            // There is nothing to give up, no matter what else waits: a start of a known component takes no lock here.
            if self.job.has_failed_for_now() {
                self.loader.forget(self.path, &self.job);
            }
            return;
        }
        // Under the lock, so that nobody joins what is being given up.
        let mut known = self.loader.known.lock();
        let is_last = self.job.waiting.fetch_sub(1, Relaxed) == 1;
        let stays = self.job.is_done() && !self.job.has_failed_for_now();
        if !is_last || stays {
            return;
        }
        if known.get(self.path).is_some_and(|known| Arc::ptr_eq(&known.job, &self.job)) {
            known.remove(self.path);
        }
        drop(known);
        self.job.stop(Stopped::Unwanted);
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.stop_compiling(Stopped::Draining);
    }
}

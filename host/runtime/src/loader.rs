//! From a file to a component that can be instantiated.
//!
//! ```text
//!   path ─ stat ─▶ known file? ── yes ─▶ Loaded                       (a start of a known component)
//!                    │ no
//!                    ▼  one job per file, however many starts wait for it, off the async threads
//!                  read (bounded) ─▶ SHA-256 ─▶ AOT cache ─▶ or compile ─▶ world check
//! ```
//!
//! A file of another world stays so until it changes, so that is remembered as well and costs no second
//! compile. The map holds one entry for each configured path.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use bulkhead_events::SharedSink;
use bulkhead_events::containment;
use bulkhead_model::time::millis;
use bulkhead_model::{Digest, Event};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use crate::RuntimeConfig;
use crate::aot::{AotCache, Found, read_bounded};
use crate::compilers::Compilers;
use crate::features;
use crate::needs::Needs;
use crate::state::State;
use crate::world::{self, World};

/// WebAssembly's page.
const PAGE_BYTES: u64 = 65_536;

/// A component that is ready to be instantiated.
pub struct Loaded {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// SHA-256 of its file.
    pub digest: Digest,
    /// The file. It may have been replaced since.
    pub path: Arc<Path>,
    /// Linear memory that its largest memory has at birth, in bytes.
    pub initial_memory_bytes: u64,
    pub(crate) world: World,
}

/// Where a loaded component came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The engine compiled it now.
    Compiled,
    /// It was taken from the AOT cache.
    Cache,
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Self::Compiled => "compiled",
            Self::Cache => "cache",
        }
    }
}

/// Why a component cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("component {name}: cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The component.
        name: Arc<str>,
        /// Its file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// The file is larger than allowed.
    #[error("component {name}: {} has {bytes} bytes, at most {max_bytes} are allowed", path.display())]
    TooLarge {
        /// The component.
        name: Arc<str>,
        /// Its file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The bound.
        max_bytes: u64,
    },
    /// The file is no component.
    #[error("component {name}: {} is no component: {reason}", path.display())]
    Invalid {
        /// The component.
        name: Arc<str>,
        /// Its file.
        path: PathBuf,
        /// What it is instead, or the engine's words.
        reason: String,
    },
    /// The component is of another world.
    #[error("component {name}: {} is of another world: {reason}", path.display())]
    WrongWorld {
        /// The component.
        name: Arc<str>,
        /// Its file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The component needs what this engine does not have.
    #[error("component {name}: {} needs what this host does not have: {features}", path.display())]
    Unsupported {
        /// The component.
        name: Arc<str>,
        /// Its file.
        path: PathBuf,
        /// Features of WebAssembly or of the component model.
        features: String,
    },
    /// The component needs more than an agent has in the pool.
    #[error("component {name}: {} does not fit into the pool: {reason}", path.display())]
    DoesNotFit {
        /// The component.
        name: Arc<str>,
        /// Its file.
        path: PathBuf,
        /// What it needs, and what there is.
        reason: String,
    },
    /// The job that loaded it failed: a fault of the host.
    #[error("component {name}: loading failed: {reason}")]
    Host {
        /// The component.
        name: Arc<str>,
        /// What happened.
        reason: String,
    },
}

type Outcome = Result<Arc<Loaded>, LoadError>;

/// Loads components, each file once.
pub(crate) struct Loader {
    shared: Arc<Shared>,
    known: Mutex<HashMap<PathBuf, Known>>,
}

struct Shared {
    engine: Engine,
    linker: Linker<State>,
    cache: Option<AotCache>,
    max_bytes: u64,
    /// What a component may need of the pool. `None`: there is no pool.
    room: Option<Needs>,
    compilers: Compilers,
    sink: SharedSink,
}

/// A file as it was when it was loaded, and what came of it.
struct Known {
    file: FileIdentity,
    outcome: watch::Receiver<Option<Outcome>>,
    /// Since when the engine compiles it, if it does.
    compiling: Arc<OnceLock<Instant>>,
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
        room: Option<Needs>,
        sink: SharedSink,
    ) -> io::Result<Self> {
        let cache = match &config.aot_dir {
            Some(dir) => Some(AotCache::open(dir.clone(), config.aot_bytes, &engine)?),
            None => None,
        };
        let compilers = Compilers::start(config.compile_threads)?;
        let max_bytes = config.max_component_bytes;
        let shared = Arc::new(Shared { engine, linker, cache, max_bytes, room, compilers, sink });
        Ok(Self { shared, known: Mutex::default() })
    }

    /// Loads the component in `path`, or joins whoever is loading it. Dropping the future does not
    /// stop the job: the next start finds its result.
    pub(crate) async fn load(&self, name: &Arc<str>, path: &Path) -> Outcome {
        // A `stat` of a local file takes microseconds, a trip to another thread takes more.
        let file = FileIdentity::of(path).map_err(|error| unreadable(name, path, &error))?;
        let mut outcome = self.watch(name, path, file);
        let outcome = match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(host_failure(name, "no result"))),
            Err(_) => Err(host_failure(name, "the loading job ended without a result")),
        };
        if !matches!(
            outcome,
            Ok(_) | Err(LoadError::WrongWorld { .. } | LoadError::TooLarge { .. })
        ) {
            // It may be the machine's fault, out of memory for example: the next start tries again.
            self.lock().remove(path);
        }
        outcome
    }

    /// The outcome of this very file, known or under way.
    fn watch(
        &self,
        name: &Arc<str>,
        path: &Path,
        file: FileIdentity,
    ) -> watch::Receiver<Option<Outcome>> {
        let mut known = self.lock();
        if let Some(known) = known.get(path).filter(|known| known.file == file) {
            return known.outcome.clone();
        }
        let (send, outcome) = watch::channel(None);
        let compiling = Arc::new(OnceLock::new());
        let entry = Known { file, outcome: outcome.clone(), compiling: Arc::clone(&compiling) };
        known.insert(path.to_owned(), entry);
        drop(known);
        let shared = Arc::clone(&self.shared);
        let (name, path) = (Arc::clone(name), path.to_owned());
        self.shared.compilers.spawn(move || {
            // A panic of the compiler must reach those who wait, and nobody else.
            let outcome = containment::contain(|| shared.load(&name, &path, &compiling))
                .unwrap_or_else(|panicked| Err(host_failure(&name, &panicked.to_string())));
            send.send_replace(Some(outcome));
        });
        outcome
    }

    /// Compiles into the cache, for `bulkhead compile`. Blocks.
    pub(crate) fn load_blocking(&self, name: &Arc<str>, path: &Path) -> Outcome {
        self.shared.compilers.install(|| self.shared.load(name, path, &OnceLock::new()))
    }

    /// Since when the engine compiles the component in `path`. `None` when it does not: it waits for a thread, is read,
    /// or is loaded.
    pub(crate) fn compiling_since(&self, path: &Path) -> Option<Instant> {
        let known = self.lock();
        let known = known.get(path).filter(|known| known.outcome.borrow().is_none())?;
        known.compiling.get().copied()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Known>> {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Shared {
    fn load(&self, name: &Arc<str>, path: &Path, compiling: &OnceLock<Instant>) -> Outcome {
        let began = Instant::now();
        let bytes = match read_bounded(path, self.max_bytes) {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(bytes)) => {
                let (name, path) = (Arc::clone(name), path.to_owned());
                return Err(LoadError::TooLarge { name, path, bytes, max_bytes: self.max_bytes });
            }
            Err(error) => return Err(unreadable(name, path, &error)),
        };
        let invalid = |reason: String| LoadError::Invalid {
            name: Arc::clone(name),
            path: path.to_owned(),
            reason,
        };
        check_preamble(&bytes).map_err(|reason| invalid(reason.into()))?;
        self.check_room(name, path, &bytes)?;
        let digest = Digest(Sha256::digest(&bytes).into());
        let (component, source) = self.component(&digest, &bytes, compiling).map_err(|reason| {
            let (name, path) = (Arc::clone(name), path.to_owned());
            match features::missing(&bytes) {
                Some(features) => LoadError::Unsupported { name, path, features },
                None if reason.contains("pooling allocator") => {
                    LoadError::DoesNotFit { name, path, reason }
                }
                None => LoadError::Invalid { name, path, reason },
            }
        })?;
        let world = world::check(&component, |component| self.linker.instantiate_pre(component))
            .map_err(|reason| LoadError::WrongWorld {
                name: Arc::clone(name),
                path: path.to_owned(),
                reason,
            })?;
        let pages = component
            .resources_required()
            .and_then(|required| required.max_initial_memory_size)
            .unwrap_or(0);
        self.sink.record(Event::ComponentLoaded {
            component: Arc::clone(name),
            sha256: digest.to_string(),
            bytes: bytes.len() as u64,
            source: source.as_str(),
            duration_ms: millis(began.elapsed()),
        });
        let initial_memory_bytes = pages.saturating_mul(PAGE_BYTES);
        let (name, path) = (Arc::clone(name), Arc::from(path));
        Ok(Arc::new(Loaded { name, digest, path, initial_memory_bytes, world }))
    }

    /// Before the engine compiles it: it would refuse it in the end.
    fn check_room(&self, name: &Arc<str>, path: &Path, bytes: &[u8]) -> Result<(), LoadError> {
        let Some(room) = &self.room else { return Ok(()) };
        // What cannot be read is no component, and the engine says why.
        let Ok(needs) = Needs::of(bytes) else { return Ok(()) };
        let Some(reason) = needs.beyond(room) else { return Ok(()) };
        Err(LoadError::DoesNotFit { name: Arc::clone(name), path: path.to_owned(), reason })
    }

    fn component(
        &self,
        digest: &Digest,
        bytes: &[u8],
        compiling: &OnceLock<Instant>,
    ) -> Result<(Component, Source), String> {
        if let Some(cache) = &self.cache {
            match cache.find(&self.engine, digest) {
                Found::Ready(component) => return Ok((component, Source::Cache)),
                Found::Nothing => {}
                Found::Rejected { path, reason } => self.reject(&path, reason),
            }
        }
        let _ = compiling.set(Instant::now());
        let component =
            Component::from_binary(&self.engine, bytes).map_err(|e| format!("{e:#}"))?;
        if let Some(cache) = &self.cache
            && let Err(error) = cache.store(digest, &component)
        {
            // The component is there; only the next boot will be slower.
            self.reject(&cache.path(digest), format!("cannot be written: {error}"));
        }
        Ok((component, Source::Compiled))
    }

    fn reject(&self, path: &Path, reason: String) {
        let path = path.display().to_string();
        self.sink.record(Event::CacheEntryRejected { path, reason });
    }
}

/// Tells what a file is that is no component, from its first eight bytes.
fn check_preamble(bytes: &[u8]) -> Result<(), &'static str> {
    match bytes {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            Err("it is a core module; build it for wasm32-wasip2, or wrap it in a component")
        }
        [0, b'a', b's', b'm', ..] => Err("it is WebAssembly of another version"),
        [] => Err("it is empty"),
        _ => Err("it does not begin like WebAssembly"),
    }
}

fn unreadable(name: &Arc<str>, path: &Path, error: &io::Error) -> LoadError {
    LoadError::Unreadable {
        name: Arc::clone(name),
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn host_failure(name: &Arc<str>, reason: &str) -> LoadError {
    LoadError::Host { name: Arc::clone(name), reason: reason.to_owned() }
}

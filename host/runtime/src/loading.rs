//! One file that is being loaded, from its bytes to a component of a known world.
//!
//! ```text
//!   readers:  read (bounded) ─▶ checks ─▶ SHA-256 ─▶ AOT cache ── there ──▶ world check ─▶ outcome
//!                                                     │ not there                ▲
//!   a lane:                                           └─▶ compile ─▶ AOT cache ──┘
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bulkhead_log::SharedSink;
use bulkhead_tasks::containment;
use bulkhead_types::time::millis;
use bulkhead_types::{Digest, Event};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use crate::aot::{AotCache, Found, read_bounded};
use crate::aot_seed::AotSeed;
use crate::compile::{Cancel, CodeBounds, CodeSize, Compiler, Lane, Stopped, Workers};
use crate::engine::CodeSettings;
use crate::load_error::LoadError;
use crate::loaded::Loaded;
use crate::loaded::Outcome;
use crate::loaded::Source;
use crate::needs::Needs;
use crate::state::State;
use crate::world;
use crate::{InstanceBounds, RuntimeConfig};

/// WebAssembly's page.
const PAGE_BYTES: u64 = 65_536;

/// Threads that read files and take components from the cache. A disk that does not answer keeps as many.
const READERS: usize = 4;

/// What all jobs need.
pub(crate) struct Shared {
    engine: Engine,
    linker: Linker<State>,
    cache: Option<AotCache>,
    seed: Option<AotSeed>,
    compiler: Compiler,
    max_bytes: u64,
    bounds: CodeBounds,
    instance_bounds: InstanceBounds,
    /// What a component may need.
    room: Needs,
    readers: Workers,
    quick: Workers,
    long: Workers,
    draining: AtomicBool,
    sink: SharedSink,
}

/// A file that is being loaded, or was.
pub(crate) struct Job {
    name: Arc<str>,
    path: PathBuf,
    /// The digest that the file has to have, if somebody vouched for one.
    pub(crate) vouched: Option<Digest>,
    began: Instant,
    outcome: watch::Sender<Option<Outcome>>,
    compiling: OnceLock<Instant>,
    cancel: Cancel,
    /// Starts that wait for it. Changed under the lock of those who look for it.
    pub(crate) waiting: AtomicUsize,
}

/// A component that is in no cache.
struct Uncompiled {
    bytes: Vec<u8>,
    file: Read,
    lane: Lane,
}

/// What is known of a file that was read.
#[derive(Clone, Copy)]
struct Read {
    digest: Digest,
    bytes: usize,
    record_bytes: u64,
}

/// What a step of a job came to.
enum Step {
    Done(Arc<Loaded>),
    Compile(Uncompiled),
}

impl Job {
    pub(crate) fn new(name: &Arc<str>, path: &Path, vouched: Option<Digest>) -> Self {
        Self {
            name: Arc::clone(name),
            path: path.to_owned(),
            vouched,
            began: Instant::now(),
            outcome: watch::Sender::new(None),
            compiling: OnceLock::new(),
            cancel: Cancel::default(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// What comes of it.
    pub(crate) async fn outcome(&self) -> Outcome {
        let mut outcome = self.outcome.subscribe();
        // The sender is here, so there is one.
        let lost = || Err(LoadError::host(&self.name, "no result"));
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(lost),
            Err(_) => lost(),
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.outcome.borrow().is_some()
    }

    /// Whether it failed by what may be the machine's fault, out of memory for example: the next start tries again.
    pub(crate) fn has_failed_for_now(&self) -> bool {
        let outcome = self.outcome.borrow();
        matches!(&*outcome, Some(Err(error)) if !error.is_lasting())
    }

    /// Since when it is compiled, if it is or was.
    pub(crate) fn compiling_since(&self) -> Option<Instant> {
        self.compiling.get().copied()
    }

    /// Ends it: a process that compiles is killed, and callers that wait get an error at once.
    pub(crate) fn stop(&self, why: Stopped) {
        self.cancel.cancel(why);
        self.settle(Err(LoadError::stopped(&self.name, why)));
    }

    /// The first outcome stays.
    fn settle(&self, outcome: Outcome) {
        self.outcome.send_if_modified(|settled| {
            let is_first = settled.is_none();
            if is_first {
                *settled = Some(outcome);
            }
            is_first
        });
    }
}

impl Shared {
    pub(crate) fn new(
        config: &RuntimeConfig,
        engine: Engine,
        linker: Linker<State>,
        code: CodeSettings,
        room: Needs,
        sink: SharedSink,
    ) -> io::Result<Self> {
        let seed = config.aot_seed.clone().map(|dir| AotSeed::new(dir, &engine));
        let cache = match &config.aot_dir {
            Some(dir) => Some(AotCache::open(dir.clone(), config.aot_bytes, &engine)?),
            None => None,
        };
        Ok(Self {
            compiler: Compiler::new(config, &engine, code)?,
            engine,
            linker,
            cache,
            seed,
            max_bytes: config.max_component_bytes,
            bounds: config.compiler.bounds,
            instance_bounds: config.instance_bounds,
            room,
            readers: Workers::start("bulkhead-load", READERS)?,
            quick: Workers::start("bulkhead-quick", 1)?,
            long: Workers::start("bulkhead-long", 1)?,
            draining: AtomicBool::new(false),
            sink,
        })
    }

    pub(crate) fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// From now on nothing is compiled.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Gets a job on its way.
    pub(crate) fn begin(self: Arc<Self>, job: Arc<Job>) {
        let shared = Arc::clone(&self);
        self.readers.spawn(move || {
            let step = contained(&job, || shared.read(&job));
            shared.go_on(job, step);
        });
    }

    fn go_on(self: Arc<Self>, job: Arc<Job>, step: Result<Step, LoadError>) {
        let uncompiled = match step {
            Ok(Step::Compile(uncompiled)) => uncompiled,
            Ok(Step::Done(loaded)) => return job.settle(Ok(loaded)),
            Err(error) => return job.settle(Err(error)),
        };
        if self.draining.load(Relaxed) {
            return job.stop(Stopped::Draining);
        }
        let shared = Arc::clone(&self);
        let lane = match uncompiled.lane {
            Lane::Quick => &self.quick,
            Lane::Long => &self.long,
        };
        lane.spawn(move || {
            let step = contained(&job, || shared.compile(&job, uncompiled));
            shared.go_on(job, step);
        });
    }

    fn read(&self, job: &Job) -> Result<Step, LoadError> {
        let (name, path) = (&job.name, &job.path);
        let bytes = match read_bounded(path, self.max_bytes) {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(bytes)) => {
                let (name, path) = (Arc::clone(name), path.clone());
                return Err(LoadError::TooLarge { name, path, bytes, max_bytes: self.max_bytes });
            }
            Err(error) => return Err(LoadError::unreadable(name, path, &error)),
        };
        let digest = Digest(Sha256::digest(&bytes).into());
        if job.vouched.is_some_and(|vouched| vouched != digest) {
            let (name, path) = (Arc::clone(name), path.clone());
            return Err(LoadError::WrongDigest { name, path, got: digest });
        }
        check_preamble(&bytes).map_err(|reason| {
            let (name, path) = (Arc::clone(name), path.clone());
            LoadError::Invalid { name, path, reason: reason.into() }
        })?;
        let record_bytes = self.check_room(name, path, &bytes)?.record_bytes;
        let file = Read { digest, bytes: bytes.len(), record_bytes };
        if let Some((component, source)) = self.find(&digest) {
            return Ok(Step::Done(self.link(job, &component, file, source)?));
        }
        let size = CodeSize::of(&bytes);
        if let Some(reason) = size.beyond(&self.bounds) {
            let (name, path) = (Arc::clone(name), path.clone());
            return Err(LoadError::TooComplex { name, path, reason });
        }
        Ok(Step::Compile(Uncompiled { bytes, file, lane: Lane::of(&size) }))
    }

    /// Before the engine compiles it: it would refuse it in the end.
    fn check_room(&self, name: &Arc<str>, path: &Path, bytes: &[u8]) -> Result<Needs, LoadError> {
        // What cannot be read is no component, and the engine says why.
        let Ok(needs) = Needs::of(bytes) else { return Ok(Needs::default()) };
        let too_much = self.instance_bounds.passed_by(&needs);
        let Some(reason) = too_much.or_else(|| needs.beyond(&self.room)) else { return Ok(needs) };
        Err(LoadError::DoesNotFit { name: Arc::clone(name), path: path.to_owned(), reason })
    }

    /// What was compiled before, here or when the container was built.
    fn find(&self, digest: &Digest) -> Option<(Component, Source)> {
        let kept = self.cache.as_ref().map(|cache| cache.find(&self.engine, digest));
        let kept = kept.and_then(|found| self.usable(found));
        let seeded = || {
            let found = self.seed.as_ref()?.find(&self.engine, digest);
            Some((self.usable(found)?, Source::Seed))
        };
        kept.map(|component| (component, Source::Cache)).or_else(seeded)
    }

    fn usable(&self, found: Found) -> Option<Component> {
        match found {
            Found::Ready(component) => Some(component),
            Found::Nothing => None,
            Found::Rejected { path, reason } => {
                self.reject(&path, reason);
                None
            }
        }
    }

    fn compile(&self, job: &Job, uncompiled: Uncompiled) -> Result<Step, LoadError> {
        let Uncompiled { bytes, file, lane } = uncompiled;
        let digest = file.digest;
        let _ = job.compiling.set(Instant::now());
        let entry = match self.compiler.compile(lane, &digest, &bytes, &job.cancel) {
            Ok(entry) => entry,
            Err(error) if self.compiler.gets_more_room(&error) => {
                return Ok(Step::Compile(Uncompiled { bytes, file, lane: Lane::Long }));
            }
            Err(error) => return Err(LoadError::compile(&job.name, &job.path, error)),
        };
        let loaded = self.compiler.format().load(&self.engine, &digest, &entry);
        let component = loaded.map_err(|reason| {
            let (name, path) = (Arc::clone(&job.name), job.path.clone());
            match reason.contains("pooling allocator") {
                true => LoadError::DoesNotFit { name, path, reason },
                false => LoadError::host(&name, format!("what was compiled is no entry: {reason}")),
            }
        })?;
        if let Some(cache) = &self.cache
            && let Err(error) = cache.store(&digest, &entry)
        {
            // The component is there; only the next boot will be slower.
            self.reject(&cache.path(&digest), format!("cannot be written: {error}"));
        }
        drop(entry);
        self.link(job, &component, file, Source::Compiled).map(Step::Done)
    }

    fn link(&self, job: &Job, component: &Component, file: Read, source: Source) -> Outcome {
        let Read { digest, bytes, record_bytes } = file;
        let world = world::check(component, |component| self.linker.instantiate_pre(component))
            .map_err(|reason| LoadError::WrongWorld {
                name: Arc::clone(&job.name),
                path: job.path.clone(),
                reason,
            })?;
        let pages = component
            .resources_required()
            .and_then(|required| required.max_initial_memory_size)
            .unwrap_or(0);
        self.sink.record(Event::ComponentLoaded {
            component: Arc::clone(&job.name),
            sha256: digest.to_string(),
            bytes: bytes as u64,
            source: source.as_str(),
            duration_ms: millis(job.began.elapsed()),
        });
        let initial_memory_bytes = pages.saturating_mul(PAGE_BYTES);
        let (name, path) = (Arc::clone(&job.name), Arc::from(job.path.as_path()));
        Ok(Arc::new(Loaded { name, digest, path, initial_memory_bytes, record_bytes, world }))
    }

    fn reject(&self, path: &Path, reason: String) {
        let path = path.display().to_string();
        self.sink.record(Event::CacheEntryRejected { path, reason });
    }
}

/// Does a step. A panic of it must reach the callers that wait, and nobody else.
fn contained(job: &Job, step: impl FnOnce() -> Result<Step, LoadError>) -> Result<Step, LoadError> {
    containment::contain(step)
        .unwrap_or_else(|panicked| Err(LoadError::host(&job.name, panicked.to_string())))
}

/// Says what a file is that is no component, from its first eight bytes.
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

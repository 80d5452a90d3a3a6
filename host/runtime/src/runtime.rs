//! The runtime as the rest of the host sees it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_log::{Gauge, SharedSink};
use bulkhead_source::{Source, SourceCode, Sources};
use bulkhead_tasks::BucketRules;
use bulkhead_telemetry::CurrentTurn;
use bulkhead_types::Exception;
use bulkhead_types::Phase;
use bulkhead_types::error::chain;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wasmtime::component::Linker;
use wasmtime::{CallHook, Engine, Store, UpdateDeadline};

use crate::call::Call;
use crate::capacity::Capacity;
use crate::compile::Stopped;
use crate::core_dump::CoreDumps;
use crate::descriptors::Descriptors;
use crate::engine::{self, Built, EngineError};
use crate::executor::Executor;
use crate::growth_budget::GrowthBudget;
use crate::guest_instance::Finished;
use crate::guest_instance::Guest;
use crate::guest_instance::GuestInstance;
use crate::instance_context::InstanceContext;
use crate::interfaces::tools::{Exec, ExecError, Executed, Starter};
use crate::interrupt::{Interrupt, WorkspaceFault};
use crate::lanes::Lanes;
use crate::load_error::LoadError;
use crate::loaded::Loaded;
use crate::loader::Loader;
use crate::meter::CallLimits;
use crate::meter::Verdict;
use crate::pool::Pool;
use crate::quota::{Disk, DiskFigures};
use crate::resources::Census;
use crate::source_maps::SourceMaps;
use crate::state::{Shared, State};
use crate::symbolizer::{Symbolizer, SymbolizerConfig};
use crate::ticker::Ticker;
use crate::world::World;
use crate::{RuntimeConfig, bindings, blocking, host_call, interfaces};

/// Threads that read source code. What each of them reads is in no account until it is compared with what is known.
const SOURCE_READERS: usize = 2;

/// How long source code may take to be read, its wait for a thread included: two disks that hang keep both.
const SOURCE_PATIENCE: Duration = Duration::from_secs(30);

/// The engine with everything around it. One for each process.
pub struct Runtime {
    executor: Executor,
    lanes: Lanes,
    loader: Loader,
    capacity: Capacity,
    pool: Option<Pool>,
    sources: Arc<Sources>,
    source_readers: Arc<Semaphore>,
    source_maps: SourceMaps,
    stores: Gauge,
    shared: Shared,
    symbolizer: Symbolizer,
    core_dumps: Option<CoreDumps>,
    compile: Duration,
    bucket: BucketRules,
}

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The engine refused its settings.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A thread or a directory could not be made.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's words.
        #[source]
        source: io::Error,
    },
}

/// What was being done. No disk says that it should be tried again: a limit of processes does, to who wants a thread.
fn failed(what: &'static str, error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            "start a thread; a limit of processes is reached (the container's pids, RLIMIT_NPROC)"
        }
        _ => what,
    }
}

impl Runtime {
    /// Builds the engine and starts the lanes and the ticker.
    pub fn new(config: &RuntimeConfig, sink: SharedSink) -> Result<Self, RuntimeError> {
        let io = |what| {
            move |source: io::Error| RuntimeError::Io { what: failed(what, &source), source }
        };
        let Built { engine, capacity, room, code, guest_files } = engine::build(config)?;
        let linker = link(&engine);
        let pool = Pool::of(&engine, &capacity);
        let lanes = Lanes::start(config.lane_threads).map_err(io("start the lanes"))?;
        let ticker = Ticker::start(engine.clone(), config.tick).map_err(io("start the ticker"))?;
        let loader = Loader::new(config, engine, linker, code, room, sink)
            .map_err(io("open the compile cache"))?;
        let executor = Executor { ticker: Arc::new(ticker) };
        let resolver = interfaces::http::Resolver::start().map_err(io("start the resolver"))?;
        let carrier = interfaces::http::Carrier::start(config.lane_threads);
        let shared = Shared {
            connector: config.connector.clone(),
            models: config.models.clone(),
            tools: config.tools.clone(),
            workspaces: config.workspaces.clone(),
            http_secrets: config.http_secrets.clone(),
            carrier: Arc::new(carrier.map_err(io("start the threads of requests"))?),
            resolver: Arc::new(resolver),
            blocking: Arc::new(blocking::shares()),
            disk: Arc::new(Disk::new(config.disk_floor)),
            growth_budget: Arc::default(),
            bounds: config.instance_bounds,
            descriptors: Descriptors::new(guest_files),
            large_bytes: config.fast_lane_memory_bytes,
            slow_slice: config.slow_slice,
        };
        let symbols = SymbolizerConfig {
            max_component_bytes: config.max_component_bytes,
            ..SymbolizerConfig::default()
        };
        let symbolizer = Symbolizer::start(symbols).map_err(io("start the symbolizer"))?;
        let core_dumps = config.core_dumps.clone().map(CoreDumps::start).transpose();
        let core_dumps = core_dumps.map_err(io("open the directory of core dumps"))?;
        let stores = Gauge::default();
        let compile = config.compile;
        Ok(Self {
            executor,
            lanes,
            loader,
            capacity,
            pool,
            sources: Arc::default(),
            source_readers: Arc::new(Semaphore::new(SOURCE_READERS)),
            source_maps: SourceMaps::default(),
            stores,
            shared,
            symbolizer,
            core_dumps,
            compile,
            bucket: config.bucket,
        })
    }

    /// Runs a program in an agent's place, to its end. Dropping the future kills the program.
    pub async fn exec(&self, context: &InstanceContext, exec: Exec) -> Result<Executed, ExecError> {
        // No turn of the agent's is the reason.
        let turn = CurrentTurn::default();
        Starter { turn, ..self.shared.starter(context) }.execute(exec).await
    }

    /// What an agent may burn before its task leaves the fast lane.
    pub fn bucket(&self) -> BucketRules {
        self.bucket
    }

    /// What the engine was built for.
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Stores that exist: one for each incarnation, from before its instantiation until its memory is
    /// given back.
    pub fn stores(&self) -> usize {
        self.stores.now()
    }

    /// What agents wanted to write and could not for want of room.
    pub fn disk(&self) -> DiskFigures {
        self.shared.disk.figures()
    }

    /// What the pool keeps of agents that ended, for the next ones, in bytes.
    pub fn kept_bytes(&self) -> u64 {
        self.pool.as_ref().map_or(0, Pool::kept_bytes)
    }

    /// Gives back the pages that unused slots of the pool keep, when that is worth it: the next agents in them
    /// have page faults again. Takes milliseconds; for a thread that nobody waits for.
    pub fn sweep_pool(&self) {
        if let Some(pool) = &self.pool {
            pool.sweep();
        }
    }

    /// What all guests together may still grow by.
    pub fn growth_budget(&self) -> &Arc<GrowthBudget> {
        &self.shared.growth_budget
    }

    /// All guests together may grow by so many bytes, and so may all native programs. `None`: by any number.
    pub fn give_room(&self, bytes: Option<u64>) {
        self.shared.growth_budget.set(bytes, Instant::now());
        if let Some(tools) = &self.shared.tools {
            tools.launcher.give_room(bytes.unwrap_or(u64::MAX));
        }
    }

    /// Who finds files and lines for the frames of a crash.
    pub fn symbolizer(&self) -> &Symbolizer {
        &self.symbolizer
    }

    /// Who writes core dumps, when they are on.
    pub fn core_dumps(&self) -> Option<&CoreDumps> {
        self.core_dumps.as_ref()
    }

    /// Where agents' tasks run.
    pub fn fast_lane(&self) -> &Handle {
        self.lanes.fast()
    }

    /// Where tasks run that are not to hold up any other.
    pub fn slow_lane(&self) -> &Handle {
        self.lanes.slow()
    }

    /// Loads the component in `path`, or joins the load that is under way. A component that nobody waits for any more
    /// is not compiled on.
    pub async fn load(&self, name: &Arc<str>, path: &Path) -> Result<Arc<Loaded>, LoadError> {
        self.loader.load(name, path).await
    }

    /// How long a start waits for that.
    pub fn compile_limit(&self) -> Duration {
        self.compile
    }

    /// Since when the component in `path` is compiled. `None` when it is not.
    pub fn compiling_since(&self, path: &Path) -> Option<Instant> {
        self.loader.compiling_since(path)
    }

    /// The same for a thread that may wait, and is none of this runtime.
    pub fn load_blocking(&self, name: &Arc<str>, path: &Path) -> Result<Arc<Loaded>, LoadError> {
        self.slow_lane().block_on(self.loader.load(name, path))
    }

    /// Bytes that processes may take now that compile components, all together. They are no part of this one.
    pub fn compiling_bytes(&self) -> u64 {
        self.loader.compiling_bytes()
    }

    /// Ends every compile, and lets none begin from now on, because the container is draining. Starts that wait for
    /// one fail with that reason.
    pub fn stop_compiling(&self) {
        self.loader.stop_compiling(Stopped::Draining);
    }

    /// Ends every compile, because memory is short. Starts that wait for one fail with that reason.
    pub fn shed_compiling(&self) {
        self.loader.stop_compiling(Stopped::MemoryShort);
    }

    /// Reads source code. Waits for the disk on a thread of its own, and no longer than 30 s.
    pub async fn source(&self, code: SourceCode) -> Result<Arc<Source>, LoadError> {
        let shown = code.path.display().to_string();
        let overdue = |_| {
            let seconds = SOURCE_PATIENCE.as_secs();
            Err(LoadError::Source(format!(
                "{shown} was not read within {seconds} s: does its disk answer?"
            )))
        };
        timeout(SOURCE_PATIENCE, self.read_source(code)).await.unwrap_or_else(overdue)
    }

    #[cfg(test)]
    pub(crate) fn source_readers(&self) -> &Arc<Semaphore> {
        &self.source_readers
    }

    async fn read_source(&self, code: SourceCode) -> Result<Arc<Source>, LoadError> {
        let reader = Arc::clone(&self.source_readers).acquire_owned().await;
        let sources = Arc::clone(&self.sources);
        let read = tokio::task::spawn_blocking(move || {
            // Until it is read, also when the start was given up.
            let _reader = reader;
            sources.read(&code)
        });
        let read = read.await;
        match read {
            Ok(read) => read.map_err(|error| LoadError::Source(chain(&error))),
            Err(error) => Err(LoadError::Source(error.to_string())),
        }
    }

    /// A chain of causes with the places and names of the sources that its code was made from, as the source maps in the
    /// code say. `None`: it could not be done.
    pub async fn mapped_to_sources(
        &self,
        source: Arc<Source>,
        exceptions: Vec<Exception>,
    ) -> Option<Vec<Exception>> {
        self.source_maps.mapped(source, exceptions).await
    }

    /// Makes a store and an instance in it. `source` is what it answers to a runner that asks for its source code.
    pub fn instantiate(
        &self,
        loaded: &Arc<Loaded>,
        source: Option<Arc<Source>>,
        instance_context: Arc<InstanceContext>,
        limits: CallLimits,
    ) -> Call<()> {
        let loaded = Arc::clone(loaded);
        let shared = self.shared.clone();
        let stores = self.stores.clone();
        let for_future = Arc::clone(&instance_context);
        let future = Box::pin(async move {
            match instantiate(&loaded, source, &for_future, &shared, &stores).await {
                Ok(instance) => Finished { instance: Some(instance), result: Ok(Ok(())) },
                Err(error) => Finished { instance: None, result: Err(error) },
            }
        });
        Call::new(
            future,
            Phase::Instantiate,
            limits,
            false,
            instance_context,
            self.executor.clone(),
        )
    }

    /// Ends the lanes without waiting for what still runs on them. Call it from a thread that is not
    /// theirs.
    pub fn shut_down(self) {
        self.lanes.shut_down();
    }
}

async fn instantiate(
    loaded: &Loaded,
    source: Option<Arc<Source>>,
    instance_context: &InstanceContext,
    shared: &Shared,
    stores: &Gauge,
) -> wasmtime::Result<GuestInstance> {
    let mut state = prepare(instance_context, shared).await?;
    state.hold_records(loaded.record_bytes)?;
    state.source = source;
    let engine = match &loaded.world {
        World::Agent(pre) => pre.engine(),
        World::Command(pre) => pre.engine(),
    };
    // Before the store, so that it is dropped after it, wherever this ends.
    let counted = stores.enter();
    let mut store = Store::new(engine, state);
    if instance_context.limited {
        store.limiter_async(|state| &mut state.limiter);
    }
    store.set_hostcall_fuel(instance_context.meter.memory().lifted_bytes());
    store.set_max_component_handles(Census::default().max_handles());
    store.call_hook(|mut context, hook| {
        match hook {
            CallHook::CallingHost => context.data().meter.enter_host(),
            CallHook::ReturningFromHost => {
                context.data().meter.leave_host();
                if let Some(census) = context.data_mut().settle()? {
                    context.set_max_component_handles(census.max_handles());
                }
            }
            CallHook::CallingWasm | CallHook::ReturningFromWasm => {}
        }
        Ok(())
    });
    let slice = shared.slow_slice;
    store.epoch_deadline_callback(move |context| match context.data().meter.on_tick(slice) {
        Verdict::GoOn => Ok(UpdateDeadline::Continue(1)),
        Verdict::Yield => Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))),
        Verdict::Interrupt(cut) => Err(cut.into()),
    });
    store.set_epoch_deadline(1);
    let guest = match &loaded.world {
        World::Agent(pre) => Guest::Agent(pre.instantiate_async(&mut store).await?),
        World::Command(pre) => Guest::Command(pre.instantiate_async(&mut store).await?),
    };
    store.data_mut().limiter.set_instantiated();
    Ok(GuestInstance { store, guest, _counted: counted })
}

/// Makes the workspace and opens it, on a thread that may wait for the disk. That counts as a host call.
async fn prepare(instance_context: &InstanceContext, shared: &Shared) -> wasmtime::Result<State> {
    let Some(workspace) = &instance_context.workspace else {
        return Ok(State::new(instance_context, shared)?);
    };
    instance_context.meter.enter_host();
    host_call::name("workspace.open");
    shared.blocking(instance_context).thread().await;
    let state = std::fs::create_dir_all(workspace)
        .and_then(|()| State::new(instance_context, shared))
        .map_err(|why| WorkspaceFault { path: workspace.clone(), why })?;
    instance_context.meter.leave_host();
    match instance_context.meter.is_killed() {
        // Its start was given up meanwhile.
        true => Err(Interrupt::Killed.into()),
        false => Ok(state),
    }
}

fn link(engine: &Engine) -> Linker<State> {
    let mut linker = Linker::new(engine);
    // The three define disjoint names; a clash is a bug that every boot would show.
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("link wasi:*");
    interfaces::files::replace(&mut linker).expect("replace wasi:filesystem/types");
    interfaces::random::replace(&mut linker).expect("replace wasi:random's bytes");
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).expect("link wasi:http");
    interfaces::body::replace(&mut linker).expect("replace wasi:http's incoming-body.stream");
    link_own(&mut linker).expect("link bulkhead:agent/*");
    linker
}

/// The contract's interfaces. Those of WASI that it refers to are there already.
fn link_own(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    use bindings::bulkhead::agent::{agent_types, host, model, runner, tools, workspace};
    type Own = wasmtime::component::HasSelf<State>;
    agent_types::add_to_linker::<_, Own>(linker, |state| state)?;
    host::add_to_linker::<_, Own>(linker, |state| state)?;
    model::add_to_linker::<_, Own>(linker, |state| state)?;
    tools::add_to_linker::<_, Own>(linker, |state| state)?;
    workspace::add_to_linker::<_, Own>(linker, |state| state)?;
    runner::add_to_linker::<_, Own>(linker, |state| state)
}

//! What a store holds.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_account::{AccountReading, Charge};
use bulkhead_llm::Models;
use bulkhead_net::Connector;
use bulkhead_source::Source;
use bulkhead_types::{AgentSpec, HostKind, Level};
use bulkhead_workspace::Workspaces;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::InstanceBounds;
use crate::descriptors::Descriptors;
use crate::growth_budget::GrowthBudget;
use crate::instance_context::InstanceContext;
use crate::interfaces::http::{self, Carrier, HttpSecrets, Outbound, Resolver};
use crate::interfaces::model::Access;
use crate::interfaces::stdio::LineStream;
use crate::interfaces::tools::{Access as ToolAccess, Starter, Tools};
use crate::interrupt::Interrupt;
use crate::lanes;
use crate::limiter::Limiter;
use crate::logs::Logs;
use crate::may_block::Blocking;
use crate::memory::UNCOUNTED_RECORD_BYTES;
use crate::meter::Meter;
use crate::port::Port;
use crate::quota::{Disk, Open, Quota};
use crate::resources::{self, Census, OwnStreams, Pace};
use crate::resources::{BodyStreams, MAX_FIELD_BYTES, RANDOM_PART_BYTES};
use crate::shares::Shares;

#[cfg(test)]
pub(crate) mod fake;

pub(crate) struct State {
    /// First: fields are dropped in order, and what the others hold is part of the last reading.
    _accounting: Accounting,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: Outbound,
    /// Its way to language models.
    pub models: Access,
    /// Its way to native programs.
    pub tools: ToolAccess,
    /// What makes repositories.
    pub workspaces: Option<Workspaces>,
    pub table: ResourceTable,
    /// What the engine keeps of its instances.
    records: Charge,
    /// What is in the table.
    open: Charge,
    /// The host call under way may have changed the table.
    pub touched: bool,
    pace: Pace,
    stdio: [LineStream; 2],
    /// Those that the guest has of responses.
    pub body_streams: BodyStreams,
    pub limiter: Limiter,
    pub meter: Arc<Meter>,
    pub logs: Arc<Logs>,
    pub port: Arc<dyn Port>,
    pub spec: Arc<AgentSpec>,
    /// Its way to threads that may block.
    pub blocking: Blocking,
    /// What its workspace may hold.
    pub quota: Arc<Quota>,
    /// Its source code, if it is text for an interpreter.
    pub source: Option<Arc<Source>>,
    /// Last: see there.
    open_files: OpenFiles,
}

/// Files that a store has open when it goes. They are closed after everything else is gone, on a thread that may
/// block.
#[derive(Default)]
struct OpenFiles(Option<Open<Vec<Arc<File>>>>);

impl Drop for OpenFiles {
    fn drop(&mut self) {
        if let Some(files) = self.0.take() {
            lanes::drop_blocking(files);
        }
    }
}

/// Whether a configuration value is for the host alone: what it reaches language models by.
pub(crate) fn is_the_hosts(key: &str) -> bool {
    key.starts_with("model.")
}

/// What all stores share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// The way out.
    pub connector: Connector,
    /// Where language models are.
    pub models: Models,
    /// How native programs run, if any do.
    pub tools: Option<Tools>,
    /// What makes repositories, if something does.
    pub workspaces: Option<Workspaces>,
    /// Credentials for HTTP services.
    pub http_secrets: HttpSecrets,
    /// Carries requests.
    pub carrier: Arc<Carrier>,
    /// Looks up names.
    pub resolver: Arc<Resolver>,
    /// Threads that may block, for each agent.
    pub blocking: Arc<Shares>,
    /// The disk of all workspaces.
    pub disk: Arc<Disk>,
    /// What all guests together may still grow by.
    pub growth_budget: Arc<GrowthBudget>,
    /// What an instance may be made of.
    pub bounds: InstanceBounds,
    /// What all guests together may have open.
    pub descriptors: Arc<Descriptors>,
    /// An agent with more memory than this is never on a fast thread.
    pub large_bytes: u64,
    /// CPU time between two yields on the slow lane.
    pub slow_slice: Duration,
}

impl Shared {
    /// What starts the native programs of an agent.
    pub(crate) fn starter(&self, context: &InstanceContext) -> Starter {
        Starter {
            tools: self.tools.clone(),
            workspaces: self.workspaces.clone(),
            spec: Arc::clone(&context.spec),
            port: Arc::clone(&context.port),
            workspace: context.workspace.clone(),
            turn: context.turn.clone(),
        }
    }

    /// The way of an incarnation to threads that may block.
    pub(crate) fn blocking(&self, context: &InstanceContext) -> Blocking {
        Blocking::new(Arc::clone(&context.meter), self.blocking.of(&context.spec.id))
    }
}

impl State {
    /// Opens the workspace, which must be there, so the thread has to be one that may block. Without one everything is
    /// in memory.
    pub(crate) fn new(context: &InstanceContext, shared: &Shared) -> std::io::Result<Self> {
        let logs = Arc::clone(&context.logs);
        let mut wasi = WasiCtxBuilder::new();
        let stdout = LineStream::stdout(Arc::clone(&logs));
        let stderr = LineStream::stderr(Arc::clone(&logs));
        wasi.stdout(stdout.clone())
            .stderr(stderr.clone())
            // No address is allowed in any case; this way there are no sockets either.
            .allow_tcp(false)
            .allow_udp(false)
            .max_random_size(RANDOM_PART_BYTES)
            // They do so on threads that may block.
            .allow_blocking_current_thread(true)
            .arg(context.spec.component.as_ref())
            .args(&context.spec.args);
        // What may change wins, as it does in `host.config`. An instance cannot be notified of a change: the next
        // one begins with it.
        let mut env = context.spec.env.clone();
        env.extend(context.port.live_values());
        for (key, value) in env.iter().filter(|(key, _)| !is_the_hosts(key)) {
            wasi.env(key, value.expose());
        }
        if let Some(workspace) = &context.workspace {
            wasi.preopened_dir(workspace, "/workspace", FsPerms::ReadWrite)
                .map_err(std::io::Error::other)?;
        }
        let root = context.workspace.as_ref().map(File::open).transpose()?;
        // Beside the directory that every agent has from its context on.
        let descriptors = shared.descriptors.none();
        let quota = Quota::new(&context.spec.limits, Arc::clone(&shared.disk), root, descriptors);
        let mut table = ResourceTable::new();
        // Its bytes are what bounds it.
        table.set_max_capacity(u32::MAX as usize);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(MAX_FIELD_BYTES as usize);
        let (policy, meter) = (context.spec.http.clone(), Arc::clone(&context.meter));
        let lookups = shared.resolver.share_of(&context.spec.id);
        let connector = shared.connector.clone();
        let threads = shared.carrier.handle().clone();
        let sockets = Arc::clone(&shared.descriptors);
        let growth_budget = Arc::clone(&shared.growth_budget);
        let limiter =
            Limiter::new(Arc::clone(&meter), growth_budget, shared.bounds, shared.large_bytes);
        let account = context.meter.memory().account();
        let models = Access {
            models: shared.models.clone(),
            spec: Arc::clone(&context.spec),
            port: Arc::clone(&context.port),
            logs: Arc::clone(&logs),
            meter: Arc::clone(&meter),
            connector: connector.clone(),
            lookups: lookups.clone(),
            threads: threads.clone(),
            sockets: Arc::clone(&sockets),
            under_way: Arc::default(),
            lines: Access::lines(),
            told_of_key: false,
            turn: context.turn.clone(),
            own: None,
        };
        let tools = ToolAccess {
            starter: shared.starter(context),
            meter: Arc::clone(&context.meter),
            descriptors: Arc::clone(&shared.descriptors),
            running: Arc::default(),
        };
        Ok(Self {
            _accounting: Accounting::begin(context),
            wasi: wasi.build(),
            http,
            outbound: Outbound::new(
                http::Agent { policy, connector, logs: Arc::clone(&logs), meter, lookups, threads },
                sockets,
                shared.http_secrets.clone(),
                Arc::clone(&context.port),
            )
            .in_turn(context.turn.clone()),
            models,
            tools,
            workspaces: shared.workspaces.clone(),
            table,
            records: account.nothing(HostKind::Instances),
            open: account.nothing(HostKind::Resources),
            touched: false,
            pace: Pace::default(),
            stdio: [stdout, stderr],
            body_streams: BodyStreams::default(),
            limiter,
            meter: Arc::clone(&context.meter),
            logs,
            port: Arc::clone(&context.port),
            spec: Arc::clone(&context.spec),
            blocking: shared.blocking(context),
            quota: Arc::new(quota),
            source: None,
            open_files: OpenFiles::default(),
        })
    }
}

/// The incarnation's time with its agent's account.
struct Accounting(Arc<Meter>);

impl Accounting {
    fn begin(context: &InstanceContext) -> Self {
        let port = Arc::downgrade(&context.port);
        let soft_mark = move |memory: AccountReading| {
            if let Some(port) = port.upgrade() {
                port.memory_soft_limit(&memory);
            }
        };
        context.meter.memory().begin(Arc::new(soft_mark));
        Self(Arc::clone(&context.meter))
    }
}

impl Drop for Accounting {
    fn drop(&mut self) {
        self.0.memory().end();
        self.0.set_large(false);
    }
}

impl State {
    /// Charges what the engine is about to keep of the instances.
    pub(crate) fn hold_records(&mut self, bytes: u64) -> Result<(), Interrupt> {
        let counted = bytes.saturating_sub(UNCOUNTED_RECORD_BYTES);
        let memory = self.meter.memory();
        self.records
            .resize(counted)
            .map_err(|over| memory.host_interrupt(HostKind::Instances, &over))
    }

    /// Takes a descriptor for what is about to be opened.
    pub(crate) fn may_open(&mut self) -> Result<(), ErrorCode> {
        self.quota.take_descriptor().map_err(|none| {
            self.logs.line(Level::Warn, "files", &none.to_string(), BTreeMap::new());
            // WASI has no word for too many open files.
            ErrorCode::InsufficientMemory
        })
    }

    /// A host call is about to return: counts what it left in the host. An error ends the guest. When
    /// the table was scanned, says what is there.
    pub(crate) fn settle(&mut self) -> Result<Option<Census>, Interrupt> {
        // Its call was given up while it blocked a thread: it goes no further.
        if self.meter.is_killed() {
            return Err(Interrupt::Killed);
        }
        let due = std::mem::take(&mut self.touched) && self.pace.is_due(self.meter.memory().room());
        let census = if due { Some(self.count()?) } else { None };
        self.meter.memory().take_interrupt().map_or(Ok(census), Err)
    }

    /// A call of the guest is over: what it has closed is others' now, and not only at its next host call.
    pub(crate) fn give_back_descriptors(&self) {
        self.quota.count_open();
    }

    fn count(&mut self) -> Result<Census, Interrupt> {
        let output = self.stdio.iter().map(LineStream::handles).sum();
        let own = OwnStreams { input: self.body_streams.count(), output };
        let census = resources::census(&mut self.table, own);
        self.pace.begin_again(&census);
        self.quota.count_open();
        if let Err(over) = self.open.resize(census.bytes) {
            self.meter.memory().account().refuse(HostKind::Resources);
            return Err(self.meter.memory().host_interrupt(HostKind::Resources, &over));
        }
        Ok(census)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.port.tools_abandoned();
        let files = self.quota.open_files();
        if !files.is_empty() {
            self.open_files = OpenFiles(Some(Open::new(files, &self.quota)));
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.touched = true;
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.touched = true;
        WasiHttpCtxView { hooks: &mut self.outbound, table: &mut self.table, ctx: &mut self.http }
    }
}

//! Settings of the engine.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_llm::Models;
use bulkhead_net::Connector;
use bulkhead_tasks::BucketRules;
use bulkhead_types::Limits;
use bulkhead_workspace::Workspaces;

use crate::interfaces::tools::Tools;
use crate::{CodeBounds, Cpu, DiskFloor, HttpSecrets, InstanceBounds, Vouched};

/// Settings of the engine and of what surrounds it.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Largest number of live agents. All totals of the pool follow from it.
    pub max_agents: usize,
    /// Files of the components that are configured. The pool has room for the largest of them.
    pub components: Vec<PathBuf>,
    /// Which of them are loaded only with the bytes that somebody vouches for.
    pub vouched: Vouched,
    /// File descriptors that each agent takes.
    pub files_per_agent: usize,
    /// What agents leave free on the disk of their workspaces.
    pub disk_floor: DiskFloor,
    /// Which processors components are compiled for.
    pub cpu: Cpu,
    /// Whether stores get their memory from a pool, where the address space has room for one.
    pub pooling: bool,
    /// Largest memory of one agent, in bytes. Caps the slots of the pool.
    pub max_agent_memory_bytes: u64,
    /// Address space that each memory reserves where there is no pool, in bytes: the largest limit that is
    /// configured.
    pub reserved_memory_bytes: u64,
    /// Where compiled components are kept. `None`: nowhere.
    pub aot_dir: Option<PathBuf>,
    /// A directory of compiled components that came with the program, and that nothing is written to.
    pub aot_seed: Option<PathBuf>,
    /// Bytes that the AOT directory may hold. The entries unused for longest go first.
    pub aot_bytes: u64,
    /// Where core dumps go. `None`: nobody gets any. With rules, those agents get one whose
    /// [`bulkhead_types::AgentSpec::core_dump`] says so, and every trap costs a little more.
    pub core_dumps: Option<CoreDumpRules>,
    /// Largest component file, in bytes.
    pub max_component_bytes: u64,
    /// Threads of the fast lane, and of the slow lane.
    pub lane_threads: usize,
    /// Where components are compiled, and what that may take.
    pub compiler: CompileConfig,
    /// What an instance of a component may be made of.
    pub instance_bounds: InstanceBounds,
    /// How long a start waits for its component to be read and compiled. When no start waits any more, it is not
    /// compiled on.
    pub compile: Duration,
    /// Period of the epoch ticker. Guests are checked this often while one runs.
    pub tick: Duration,
    /// CPU time that an agent may take on the fast lane before its task goes to the slow one, and when it returns.
    pub bucket: BucketRules,
    /// Linear memories and tables with which an agent's task stays on the slow lane, in bytes: filling them is one
    /// instruction, which nothing interrupts.
    pub fast_lane_memory_bytes: u64,
    /// CPU time between two yields on the slow lane.
    pub slow_slice: Duration,
    /// How agents' requests leave: through which proxy, and which certificates are believed.
    pub connector: Connector,
    /// The endpoints of language models.
    pub models: Models,
    /// How native programs run. `None`: none do.
    pub tools: Option<Tools>,
    /// What makes repositories. `None`: nothing does.
    pub workspaces: Option<Workspaces>,
    /// Credentials for HTTP services.
    pub http_secrets: HttpSecrets,
}

impl Default for RuntimeConfig {
    /// One millisecond of tick and a burst of three keep the p99 of a short turn below 1 ms beside
    /// spinning guests; a longer slice on the slow lane saves switches where latency is lost anyway.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            max_agents: 1000,
            components: Vec::new(),
            vouched: Vouched::default(),
            files_per_agent: 2,
            disk_floor: DiskFloor::default(),
            pooling: true,
            max_agent_memory_bytes: 1024 * 1024 * 1024,
            reserved_memory_bytes: Limits::default().memory_bytes,
            aot_dir: None,
            aot_seed: None,
            cpu: Cpu::default(),
            aot_bytes: 1024 * 1024 * 1024,
            core_dumps: None,
            max_component_bytes: 64 * 1024 * 1024,
            lane_threads: cores,
            compiler: CompileConfig::default(),
            instance_bounds: InstanceBounds::default(),
            compile: Duration::from_secs(600),
            tick: Duration::from_millis(1),
            bucket: BucketRules::default(),
            fast_lane_memory_bytes: 32 * 1024 * 1024,
            slow_slice: Duration::from_millis(10),
            connector: Connector::default(),
            models: Models::default(),
            tools: None,
            workspaces: None,
            http_secrets: HttpSecrets::default(),
        }
    }
}

/// Where components are compiled, and what one may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileConfig {
    /// In a child process that this program is, or in this process: for tools and tests, without any bound.
    pub program: Option<CompilerProgram>,
    /// Threads that one compile may take. They have a low priority.
    pub threads: usize,
    /// Bytes that the address space of a child may grow by.
    pub memory_bytes: u64,
    /// CPU time that a child may take, of all its threads. Seconds count, rounded up.
    pub cpu: Duration,
    /// What a component may have before it is compiled.
    pub bounds: CodeBounds,
}

/// More threads find little to do at once, and the stack of each counts as memory.
const MAX_THREADS: usize = 8;

impl Default for CompileConfig {
    /// Two gibibytes, where the largest interpreters take 400 MiB, and five minutes, where they take half of one.
    fn default() -> Self {
        Self {
            program: None,
            threads: std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS),
            memory_bytes: 2 * 1024 * 1024 * 1024,
            cpu: Duration::from_secs(300),
            bounds: CodeBounds::default(),
        }
    }
}

/// Where core dumps go, and how many of them stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreDumpRules {
    /// The directory. It is made when it is not there.
    pub dir: PathBuf,
    /// Largest dump with memories, in bytes.
    pub max_bytes: u64,
    /// Dumps that stay.
    pub max_count: usize,
    /// How long one stays.
    pub max_age: Duration,
    /// Bytes of all of them.
    pub max_total_bytes: u64,
}

impl CoreDumpRules {
    /// Room for a few dumps of agents of the default size, for a week.
    pub fn in_dir(dir: PathBuf) -> Self {
        Self {
            dir,
            max_bytes: 128 * 1024 * 1024,
            max_count: 16,
            max_age: Duration::from_secs(7 * 24 * 60 * 60),
            max_total_bytes: 512 * 1024 * 1024,
        }
    }
}

/// A program that calls [`crate::compile_component`] with its last argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompilerProgram {
    /// Its file.
    pub path: PathBuf,
    /// Its arguments before the last one.
    pub args: Vec<OsString>,
}

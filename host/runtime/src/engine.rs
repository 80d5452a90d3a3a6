//! Engine settings, the pool, and how many agents fit.
//!
//! ```text
//!   configured components ─▶ needs of the largest ─┐
//!   limits of the process (`ceilings`) ────────────┴▶ live agents ─▶ totals of the pool
//! ```
//!
//! The pool has room for so many agents of the largest configured component, so an agent that gets a slot gets
//! an instance: the number is the answer to a start, and nothing fails in the middle of its work. Core instances
//! cost the pool nothing: what the engine keeps of them is charged to the agent.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use crate::RuntimeConfig;
use crate::aot::read_bounded;
use crate::capacity::SLOTS_AT_ONCE;
use crate::capacity::{Allocator, Capacity};
use crate::ceilings::{PerAgent, ceilings, guest_files};
use crate::cpu::Cpu;
use crate::lanes::blocking_threads;
use crate::needs::Needs;

/// Frames of a backtrace. Enough to see that a frame repeats.
const MAX_FRAMES: usize = 64;

/// What a component may have in any case: its module and the adapters around it bring a table or two each.
const USUAL: Needs = Needs {
    core_instances: u32::MAX,
    memories: 1,
    tables: 4,
    module_memories: 1,
    module_tables: 4,
    table_elements: 20_000,
    memory_bytes: 0,
    record_bytes: u64::MAX,
    gc_heap: false,
    concurrency: false,
};

/// Elements at context of a table that a component may make the pool have for each agent. One that needs more is refused,
/// and costs the others nothing.
const MOST_TABLE_ELEMENTS: u64 = 10_000_000;

/// Linear memories that one pool can have: each reserves 4 GiB and its guards, of the 128 TiB that a process
/// has.
const MAX_MEMORIES: usize = 24_000;

/// What a memory outside a pool has as guards, in bytes. Accesses are checked there in any case.
const GUARD_BYTES: u64 = 64 * 1024;

/// No engine could be built.
#[derive(Debug, thiserror::Error)]
#[error("build the engine: {message}")]
pub struct EngineError {
    message: String,
}

/// What an ended agent's slot of the pool keeps of a table, in bytes: clearing it costs less than giving
/// pages back to the kernel, which interrupts every core that runs the host.
const TABLE_KEEP_RESIDENT: usize = 16 * 1024;

/// The same of a memory: the pages that a small guest writes at every start. Each of them costs a page fault and
/// an interrupt of the other cores when it was given back, a fifth of what a crash costs. The rest goes back at
/// once (`madvise`), as the slot is taken from its store, before another agent can have it, and in no batches.
/// Only where the kernel says which pages were written; elsewhere all of them go back. On demand, memories are
/// unmapped.
const MEMORY_KEEP_RESIDENT: usize = 32 * 1024;

/// What a guest has of a stack, and the whole of it with host calls. An interpreter takes a kilobyte and more for each
/// call of its language: with the engine's own default of 512 KiB, a recursion of some hundred calls is too deep for
/// one.
const WASM_STACK_BYTES: usize = 1 << 20;
const STACK_BYTES: usize = 2 << 20;

/// The same of a stack: the pages that a small guest and the host calls of it write. They are cleared, what lies
/// below them goes back at once; without this a slot would keep the deepest stack that ever was in it.
const STACK_KEEP_RESIDENT: usize = 16 * 1024;

/// An engine, and what it was built for.
pub(crate) struct Built {
    pub engine: Engine,
    pub capacity: Capacity,
    /// What a component may need. Without a pool it may have what it wants, but for async when that is off.
    pub room: Needs,
    /// What code that it runs is compiled with.
    pub code: CodeSettings,
    /// What guests may have open, all together.
    pub guest_files: usize,
}

/// Builds the engine, with a pool when the address space allows it.
pub(crate) fn build(config: &RuntimeConfig) -> Result<Built, EngineError> {
    let missing = config.cpu.missing_here();
    if !missing.is_empty() {
        let (cpu, missing) = (config.cpu.as_str(), missing.join(", "));
        return Err(EngineError {
            message: format!("engine.cpu is {cpu}, and this processor lacks {missing}"),
        });
    }
    let room = room_of_an_agent(config);
    let mut notes = Vec::new();
    if config.pooling {
        let max_agents = agents_that_fit(config, &room, Allocator::Pooling, &mut notes);
        match settings(config, room.concurrency, pool(&room, max_agents, config))
            .and_then(new_engine)
        {
            Ok(engine) => {
                let capacity = capacity(config, max_agents, Allocator::Pooling, notes);
                let code = CodeSettings {
                    reserved_memory_bytes: None,
                    concurrency: room.concurrency,
                    cpu: config.cpu,
                };
                let guest_files = guest_files(max_agents, config.files_per_agent);
                return Ok(Built { engine, capacity, room, code, guest_files });
            }
            Err(error) => {
                let text = "no address space for the pool, allocating on demand";
                notes = vec![format!("{text}: {}", error.message)];
            }
        }
    }
    let mut settings = settings(config, room.concurrency, InstanceAllocationStrategy::OnDemand)?;
    reserve(&mut settings, config.reserved_memory_bytes);
    let engine = new_engine(settings)?;
    let max_agents = agents_that_fit(config, &room, Allocator::OnDemand, &mut notes);
    let capacity = capacity(config, max_agents, Allocator::OnDemand, notes);
    let room = Needs { concurrency: room.concurrency, ..Needs::ANYTHING };
    let reserved_memory_bytes = Some(config.reserved_memory_bytes);
    let code =
        CodeSettings { reserved_memory_bytes, concurrency: room.concurrency, cpu: config.cpu };
    let guest_files = guest_files(max_agents, config.files_per_agent);
    Ok(Built { engine, capacity, room, code, guest_files })
}

fn new_engine(settings: Config) -> Result<Engine, EngineError> {
    Engine::new(&settings).map_err(|error| EngineError::of(&error))
}

impl EngineError {
    fn of(error: &wasmtime::Error) -> Self {
        Self { message: format!("{error:#}") }
    }
}

/// Without a pool, memories reserve what the configured limits need, and not the 4 GiB that would save checks: a
/// larger one is moved when it grows beyond.
fn reserve(settings: &mut Config, bytes: u64) {
    settings
        .memory_reservation(bytes)
        .memory_reservation_for_growth(bytes / 4)
        .memory_guard_size(GUARD_BYTES)
        .guard_before_linear_memory(false)
        .gc_heap_reservation(bytes)
        .gc_heap_reservation_for_growth(bytes / 4);
}

/// What code depends on, of the settings of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CodeSettings {
    /// Bytes that each memory reserves. `None`: there is a pool.
    reserved_memory_bytes: Option<u64>,
    /// Whether component-model async is on.
    concurrency: bool,
    /// Which processors it is to run on.
    cpu: Cpu,
}

impl CodeSettings {
    /// An engine that compiles for that one. It reserves nothing, and is not to make instances.
    pub(crate) fn compiler(self) -> Result<Engine, EngineError> {
        let config = RuntimeConfig { cpu: self.cpu, ..RuntimeConfig::default() };
        let mut settings =
            settings(&config, self.concurrency, InstanceAllocationStrategy::OnDemand)?;
        if let Some(bytes) = self.reserved_memory_bytes {
            reserve(&mut settings, bytes);
        }
        new_engine(settings)
    }
}

fn capacity(
    config: &RuntimeConfig,
    max_agents: usize,
    allocator: Allocator,
    notes: Vec<String>,
) -> Capacity {
    let max_agent_memory_bytes = config.max_agent_memory_bytes;
    Capacity { max_agents, max_agent_memory_bytes, allocator, notes }
}

/// What an agent may need: as much as the largest of the configured components. Those that cannot be read
/// are reported when they are loaded.
fn room_of_an_agent(config: &RuntimeConfig) -> Needs {
    let read = |path: &PathBuf| {
        let bytes = read_bounded(path, config.max_component_bytes).ok()?.ok()?;
        Needs::of(&bytes).ok()
    };
    let needs = config.components.iter().filter_map(read);
    let fits = |needs: &Needs| {
        config.instance_bounds.passed_by(needs).is_none()
            && needs.table_elements <= MOST_TABLE_ELEMENTS
    };
    let largest = needs.filter(fits).fold(USUAL, Needs::or);
    Needs { memory_bytes: config.max_agent_memory_bytes, ..largest }
}

/// The largest number of agents, and a note when it is not the configured one.
fn agents_that_fit(
    config: &RuntimeConfig,
    room: &Needs,
    allocator: Allocator,
    notes: &mut Vec<String>,
) -> usize {
    let memories = memories_of_an_agent(room) as usize;
    let agent = PerAgent {
        memories,
        memory_bytes: config.reserved_memory_bytes + 2 * GUARD_BYTES,
        files: config.files_per_agent,
    };
    let mut lowest = config.max_agents;
    let mut why = None;
    for ceiling in ceilings(agent, allocator) {
        if ceiling.agents < lowest {
            (lowest, why) = (ceiling.agents, Some(ceiling.reason));
        }
    }
    let in_a_pool = MAX_MEMORIES / memories;
    if allocator == Allocator::Pooling && in_a_pool < lowest {
        lowest = in_a_pool;
        why = Some(format!(
            "a component has {memories} linear memories, and {MAX_MEMORIES} fit into the address space"
        ));
    }
    let lowest = lowest.max(1);
    let asked = config.max_agents;
    notes.extend(why.map(|why| format!("{why}: it holds {lowest} agents and not {asked}")));
    lowest
}

/// Linear memories, and a heap with a garbage collector, which is one as well.
fn memories_of_an_agent(room: &Needs) -> u32 {
    room.memories.saturating_add(u32::from(room.gc_heap))
}

fn settings(
    config: &RuntimeConfig,
    concurrency: bool,
    strategy: InstanceAllocationStrategy,
) -> Result<Config, EngineError> {
    let mut settings = Config::new();
    config.cpu.configure(&mut settings).map_err(|error| EngineError::of(&error))?;
    settings
        .allocation_strategy(strategy)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(STACK_BYTES)
        .async_stack_zeroing(true)
        // A tenth of a start, a crash and a message, so only where a component asks for it.
        .concurrency_support(concurrency)
        // Agents are small; 64-bit memories and tables only widen what the limiter has to be right about.
        .wasm_memory64(false)
        // Reading DWARF at every trap costs 77 ms instead of 70 µs; names come from the name section.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(MAX_FRAMES))
        // Of the engine, not of a store: see `core_dump`.
        .coredump_on_trap(config.core_dumps.is_some());
    Ok(settings)
}

/// A pool for so many agents, and for as many stores as can be left behind on threads that hang on a disk.
fn pool(room: &Needs, max_agents: usize, config: &RuntimeConfig) -> InstanceAllocationStrategy {
    let stores = max_agents.saturating_add(blocking_threads(config.lane_threads));
    let agents = u32::try_from(stores).unwrap_or(u32::MAX / 8);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(agents)
        .total_core_instances(u32::MAX)
        .total_memories(
            agents
                .saturating_mul(memories_of_an_agent(room))
                .saturating_add(agents / 4 + 1)
                .saturating_add(SLOTS_AT_ONCE),
        )
        .total_tables(agents.saturating_mul(room.tables))
        .total_stacks(agents)
        .total_gc_heaps(agents)
        .max_memories_per_component(room.memories)
        .max_tables_per_component(room.tables)
        .max_memories_per_module(room.module_memories)
        .max_tables_per_module(room.module_tables)
        .table_elements(usize::try_from(room.table_elements).unwrap_or(usize::MAX))
        .table_keep_resident(TABLE_KEEP_RESIDENT)
        // A slot that was used before is taken before one that never was, no matter which agent used it: what is kept
        // stays as little as it can, and a sweep sees what there is.
        .max_unused_warm_slots(0)
        .decommit_batch_size(1)
        .max_memory_size(usize::try_from(room.memory_bytes).unwrap_or(usize::MAX))
        .async_stack_keep_resident(STACK_KEEP_RESIDENT);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.linear_memory_keep_resident(MEMORY_KEEP_RESIDENT).pagemap_scan(Enabled::Auto);
    }
    InstanceAllocationStrategy::Pooling(pool)
}

/// Opens what the engine reads of this process while it runs. To be called before the process hides its memory: after
/// that an ordinary user may not open it any more, and less is given back of what the pool keeps.
pub fn open_own_page_map() {
    // It stays open from the first question on.
    let _ = PoolingAllocationConfig::is_pagemap_scan_available();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CoreDumpRules;
    use crate::aot::Format;

    #[test]
    fn more_than_fits_is_cut_with_a_note() {
        let config = RuntimeConfig { max_agents: usize::MAX / 16, ..RuntimeConfig::default() };
        let Built { capacity, .. } = build(&config).unwrap();
        assert!(capacity.max_agents < config.max_agents);
        assert_eq!(capacity.notes.len(), 1, "{:?}", capacity.notes);
        assert!(capacity.notes[0].contains("an agent takes"), "{:?}", capacity.notes);
    }

    #[test]
    fn an_engine_loads_what_the_one_beside_it_compiles() {
        let dumps = CoreDumpRules::in_dir("cores".into());
        let pool =
            RuntimeConfig { max_agents: 4, core_dumps: Some(dumps), ..RuntimeConfig::default() };
        let none = RuntimeConfig { pooling: false, reserved_memory_bytes: 5 << 20, ..pool.clone() };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("async.wasm");
        std::fs::write(
            &path,
            wat::parse_str("(component (core func (canon task.cancel)))").unwrap(),
        )
        .unwrap();
        let asynchronous = RuntimeConfig { components: vec![path], ..pool.clone() };
        let hashes = [pool, none, asynchronous].map(|config| {
            let Built { engine, code, .. } = build(&config).unwrap();
            let hash = Format::of(&engine);
            assert_eq!(hash, Format::of(&code.compiler().unwrap()), "{code:?}");
            hash
        });
        assert_ne!(hashes[0], hashes[1]);
        assert_ne!(hashes[0], hashes[2]);
    }

    #[test]
    fn components_with_many_memories_make_fewer_agents_fit() {
        let config = RuntimeConfig { max_agents: 2000, ..RuntimeConfig::default() };
        let room = Needs { memories: 100, ..USUAL };
        let mut notes = Vec::new();
        let fit = agents_that_fit(&config, &room, Allocator::Pooling, &mut notes);
        assert!(fit <= 240, "{fit}: {notes:?}");
        assert_eq!(notes.len(), 1);
    }
}

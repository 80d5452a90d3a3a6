//! Engine settings, the pool, and how many agents fit.
//!
//! The pool's totals follow from one number, the largest count of live agents. That number is first
//! held against `vm.max_map_count`: the pool maps two regions for each fiber stack up front, and a live
//! agent takes about four more. Without the check the process would meet ENOMEM in the middle of its
//! work; with it the ceiling is known at boot and a start over it gets a clear answer.

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use crate::RuntimeConfig;

/// Mappings that one agent takes: two for its stack in the pool, four while it lives. Measured: 10,000
/// live agents make 61,076 mappings.
const MAPS_PER_AGENT: usize = 6;

/// Mappings left for the program, its libraries, its heap and its threads.
const MAPS_RESERVED: usize = 4096;

/// The kernel's default where `/proc/sys/vm/max_map_count` cannot be read.
const DEFAULT_MAX_MAP_COUNT: usize = 65_530;

/// Frames of a backtrace. Enough to see that a frame repeats.
const MAX_FRAMES: usize = 64;

/// How stores get their memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocator {
    /// From a pool that was reserved at boot.
    Pooling,
    /// By `mmap` for each instance, because the address space has no room for the pool.
    OnDemand,
}

impl Allocator {
    /// The word for it in log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pooling => "pooling",
            Self::OnDemand => "on_demand",
        }
    }
}

/// What the engine was built for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// Live agents that fit.
    pub max_agents: usize,
    /// Largest memory of one agent, in bytes.
    pub max_agent_memory_bytes: u64,
    /// How they get their memory.
    pub allocator: Allocator,
    /// Sentences for the operator: what is not as it was configured, and why.
    pub notes: Vec<String>,
}

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

/// Builds the engine, with a pool when the address space allows it.
pub(crate) fn build(config: &RuntimeConfig) -> Result<(Engine, Capacity), EngineError> {
    let max_map_count = read_max_map_count().unwrap_or(DEFAULT_MAX_MAP_COUNT);
    let max_agents = config.max_agents.min(agents_that_fit(max_map_count)).max(1);
    let mut notes = Vec::new();
    if max_agents < config.max_agents {
        notes.push(format!(
            "vm.max_map_count is {max_map_count}: at {MAPS_PER_AGENT} mappings an agent it holds \
             {max_agents} agents and not {}",
            config.max_agents
        ));
    }
    let pooled = config.pooling.then(|| Engine::new(&settings(config, pool(config, max_agents))));
    let (engine, allocator) = match pooled {
        Some(Ok(engine)) => (engine, Allocator::Pooling),
        failed => {
            if let Some(Err(error)) = failed {
                let text = "no address space for the pool, allocating on demand";
                notes.push(format!("{text}: {error:#}"));
            }
            let engine = Engine::new(&settings(config, InstanceAllocationStrategy::OnDemand))
                .map_err(|error| EngineError { message: format!("{error:#}") })?;
            (engine, Allocator::OnDemand)
        }
    };
    let max_agent_memory_bytes = config.max_agent_memory_bytes;
    Ok((engine, Capacity { max_agents, max_agent_memory_bytes, allocator, notes }))
}

fn settings(config: &RuntimeConfig, strategy: InstanceAllocationStrategy) -> Config {
    let mut settings = Config::new();
    settings
        .allocation_strategy(strategy)
        .epoch_interruption(true)
        // Agents are small; 64-bit memories and tables only widen what the limiter has to be right about.
        .wasm_memory64(false)
        // Reading DWARF at every trap costs 77 ms instead of 70 µs; names come from the name section.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(MAX_FRAMES))
        // Of the engine, not of a store: see `core_dump`.
        .coredump_on_trap(config.core_dumps.is_some());
    settings
}

fn pool(config: &RuntimeConfig, max_agents: usize) -> InstanceAllocationStrategy {
    let agents = u32::try_from(max_agents).unwrap_or(u32::MAX / 8);
    let memory = usize::try_from(config.max_agent_memory_bytes).unwrap_or(usize::MAX);
    let mut pool = PoolingAllocationConfig::new();
    // A component brings a few core instances (its module and the adapters around it; interpreters
    // that link at run time bring more), rarely more than one memory, and a table or two each.
    pool.total_component_instances(agents)
        .total_core_instances(agents.saturating_mul(8))
        .total_memories(agents.saturating_add(agents / 4).saturating_add(1))
        .total_tables(agents.saturating_mul(4))
        .total_stacks(agents)
        .total_gc_heaps(agents)
        .max_tables_per_module(4)
        .table_keep_resident(TABLE_KEEP_RESIDENT)
        .decommit_batch_size(1)
        .max_memory_size(memory);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.linear_memory_keep_resident(MEMORY_KEEP_RESIDENT).pagemap_scan(Enabled::Auto);
    }
    InstanceAllocationStrategy::Pooling(pool)
}

fn agents_that_fit(max_map_count: usize) -> usize {
    max_map_count.saturating_sub(MAPS_RESERVED) / MAPS_PER_AGENT
}

fn read_max_map_count() -> Option<usize> {
    std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_default_holds_ten_thousand_agents() {
        let fit = agents_that_fit(DEFAULT_MAX_MAP_COUNT);
        assert!((10_000..11_000).contains(&fit), "{fit}");
    }

    #[test]
    fn more_than_fits_is_cut_with_a_note() {
        let config = RuntimeConfig { max_agents: usize::MAX / 16, ..RuntimeConfig::default() };
        let (_, capacity) = build(&config).unwrap();
        assert!(capacity.max_agents < config.max_agents);
        assert!(capacity.notes[0].contains("max_map_count"), "{:?}", capacity.notes);
    }
}

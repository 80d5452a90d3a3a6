//! Gives back what unused slots of the pool keep.
//!
//! A slot that an agent left keeps some of its pages, so that the next agent in it has no page faults (see
//! `engine`). Nobody needs them when no next agent comes, and a pool that once was full would keep them for
//! ever. The engine has no call for it, so this takes unused slots as any agent would, gives their pages back
//! while it holds them, and lets go of them:
//!
//! ```text
//!   sweep ─▶ a thread for each shard ─▶ SLOTS_AT_ONCE instances of a module with an empty memory
//!                                          │  least recently used slots first
//!                                          └─▶ madvise(slot) ─▶ drop, again until nothing is kept
//! ```
//!
//! The pool deals its shards out to threads in the order in which they first ask for a slot, so a new thread for
//! each shard sees all of them. It has [`SLOTS_AT_ONCE`] slots more than agents may have: no start finds it full
//! because of a sweep.

use std::num::NonZeroUsize;
use std::thread;

use rustix::mm::{Advice, madvise};
use wasmtime::{Engine, Instance, Module, PoolingAllocatorMetrics, Store};

use crate::capacity::Allocator;
use crate::capacity::Capacity;
use crate::capacity::SLOTS_AT_ONCE;

/// What unused slots may keep before a sweep is worth its while, in bytes.
const WORTH_A_SWEEP: usize = 1024 * 1024;

/// Shards that the engine makes at most, one for each core.
const MAX_SHARDS: usize = 16;

/// `(module (memory (export "m") 0))`
const EMPTY_MEMORY: &[u8] = b"\0asm\x01\0\0\0\x05\x03\x01\0\0\x07\x05\x01\x01m\x02\0";

/// The unused slots of the engine's pool.
pub(crate) struct Pool {
    engine: Engine,
    metrics: PoolingAllocatorMetrics,
    slot_bytes: usize,
}

impl Pool {
    /// `None` where stores get their memory on demand: then nothing is kept.
    pub(crate) fn of(engine: &Engine, capacity: &Capacity) -> Option<Self> {
        let metrics = engine
            .pooling_allocator_metrics()
            .filter(|_| capacity.allocator == Allocator::Pooling)?;
        let slot_bytes = usize::try_from(capacity.max_agent_memory_bytes).ok()?;
        Some(Self { engine: engine.clone(), metrics, slot_bytes })
    }

    /// What unused slots keep, in bytes: memories, tables, stacks.
    pub(crate) fn kept_bytes(&self) -> u64 {
        let stacks = self.metrics.unused_stack_bytes_resident().unwrap_or(0);
        (self.kept_memory() + self.metrics.unused_table_bytes_resident() + stacks) as u64
    }

    /// Gives the pages of unused memories back to the kernel, when that is worth it.
    pub(crate) fn sweep(&self) {
        if self.kept_memory() < WORTH_A_SWEEP {
            return;
        }
        let shards = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_SHARDS);
        for _ in 0..shards {
            let builder = thread::Builder::new().name("bulkhead-sweep".into());
            thread::scope(|scope| {
                // Without a thread it is done another time.
                let _ = builder.spawn_scoped(scope, || self.sweep_shard());
            });
        }
    }

    /// Sweeps the shard of the calling thread, which must be a new one.
    fn sweep_shard(&self) {
        crate::lanes::lower_priority();
        let rounds = self.metrics.unused_warm_memories().div_ceil(SLOTS_AT_ONCE);
        for _ in 0..rounds {
            // Made again each time: slots prefer the module that had them last, and these are clean.
            let swept =
                Module::new(&self.engine, EMPTY_MEMORY).and_then(|module| self.take(&module));
            if self.kept_memory() == 0 || swept.is_err() {
                return;
            }
        }
    }

    /// Takes slots, gives their pages back, and lets go of them.
    #[expect(unsafe_code, reason = "the engine has no call that gives back an unused slot")]
    fn take(&self, module: &Module) -> wasmtime::Result<()> {
        let mut store = Store::new(&self.engine, ());
        for _ in 0..SLOTS_AT_ONCE {
            let instance = Instance::new(&mut store, module, &[])?;
            let Some(memory) = instance.get_memory(&mut store, "m") else { continue };
            let slot = memory.data_ptr(&store);
            // SAFETY: the slot is this memory's for as long as the store exists, and it has room for the largest
            // memory that the pool was made for, which is what `slot_bytes` says. The memory is empty, so nothing
            // refers to what lies in it, and the engine expects zeros there, which is what is left.
            let _ = unsafe { madvise(slot.cast(), self.slot_bytes, Advice::LinuxDontNeed) };
        }
        Ok(())
    }

    fn kept_memory(&self) -> usize {
        self.metrics.unused_memory_bytes_resident()
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::PoolingAllocationConfig;

    use crate::CallEnd;
    use crate::tests::{Rig, command, limits, roomy};

    /// More than one shard's part of the pool, as far as a machine with two cores makes two.
    const AGENTS: usize = 100;

    /// Fails unless it finds zeros, and leaves eight pages that it wrote.
    const WRITES: &str = "(if (i32.load (i32.const 32764)) (then unreachable))
        (memory.fill (i32.const 0) (i32.const 1) (i32.const 32768))
        i32.const 0";

    #[test]
    fn a_sweep_gives_back_what_unused_slots_keep_and_leaves_zeros() {
        if !PoolingAllocationConfig::is_pagemap_scan_available() {
            return support::skip(support::Need::PageMap, "nothing is kept of ended agents");
        }
        let rig = Rig::with(2 * AGENTS, tempfile::tempdir().unwrap(), |_| {});
        let loaded = rig.load(&rig.write(&command(1, WRITES))).unwrap();
        let live_and_end = || {
            let live = |_| match rig
                .block_on(rig.instantiate(&loaded, &roomy()).unwrap().run(limits(5000)))
            {
                CallEnd::Returned(incarnation, result) => {
                    result.unwrap();
                    incarnation
                }
                CallEnd::Ended(exit, _) => panic!("{exit:?}"),
            };
            drop((0..AGENTS).map(live).collect::<Vec<_>>());
        };
        live_and_end();
        let before = rig.runtime.kept_bytes();
        rig.runtime.sweep_pool();
        let after = rig.runtime.kept_bytes();
        assert!(before >= after + (AGENTS * 32 * 1024) as u64, "{before} to {after}");
        live_and_end();
        rig.end();
    }
}

//! From WebAssembly to machine code. The compiler runs in a process of its own, which has bounds and can be killed:
//! what a component makes it do is no matter of the host.
//!
//! ```text
//!   readers ── not in the cache ─▶ quick lane: little code, little time and memory
//!                        │              │ not through
//!                        ▼ much code    ▼
//!                      long lane: all that one component may take
//! ```
//!
//! Each lane does one component at a time, in the order in which they came. So a quick one waits for quick ones
//! alone, and the memory of all compilers has a bound: that of a quick one and a long one.

mod cancel;
mod child;
mod order;
mod process;
mod size;
mod workers;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bulkhead_tasks::containment;
use bulkhead_types::Digest;
use rayon::{ThreadPool, ThreadPoolBuilder};
use wasmtime::Engine;

use crate::RuntimeConfig;
use crate::aot::Format;
use crate::config::{CompileConfig, CompilerProgram};
use crate::engine::CodeSettings;
use crate::names;
pub(crate) use cancel::{Cancel, Stopped};
use order::Order;
pub use process::compile_component;
pub use size::CodeBounds;
pub(crate) use size::CodeSize;
pub(crate) use workers::Workers;

/// Code above which a component goes to the long lane at once, in bytes. An agent in Rust has a tenth of it; what is
/// below takes seconds, unless it is made to take more.
const QUICK_CODE_BYTES: u64 = 4 * 1024 * 1024;

/// The same of its largest function: what the compiler takes grows faster than that.
const QUICK_FUNCTION_BYTES: u64 = 64 * 1024;

/// CPU time in the quick lane.
const QUICK_CPU: Duration = Duration::from_secs(10);

/// Memory in the quick lane: a part of what one may take, and as much as small components need in any case.
const QUICK_MEMORY_PART: u64 = 4;
const QUICK_MEMORY_LEAST: u64 = 128 * 1024 * 1024;

/// Which job waits for which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Quick,
    Long,
}

impl Lane {
    /// Where a component begins.
    pub(crate) fn of(size: &CodeSize) -> Self {
        let is_small = size.bytes <= QUICK_CODE_BYTES && size.largest_bytes <= QUICK_FUNCTION_BYTES;
        if is_small { Self::Quick } else { Self::Long }
    }
}

/// What one child may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub memory_bytes: u64,
    pub cpu_seconds: u64,
}

/// Why there is no machine code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CompileError {
    /// The engine refuses the component, in its words.
    Refused(String),
    /// The component needs these features.
    Unsupported(String),
    /// It took more memory than this.
    Memory(Room),
    /// It took more time than this.
    Time(Room),
    /// The compiler died of this.
    Crashed(String),
    /// Somebody outside killed the compiler, the kernel perhaps.
    Killed,
    /// No process can be had.
    NoProcess(String),
    /// Somebody here ended it.
    Stopped(Stopped),
    /// The host and its child do not understand each other.
    Host(String),
}

/// Compiles for one engine.
pub(crate) struct Compiler {
    how: How,
    format: Format,
    full: Room,
    /// Bytes that all children together may take now.
    taken: Arc<AtomicU64>,
}

enum How {
    Here(Engine, ThreadPool),
    InChild(CompilerProgram, Box<Order>),
}

/// Bytes that a child may take, until it is dropped.
struct Taken(Arc<AtomicU64>, u64);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Relaxed);
    }
}

impl Compiler {
    /// One for an engine that was built with `config` and runs code of `code`.
    pub(crate) fn new(
        config: &RuntimeConfig,
        engine: &Engine,
        code: CodeSettings,
    ) -> io::Result<Self> {
        let CompileConfig { program, threads, memory_bytes, cpu, .. } = &config.compiler;
        let format = Format::of(engine);
        let cpu_seconds = cpu.as_secs() + u64::from(cpu.subsec_nanos() > 0);
        let full = Room { memory_bytes: *memory_bytes, cpu_seconds: cpu_seconds.max(1) };
        let how = match program {
            None => How::Here(engine.clone(), threads_here(*threads)?),
            Some(program) => {
                let order = Order {
                    parent: std::process::id(),
                    settings: code,
                    engine_hash: format.engine_hash(),
                    threads: *threads,
                    memory_bytes: full.memory_bytes,
                    cpu_seconds: full.cpu_seconds,
                    max_component_bytes: config.max_component_bytes,
                };
                How::InChild(program.clone(), Box::new(order))
            }
        };
        Ok(Self { how, format, full, taken: Arc::default() })
    }

    /// The form of what it returns.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Bytes that its processes may take now, all together.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// What a component may take in a lane.
    fn room(&self, lane: Lane) -> Room {
        let Room { memory_bytes, cpu_seconds } = self.full;
        match lane {
            Lane::Long => self.full,
            Lane::Quick => Room {
                memory_bytes: (memory_bytes / QUICK_MEMORY_PART)
                    .max(QUICK_MEMORY_LEAST)
                    .min(memory_bytes),
                cpu_seconds: cpu_seconds.min(QUICK_CPU.as_secs()),
            },
        }
    }

    /// Whether one that failed so in its lane gets more room in the other one.
    pub(crate) fn gets_more_room(&self, error: &CompileError) -> bool {
        match error {
            CompileError::Memory(room) => room.memory_bytes < self.full.memory_bytes,
            CompileError::Time(room) => room.cpu_seconds < self.full.cpu_seconds,
            _ => false,
        }
    }

    /// Compiles a component to an entry of the AOT cache, which is not checked. Blocks.
    pub(crate) fn compile(
        &self,
        lane: Lane,
        digest: &Digest,
        component: &[u8],
        cancel: &Cancel,
    ) -> Result<Vec<u8>, CompileError> {
        if let Some(why) = cancel.is_cancelled() {
            return Err(CompileError::Stopped(why));
        }
        match &self.how {
            How::Here(engine, threads) => {
                let compiled = threads.install(|| precompile(engine, component));
                let code = compiled.map_err(|error| match crate::features::missing(component) {
                    Some(features) => CompileError::Unsupported(features),
                    None => CompileError::Refused(format!("{error:#}")),
                })?;
                Ok(self.format.entry(digest, &code))
            }
            How::InChild(program, order) => {
                let Room { memory_bytes, cpu_seconds } = self.room(lane);
                self.taken.fetch_add(memory_bytes, Relaxed);
                let _taken = Taken(Arc::clone(&self.taken), memory_bytes);
                let order = Order { memory_bytes, cpu_seconds, ..Order::clone(order) };
                child::compile(program, &order, component, cancel)
            }
        }
    }
}

/// Machine code of a component, whose digest stays that of its file.
fn precompile(engine: &Engine, component: &[u8]) -> wasmtime::Result<Vec<u8>> {
    engine.precompile_component(&names::without_long(component))
}

/// The threads of a compiler in this process.
fn threads_here(threads: usize) -> io::Result<ThreadPool> {
    ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .thread_name(|index| format!("bulkhead-comp-{index}"))
        .start_handler(|_| {
            // The compiler's own jobs hand their panics on to the one that began them.
            containment::this_thread_is_contained();
            crate::lanes::lower_priority();
        })
        .build()
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Built;

    fn compiler(memory_mb: u64, cpu: Duration) -> Compiler {
        let mut config = RuntimeConfig { pooling: false, ..RuntimeConfig::default() };
        config.compiler.memory_bytes = memory_mb << 20;
        config.compiler.cpu = cpu;
        let Built { engine, code, .. } = crate::engine::build(&config).unwrap();
        Compiler::new(&config, &engine, code).unwrap()
    }

    #[test]
    fn the_quick_lane_has_a_part_of_the_room_and_never_more_than_all() {
        let large = compiler(1024, Duration::from_millis(300_001));
        assert_eq!(large.room(Lane::Long), Room { memory_bytes: 1 << 30, cpu_seconds: 301 });
        let quick = Room { memory_bytes: 256 << 20, cpu_seconds: 10 };
        assert_eq!(large.room(Lane::Quick), quick);
        let small = compiler(64, Duration::from_millis(1));
        assert_eq!(small.room(Lane::Quick), Room { memory_bytes: 64 << 20, cpu_seconds: 1 });
        assert_eq!(small.room(Lane::Quick), small.room(Lane::Long));
    }

    #[test]
    fn one_that_needs_more_than_the_quick_lane_has_gets_another_try_and_no_other_does() {
        let compiler = compiler(1024, Duration::from_secs(300));
        for lane in [Lane::Quick, Lane::Long] {
            let room = compiler.room(lane);
            for error in [CompileError::Memory(room), CompileError::Time(room)] {
                assert_eq!(compiler.gets_more_room(&error), lane == Lane::Quick, "{error:?}");
            }
        }
        assert!(!compiler.gets_more_room(&CompileError::Crashed("SIGSEGV".into())));
        assert!(!compiler.gets_more_room(&CompileError::Killed));
    }

    #[test]
    fn much_code_or_a_large_function_goes_to_the_long_lane_at_once() {
        let lane =
            |bytes, largest_bytes| Lane::of(&CodeSize { functions: 1, bytes, largest_bytes });
        assert_eq!(lane(QUICK_CODE_BYTES, QUICK_FUNCTION_BYTES), Lane::Quick);
        assert_eq!(lane(QUICK_CODE_BYTES + 1, 1), Lane::Long);
        assert_eq!(lane(QUICK_CODE_BYTES, QUICK_FUNCTION_BYTES + 1), Lane::Long);
    }
}

//! The process that compiles one component: stdin to stdout, and nothing else.
//!
//! It bounds itself before it reads a byte of the component: address space, CPU time, priority, no core dump, first
//! to go when the kernel has no memory, and gone as soon as its parent is.

use std::io::{self, Read, Write};
use std::os::unix::process::parent_id;

use bulkhead_types::Digest;
use rayon::ThreadPoolBuilder;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use sha2::{Digest as _, Sha256};

use super::order::{Order, code};
use super::precompile;
use crate::aot::Format;
use crate::features;

/// Between SIGXCPU and SIGKILL, in seconds: the first one may be ignored from the parent's parent on.
const CPU_GRACE_SECONDS: u64 = 2;

/// What a process does that was started to compile one component, with the text that it got as its argument. Returns
/// the exit code of the process.
pub fn compile_component(order: &str) -> u8 {
    let (code, answer) = match compile(order) {
        Ok(entry) => (code::COMPILED, entry),
        Err((code, reason)) => (code, reason.into_bytes()),
    };
    let written = io::stdout().write_all(&answer).and_then(|()| io::stdout().flush());
    // The parent sees a short answer as well as the code.
    let code = if written.is_ok() { code } else { code::CANNOT };
    u8::try_from(code).unwrap_or(u8::MAX)
}

type Refusal = (i32, String);

fn compile(order: &str) -> Result<Vec<u8>, Refusal> {
    let cannot = |error: String| (code::CANNOT, error);
    let order: Order = serde_json::from_str(order)
        .map_err(|error| cannot(format!("the order is for another program: {error}")))?;
    confine(&order).map_err(|error| cannot(format!("cannot bound itself: {error}")))?;
    let engine = order.settings.compiler().map_err(|error| cannot(error.to_string()))?;
    let format = Format::of(&engine);
    if format.engine_hash() != order.engine_hash {
        return Err(cannot("its engine is not the one of the host that started it".into()));
    }
    start_threads(order.threads);
    let mut component = Vec::new();
    let mut input = io::stdin().lock().take(order.max_component_bytes);
    input.read_to_end(&mut component).map_err(|error| cannot(format!("read stdin: {error}")))?;
    let code =
        precompile(&engine, &component).map_err(|error| match features::missing(&component) {
            Some(features) => (code::UNSUPPORTED, features),
            None => (code::REFUSED, format!("{error:#}")),
        })?;
    Ok(format.entry(&Digest(Sha256::digest(&component).into()), &code))
}

fn confine(order: &Order) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before.
    if parent_id() != order.parent {
        return Err(io::Error::other("the host that started this is gone"));
    }
    let _ = rustix::thread::set_name(c"bulkhead-aot");
    // What the system refuses of the next three costs others more than this process.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    crate::lanes::lower_priority();
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Cpu, order.cpu_seconds, order.cpu_seconds + CPU_GRACE_SECONDS)?;
    let bytes = address_space()?.saturating_add(order.memory_bytes);
    limit(Resource::As, bytes, bytes)
}

/// Sets a limit, or leaves the one that is lower.
fn limit(resource: Resource, current: u64, maximum: u64) -> io::Result<()> {
    let before = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit { current: Some(current.min(before)), maximum: Some(maximum.min(before)) };
    Ok(setrlimit(resource, limit)?)
}

/// What this process has mapped before it compiles: the program, its heap, its first stack.
fn address_space() -> io::Result<u64> {
    crate::ceilings::read_address_space()
        .ok_or_else(|| io::Error::other("/proc/self/statm cannot be read"))
}

/// The engine compiles on the threads of the process's pool. Where the system gives none, this one does it all.
fn start_threads(threads: usize) {
    let pool = || ThreadPoolBuilder::new().thread_name(|index| format!("bulkhead-aot-{index}"));
    let started = pool().num_threads(threads.max(1)).build_global();
    if started.is_err() {
        // Errors mean that there is a pool: nobody made one before.
        let _ = pool().num_threads(1).use_current_thread().build_global();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_of_another_program_is_refused() {
        let (code, reason) = compile("{}").unwrap_err();
        assert_eq!(code, code::CANNOT);
        assert!(reason.contains("for another program"), "{reason}");
    }
}

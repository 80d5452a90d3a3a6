//! Why an incarnation ended. The only place that decides.

use std::fmt::{self, Write};

use bulkhead_exception::{Cause, Place, is_out_of_memory};
use bulkhead_types::exit::Location;
use bulkhead_types::{Determinism, Exit, ExitReason, Frame, Phase};
use wasmtime::{GcHeapOutOfMemory, Trap};

use crate::backtrace;
use crate::instance_context::InstanceContext;
use crate::interrupt::{HostFault, Interrupt, WorkspaceFault};
use crate::meter::Meter;
use crate::symbolizer::source;

/// How the engine's lists begin: its backtrace, and what was in the store.
const LISTS: [&str; 2] = ["error while executing at wasm backtrace", "wasm coredump generated"];

/// Causes of an error that are reported, and bytes of each.
const MAX_CAUSES: usize = 16;
const MAX_CAUSE_BYTES: usize = 4096;

/// Frames below which a repeating backtrace is no recursion.
const RECURSION_MIN_FRAMES: usize = 16;

/// Code of the exit of an incarnation whose workspace could not be opened.
pub const WORKSPACE_UNUSABLE: &str = "workspace-unusable";

/// Names the end that an error of the engine stands for.
pub(crate) fn classify(
    error: &wasmtime::Error,
    phase: Phase,
    instance_context: &InstanceContext,
) -> Exit {
    let frames = backtrace::frames(error);
    let mut exit = if let Some(cut) = error.downcast_ref::<Interrupt>() {
        interrupted(cut, phase, instance_context)
    } else if let Some(status) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        guest_exit(status.0, phase)
    } else if error.is::<GcHeapOutOfMemory<()>>() {
        heap_is_full(phase, instance_context)
    } else if let Some(trap) = error.downcast_ref::<Trap>() {
        trapped(*trap, &frames, phase, instance_context)
    } else if is_the_hosts_fault(error, phase) {
        Exit::new(ExitReason::HostError, phase, chain(error))
    } else {
        // What is left comes from the canonical ABI: a bad handle, a string that is no UTF-8, a result
        // outside of memory. The guest broke the rules of its own contract.
        Exit::new(ExitReason::Trap, phase, chain(error))
    };
    if error.downcast_ref::<WorkspaceFault>().is_some() {
        exit.code = Some(WORKSPACE_UNUSABLE.into());
    }
    if exit.host_call.is_none() {
        exit.host_call = failed_host_call(error, &frames, instance_context).map(str::to_owned);
    }
    exit.frames = frames;
    exit
}

/// The host function that an error comes from. A trap and a full heap are the guest's own, and an error without a backtrace did
/// not come from within the guest: its result could not be read.
fn failed_host_call(
    error: &wasmtime::Error,
    frames: &[Frame],
    instance_context: &InstanceContext,
) -> Option<&'static str> {
    let is_the_guests_own = error.is::<Trap>() || error.is::<GcHeapOutOfMemory<()>>();
    let is_of_a_host_call = !frames.is_empty() && !is_the_guests_own;
    instance_context.meter.last_host_call().filter(|_| is_of_a_host_call)
}

/// Before the guest's own code runs, what fails is the host: a full pool, a workspace that cannot be
/// opened.
fn is_the_hosts_fault(error: &wasmtime::Error, phase: Phase) -> bool {
    phase == Phase::Instantiate
        || error.downcast_ref::<HostFault>().is_some()
        || error.downcast_ref::<std::io::Error>().is_some()
}

/// An end that the host imposed.
pub(crate) fn interrupted(
    cut: &Interrupt,
    phase: Phase,
    instance_context: &InstanceContext,
) -> Exit {
    let mut exit = Exit::new(cut.reason(), phase, cut.to_string());
    exit.host_call = instance_context.meter.host_call().map(str::to_owned);
    exit.deterministic = Determinism::False;
    if cut.reason() == ExitReason::MemoryLimit {
        exit.deterministic = Determinism::Unknown;
    }
    if let Interrupt::Memory { requested_bytes, .. }
    | Interrupt::HostMemory { requested_bytes, .. }
    | Interrupt::NoRoom { requested_bytes } = cut
    {
        exit.requested_bytes = Some(*requested_bytes);
    }
    exit
}

/// A panic of the host that was caught at the boundary.
pub(crate) fn host_panic(message: &str, phase: Phase, instance_context: &InstanceContext) -> Exit {
    let mut exit = Exit::new(ExitReason::HostError, phase, format!("the host {message}"));
    exit.host_call = instance_context.meter.host_call().map(str::to_owned);
    exit
}

fn guest_exit(status: i32, phase: Phase) -> Exit {
    let mut exit = Exit::new(ExitReason::GuestExit, phase, format!("exited with status {status}"));
    exit.status = Some(status);
    exit
}

/// The heap of a language with a garbage collector cannot grow. The engine collects garbage first, and keeps the
/// limiter's own error to itself.
fn heap_is_full(phase: Phase, instance_context: &InstanceContext) -> Exit {
    let message = "the garbage-collected heap is full and cannot grow";
    let mut exit = Exit::new(reason_of_a_denial(&instance_context.meter), phase, message);
    exit.requested_bytes = instance_context.meter.memory().denied_bytes();
    exit
}

/// Whose want of memory made a growth fail in the call under way.
pub(crate) fn reason_of_a_denial(meter: &Meter) -> ExitReason {
    match meter.memory().had_no_room() {
        true => ExitReason::EvictedMemoryPressure,
        false => ExitReason::MemoryLimit,
    }
}

fn trapped(trap: Trap, frames: &[Frame], phase: Phase, instance_context: &InstanceContext) -> Exit {
    let mut exit = Exit::new(ExitReason::Trap, phase, trap.to_string());
    exit.trap = Some(trap_name(trap));
    match trap {
        Trap::StackOverflow => exit.reason = ExitReason::StackExhausted,
        // One object of the garbage-collected heap that is larger than such a heap can be.
        Trap::AllocationTooLarge => exit.reason = ExitReason::MemoryLimit,
        // A Rust guest's own stack lies first in its memory and runs out below address zero.
        Trap::MemoryOutOfBounds if repeats(frames) => {
            exit.reason = ExitReason::StackExhausted;
            exit.message = "the guest's stack ran out of its linear memory".into();
        }
        Trap::UnreachableCodeReached => {
            let (said, memory) =
                (instance_context.logs.evidence(), instance_context.meter.memory());
            // A sentence alone is no evidence: anybody can print it.
            let failed = said.failed_allocation.filter(|bytes| memory.can_have_failed(*bytes));
            if let Some(bytes) = failed {
                exit.reason = reason_of_a_denial(&instance_context.meter);
                exit.message = format!("an allocation of {bytes} bytes failed");
                exit.requested_bytes = memory.denied_bytes().or(Some(bytes));
            } else {
                said.cause.into_iter().for_each(|cause| blame(&mut exit, cause, instance_context));
            }
        }
        _ => {}
    }
    exit
}

/// Whether a few functions fill the whole backtrace.
fn repeats(frames: &[Frame]) -> bool {
    let mut functions: Vec<_> =
        frames.iter().map(|frame| (frame.module.as_deref(), frame.function_index)).collect();
    functions.sort_unstable();
    functions.dedup();
    frames.len() >= RECURSION_MIN_FRAMES && functions.len() <= frames.len() / 4
}

/// Names what the guest wrote before its trap as the cause of that.
fn blame(exit: &mut Exit, cause: Cause, instance_context: &InstanceContext) {
    match cause {
        Cause::Panic(panic) => {
            exit.reason = ExitReason::Panic;
            exit.message = panic.message;
            exit.location = panic.place.map(location);
        }
        Cause::Exceptions(exceptions) => {
            let denied = instance_context.meter.memory().denied_bytes();
            let denied = denied.filter(|_| exceptions.iter().any(is_out_of_memory));
            let thrown = Exit::thrown(exceptions, exit.phase);
            *exit = Exit { trap: exit.trap, requested_bytes: denied, ..thrown };
            if denied.is_some() {
                exit.reason = reason_of_a_denial(&instance_context.meter);
            }
        }
    }
}

/// As in a frame, so that both name the same place, and the same one on every build machine.
fn location(place: Place) -> Location {
    let Place { file, line, column } = place;
    Location { file: source::without_build_machine(&file), line, column }
}

/// The error and its causes in one line, without the backtrace and the list of the store's parts that
/// the engine puts among them.
fn chain(error: &wasmtime::Error) -> String {
    let causes: Vec<String> = error.chain().take(MAX_CAUSES).filter_map(CauseText::of).collect();
    causes.join(": ")
}

/// The text of one cause, as it is written.
#[derive(Default)]
struct CauseText {
    text: String,
    is_a_list: bool,
}

impl CauseText {
    /// `None` for a list of the engine. Its entries have the guest's own names, each of which can be made to stand
    /// for a megabyte, so it is known by its beginning and none of them is written. The engine hides its type.
    fn of(error: &(dyn std::error::Error + 'static)) -> Option<String> {
        let mut cause = Self::default();
        // An error says that it is a list or that it is full.
        let _ = write!(cause, "{error}");
        (!cause.is_a_list).then_some(cause.text)
    }
}

impl Write for CauseText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_CAUSE_BYTES - self.text.len();
        self.text.push_str(&text[..text.floor_char_boundary(room)]);
        self.is_a_list = LISTS.iter().any(|beginning| self.text.starts_with(beginning));
        if self.is_a_list || text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

/// The engine's name of a trap, in kebab case.
fn trap_name(trap: Trap) -> &'static str {
    match trap {
        Trap::StackOverflow => "stack-overflow",
        Trap::MemoryOutOfBounds => "memory-out-of-bounds",
        Trap::HeapMisaligned => "heap-misaligned",
        Trap::TableOutOfBounds => "table-out-of-bounds",
        Trap::IndirectCallToNull => "indirect-call-to-null",
        Trap::BadSignature => "bad-signature",
        Trap::IntegerOverflow => "integer-overflow",
        Trap::IntegerDivisionByZero => "integer-division-by-zero",
        Trap::BadConversionToInteger => "bad-conversion-to-integer",
        Trap::UnreachableCodeReached => "unreachable-code-reached",
        Trap::Interrupt => "interrupt",
        Trap::NullReference => "null-reference",
        Trap::ArrayOutOfBounds => "array-out-of-bounds",
        Trap::AllocationTooLarge => "allocation-too-large",
        Trap::CastFailure => "cast-failure",
        Trap::CannotEnterComponent => "cannot-enter-component",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use bulkhead_types::{Level, MemoryPolicy};

    use super::*;
    use crate::tests::context;

    fn frame(index: usize, function_index: u32) -> Frame {
        Frame { index, function_index, ..Frame::default() }
    }

    fn says(context: &InstanceContext, stream: &'static str, text: &str) {
        text.lines().for_each(|line| context.logs.line(Level::Warn, stream, line, BTreeMap::new()));
    }

    /// What an abort of the guest stands for now.
    fn abort(context: &InstanceContext) -> Exit {
        trapped(Trap::UnreachableCodeReached, &[], Phase::Handle, context)
    }

    const PANIC: &str = "thread 'main' panicked at src/lib.rs:1:2:\nno rig";
    const GAVE_UP: &str = "memory allocation of 4096 bytes failed";

    #[test]
    fn a_cause_is_taken_from_stderr_and_from_the_call_under_way_alone() {
        let context = context(1 << 20, MemoryPolicy::Deny);
        says(&context, "log", PANIC);
        says(&context, "stdout", PANIC);
        assert_eq!(abort(&context).reason, ExitReason::Trap);
        says(&context, "stderr", PANIC);
        assert_eq!(abort(&context).reason, ExitReason::Panic);
        context.logs.begin_call();
        assert_eq!(abort(&context).reason, ExitReason::Trap, "an earlier call said it");
    }

    #[test]
    fn an_exception_that_a_runtime_prints_is_the_cause_of_its_trap() {
        let context = context(1 << 20, MemoryPolicy::Deny);
        context.meter.memory().begin(Arc::new(|_| {}));
        let traceback = |last: &str| {
            let head =
                "Traceback (most recent call last):\n  File \"agent.py\", line 5, in message";
            format!("{head}\n{last}")
        };
        says(&context, "stderr", &traceback("KeyError: 'x'"));
        let exit = abort(&context);
        assert_eq!((exit.reason, &*exit.message), (ExitReason::Exception, "KeyError: 'x'"));
        assert_eq!(exit.exceptions[0].frames[0].line, 5);
        says(&context, "stderr", &traceback("MemoryError"));
        assert_eq!(abort(&context).reason, ExitReason::Exception, "no growth came to nothing");
        context.meter.memory().hold(2 << 20, 2 << 20, false);
        let exit = abort(&context);
        assert_eq!((exit.reason, exit.requested_bytes), (ExitReason::MemoryLimit, Some(2 << 20)));
    }

    #[test]
    fn a_sentence_alone_makes_no_memory_limit() {
        let context = context(1 << 20, MemoryPolicy::Deny);
        context.meter.memory().begin(Arc::new(|_| {}));
        says(&context, "stderr", &format!("{PANIC}\n{GAVE_UP}"));
        assert_eq!(abort(&context).reason, ExitReason::Panic, "no growth came to nothing");
        context.meter.memory().hold(2 << 20, 2 << 20, false);
        let exit = abort(&context);
        assert_eq!((exit.reason, exit.requested_bytes), (ExitReason::MemoryLimit, Some(2 << 20)));
        // Only the last sentence counts.
        says(&context, "stderr", PANIC);
        assert_eq!(abort(&context).reason, ExitReason::Panic);
        context.logs.begin_call();
        context.meter.memory().begin_call();
        says(&context, "stderr", GAVE_UP);
        assert_eq!(
            abort(&context).reason,
            ExitReason::Trap,
            "the growth failed in an earlier call"
        );
        says(&context, "stderr", "memory allocation of 9999999999 bytes failed");
        let exit = abort(&context);
        let expected = (ExitReason::MemoryLimit, Some(9_999_999_999));
        assert_eq!((exit.reason, exit.requested_bytes), expected, "it can never have had room");
    }

    #[test]
    fn who_gives_up_because_the_container_has_no_room_is_within_its_own_limit() {
        let context = context(1 << 20, MemoryPolicy::Deny);
        context.meter.memory().deny_for_want_of_room(4096);
        says(&context, "stderr", GAVE_UP);
        assert_eq!(abort(&context).reason, ExitReason::EvictedMemoryPressure);
    }

    #[test]
    fn a_panic_in_a_library_is_named_the_same_way_on_every_build_machine() {
        for (place, file) in [
            ("/rustc/59807616/library/core/src/str/mod.rs:1:2", "library/core/src/str/mod.rs"),
            (
                "/home/a/.cargo/registry/src/index-1/serde-1.0.2/src/lib.rs:1:2",
                "serde-1.0.2/src/lib.rs",
            ),
            (
                "/root/.cargo/registry/src/index-9/serde-1.0.2/src/lib.rs:1:2",
                "serde-1.0.2/src/lib.rs",
            ),
        ] {
            let context = context(1 << 20, MemoryPolicy::Deny);
            says(&context, "stderr", &format!("thread 'main' panicked at {place}:\nno"));
            assert_eq!(abort(&context).location.unwrap().file, file);
        }
    }

    /// Begins like this, and then has no end.
    #[derive(Debug)]
    struct Endless(&'static str, Arc<AtomicUsize>);

    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)?;
            loop {
                assert!(self.1.fetch_add(1, Relaxed) < 10_000, "nobody stops it");
                f.write_str("a name that the guest chose")?;
            }
        }
    }

    #[test]
    fn the_engines_lists_are_not_written_and_other_causes_within_their_bound() {
        let written = Arc::new(AtomicUsize::new(0));
        let list = |beginning| Endless(beginning, Arc::clone(&written));
        let error = wasmtime::Error::msg("the cause")
            .context(list("error while executing at wasm backtrace:\n"))
            .context("between")
            .context(list("wasm coredump generated while executing <module>:\n"));
        assert_eq!(chain(&error), "between: the cause");
        assert_eq!(written.load(Relaxed), 0, "none of their entries was written");
        let long = wasmtime::Error::msg("the cause").context(list("no list"));
        assert_eq!(chain(&long).len(), MAX_CAUSE_BYTES + ": the cause".len());
    }

    #[test]
    fn recursion_is_a_backtrace_of_few_functions() {
        let one: Vec<_> = (0..20).map(|index| frame(index, 7)).collect();
        let mutual: Vec<_> = (0..20).map(|index| frame(index, index as u32 % 3)).collect();
        let deep: Vec<_> = (0..20).map(|index| frame(index, index as u32)).collect();
        assert!(repeats(&one) && repeats(&mutual));
        assert!(!repeats(&deep) && !repeats(&one[..5]));
    }
}

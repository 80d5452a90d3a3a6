//! Panics of the host.
//!
//! Most are contained where they happen, and the code that contains one reports what it ended: a request, an agent's
//! call, a task. What nothing contains ends the process here, with a report first.

use std::backtrace::Backtrace;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_blackbox::{Fact, Panic};
use bulkhead_log::Sink;
use bulkhead_tasks::containment::{Fate, fate_of, panic_message};
use bulkhead_tasks::report_unhandled;
use bulkhead_types::Event;

use crate::evidence::AT_PANIC;
use crate::exit::Exit;
use crate::recorder::Recorder;
use crate::termination_log;

/// Time for the last lines of a process that dies of a panic.
const FLUSHING: Duration = Duration::from_secs(2);

/// Logs every panic of the process that nobody else logs, and ends the process for those that nothing
/// contains.
pub fn watch(recorder: Arc<Recorder>) {
    std::panic::set_hook(Box::new(move |panic| {
        let log = recorder.log();
        let message = panic_message(panic.payload());
        let place = panic.location().map(ToString::to_string);
        match fate_of(panic) {
            Fate::Contained => {}
            Fate::EndsItsTask => {
                report_unhandled(&*recorder, log.context(), "unnamed", "panic", message, place);
            }
            Fate::EndsTheProcess => {
                let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
                // Before anything that takes memory, locks or time.
                recorder.blackbox().note(&Fact::Panic(Panic {
                    name: thread.as_str().into(),
                    message: message.as_str().into(),
                    location: place.as_deref().map(Into::into),
                }));
                let at = place.as_deref().unwrap_or("an unknown location");
                let run_id = log.context().run_id();
                termination_log::write(&format!("run {run_id} panicked at {at}: {message}"));
                let frames = Backtrace::force_capture();
                recorder.record(Event::UncaughtException {
                    name: "panic",
                    message,
                    stack: Some(format!("at {at} in thread {thread}\n{frames}")),
                    active_agents: log.context().active_agents(),
                });
                log.flush(FLUSHING);
                recorder.leave_evidence(AT_PANIC);
                end_the_process();
            }
        }
    }));
}

#[expect(clippy::disallowed_methods, reason = "`main` may be what panicked, or wait for what did")]
fn end_the_process() -> ! {
    std::process::exit(Exit::Panicked as i32)
}

//! `bulkhead run`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_events::task::Spawner;
use bulkhead_model::Event;
use bulkhead_model::previous::RunState;
use bulkhead_model::time::millis;
use bulkhead_supervisor::{DrainPlan, DrainReport};
use tokio::task::JoinHandle;

use crate::cli::RunArgs;
use crate::config::{self, Settings};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::faults;
use crate::host::Host;
use crate::init::Handover;
use crate::signals::Signals;

/// Time for the control server to finish what it is answering.
const ANSWERING: Duration = Duration::from_secs(2);

/// Time for the last log lines.
const FLUSHING: Duration = Duration::from_secs(5);

/// The configuration with what the command line says over it.
pub fn settings(args: &RunArgs) -> Result<Settings, Failure> {
    let mut settings = config::load(&args.config)?;
    if let Some(listen) = args.listen {
        settings.control.listen = listen;
    }
    if let Some(format) = args.log_format {
        settings.log_format = format;
    }
    Ok(settings)
}

/// Runs the agents until a signal comes.
pub fn run(args: &RunArgs, handover: Option<Handover>) -> Result<Exit, Failure> {
    let settings = settings(args)?;
    let waiting = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::cannot_run("cannot wait for signals", &error))?;
    // Before anything can take time: a signal during boot ends it in order.
    let mut signals = waiting
        .block_on(async { Signals::listen() })
        .map_err(|error| Failure::cannot_run("cannot listen for signals", &error))?;
    let host = Host::build(&settings, handover.as_ref())?;
    faults::strike_in_boot(args.inject_fault);
    let spawner = spawner(&host);
    let booted = boot(&host, &settings, &spawner);
    let by = waiting.block_on(async {
        tokio::select! {
            by = signals.next() => by,
            never = get_ready(&host, booted) => match never {},
            never = faults::strike(args.inject_fault, &spawner) => match never {},
        }
    });
    host.sink.record(Event::StopIntent { by: by.into(), reason: "a signal asked for it".into() });
    host.recorder.reached(RunState::Draining);
    host.memory.report();
    let plan = plan(by, &settings);
    let ending = waiting.block_on(shut_down(&host, by, plan, &mut signals));
    Ok(end(host, &ending))
}

fn spawner(host: &Host) -> Spawner {
    let (sink, context) = (Arc::clone(&host.sink), Arc::clone(host.recorder.log().context()));
    Spawner::new(host.runtime.fast_lane().clone(), sink, context)
}

/// Brings back the agents of earlier runs and starts the configured ones. One that fails was told; the others
/// go on.
fn boot(host: &Host, settings: &Settings, spawner: &Spawner) -> JoinHandle<Option<()>> {
    let (supervisor, configured) = (host.supervisor.clone(), settings.agents.clone());
    let rules = settings.hydration;
    spawner.spawn("hydration", async move {
        supervisor.hydrate(configured, rules).await;
        Ok::<_, Infallible>(())
    })
}

/// Says that the host is ready when the boot is through, and the black box was told so. A boot that was lost on
/// its way is through as well: who is missing can be started.
async fn get_ready(host: &Host, booted: JoinHandle<Option<()>>) -> Infallible {
    if !matches!(booted.await, Ok(Some(()))) {
        host.sink.record(Event::HydrationFailed {
            error: "the task that brings agents back ended before its time".into(),
            action: "read the panic before this line; start the missing agents by hand",
        });
    }
    host.recorder.reached(RunState::Hydrated);
    host.supervisor.set_ready();
    std::future::pending().await
}

/// SIGTERM lets the agents finish what they are at. The others come from a terminal: somebody waits.
fn plan(by: &str, settings: &Settings) -> DrainPlan {
    let stop = settings.shutdown.min(settings.drain);
    let settle = match by {
        "SIGTERM" => settings.drain - stop,
        _ => Duration::ZERO,
    };
    DrainPlan { settle, stop }
}

/// How the agents ended.
struct Ending {
    report: DrainReport,
    /// The drain was not cut short.
    through: bool,
}

impl Ending {
    fn exit(&self) -> Exit {
        if self.through && self.report.killed() == 0 { Exit::Clean } else { Exit::Unclean }
    }
}

/// Ends the agents. A second signal ends the wait.
async fn shut_down(
    Host { supervisor, sink, .. }: &Host,
    by: &str,
    plan: DrainPlan,
    signals: &mut Signals,
) -> Ending {
    let again = tokio::select! {
        report = supervisor.drain(by, plan) => return Ending { report, through: true },
        again = signals.next() => again,
    };
    let reason = "a second signal: no grace any more".into();
    sink.record(Event::StopIntent { by: again.into(), reason });
    Ending { report: supervisor.kill_all(again).await, through: false }
}

fn end(host: Host, ending: &Ending) -> Exit {
    let Host { recorder, sink, runtime, supervisor, control, database, memory, .. } = host;
    let (log, report) = (recorder.log(), &ending.report);
    if control.shutdown(ANSWERING) > 0 {
        tracing::warn!("requests were cut off at the end");
    }
    if !database.flush(FLUSHING) {
        tracing::warn!("the database was not written in time");
    }
    memory.hush();
    sink.record(Event::Stopped {
        stopped: report.stopped(),
        killed: report.killed(),
        duration_ms: millis(report.duration),
        dropped_lines: log.dropped(),
    });
    log.close(FLUSHING);
    drop(supervisor);
    if let Some(runtime) = Arc::into_inner(runtime) {
        runtime.shut_down();
    }
    // The last word: whatever goes wrong before it is an end that was not clean.
    memory.stop();
    if ending.through {
        recorder.mark_clean();
    }
    ending.exit()
}

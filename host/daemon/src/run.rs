//! `bulkhead run`.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_events::task::Spawner;
use bulkhead_model::Event;
use bulkhead_model::time::millis;
use bulkhead_supervisor::{DrainPlan, DrainReport};

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

/// Runs the agents until a signal comes.
pub fn run(args: &RunArgs, handover: Option<Handover>) -> Result<Exit, Failure> {
    let mut settings = config::load(&args.config)?;
    if let Some(listen) = args.listen {
        settings.control.listen = listen;
    }
    if let Some(format) = args.log_format {
        settings.log_format = format;
    }
    let waiting = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::cannot_run("cannot wait for signals", &error))?;
    // Before anything can take time: a signal during boot ends it in order.
    let mut signals = waiting
        .block_on(async { Signals::listen() })
        .map_err(|error| Failure::cannot_run("cannot listen for signals", &error))?;
    let host = Host::build(&settings, handover.as_ref())?;
    let spawner = spawner(&host);
    boot(&host, &settings, &spawner);
    let by = waiting.block_on(async {
        tokio::select! {
            by = signals.next() => by,
            never = faults::strike(args.inject_fault, &spawner) => match never {},
        }
    });
    host.sink.record(Event::StopIntent { by: by.into(), reason: "a signal asked for it".into() });
    let plan = plan(by, &settings);
    let (report, clean) = waiting.block_on(shut_down(&host, by, plan, &mut signals));
    Ok(end(host, &report, clean))
}

fn spawner(host: &Host) -> Spawner {
    let (sink, context) = (Arc::clone(&host.sink), Arc::clone(host.log.context()));
    Spawner::new(host.runtime.fast_lane().clone(), sink, context)
}

/// Starts the configured agents, all at once, and then says that the host is ready. A start that
/// fails was told; the others go on.
fn boot(host: &Host, settings: &Settings, spawner: &Spawner) {
    let starts: Vec<_> = settings
        .agents
        .iter()
        .map(|request| {
            let (supervisor, request) = (host.supervisor.clone(), request.clone());
            let name = format!("boot {}", request.agent_id);
            spawner.spawn(name, async move {
                let _ = supervisor.start(request).await;
                Ok::<_, std::convert::Infallible>(())
            })
        })
        .collect();
    let supervisor = host.supervisor.clone();
    spawner.spawn("boot", async move {
        for start in starts {
            let _ = start.await;
        }
        supervisor.set_ready();
        Ok::<_, std::convert::Infallible>(())
    });
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

/// Ends the agents, and says whether that went as it should. A second signal ends the wait.
async fn shut_down(
    Host { supervisor, sink, .. }: &Host,
    by: &str,
    plan: DrainPlan,
    signals: &mut Signals,
) -> (DrainReport, bool) {
    let again = tokio::select! {
        report = supervisor.drain(by, plan) => {
            let clean = report.killed() == 0;
            return (report, clean);
        }
        again = signals.next() => again,
    };
    let reason = "a second signal: no grace any more".into();
    sink.record(Event::StopIntent { by: again.into(), reason });
    (supervisor.kill_all(again).await, false)
}

fn end(host: Host, report: &DrainReport, clean: bool) -> Exit {
    let Host { log, sink, runtime, supervisor, control, .. } = host;
    if control.shutdown(ANSWERING) > 0 {
        tracing::warn!("requests were cut off at the end");
    }
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
    if clean { Exit::Clean } else { Exit::Unclean }
}

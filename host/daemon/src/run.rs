//! `bulkhead run`.

use std::convert::Infallible;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_log::Format;
use bulkhead_memory::Kernel;
use bulkhead_supervisor::{DrainPlan, DrainReport, TownAnswer};
use bulkhead_tasks::Spawner;
use bulkhead_telemetry::Figures;
use bulkhead_town::Handle;
use bulkhead_types::Event;
use bulkhead_types::event::{HydrationFailed, Stopped};
use bulkhead_types::previous::RunState;
use bulkhead_types::time::millis;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::cli::{Interrupt, RunArgs};
use crate::components::{Components, FETCH_AT_BOOT, Missing};
use crate::config::{self, EvidenceSettings, OnFenced, Settings};
use crate::evidence::{ANNOUNCED, LAST_WORD};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::faults;
use crate::hardening::{self, AllowedPaths};
use crate::host::{Ground, Host};
use crate::init::{Handover, InitMessage};
use crate::leased;
use crate::manager::Manager;
use crate::notify::Stage;
use crate::ship;
use crate::signals::{SIGNAL_DEBOUNCE, Signals};
use crate::state_dir::{Refused, StateDir};
use crate::termination_log::{self, while_ending};
use crate::tools;

/// Time for the control server to finish what it is answering.
const ANSWERING: Duration = Duration::from_secs(2);

/// Between two checks whether another host has left the state directory.
const LOOK_AT_STATE: Duration = Duration::from_millis(50);

/// The town's part of the time that readiness waits: one in so many.
const TOWN_PART: u32 = 3;

/// Time to send the town what it has not got at the end, at most and at least.
const LAST_WORDS: Duration = Duration::from_secs(10);
const LAST_WORDS_LEAST: Duration = Duration::from_secs(1);

/// Time for the first log lines, which readiness waits for at most.
const AT_BOOT: Duration = Duration::from_millis(100);

/// Time for the last log lines.
const FLUSHING: Duration = Duration::from_secs(5);

/// Who asks for the end when a newer run serves the town.
const FENCED: &str = "town.fenced";

/// The same of an end that somebody asked the API for.
const MOVE: &str = "move";

/// The configuration with what the command line says over it.
pub fn settings(args: &RunArgs) -> Result<Settings, Failure> {
    let mut settings = match &args.test_model {
        None => config::load(&args.config)?,
        Some(url) => under_test(config::load_for_test(&args.config, url)?),
    };
    if let Some(listen) = args.listen {
        settings.control.listen = listen;
    }
    if let Some(format) = args.log_format {
        settings.log_format = format;
    }
    settings.config_file.clone_from(&args.config);
    settings.is_moved = args.listen.is_some() || settings.control.listen.port() == 0;
    (settings.verbose, settings.colours) = (args.verbose, args.colours);
    settings.without_store = args.without_store;
    if let Some(sigint) = args.sigint {
        settings.sigint = sigint;
    }
    Ok(settings)
}

/// No agent starts by itself: a script starts its own. The state directory is one in that of the author's host, which has
/// compiled the same components, often.
fn under_test(mut settings: Settings) -> Settings {
    settings.agents.clear();
    (settings.lease, settings.ship) = (None, None);
    let compiled = settings.state_dir.parent().map(|dir| dir.join("aot"));
    let seed = &mut settings.runtime.aot_seed;
    *seed = seed.take().or_else(|| compiled.filter(|dir| dir.is_dir()));
    settings
}

/// Runs the agents until a signal comes.
pub fn run(args: &RunArgs, handover: Option<Handover>) -> Result<Exit, Failure> {
    let mut settings = settings(args)?;
    leased::check(settings.lease.is_some(), handover.as_ref())?;
    if settings.security.debuggable {
        hardening::be_debuggable();
    }
    if let Some(handover) = &handover {
        handover.send(match settings.format() {
            Format::Json => InitMessage::LogIsJson,
            Format::Text(_) => InitMessage::LogIsPretty,
        });
    }
    let waiting = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::cannot_run("cannot wait for signals", &error))?;
    // Before anything can take time: a signal during boot ends it in order.
    let mut signals = waiting
        .block_on(async { Signals::listen() })
        .map_err(|error| Failure::cannot_run("cannot listen for signals", &error))?;
    let state_dir = take_state_dir(&settings.state_dir, args.wait_for_state, &mut signals);
    let Some(state_dir) = waiting.block_on(state_dir)? else { return Ok(Exit::Clean) };
    // What is in it is shown to other programs, which have another working directory.
    if let Ok(whole) = settings.state_dir.canonicalize() {
        settings.state_dir = whole;
    }
    let manager = Manager::of(handover.as_ref());
    manager.reached(Stage::Booting);
    let ground = lay_ground(&settings, state_dir)?;
    leased::follow(handover.as_ref())?;
    let restored = ship::restore(&settings, ground.state_dir.unusable(), &mut signals);
    let Some(shipping) = waiting.block_on(restored)? else { return Ok(Exit::Clean) };
    let ground = Ground { shipping, ..ground };
    let components = Arc::clone(&ground.components);
    let fetched = fetch(&components, &mut signals);
    let Some(missing) = waiting.block_on(fetched) else { return Ok(Exit::Clean) };
    let host = Host::build(&settings, ground, handover.as_ref())?;
    log_start(missing, &signals);
    faults::strike_in_boot(args.inject_fault);
    let spawner = spawner(&host);
    let booted = boot(&host, &settings, &spawner);
    drop(keep_fetching(components, &host));
    drop(spawner.spawn_infallible("workspaces", host.supervisor.keep_workspaces()));
    drop(spawner.spawn_infallible("shipping", host.supervisor.ship_workspaces()));
    let by = waiting.block_on(async {
        tokio::select! {
            by = signals.next() => by,
            () = fenced(&host, settings.on_fenced) => FENCED,
            () = bulkhead_fence::given_up() => MOVE,
            never = get_ready(&host, &manager, booted) => match never {},
            never = keep_alive(&host, &manager) => match never {},
            never = faults::strike(args.inject_fault, &spawner) => match never {},
        }
    });
    if let (MOVE, Some(handover)) = (by, &handover) {
        handover.send(InitMessage::GivesUp);
    }
    let report = drain(&host, &settings, by, &manager, &waiting, &mut signals);
    let run_id = host.recorder.log().context().run_id().to_owned();
    let exit = end(host, &report, &settings);
    let (stopped, killed) = (report.stopped(), report.killed());
    let how = if report.cut { "at once, by a second signal" } else { "as asked" };
    termination_log::write(&format!(
        "run {run_id} ended {how} ({by}): {stopped} agents ended, {killed} had to be killed"
    ));
    Ok(exit)
}

/// What is there before the host: the launcher of native programs, and this process without what it gives up.
fn lay_ground(settings: &Settings, state_dir: StateDir) -> Result<Ground, Failure> {
    // Not confined as this process is about to be: it mounts.
    let launcher = tools::start(settings)?;
    // Before there is a thread that it would not hold for.
    let (confinement, problems) = hardening::confine(settings.security, &allowed_paths(settings))?;
    let components = Components::of(settings);
    Ok(Ground { state_dir, confinement, problems, launcher, components, shipping: None })
}

/// Logs what is not as it could be.
fn log_start(missing: Vec<Missing>, signals: &Signals) {
    for Missing { name, reason } in missing {
        tracing::warn!(component = %name, reason, "a component is not there: agents of its roles cannot start until it is");
    }
    if let ignored @ [_, ..] = &*signals.ignored() {
        tracing::info!(
            ?ignored,
            "signals were ignored when the host was started, and stay ignored"
        );
    }
}

/// Ends the agents, because of `by`, and sends the town what it has not got yet.
fn drain(
    host: &Host,
    settings: &Settings,
    by: &'static str,
    manager: &Manager<'_>,
    waiting: &Runtime,
    signals: &mut Signals,
) -> DrainReport {
    let heard = Instant::now();
    let plan = plan(by, settings);
    let drain_ms = millis(plan.settle + plan.stop);
    host.sink.record(Event::StopIntent {
        by: by.into(),
        reason: match by {
            FENCED => "a newer run serves the town".into(),
            MOVE => "another copy of the town is to take over".into(),
            _ => "a signal asked for it".into(),
        },
        drain_ms: Some(drain_ms),
    });
    termination_log::write(&while_ending(host.recorder.log().context().run_id(), by, drain_ms));
    host.recorder.reached(RunState::Draining);
    manager.reached(Stage::Draining);
    host.memory.report();
    let notice = host.town.as_ref().map(|town| town.evict(by));
    let report = waiting.block_on(async {
        tokio::select! {
            report = shut_down(host, by, plan, signals, heard + SIGNAL_DEBOUNCE) => report,
            never = keep_alive(host, manager) => match never {},
        }
    });
    if !report.cut {
        let left =
            || settings.drain.saturating_sub(heard.elapsed()).clamp(LAST_WORDS_LEAST, LAST_WORDS);
        waiting.block_on(async {
            tokio::join!(last_words(host, notice, left()), last_workspaces(host, left()))
        });
    }
    report
}

/// Takes the state directory. While another host has it this waits, for `patience`. Nothing: a signal came first.
async fn take_state_dir(
    dir: &Path,
    patience: Duration,
    signals: &mut Signals,
) -> Result<Option<StateDir>, Failure> {
    let until = Instant::now() + patience;
    let mut logged = false;
    loop {
        match StateDir::take(dir) {
            Err(Refused::InUse(why)) if Instant::now() < until => {
                if !logged {
                    eprintln!("bulkhead: waiting for at most {patience:?}: {why}");
                    logged = true;
                }
            }
            taken => return Ok(Some(taken?)),
        }
        tokio::select! {
            _ = signals.next() => return Ok(None),
            () = sleep(LOOK_AT_STATE) => {}
        }
    }
}

/// Fetches components that are not kept, so that the engine is built for them, and agents that start at boot have them.
/// Nothing: a signal came first.
async fn fetch(components: &Components, signals: &mut Signals) -> Option<Vec<Missing>> {
    tokio::select! {
        _ = signals.next() => None,
        missing = components.fetch(FETCH_AT_BOOT) => Some(missing),
    }
}

/// Goes on with those that were not there at boot.
fn keep_fetching(components: Arc<Components>, host: &Host) -> JoinHandle<Option<()>> {
    let (sink, context) = (Arc::clone(&host.sink), Arc::clone(host.recorder.log().context()));
    let spawner = Spawner::new(host.runtime.slow_lane().clone(), sink, context);
    spawner.spawn_infallible("components", async move { components.keep_fetching().await })
}

/// Where the host works, beside what every program reads.
fn allowed_paths(settings: &Settings) -> AllowedPaths {
    let mut read = Vec::new();
    for component in settings.catalog.components.values() {
        read.extend(around(component));
    }
    read.extend(settings.runtime.aot_seed.clone());
    let sources = settings.catalog.roles.values().filter_map(|role| role.source.as_ref());
    for source in sources {
        match source.path.is_dir() {
            true => read.extend(
                [Some(source.path.clone()), source.path.canonicalize().ok()].into_iter().flatten(),
            ),
            false => read.extend(around(&source.path)),
        }
    }
    // A key that changes is read again, and often by another file that takes its place.
    let keys = settings.models.iter().filter_map(|model| model.key_file.as_ref());
    let of_sink = settings.evidence.iter().flat_map(|evidence| &evidence.files);
    let of_registries = &settings.components.files;
    for file in keys.chain(&settings.secret_files).chain(of_sink).chain(of_registries) {
        read.extend(around(file));
    }
    // Names are looked up by what this says, wherever the system keeps it.
    read.extend(around(Path::new("/etc/resolv.conf")));
    let pressure = Kernel::here().pressure_file();
    read.extend(pressure.parent().map(Path::to_owned));
    let evidence = settings.evidence.as_ref().and_then(EvidenceSettings::directory);
    let shipped = settings.ship.as_ref().and_then(|ship| ship.directory()).map(Path::to_owned);
    AllowedPaths {
        state: settings.state_dir.clone(),
        others: evidence.map(Path::to_owned).into_iter().chain(shipped).collect(),
        read,
        write: termination_log::path().into_iter().chain([pressure]).collect(),
    }
}

/// A file and its directory, where it is named and where a link leads now: another file may take its place. Of a
/// directory that is not there yet, the one above it; never the root, which is everything.
fn around(file: &Path) -> Vec<PathBuf> {
    let paths = [std::path::absolute(file).ok(), file.canonicalize().ok()];
    let mut read = Vec::new();
    for place in paths.into_iter().flatten() {
        let mut dirs = place.ancestors().skip(1).filter(|dir| dir.parent().is_some());
        read.extend(dirs.find(|dir| dir.is_dir()).map(Path::to_owned));
        read.push(place);
    }
    read
}

fn spawner(host: &Host) -> Spawner {
    let (sink, context) = (Arc::clone(&host.sink), Arc::clone(host.recorder.log().context()));
    Spawner::new(host.runtime.fast_lane().clone(), sink, context)
}

/// Restores the agents of earlier runs and starts the configured ones. One that fails was logged; the others
/// go on.
fn boot(host: &Host, settings: &Settings, spawner: &Spawner) -> JoinHandle<Option<()>> {
    let (supervisor, configured) = (host.supervisor.clone(), settings.agents.clone());
    let town = host.town.as_ref().map(|town| town.handle().clone());
    let mut rules = settings.hydration;
    spawner.spawn_infallible("hydration", async move {
        let began = Instant::now();
        let says = ask_town(town, rules.deadline / TOWN_PART).await;
        // Readiness waits no longer than it may, no matter what took the time.
        rules.deadline = rules.deadline.saturating_sub(began.elapsed());
        supervisor.hydrate(configured, says, rules).await;
    })
}

/// What the town wants here, if it says so in time.
async fn ask_town(town: Option<Handle>, within: Duration) -> TownAnswer {
    let Some(town) = town else { return TownAnswer::NoTown };
    // Why not stands in the log.
    match town.registry(within).await {
        Ok(registry) => TownAnswer::Wants(registry, Arc::new(town)),
        Err(fault) => TownAnswer::Nothing(fault.to_string()),
    }
}

/// Says that the host is ready when the boot is through, and the black box has that. A boot that was lost on
/// its way is through as well: who is missing can be started.
async fn get_ready(
    host: &Host,
    manager: &Manager<'_>,
    booted: JoinHandle<Option<()>>,
) -> Infallible {
    if !matches!(booted.await, Ok(Some(()))) {
        host.sink.record(Event::HydrationFailed(HydrationFailed {
            error: "the task that restarts agents at boot ended early".into(),
            action: "read the panic before this line; start the missing agents by hand",
        }));
    }
    host.recorder.reached(RunState::Hydrated);
    host.earlier_runs_are_reported(AT_BOOT);
    // A run that nobody outside has heard of would have its predecessor's end for its own.
    let _ = host.recorder.leave_evidence(ANNOUNCED);
    host.supervisor.set_ready();
    manager.reached(Stage::Ready);
    if let Some(town) = &host.town {
        // Not before: the town's registry follows the container from here on.
        town.follow(Arc::new(host.supervisor.clone()));
    }
    std::future::pending().await
}

/// Reports that the host is alive as long as its control server answers, and this thread asks.
async fn keep_alive(host: &Host, manager: &Manager<'_>) -> Infallible {
    let Some(beat) = manager.beat() else { return std::future::pending().await };
    loop {
        host.control.answers().await;
        manager.alive();
        sleep(beat).await;
    }
}

/// Resolves when a newer run serves the town, and this one is to end then.
async fn fenced(host: &Host, on_fenced: OnFenced) {
    match &host.town {
        Some(town) if on_fenced == OnFenced::Drain => town.handle().fenced().await,
        _ => std::future::pending().await,
    }
}

/// SIGTERM, the fence and a move let the agents finish what they are at, SIGINT where the configuration says so. The others come from a
/// terminal: somebody waits.
fn plan(by: &str, settings: &Settings) -> DrainPlan {
    let stop = settings.shutdown.min(settings.drain);
    let drains = matches!(by, "SIGTERM" | FENCED | MOVE)
        || (by == "SIGINT" && settings.sigint == Interrupt::Drain);
    let settle = if drains { settings.drain - stop } else { Duration::ZERO };
    DrainPlan { settle, stop }
}

/// The exit that says how the agents ended.
fn exit_of(report: &DrainReport) -> Exit {
    if !report.cut && report.killed() == 0 { Exit::Clean } else { Exit::Unclean }
}

/// Ends the agents. A second signal ends the wait; one that comes before `one_wish` is the first once more.
async fn shut_down(
    Host { supervisor, sink, .. }: &Host,
    by: &str,
    plan: DrainPlan,
    signals: &mut Signals,
    one_wish: Instant,
) -> DrainReport {
    let cut = async {
        let mut one_wish = one_wish;
        if [FENCED, MOVE].contains(&by) {
            let first = signals.next().await;
            tracing::info!(signal = first, "a signal asks for the end, which is under way");
            one_wish = Instant::now() + SIGNAL_DEBOUNCE;
        }
        let again = loop {
            let again = signals.next().await;
            if Instant::now() >= one_wish {
                break again;
            }
            tracing::info!(signal = again, "a signal right after the first one is ignored");
        };
        let reason = "a second signal ends the grace period".into();
        sink.record(Event::StopIntent { by: again.into(), reason, drain_ms: None });
        again.into()
    };
    supervisor.drain(by, plan, cut).await
}

/// Sends the town what it has not got yet: what the agents left, and that they are still desired.
async fn last_words(host: &Host, notice: Option<JoinHandle<Option<()>>>, patience: Duration) {
    let (Some(town), Some(notice)) = (&host.town, notice) else { return };
    // What is sent is what is stored.
    if timeout(patience, host.database.receipt_of_all().durable()).await.is_err() {
        tracing::warn!("the town is notified before everything is written");
    }
    let sent = async { tokio::join!(notice, town.finish(patience)).1 };
    if !timeout(patience, sent).await.unwrap_or(false) {
        tracing::warn!("the town was not notified in time");
    }
}

/// Ships workspaces that were not shipped when their agents ended.
async fn last_workspaces(host: &Host, patience: Duration) {
    let Some((archives, _)) = &host.travel else { return };
    let due = archives.finish(patience).await;
    if due > 0 {
        tracing::error!(
            due,
            "workspaces are not shipped as they are: the next copy of the town finds older ones, or none"
        );
    }
}

fn end(host: Host, report: &DrainReport, settings: &Settings) -> Exit {
    host.earlier_runs_are_reported(FLUSHING / 2);
    let Host {
        recorder,
        sink,
        runtime,
        supervisor,
        control,
        database,
        journal,
        feed,
        memory,
        town,
        telemetry,
        tools,
        ship,
        travel,
        ..
    } = host;
    let log = recorder.log();
    if control.shutdown(ANSWERING) > 0 {
        tracing::warn!("requests were interrupted by the shutdown");
    }
    if let Some(telemetry) = telemetry {
        telemetry.end();
        let Figures { dropped, failed, .. } = telemetry.figures();
        if dropped + failed > 0 {
            tracing::warn!(dropped, failed, "spans were not exported");
        }
    }
    let is_written = database.flush(FLUSHING);
    if !is_written {
        tracing::warn!("the database was not written in time");
    }
    if let (Some(ship), Some(settings)) = (ship, &settings.ship) {
        let shipped = match is_written {
            true => ship.finish(settings.wait),
            // What comes now would be behind the end.
            false => Err(ship.abandon("the database was not written in time")),
        };
        if let Err(error) = shipped {
            tracing::error!(%error, "the next copy of the town does not have everything that this one did");
        }
    }
    let crash_records = database.counts().crashes_waiting;
    if crash_records > 0 && database.has_file() {
        tracing::error!(
            crash_records,
            "crash records were not written before the end; the log has them"
        );
    }
    // For the end of the machine: what the process leaves is there without it.
    if let Err(error) = journal.sync() {
        tracing::warn!(%error, "the journal was not synced");
    }
    if let Err(error) = feed.sync() {
        tracing::warn!(%error, "the event file was not synced");
    }
    // So that the count below knows of every line before it.
    log.flush(FLUSHING / 2);
    sink.record(Event::Stopped(Stopped {
        stopped: report.stopped(),
        killed: report.killed(),
        duration_ms: millis(report.duration),
        dropped_lines: log.dropped(),
    }));
    log.close(FLUSHING);
    drop(town);
    drop(travel);
    drop(supervisor);
    if let Some(runtime) = Arc::into_inner(runtime) {
        runtime.shut_down();
    }
    if let Some(tools) = tools {
        tools.end();
    }
    // The last word: whatever goes wrong before it is an end that was not clean.
    memory.stop();
    recorder.mark_clean();
    // With the marker: the log is closed.
    if !recorder.leave_evidence(LAST_WORD) {
        let _ = writeln!(
            std::io::stderr(),
            "bulkhead: the last word of this run is not at the evidence sink"
        );
    }
    exit_of(report)
}

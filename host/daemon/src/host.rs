//! The composition root: everything is built here, bottom up.

use std::cell::RefCell;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_blackbox::BlackBox;
use bulkhead_blackbox::runs::Runs;
use bulkhead_blackbox::{BootFailed, Fact, Run};
use bulkhead_control::{ControlServer, TownEdge};
use bulkhead_evidence::{Evidence, ThisRun};
use bulkhead_feed::Feed;
use bulkhead_log::{Diagnostics, Log, RunContext, SharedSink};
use bulkhead_memory::Kernel;
use bulkhead_memory::Memory;
use bulkhead_memory::MemoryWatch;
use bulkhead_runtime::{HostCallNames, Runtime, RuntimeConfig, Tools};
use bulkhead_ship::{Archives, Carrier, Ship};
use bulkhead_store::ownership::explain;
use bulkhead_store::{Database, Journal, journal};
use bulkhead_supervisor::{Stores, Supervisor};
use bulkhead_telemetry::Telemetry;
use bulkhead_terminal::Look;
use bulkhead_tools::Launcher;
use bulkhead_town::Town;
use bulkhead_types::error::causes;
use bulkhead_types::event::{ColdStart, Confinement, ToolSandbox};
use bulkhead_types::previous::RunState;
use bulkhead_types::time::millis;
use bulkhead_types::{Event, Level};
use bulkhead_workspace::{Inventory, Workspaces};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::banner::banner;
use crate::begun::Begun;
use crate::components::Components;
use crate::config::{MemorySettings, Opened, Settings, missing_runners};
use crate::control_token::{self, Made};
use crate::evidence::{self, Late, Sources};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::init::{Handover, InitMessage};
use crate::kept::{Kept, open_database, refuse_newer_database};
use crate::open_files;
use crate::output;
use crate::panics;
use crate::previous::Before;
use crate::recorder::Recorder;
use crate::repositories;
use crate::ship;
use crate::state_dir::StateDir;
use crate::store_notices::StoreNotices;
use crate::tools::{self, ToolThread};
use crate::town_edge::TownClient;

/// What is there before the host is built.
pub struct Ground {
    pub state_dir: StateDir,
    /// What the process gave up.
    pub confinement: Confinement,
    /// What it would have given up, and could not.
    pub problems: Vec<String>,
    /// What runs native programs, if some role lists any.
    pub launcher: Option<Launcher>,
    /// What registries have.
    pub components: Arc<Components>,
    /// Where the state is shipped, and what was restored from there.
    pub shipping: Option<bulkhead_ship::Opened>,
}

/// A running host.
pub struct Host {
    pub recorder: Arc<Recorder>,
    pub sink: SharedSink,
    pub runtime: Arc<Runtime>,
    pub supervisor: Supervisor,
    pub control: ControlServer,
    pub database: Arc<Database>,
    pub journal: Journal,
    /// All events.
    pub feed: Arc<Feed>,
    pub memory: MemoryWatch,
    /// The town's client, when the container has a town to call.
    pub town: Option<Town>,
    /// Exports spans, if a collector is named.
    pub telemetry: Option<Telemetry>,
    /// Talks to what runs native programs.
    pub tools: Option<ToolThread>,
    /// Ships what is committed.
    pub ship: Option<Ship>,
    /// Ships workspaces.
    pub travel: Option<(Archives, Carrier)>,
    runs: RefCell<Runs>,
    /// From the init process, if there is one.
    handover: Option<Handover>,
    _state_dir: StateDir,
}

impl Host {
    /// Builds the host. When it returns, the control server answers.
    pub fn build(
        settings: &Settings,
        ground: Ground,
        handover: Option<&Handover>,
    ) -> Result<Self, Failure> {
        refuse_newer_database(settings)?;
        let restored = ground.shipping.as_ref().map(|shipping| &shipping.restored);
        let begun = Begun::of(settings, handover, restored, &Kernel::here())?;
        let blackbox = begun.blackbox.clone();
        Self::build_on(settings, ground, handover, begun)
            .inspect_err(|(phase, failure)| boot_failed(&blackbox, phase, failure))
            .map_err(|(_, failure)| failure)
    }

    /// The parts, bottom up: each may use what is above it here.
    fn build_on(
        settings: &Settings,
        ground: Ground,
        handover: Option<&Handover>,
        begun: Begun,
    ) -> Step<Self> {
        let Ground {
            state_dir,
            confinement,
            problems: unconfined,
            launcher,
            components,
            mut shipping,
        } = ground;
        let Begun { run, context, mut before, at_sink, sink_is_newer, doubts, .. } = begun;
        let recorder = start_recorder(settings, &context, begun.blackbox, begun.owes_newline)?;
        let sink: SharedSink = Arc::clone(&recorder) as SharedSink;
        let memory = watch_memory(settings.memory, &recorder)?;
        let town =
            start_town(settings, &recorder, &context).map_err(|failure| ("town", failure))?;
        let notices = Arc::new(StoreNotices::new(Arc::clone(&sink)));
        let newer = at_sink.as_ref().filter(|_| sink_is_newer);
        let mut kept = open_database(
            settings,
            state_dir.unusable(),
            &notices,
            shipping.as_ref(),
            at_sink.as_ref(),
            newer,
        );
        let (database, journal) = (Arc::clone(&kept.database), kept.journal.clone());
        let feed = publish_to_feed(&mut kept, &recorder);
        let unsaved = std::mem::take(&mut kept.problems);
        let late = at_sink.as_ref().map(|at_sink| {
            leave_evidence_at(&at_sink.evidence, &mut kept, &recorder, &context, &before)
        });
        let earlier = kept.earlier.agents.len();
        let found = at_sink.as_ref().and_then(|at_sink| {
            at_sink.event(sink_is_newer, kept.from_sink, kept.earlier.from_elsewhere.len())
        });
        kept.earlier.deaths = before.take_deaths();
        let limit = memory.memory().reading().and_then(|reading| reading.limit);
        let config = settings.runtime(limit.map(|limit| limit.bytes));
        let (mut runtime, mut unkept) = without_what_cannot_be_kept(&config, state_dir.unusable());
        let mut programs = Programs::start(settings, launcher)?;
        runtime.tools = programs.tools.take();
        runtime.workspaces.clone_from(&programs.workspaces);
        let workspaces = programs.workspaces.take();
        let inventory = Inventory::new(&settings.workspaces_dir(), workspaces.clone());
        let inventory = inventory.map_err(|error| {
            unkept.push(format!("workspaces are neither listed nor removed: {error}"))
        });
        let travel =
            ship::archives(shipping.as_mut(), &settings.workspaces_dir(), Arc::clone(&sink));
        let (archives, carrier) = travel.map_err(|failure| ("ship", failure))?.unzip();
        let inventory = inventory.ok();
        let opened = Opened { workspaces, inventory, archives: archives.clone(), components };
        let (runtime, supervisor, telemetry, control, token) = serve(
            (settings, opened),
            &runtime,
            &recorder,
            kept,
            &context,
            memory.memory(),
            town.as_ref(),
        )?;
        let mut host = Self {
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
            tools: programs.thread.take(),
            ship: None,
            travel: archives.zip(carrier),
            runs: RefCell::new(begun.runs),
            handover: handover.cloned(),
            _state_dir: state_dir,
        };
        // A person has seen it before the restart.
        if run.restart_seq == 0 {
            host.show_banner(settings, &token, earlier);
        }
        let confined = (confinement, programs.sandbox.take());
        host.log_cold_start(settings, &run, handover.is_some(), confined, before);
        if let Some((at_sink, late)) = at_sink.zip(late) {
            found.into_iter().for_each(|event| host.sink.record(event));
            host.begin_evidence(&at_sink.evidence, run, late);
        }
        if let Some(shipping) = shipping {
            let began = ship::begin(shipping, &host.database, Arc::clone(&host.sink));
            host.ship = Some(began.map_err(|failure| ("ship", failure))?);
        }
        // The first line is written: what callers cause comes after it.
        host.control.serve();
        token.log();
        warn_of_what_is_missing(settings, unconfined.into_iter().chain(unkept), &programs.missing);
        doubts.warn(host.recorder.blackbox());
        for problem in unsaved {
            report_of_journal(&problem);
        }
        host.watch();
        notices.open();
        Ok(host)
    }

    fn show_banner(&self, settings: &Settings, token: &Made, earlier: usize) {
        let listen = self.control.local_addr();
        let show = |look: &Look| banner(settings, listen, token, earlier).text(look.colours());
        self.recorder.log().show(show);
    }

    /// What goes on by itself from here on.
    fn watch(&self) {
        if let Some(town) = &self.town {
            // A new token is a line, and not the first one.
            town.keep_token();
        }
        if self.tools.is_some() {
            self.memory.memory().count_beside(self.supervisor.tool_bytes());
        }
        let (agents, supervisor) = (Box::new(self.supervisor.agents_memory()), &self.supervisor);
        self.memory.watch(agents, |caller| Box::new(supervisor.relief(move || caller.call())));
        self.recorder.reached(RunState::Started);
    }

    /// Takes note that earlier runs are reported, when that has left the process within `patience`. Until then, a run
    /// that comes after this one reports it once more.
    pub fn earlier_runs_are_reported(&self, patience: Duration) {
        if !self.recorder.log().flush(patience) {
            return;
        }
        // First: a run that is killed between the two is reported by the list, with what was judged.
        if let Some(handover) = &self.handover {
            handover.send(InitMessage::Reported);
        }
        self.recorder.earlier_runs_are_reported();
        if let Err(error) = self.runs.borrow_mut().set_reported() {
            tracing::warn!(%error, "the list of runs was not written: the next run reports earlier ones again");
        }
    }

    /// Evidence of this run goes to the sink from now on.
    fn begin_evidence(&self, evidence: &Evidence, run: Run, late: Late) {
        let runs = self.runs.borrow();
        let run = ThisRun {
            run_id: run.run_id,
            number: run.number,
            runs: runs.unreported().to_vec(),
            forgotten_runs: runs.forgotten(),
        };
        let database = Arc::downgrade(&self.database);
        let sources = Sources { blackbox: self.recorder.blackbox().clone(), database };
        evidence::begin(evidence, run, sources, late);
    }

    fn log_cold_start(
        &self,
        settings: &Settings,
        run: &Run,
        init: bool,
        (security, tools): (Confinement, Option<ToolSandbox>),
        before: Before,
    ) {
        let capacity = self.runtime.capacity();
        let names =
            |keys: &mut dyn Iterator<Item = &Arc<str>>| keys.map(|key| key.to_string()).collect();
        self.sink.record(Event::ColdStart(ColdStart {
            version: env!("CARGO_PKG_VERSION"),
            boot_id: run.boot_id.clone(),
            pid: run.pid,
            init,
            restart_seq: run.restart_seq,
            lease_epoch: bulkhead_fence::epoch(),
            previous_run: before.summary(),
            listen: self.control.local_addr().to_string(),
            probe_listen: self.control.probe_addr().map(|address| address.to_string()),
            max_agents: capacity.max_agents,
            allocator: capacity.allocator.as_str(),
            components: names(&mut settings.catalog.components.keys()),
            roles: names(&mut settings.catalog.roles.keys()),
            boot_agents: settings.agents.len(),
            drain_ms: millis(settings.drain),
            shutdown_ms: millis(settings.shutdown.min(settings.drain)),
            security: Box::new(security),
            tools: tools.map(Box::new),
            memory: Box::new(self.memory.memory().sources()),
        }));
        before.into_event().into_iter().for_each(|event| self.sink.record(event));
        if settings.without_store {
            self.sink.record(Event::StoreOff {});
        }
        for reason in &capacity.notes {
            self.sink.record(Event::CapacityLimited {
                requested: settings.runtime.max_agents,
                granted: capacity.max_agents,
                reason: reason.clone(),
            });
        }
    }
}

/// Writes down why the boot ends here. A boot that leaves no such word did not end by itself.
fn boot_failed(blackbox: &BlackBox, phase: &str, failure: &Failure) {
    let message = failure.to_string();
    blackbox.note(&Fact::BootFailed(BootFailed { phase: phase.into(), message: message.into() }));
}

/// The engine's settings without the directories that cannot be written to, and why not.
fn without_what_cannot_be_kept(
    config: &RuntimeConfig,
    unusable: Option<&str>,
) -> (RuntimeConfig, Vec<String>) {
    let mut problems = Vec::new();
    let mut can_be_written = |what: &str, dir: &Path| {
        let made = match unusable {
            Some(reason) => Err(reason.to_owned()),
            None => std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .and_then(|()| std::fs::set_permissions(dir, PermissionsExt::from_mode(0o700)))
                .map_err(|error| explain(&error, dir)),
        };
        made.map_err(|reason| problems.push(format!("{what} are not stored: {reason}"))).is_ok()
    };
    let mut config = config.clone();
    config.aot_dir = config.aot_dir.filter(|dir| can_be_written("compiled components", dir));
    config.core_dumps = config.core_dumps.filter(|rules| can_be_written("core dumps", &rules.dir));
    (config, problems)
}

/// A part of the host, or what could not be had, and in which phase of the boot.
type Step<T> = Result<T, (&'static str, Failure)>;

/// What runs native programs, if some role has any.
#[derive(Default)]
struct Programs {
    tools: Option<Tools>,
    thread: Option<ToolThread>,
    sandbox: Option<ToolSandbox>,
    /// Layers that the sandbox lacks.
    missing: Vec<String>,
    workspaces: Option<Workspaces>,
}

impl Programs {
    fn start(settings: &Settings, launcher: Option<Launcher>) -> Step<Self> {
        let Some(launcher) = launcher else { return Ok(Self::default()) };
        let (sandbox, layers) = (tools::sandbox(&launcher), launcher.layers().clone());
        let (tools, thread) = ToolThread::start(launcher, &settings.tools).map_err(|error| {
            ("tools", Failure::cannot_run("cannot talk to the launcher of tools", &error))
        })?;
        let workspaces = repositories::open(settings, &tools.launcher, &layers);
        let workspaces = workspaces.map_err(|problem| {
            let message = format!("cannot make repositories: {problem}");
            ("repositories", Failure::new(Exit::CannotRun, message))
        })?;
        Ok(Self {
            tools: Some(tools),
            thread: Some(thread),
            sandbox: Some(sandbox),
            missing: layers.problems,
            workspaces,
        })
    }
}

/// The log, and all that writes to it.
fn start_recorder(
    settings: &Settings,
    context: &Arc<RunContext>,
    blackbox: BlackBox,
    owes_newline: bool,
) -> Step<Arc<Recorder>> {
    let output = output::stdout(blackbox.clone(), owes_newline)
        .map_err(|error| ("output", Failure::cannot_run("cannot write to stdout", &error)))?;
    let config = settings.log(settings.format());
    let level = config.level;
    let log = Log::start(config, Arc::clone(context), Box::new(output))
        .map_err(|error| ("log", Failure::cannot_run("cannot start the log", &error)))?;
    let recorder = Arc::new(Recorder::new(log, blackbox));
    trace_to(&(Arc::clone(&recorder) as SharedSink), level);
    panics::watch(Arc::clone(&recorder));
    Ok(recorder)
}

fn watch_memory(settings: MemorySettings, recorder: &Arc<Recorder>) -> Step<MemoryWatch> {
    let MemorySettings { config, report } = settings;
    let for_samples = Arc::clone(recorder);
    let record = Box::new(move |figures| for_samples.sample(figures));
    MemoryWatch::start(config, report, Arc::clone(recorder) as SharedSink, record)
        .map_err(|error| ("memory", Failure::cannot_run("cannot watch memory", &error)))
}

/// What was there is lost, or what comes is not kept.
fn report_of_journal(problem: &journal::Problem) {
    let cause = causes(problem);
    match problem {
        journal::Problem::Damaged(records) => {
            tracing::error!(%problem, records, "messages that were in progress at the end of the run before are lost")
        }
        journal::Problem::Unreadable { .. } => {
            tracing::error!(%problem, "all messages that were in progress at the end of the run before are lost")
        }
        journal::Problem::Absent(_) => {
            tracing::warn!(%problem, cause, "messages in progress do not survive a kill of this run")
        }
    }
}

/// Events go to their followers and to the file from here on.
fn publish_to_feed(kept: &mut Kept, recorder: &Recorder) -> Arc<Feed> {
    let feed = Arc::clone(&kept.feed);
    recorder.publish_to(Arc::clone(&feed));
    for problem in std::mem::take(&mut kept.feed_problems) {
        tracing::warn!("{problem}");
    }
    feed
}

/// The black box and crash records go to the sink as well from here on. Returns who takes what it answers late.
fn leave_evidence_at(
    evidence: &Evidence,
    kept: &mut Kept,
    recorder: &Arc<Recorder>,
    context: &Arc<RunContext>,
    before: &Before,
) -> Late {
    recorder.leave_evidence_at(evidence.clone());
    let crashes = Arc::downgrade(&kept.ship_crashes(evidence));
    let reported = before.run().previous_run_id.clone();
    let sink = Arc::clone(recorder) as SharedSink;
    Late { sink, context: Arc::clone(context), crashes, reported }
}

fn warn_of_what_is_missing(
    settings: &Settings,
    problems: impl Iterator<Item = String>,
    layers: &[String],
) {
    for problem in problems {
        tracing::warn!("{problem}");
    }
    for (runner, path) in missing_runners(&settings.catalog.components) {
        let path = path.display();
        tracing::warn!(%runner, %path, "a runner is not there: agents of its roles cannot start");
    }
    for problem in layers {
        tracing::warn!(problem, "the sandbox of tools lacks a layer");
    }
}

type Served = (Arc<Runtime>, Supervisor, Option<Telemetry>, ControlServer, Made);

/// The engine, the agents, the control server; or what could not be had, and why.
fn serve(
    (settings, opened): (&Settings, Opened),
    runtime: &RuntimeConfig,
    recorder: &Arc<Recorder>,
    kept: Kept,
    context: &Arc<RunContext>,
    memory: &Arc<Memory>,
    town: Option<&Town>,
) -> Step<Served> {
    let sink = || Arc::clone(recorder) as SharedSink;
    let runtime = Runtime::new(runtime, sink())
        .map_err(|error| ("engine", Failure::cannot_run("cannot build the runtime", &error)))?;
    let runtime = Arc::new(runtime);
    let in_flight = recorder.blackbox().in_flight();
    let Kept { database, crashes, journal, feed, earlier, .. } = kept;
    let stores = Stores { crashes, database, in_flight, journal, feed };
    let telemetry = settings.telemetry.as_ref();
    let telemetry = telemetry.map(|it| Telemetry::start(it, context.run_id())).transpose();
    let telemetry = telemetry
        .map_err(|error| ("telemetry", Failure::cannot_run("cannot export spans", &error)))?;
    let supervisor = Supervisor::new(
        settings.supervisor(telemetry.clone(), opened),
        Arc::clone(&runtime),
        sink(),
        stores,
        earlier,
        Arc::clone(context),
        Arc::clone(memory),
    );
    let (mut config, made) = control_token::complete(&settings.control, &settings.state_dir);
    config.limits.fit_into(open_files::limit());
    let control = ControlServer::bind(
        config,
        supervisor.clone(),
        town.map(|town| Arc::new(TownClient(town.handle().clone())) as Arc<dyn TownEdge>),
        sink(),
        Arc::clone(context),
    )
    .map_err(|error| ("control", Failure::cannot_run("cannot serve the control API", &error)))?;
    Ok((runtime, supervisor, telemetry, control, made))
}

/// Starts the town's client, and lets it hear every fact from now on.
fn start_town(
    settings: &Settings,
    recorder: &Arc<Recorder>,
    context: &Arc<RunContext>,
) -> Result<Option<Town>, Failure> {
    let Some(config) = settings.town.clone() else { return Ok(None) };
    let town = Town::start(config, Arc::clone(recorder) as SharedSink, Arc::clone(context))
        .map_err(|error| Failure::cannot_run("cannot call the town", &error))?;
    recorder.report_to_town(town.handle().clone());
    Ok(Some(town))
}

/// Where the generated bindings log what host calls of guests take and return, secrets among it.
const BINDINGS: &str = "bulkhead_runtime::bindings";

/// Warns of each request of a client that is not right.
const PROTOCOL: &str = "rmcp";

/// Diagnostics of the host from `level` on, those of libraries from `warn` on.
fn trace_to(sink: &SharedSink, level: Level) {
    let own = level.as_str();
    let filter = EnvFilter::builder()
        .parse_lossy(format!("warn,bulkhead={own},{BINDINGS}=off,{PROTOCOL}=error"));
    let layer = Diagnostics::new(Arc::clone(sink)).with_filter(filter);
    // Only tests could have set one before.
    let subscriber = HostCallNames::over(tracing_subscriber::registry().with(layer));
    let _ = tracing::subscriber::set_global_default(subscriber);
}

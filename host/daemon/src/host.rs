//! The composition root: everything is built here, bottom up.

use std::cell::RefCell;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_blackbox as blackbox;
use bulkhead_blackbox::BlackBox;
use bulkhead_blackbox::previous::Outside;
use bulkhead_blackbox::runs::{KnownRun, Runs};
use bulkhead_blackbox::{BootFailed, Fact, Geometry, Run};
use bulkhead_control::{ControlServer, TownEdge};
use bulkhead_evidence::{Evidence, ThisRun};
use bulkhead_feed::Feed;
use bulkhead_log::{Diagnostics, Log, LogConfig, RunContext, SharedSink, now};
use bulkhead_memory::Kernel;
use bulkhead_memory::Memory;
use bulkhead_memory::MemoryWatch;
use bulkhead_runtime::{HostCallNames, Runtime, RuntimeConfig};
use bulkhead_store::ownership::explain;
use bulkhead_store::{Database, Journal};
use bulkhead_supervisor::{Stores, Supervisor};
use bulkhead_telemetry::Telemetry;
use bulkhead_terminal::Look;
use bulkhead_tools::Launcher;
use bulkhead_town::Town;
use bulkhead_types::error::causes;
use bulkhead_types::event::{Confinement, ToolSandbox};
use bulkhead_types::previous::RunState;
use bulkhead_types::time::millis;
use bulkhead_types::{Event, Level};
use bulkhead_workspace::Inventory;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer};
use uuid::Uuid;

use crate::banner::banner;
use crate::components::Components;
use crate::config::{MemorySettings, Opened, Settings, missing_runners};
use crate::control_token::{self, Made};
use crate::evidence::{self, AtSink, Late, Sources};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::init::{Handover, InitMessage};
use crate::kept::{Kept, open_database, refuse_newer_database};
use crate::open_files;
use crate::output;
use crate::panics;
use crate::previous::{Before, Traces, settle};
use crate::recorder::Recorder;
use crate::repositories;
use crate::state_dir::StateDir;
use crate::store_notices::StoreNotices;
use crate::termination_log::{self, while_running};
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
        let Ground { state_dir, confinement, problems: unconfined, launcher, components } = ground;
        refuse_newer_database(settings)?;
        let kernel = Kernel::here();
        let (mut boxes, mut runs) =
            (blackbox::left(&settings.state_dir), Runs::read(&settings.state_dir));
        let at_sink = AtSink::ask(settings.evidence.as_ref())?;
        let (remark, sink_is_newer) = match &at_sink {
            Some(at_sink) => settle(&mut runs, &mut boxes, at_sink.run()),
            None => (None, false),
        };
        let mut run = describe_run(&kernel, handover);
        let context = Arc::new(RunContext::new(run.run_id.clone(), settings.town_id.clone()));
        let (outside, not_heard) = outside();
        let ends = handover.map_or(&[][..], |handover| &handover.ends);
        let has_database = settings.state_dir.join("store/bulkhead.db").exists();
        let traces = |found| Traces {
            found,
            boxes: &boxes,
            runs: &runs,
            ends,
            forgotten: handover.map_or(0, |handover| handover.forgotten),
            outside: outside.as_ref(),
            has_database,
            remark: remark.as_ref(),
        };
        let in_place = blackbox::read(&settings.state_dir);
        let epoch = at_sink.as_ref().map_or(0, AtSink::epoch);
        run.number = traces(&in_place).next_number().max(epoch + 1);
        let geometry = Geometry::default();
        let opened = traces(&in_place).open_box(&settings.state_dir, &run, geometry, &kernel);
        let (mut before, unreported) = {
            let traces = traces(&opened.previous);
            let before = Before::judge(&traces, &kernel);
            let unreported = before.keep(traces.unreported());
            (before, unreported)
        };
        termination_log::write(&while_running(&run.run_id, before.run()));
        let (blackbox, no_blackbox) = match opened.blackbox {
            Ok(blackbox) => (blackbox, None),
            // What goes to the sink outlives the process all the same.
            Err(error) if at_sink.is_some() => {
                let in_memory = blackbox::in_memory(&run, Geometry::default());
                (in_memory.unwrap_or_else(|_| BlackBox::absent()), Some(error))
            }
            Err(error) => (BlackBox::absent(), Some(error)),
        };
        let known = KnownRun {
            run_id: run.run_id.clone(),
            number: run.number,
            has_box: no_blackbox.is_none(),
            verdict: None,
        };
        // Without it the next run goes by the black box alone.
        let mut runs = runs.clone();
        let not_listed = runs.begin(unreported, known).err();
        let failed = |phase: &'static str| {
            let blackbox = blackbox.clone();
            move |failure: &Failure| boot_failed(&blackbox, phase, failure)
        };
        let owes_newline = output::follows_half_a_line(opened.previous.run(), &run);
        let output = output::stdout(blackbox.clone(), owes_newline)
            .map_err(|error| Failure::cannot_run("cannot write to stdout", &error))
            .inspect_err(failed("output"))?;
        let config = settings.log(settings.format());
        let level = config.level;
        let log =
            start_log(config, Arc::clone(&context), Box::new(output)).inspect_err(failed("log"))?;
        let recorder = Arc::new(Recorder::new(log, blackbox.clone()));
        let sink: SharedSink = Arc::clone(&recorder) as SharedSink;
        trace_to(&sink, level);
        panics::watch(Arc::clone(&recorder));
        let MemorySettings { config, report } = settings.memory;
        let for_samples = Arc::clone(&recorder);
        let record = Box::new(move |figures| for_samples.sample(figures));
        let memory = MemoryWatch::start(config, report, Arc::clone(&sink), record)
            .map_err(|error| Failure::cannot_run("cannot watch memory", &error))
            .inspect_err(failed("memory"))?;
        let town = start_town(settings, &recorder, &context).inspect_err(failed("town"))?;
        let notices = Arc::new(StoreNotices::new(Arc::clone(&sink)));
        let newer = at_sink.as_ref().filter(|_| sink_is_newer);
        let mut kept =
            open_database(settings, state_dir.unusable(), &notices, at_sink.as_ref(), newer);
        let (database, journal) = (Arc::clone(&kept.database), kept.journal.clone());
        let feed = Arc::clone(&kept.feed);
        recorder.publish_to(Arc::clone(&feed));
        for problem in std::mem::take(&mut kept.feed_problems) {
            tracing::warn!("{problem}");
        }
        let problems = std::mem::take(&mut kept.problems);
        let late = at_sink.as_ref().map(|AtSink { evidence, .. }| {
            recorder.leave_evidence_at(evidence.clone());
            let (sink, context) = (Arc::clone(&sink), Arc::clone(&context));
            let crashes = Arc::downgrade(&kept.ship_crashes(evidence));
            Late { sink, context, crashes, reported: before.run().previous_run_id.clone() }
        });
        let earlier = kept.earlier.agents.len();
        let (found_crashes, found_agents) = (kept.from_sink, kept.earlier.from_elsewhere.len());
        kept.earlier.deaths = before.take_deaths();
        let limit = memory.memory().reading().and_then(|reading| reading.limit);
        let config = settings.runtime(limit.map(|limit| limit.bytes));
        let (mut runtime, mut unkept) = without_what_cannot_be_kept(&config, state_dir.unusable());
        let sandbox = launcher.as_ref().map(tools::sandbox);
        let layers = launcher.as_ref().map(|it| it.layers().clone());
        let missing = layers.as_ref().map(|it| it.problems.clone()).unwrap_or_default();
        let started = launcher.map(|it| ToolThread::start(it, &settings.tools)).transpose();
        let (tools, tool_thread) = started
            .map_err(|error| Failure::cannot_run("cannot talk to the launcher of tools", &error))
            .inspect_err(failed("tools"))?
            .unzip();
        let workspaces = match (&tools, &layers) {
            (Some(tools), Some(layers)) => repositories::open(settings, &tools.launcher, layers)
                .map_err(|problem| {
                    Failure::new(Exit::CannotRun, format!("cannot make repositories: {problem}"))
                })
                .inspect_err(failed("repositories"))?,
            _ => None,
        };
        runtime.tools = tools;
        runtime.workspaces.clone_from(&workspaces);
        let inventory = Inventory::new(&settings.workspaces_dir(), workspaces.clone());
        let inventory = inventory.map_err(|error| {
            unkept.push(format!("workspaces are neither listed nor removed: {error}"))
        });
        let (runtime, supervisor, telemetry, control, token) = serve(
            (settings, Opened { workspaces, inventory: inventory.ok(), components }),
            &runtime,
            &recorder,
            kept,
            &context,
            memory.memory(),
            town.as_ref(),
        )
        .inspect_err(|(phase, failure)| boot_failed(&blackbox, phase, failure))
        .map_err(|(_, failure)| failure)?;
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
            tools: tool_thread,
            runs: RefCell::new(runs),
            handover: handover.cloned(),
            _state_dir: state_dir,
        };
        // A person has seen it before the restart.
        if run.restart_seq == 0 {
            let listen = host.control.local_addr();
            let show = |look: &Look| banner(settings, listen, &token, earlier).text(look.colours());
            host.recorder.log().show(show);
        }
        let confined = (confinement, sandbox);
        host.log_cold_start(settings, &run, handover.is_some(), confined, before);
        if let Some((at_sink, late)) = at_sink.zip(late) {
            let found = at_sink.event(sink_is_newer, found_crashes, found_agents);
            found.into_iter().for_each(|event| host.sink.record(event));
            host.begin_evidence(&at_sink.evidence, run, late);
        }
        // The first line is written: what callers cause comes after it.
        host.control.serve();
        token.log();
        for problem in unconfined.into_iter().chain(unkept) {
            tracing::warn!("{problem}");
        }
        for (runner, path) in missing_runners(&settings.catalog.components) {
            let path = path.display();
            tracing::warn!(%runner, %path, "a runner is not there: agents of its roles cannot start");
        }
        for problem in missing {
            tracing::warn!(problem, "the sandbox of tools lacks a layer");
        }
        if let Some(error) = not_listed {
            tracing::warn!(%error, "the list of runs was not written: a later run can use the black box only");
        }
        if let Some(problem) = not_heard {
            tracing::warn!(problem, "{OUTSIDE} is not used");
        }
        if let Some(town) = &host.town {
            // A new token is a line, and not the first one.
            town.keep_token();
        }
        if host.tools.is_some() {
            host.memory.memory().count_beside(host.supervisor.tool_bytes());
        }
        let (agents, supervisor) = (Box::new(host.supervisor.agents_memory()), &host.supervisor);
        host.memory.watch(agents, |caller| Box::new(supervisor.relief(move || caller.call())));
        host.recorder.reached(RunState::Started);
        notices.open();
        if let Some(error) = no_blackbox {
            let cause = causes(&error);
            match host.recorder.blackbox().is_present() {
                true => {
                    tracing::warn!(%error, cause, "this run has its black box in memory and at the evidence sink only")
                }
                false => {
                    tracing::warn!(%error, cause, "this run has no black box: the next run cannot determine how it ended")
                }
            }
        }
        for problem in problems {
            let cause = causes(&problem);
            tracing::warn!(%problem, cause, "messages in progress may not survive a kill");
        }
        Ok(host)
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
        self.sink.record(Event::ColdStart {
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
        });
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

/// The variable in which the container's runtime says how it ended before.
const OUTSIDE: &str = "BULKHEAD_PREVIOUS_EXIT";

/// What is said from outside of the end before, or why it is not understood.
fn outside() -> (Option<Outside>, Option<String>) {
    let Some(text) = std::env::var_os(OUTSIDE).filter(|text| !text.is_empty()) else {
        return (None, None);
    };
    let read =
        text.to_str().ok_or_else(|| "it is not valid UTF-8".to_owned()).and_then(Outside::parse);
    match read {
        Ok(outside) => (Some(outside), None),
        Err(problem) => (None, Some(problem)),
    }
}

/// Writes down why the boot ends here. A boot that leaves no such word did not end by itself.
fn boot_failed(blackbox: &BlackBox, phase: &str, failure: &Failure) {
    let message = failure.to_string();
    blackbox.note(&Fact::BootFailed(BootFailed { phase: phase.into(), message: message.into() }));
}

/// What the black box says of this run at its beginning. An init process read the counters before there was
/// a process to be killed, so that none is missed.
fn describe_run(kernel: &Kernel, handover: Option<&Handover>) -> Run {
    Run {
        run_id: handover
            .map_or_else(|| Uuid::now_v7().to_string(), |handover| handover.run_id.clone()),
        // Known when it is known what is there.
        number: 0,
        boot_id: kernel.boot_id(),
        pid: std::process::id(),
        started_at_ms: now().0,
        output: output::identity(),
        restart_seq: handover.map_or(0, |handover| handover.restart_seq),
        version: env!("CARGO_PKG_VERSION").into(),
        baseline: handover.map_or_else(|| kernel.counters(), |handover| handover.counters.clone()),
    }
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
) -> Result<Served, (&'static str, Failure)> {
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

fn start_log(
    config: LogConfig,
    context: Arc<RunContext>,
    output: Box<dyn Write + Send>,
) -> Result<Arc<Log>, Failure> {
    Log::start(config, context, output)
        .map_err(|error| Failure::cannot_run("cannot start the log", &error))
}

/// Diagnostics of the host from `level` on, those of libraries from `warn` on.
/// Where the generated bindings log what host calls of guests take and return, secrets among it.
const BINDINGS: &str = "bulkhead_runtime::bindings";

/// Warns of each request of a client that is not right.
const PROTOCOL: &str = "rmcp";

fn trace_to(sink: &SharedSink, level: Level) {
    let own = level.as_str();
    let filter = EnvFilter::builder()
        .parse_lossy(format!("warn,bulkhead={own},{BINDINGS}=off,{PROTOCOL}=error"));
    let layer = Diagnostics::new(Arc::clone(sink)).with_filter(filter);
    // Only tests could have set one before.
    let subscriber = HostCallNames::over(tracing_subscriber::registry().with(layer));
    let _ = tracing::subscriber::set_global_default(subscriber);
}

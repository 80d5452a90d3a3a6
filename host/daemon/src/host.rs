//! The composition root: everything is built here, bottom up.

use std::io::IsTerminal;
use std::sync::Arc;

use bulkhead_control::ControlServer;
use bulkhead_events::{Diagnostics, Format, Log, RunContext, SharedSink};
use bulkhead_model::{Event, Level};
use bulkhead_runtime::Runtime;
use bulkhead_supervisor::Supervisor;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer};
use uuid::Uuid;

use crate::cli::LogFormat;
use crate::config::Settings;
use crate::failure::Failure;
use crate::init::Handover;
use crate::panics;
use crate::state_dir::StateDir;

/// A running host.
pub struct Host {
    pub log: Arc<Log>,
    pub sink: SharedSink,
    pub runtime: Arc<Runtime>,
    pub supervisor: Supervisor,
    pub control: ControlServer,
    _state_dir: StateDir,
}

impl Host {
    /// Builds the host. When it returns, the control server answers.
    pub fn build(settings: &Settings, handover: Option<&Handover>) -> Result<Self, Failure> {
        let state_dir = StateDir::take(&settings.state_dir)?;
        let file_limit = raise_file_limit(settings.runtime.max_agents);
        let context =
            Arc::new(RunContext::new(Uuid::now_v7().to_string(), settings.town_id.clone()));
        let log = start_log(settings, Arc::clone(&context))?;
        let sink: SharedSink = Arc::clone(&log) as SharedSink;
        trace_to(&sink, settings.log.level);
        panics::watch(Arc::clone(&log));
        let runtime = Runtime::new(&settings.runtime, Arc::clone(&sink))
            .map_err(|error| Failure::cannot_run("cannot build the runtime", &error))?;
        let runtime = Arc::new(runtime);
        let supervisor = Supervisor::new(
            settings.supervisor(),
            Arc::clone(&runtime),
            Arc::clone(&sink),
            Arc::clone(&context),
        );
        let control = ControlServer::start(
            settings.control.clone(),
            supervisor.clone(),
            Arc::clone(&sink),
            context,
        )
        .map_err(|error| Failure::cannot_run("cannot serve the control API", &error))?;
        let host = Self { log, sink, runtime, supervisor, control, _state_dir: state_dir };
        host.tell_cold_start(settings, handover, file_limit);
        Ok(host)
    }

    fn tell_cold_start(
        &self,
        settings: &Settings,
        handover: Option<&Handover>,
        file_limit: Option<String>,
    ) {
        let capacity = self.runtime.capacity();
        let names =
            |keys: &mut dyn Iterator<Item = &Arc<str>>| keys.map(|key| key.to_string()).collect();
        self.sink.record(Event::ColdStart {
            version: env!("CARGO_PKG_VERSION"),
            boot_id: boot_id(),
            pid: std::process::id(),
            init: handover.is_some(),
            restart_seq: handover.map_or(0, |handover| handover.restart_seq),
            listen: self.control.local_addr().to_string(),
            max_agents: capacity.max_agents,
            allocator: capacity.allocator.as_str(),
            components: names(&mut settings.catalog.components.keys()),
            roles: names(&mut settings.catalog.roles.keys()),
            boot_agents: settings.agents.len(),
        });
        for reason in capacity.notes.iter().chain(&file_limit) {
            self.sink.record(Event::CapacityLimited {
                requested: settings.runtime.max_agents,
                granted: capacity.max_agents,
                reason: reason.clone(),
            });
        }
    }
}

fn start_log(settings: &Settings, context: Arc<RunContext>) -> Result<Arc<Log>, Failure> {
    let stdout = std::io::stdout();
    let format = match settings.log_format {
        LogFormat::Json => Format::Json,
        LogFormat::Pretty => Format::Pretty,
        LogFormat::Auto if stdout.is_terminal() => Format::Pretty,
        LogFormat::Auto => Format::Json,
    };
    let config = bulkhead_events::LogConfig { format, ..settings.log.clone() };
    Log::start(config, context, Box::new(stdout))
        .map_err(|error| Failure::cannot_run("cannot start the log", &error))
}

/// Diagnostics of the host from `level` on, those of libraries from `warn` on.
fn trace_to(sink: &SharedSink, level: Level) {
    let own = level.as_str();
    let filter = EnvFilter::builder().parse_lossy(format!("warn,bulkhead={own}"));
    let layer = Diagnostics::new(Arc::clone(sink)).with_filter(filter);
    // Only tests could have set one before.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
}

/// Raises the limit of open files as far as the system lets it, and says so when that is not far. Every
/// agent with a workspace holds a directory open; the usual soft limit of 1024 is for programs that use
/// `select`, and this one does not.
fn raise_file_limit(max_agents: usize) -> Option<String> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    let files = getrlimit(Resource::Nofile).current?;
    // A workspace for each agent, the control server's connections, and what agents open.
    let wanted = max_agents as u64 * 2 + 1024;
    let text =
        || format!("{files} files may be open (RLIMIT_NOFILE), {max_agents} agents want {wanted}");
    (files < wanted).then(text)
}

fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

//! What the program works with, and the checks that need more than one key.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bulkhead_api::StartRequest;
use bulkhead_control::{ControlConfig, ControlLimits};
use bulkhead_log::{Format, LogConfig};
use bulkhead_net::Connector;
use bulkhead_oci::Bounds;
use bulkhead_runtime::{CoreDumpRules, DiskFloor, RuntimeConfig};
use bulkhead_ship::Archives;
use bulkhead_supervisor::{Catalog, ComponentSource, HydrationRules, Role, SupervisorConfig};
use bulkhead_telemetry::Telemetry;
use bulkhead_terminal::{ColourChoice, Look};
use bulkhead_town::TownConfig;
use bulkhead_types::{Level, Limits};
use bulkhead_workspace::{Inventory, Policy, Workspaces};
use toml::Spanned;

use super::budgets::check_usage;
use super::code;
use super::compiler;
use super::components::{ComponentSettings, Kept, check_components};
use super::evidence::{EvidenceSettings, check_evidence};
use super::file::{self, CompileMebibytes, File, MebibytesOrNone, OnFenced};
use super::http_secrets::check_secrets;
use super::lease::{LeaseSettings, check_lease};
use super::memory::{MemorySettings, memory};
use super::models::{ModelEndpoint, check_models};
use super::problem::Problem;
use super::rigs::{RigSettings, check_rigs};
use super::roles::{AgentLimits, check_agents, check_role};
use super::ship::check_ship;
use super::tools::{self, ToolSettings};
use super::town::check_town;
use crate::cli::{Interrupt, LogFormat};
use crate::hardening::Security;

/// What the supervisor works with, and was opened before it.
pub struct Opened {
    /// Makes repositories for agents.
    pub workspaces: Option<Workspaces>,
    pub inventory: Option<Inventory>,
    /// Ships workspaces.
    pub archives: Option<Archives>,
    pub components: Arc<dyn ComponentSource>,
}

/// The checked configuration.
#[derive(Debug)]
pub struct Settings {
    pub control: ControlConfig,
    pub town_id: Option<String>,
    /// The town's API, when the container has a town to call.
    pub town: Option<TownConfig>,
    /// Where evidence goes that outlives the disk.
    pub evidence: Option<EvidenceSettings>,
    /// Which copy of the town runs.
    pub lease: Option<LeaseSettings>,
    /// Where its state is shipped.
    pub ship: Option<bulkhead_ship::Settings>,
    /// What follows when a newer run serves the town.
    pub on_fenced: OnFenced,
    pub log_format: LogFormat,
    /// The configuration file, as the command line names it.
    pub config_file: PathBuf,
    /// The command line names the address.
    pub is_moved: bool,
    /// How often the command line asks for more lines on a terminal.
    pub verbose: u8,
    /// When lines on a terminal have colours.
    pub colours: ColourChoice,
    pub log: LogConfig,
    pub state_dir: PathBuf,
    /// Keep nothing in the database.
    pub without_store: bool,
    /// What SIGINT means.
    pub sigint: Interrupt,
    pub runtime: RuntimeConfig,
    /// What one compile may take, when the configuration says it.
    pub compile_memory_bytes: Option<u64>,
    pub memory: MemorySettings,
    /// Endpoints of language models, as `runtime` has them.
    pub models: Vec<ModelEndpoint>,
    /// Values of `[secrets.NAME]` are read from here again and again.
    pub secret_files: Vec<PathBuf>,
    /// Whether and where turns are recorded, as the environment says it.
    pub telemetry: Option<bulkhead_telemetry::Settings>,
    /// What the process gives up.
    pub security: Security,
    /// Of native programs.
    pub tools: ToolSettings,
    /// Repositories that agents work on.
    pub rigs: BTreeMap<Arc<str>, RigSettings>,
    /// How long workspaces of agents that do not run stay. `None`: for good.
    pub retention: Option<Policy>,
    pub catalog: Catalog,
    /// What registries have of the catalog's components.
    pub components: ComponentSettings,
    pub keep_ended: usize,
    /// What all ended agents together may hold.
    pub ended_bytes: u64,
    /// What agents may use of language models.
    pub usage: bulkhead_usage::Rules,
    /// How long the agents have when asked to end.
    pub shutdown: Duration,
    /// How long a drain may take as a whole, `shutdown` included.
    pub drain: Duration,
    pub agents: Vec<StartRequest>,
    /// How agents are restored at boot.
    pub hydration: HydrationRules,
}

impl Settings {
    /// How lines look on the stdout of this process.
    pub fn format(&self) -> Format {
        match self.log_format {
            LogFormat::Json => Format::Json,
            LogFormat::Auto if !std::io::stdout().is_terminal() => Format::Json,
            LogFormat::Pretty | LogFormat::Auto => {
                // Who wants diagnostics wants to know of which fact they are.
                let details = self.verbose > 0 || self.log.level < Level::Info;
                Format::Text(Look::new(self.colours.on_stdout(), details))
            }
        }
    }

    /// The log, in this format.
    pub fn log(&self, format: Format) -> LogConfig {
        let level = match &format {
            Format::Text(_) if self.verbose > 1 => Level::Trace,
            _ => self.log.level,
        };
        LogConfig { format, level, ..self.log.clone() }
    }

    /// The engine's part, in a container with this much memory.
    pub fn runtime(&self, limit_bytes: Option<u64>) -> RuntimeConfig {
        let mut runtime = self.runtime.clone();
        if self.compile_memory_bytes.is_none() {
            compiler::fit_into(&mut runtime.compiler, limit_bytes);
        }
        runtime
    }

    /// The supervisor's part.
    pub fn supervisor(&self, telemetry: Option<Telemetry>, opened: Opened) -> SupervisorConfig {
        let Opened { workspaces, inventory, archives, components } = opened;
        SupervisorConfig {
            catalog: self.catalog.clone(),
            workspaces_dir: self.workspaces_dir(),
            upgrades_dir: self.state_dir.join("upgrades"),
            keep_ended: self.keep_ended,
            ended_bytes: self.ended_bytes,
            usage: self.usage.clone(),
            telemetry,
            workspaces,
            inventory,
            archives,
            components: Some(components),
            retention: self.retention,
        }
    }

    /// Where the workspaces of agents are.
    pub fn workspaces_dir(&self) -> PathBuf {
        self.state_dir.join("workspaces")
    }
}

/// Turns the file into settings. Paths are relative to `base`. `outside` is the way out as the environment says it.
pub fn check(file: File, base: &Path, outside: &Connector) -> Result<Settings, Problem> {
    let state_dir = base.join(&file.state.dir);
    let usage = check_usage(&file)?;
    let kept = kept_components(&file, &state_dir);
    let (mut components, from_registries) =
        check_components(file.components, file.registries, kept, base, outside)?;
    let (models, endpoints) = check_models(file.models, base, outside)?;
    let files = file.secrets.values().filter_map(|secret| secret.value_file.as_ref());
    let mut secret_files: Vec<_> = files.map(|file| file.get_ref().clone()).collect();
    let (rigs, rig_files) = check_rigs(file.rigs, base)?;
    secret_files.extend(rig_files);
    let http_secrets = check_secrets(file.secrets)?;
    let agent_limits = AgentLimits::check(&file.limits)?;
    let tools = tools::check_tools(file.tools)?;
    let mut roles = BTreeMap::new();
    for (name, role) in file.roles {
        let tools = tools::rules(&name, &role, &tools)?;
        let code = code::of_role(&name, &role, &mut components, base)?;
        let mut checked = check_role(&name, role, code, &models, &http_secrets, &agent_limits)?;
        checked.tools = tools;
        roles.insert(name.into(), checked);
    }
    let agents = check_agents(file.agents, &roles)?;
    let catalog = Catalog {
        roles,
        components,
        rigs: rigs.iter().map(|(name, rig)| (Arc::clone(name), rig.url.clone())).collect(),
        max_agent_memory_bytes: file.limits.max_agent_memory_mb.mebibytes(),
    };
    let runtime = RuntimeConfig {
        cpu: file.engine.cpu,
        connector: outside.clone(),
        models,
        http_secrets,
        ..engine(&file.limits, &file.state, &catalog, base)
    };
    for (name, wanted) in &from_registries.wanted {
        let place = from_registries.registries.place(&wanted.reference);
        runtime.vouched.demand(Arc::clone(name), place);
    }
    let lease = check_lease(file.lease, file.town.id.as_deref(), base, outside)?;
    let ship = check_ship(file.ship, lease.as_ref(), &state_dir, base, outside)?;
    let fleet = catalog.roles.iter().find(|(_, role)| role.durable_in_fleet);
    if let (Some((name, _)), None) = (fleet, &ship) {
        let message = "is \"fleet\", and nothing is shipped; set ship.to".to_owned();
        return Err(Problem::at(0..0, format!("roles.{name}.durable"), message));
    }
    Ok(Settings {
        telemetry: None,
        control: control(file.server)?,
        town_id: file.town.id.clone(),
        evidence: check_evidence(file.evidence, file.town.id.as_deref(), base, outside)?,
        lease,
        ship,
        on_fenced: file.town.on_fenced,
        town: check_town(file.town, base, outside)?,
        log_format: file.log.format,
        config_file: PathBuf::new(),
        is_moved: false,
        verbose: 0,
        colours: ColourChoice::default(),
        log: log(&file.log),
        runtime,
        compile_memory_bytes: file.limits.compile_memory_mb.map(CompileMebibytes::mebibytes),
        memory: memory(&file.memory)?,
        models: endpoints,
        secret_files,
        security: file.security,
        tools,
        rigs,
        retention: retention(&file.workspaces)?,
        sigint: file.signals.sigint,
        state_dir,
        without_store: false,
        catalog,
        components: from_registries,
        keep_ended: file.limits.keep_ended,
        ended_bytes: file.limits.ended_mb.mebibytes(),
        usage,
        shutdown: file.limits.shutdown_ms.millis(),
        drain: file.limits.drain_ms.millis(),
        agents,
        hydration: hydration(&file.limits),
    })
}

/// Where components from registries stay.
fn kept_components(file: &File, state_dir: &Path) -> Kept {
    Kept {
        dir: state_dir.join("components"),
        bounds: Bounds {
            max_component_bytes: file.limits.component_mb.mebibytes(),
            max_bytes: file.state.components_mb.mebibytes(),
            ..Bounds::default()
        },
    }
}

/// The control server.
fn control(server: file::Server) -> Result<ControlConfig, Problem> {
    let span = server.token.as_ref().map_or(0..0, Spanned::span);
    let control = ControlConfig {
        listen: server.listen.0,
        token: server.token.map(Spanned::into_inner),
        allow_unauthenticated: server.allow_unauthenticated,
        allowed_hosts: server.allowed_hosts.into_iter().map(|name| name.0).collect(),
        probe_listen: server.probe_listen.map(|listen| listen.0),
        mcp: server.mcp,
        limits: ControlLimits::default(),
    };
    let key = if span.is_empty() { "BULKHEAD_CONTROL_TOKEN" } else { "server.token" };
    control.check_token().map_err(|error| Problem::at(span, key.to_owned(), error.to_string()))?;
    Ok(control)
}

/// The log, as programs read it.
fn log(log: &file::Log) -> LogConfig {
    LogConfig {
        format: Format::Json,
        level: level(log.level),
        buffer_bytes: usize::try_from(log.buffer_mb.mebibytes()).unwrap_or(usize::MAX / 4),
        max_line_bytes: log.max_line_kb.as_usize() * 1024,
    }
}

/// The engine, but for the processor and for what agents reach outside.
fn engine(
    limits: &file::Limits,
    state: &file::State,
    catalog: &Catalog,
    base: &Path,
) -> RuntimeConfig {
    let (roles, state_dir) = (&catalog.roles, base.join(&state.dir));
    RuntimeConfig {
        components: catalog.components.values().cloned().collect(),
        files_per_agent: 1 + usize::from(roles.values().any(|role| role.workspace)),
        disk_floor: disk_floor(state),
        reserved_memory_bytes: largest_limit(roles),
        max_agents: limits.max_agents.as_usize(),
        pooling: limits.memory_pool,
        max_agent_memory_bytes: catalog.max_agent_memory_bytes,
        aot_dir: Some(state_dir.join("aot")),
        aot_seed: state.aot_seed.as_ref().map(|dir| base.join(dir)),
        aot_bytes: state.aot_mb.mebibytes(),
        core_dumps: core_dumps(&state_dir, roles),
        max_component_bytes: limits.component_mb.mebibytes(),
        fast_lane_memory_bytes: limits.fast_lane_memory_mb.mebibytes(),
        compile: limits.compile_ms.millis(),
        compiler: compiler::check(limits),
        instance_bounds: compiler::instance_bounds(limits),
        ..RuntimeConfig::default()
    }
}

/// How agents are restored at boot.
fn hydration(limits: &file::Limits) -> HydrationRules {
    HydrationRules {
        parallel: limits.hydration_parallel.as_usize(),
        deadline: limits.hydration_ms.millis(),
    }
}

/// What a role's agents may take at most, of all roles, in bytes.
fn largest_limit(roles: &BTreeMap<Arc<str>, Role>) -> u64 {
    let limits = roles.values().map(|role| role.limits.memory_bytes);
    limits.max().unwrap_or(Limits::default().memory_bytes)
}

/// How long workspaces stay, if not for good.
fn retention(workspaces: &file::Workspaces) -> Result<Option<Policy>, Problem> {
    if workspaces.remove_unpushed && workspaces.max_mb.is_none() {
        let message = "is of no use without `max_mb`".to_owned();
        return Err(Problem::at(0..0, "workspaces.remove_unpushed".to_owned(), message));
    }
    let hours =
        |hours: Option<u32>| hours.map(|hours| Duration::from_secs(u64::from(hours) * 3600));
    let policy = Policy {
        keep: hours(workspaces.keep_hours),
        keep_pushed: hours(workspaces.keep_pushed_hours),
        max_bytes: workspaces.max_mb.map(file::Mebibytes::mebibytes),
        space_over_work: workspaces.remove_unpushed,
    };
    Ok((policy != Policy::default()).then_some(policy))
}

/// What agents leave free on the disk of the state directory.
fn disk_floor(state: &file::State) -> DiskFloor {
    let floor = DiskFloor::default();
    DiskFloor {
        bytes: state.keep_free_mb.map_or(floor.bytes, MebibytesOrNone::mebibytes),
        inodes: state.keep_free_inodes.unwrap_or(floor.inodes),
    }
}

/// Where core dumps go, when some role leaves any.
fn core_dumps(state_dir: &Path, roles: &BTreeMap<Arc<str>, Role>) -> Option<CoreDumpRules> {
    let wanted = roles.values().any(|role| role.core_dump);
    wanted.then(|| CoreDumpRules::in_dir(state_dir.join("cores")))
}

fn level(level: file::LogLevel) -> Level {
    match level {
        file::LogLevel::Trace => Level::Trace,
        file::LogLevel::Debug => Level::Debug,
        file::LogLevel::Info => Level::Info,
        file::LogLevel::Warn => Level::Warn,
        file::LogLevel::Error => Level::Error,
    }
}

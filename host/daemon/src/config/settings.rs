//! What the program works with, and the checks that need more than one key.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bulkhead_api::{Issue, StartRequest};
use bulkhead_control::{ControlConfig, ControlLimits};
use bulkhead_log::{Format, LogConfig};
use bulkhead_memory::shedding::MAX_WEIGHT;
use bulkhead_memory::{Admission, MemoryConfig};
use bulkhead_net::{BaseUrl, Connector, Trust, UrlError};
use bulkhead_runtime::{CoreDumpRules, DiskFloor, RuntimeConfig};
use bulkhead_store::database::MAX_SNAPSHOT_BYTES;
use bulkhead_supervisor::{Catalog, HydrationRules, Role, SupervisorConfig};
use bulkhead_town::TownConfig;
use bulkhead_types::error::chain;
use bulkhead_types::restart::{MAX_ATTEMPTS, MAX_RESTARTS};
use bulkhead_types::{HttpPolicy, HttpRule, Level, Limits, RestartRules, Secret, SnapshotRules};
use toml::Spanned;

use super::compiler;
use super::file::{
    self, CompileMebibytes, Count, File, Mebibytes, MebibytesOrNone, Millis, OnFenced, Whole,
};
use crate::cli::{Interrupt, LogFormat};
use crate::hardening::Security;

/// The checked configuration.
#[derive(Debug)]
pub struct Settings {
    pub control: ControlConfig,
    pub town_id: Option<String>,
    /// The town's API, when the container has a town to call.
    pub town: Option<TownConfig>,
    /// What follows when a newer run serves the town.
    pub on_fenced: OnFenced,
    pub log_format: LogFormat,
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
    /// Where the model is, when there is one.
    pub model: Option<BaseUrl>,
    /// What the process gives up.
    pub security: Security,
    pub catalog: Catalog,
    pub keep_ended: usize,
    /// What all ended agents together may hold.
    pub ended_bytes: u64,
    /// How long the agents have when asked to end.
    pub shutdown: Duration,
    /// How long a drain may take as a whole, `shutdown` included.
    pub drain: Duration,
    pub agents: Vec<StartRequest>,
    /// How agents are brought back at boot.
    pub hydration: HydrationRules,
}

/// How memory is watched.
#[derive(Debug, Clone, Copy)]
pub struct MemorySettings {
    /// Limits, and what is done near them.
    pub config: MemoryConfig,
    /// Between two lines of `container.memory_usage`.
    pub report: Duration,
}

/// Bounds of `memory.overcommit`.
const OVERCOMMIT: RangeInclusive<f64> = 1.0..=1000.0;

/// Bounds of a role's `eviction_weight_percent`.
const EVICTION_WEIGHT: RangeInclusive<u32> = 0..=(MAX_WEIGHT as u32 * 100);

/// Bounds of both times of `[memory]`, in milliseconds: a tenth of a second to ten minutes.
const MEMORY_MS: RangeInclusive<u64> = 100..=600_000;

impl Settings {
    /// How lines look on the stdout of this process.
    pub fn format(&self) -> Format {
        match self.log_format {
            LogFormat::Json => Format::Json,
            LogFormat::Pretty => Format::Pretty,
            LogFormat::Auto if std::io::stdout().is_terminal() => Format::Pretty,
            LogFormat::Auto => Format::Json,
        }
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
    pub fn supervisor(&self) -> SupervisorConfig {
        SupervisorConfig {
            catalog: self.catalog.clone(),
            workspaces_dir: self.state_dir.join("workspaces"),
            keep_ended: self.keep_ended,
            ended_bytes: self.ended_bytes,
        }
    }
}

/// A value that is wrong beside others.
#[derive(Debug)]
pub struct Problem {
    /// For example `roles.mayor.component`.
    key: String,
    /// What is wrong and what would be right.
    message: String,
    /// Where in the file; empty when the value came from the environment.
    span: Range<usize>,
}

impl Problem {
    /// A problem with the value at `span`.
    pub fn at(span: Range<usize>, key: String, message: String) -> Self {
        Self { key, message, span }
    }

    /// The problem with the place that it is about. Of the line only the key is shown: a secret may
    /// stand behind it.
    pub fn show(&self, file: &str, text: &str) -> String {
        let Self { key, message, span } = self;
        if span.is_empty() && !key.is_empty() {
            return format!("{key}: {message}");
        }
        let before = text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let source = text.lines().nth(line - 1).unwrap_or_default();
        let shown = source.split_once('=').map_or(source, |(key, _)| key).trim();
        let key = if key.is_empty() { shown } else { key };
        format!("the configuration {file} is wrong at line {line}, {key}: {message}")
    }
}

/// Turns the file into settings. Paths are relative to `base`. `outside` is the way out as the environment says it.
pub fn check(file: File, base: &Path, outside: &Connector) -> Result<Settings, Problem> {
    let state_dir = base.join(&file.state.dir);
    let components: BTreeMap<Arc<str>, PathBuf> = file
        .components
        .into_iter()
        .map(|(name, component)| (name.into(), base.join(component.path)))
        .collect();
    let model = file.model.map(|model| Model::check(model, base)).transpose()?;
    let agent_memory = AgentMemory::check(&file.limits)?;
    let mut roles = BTreeMap::new();
    for (name, role) in file.roles {
        let checked = check_role(&name, role, &components, model.as_ref(), &agent_memory)?;
        roles.insert(name.into(), checked);
    }
    let agents = check_agents(file.agents, &roles)?;
    let max_agent_memory_bytes = file.limits.max_agent_memory_mb.mebibytes();
    Ok(Settings {
        control: ControlConfig {
            listen: file.server.listen.0,
            token: file.server.token,
            allow_unauthenticated: file.server.allow_unauthenticated,
            allowed_hosts: file.server.allowed_hosts.into_iter().map(|name| name.0).collect(),
            probe_listen: file.server.probe_listen.map(|listen| listen.0),
            limits: ControlLimits::default(),
        },
        town_id: file.town.id.clone(),
        on_fenced: file.town.on_fenced,
        town: check_town(file.town, base, outside)?,
        log_format: file.log.format,
        log: LogConfig {
            format: Format::Json,
            level: level(file.log.level),
            buffer_bytes: usize::try_from(file.log.buffer_mb.mebibytes()).unwrap_or(usize::MAX / 4),
            max_line_bytes: file.log.max_line_kb.as_usize() * 1024,
        },
        runtime: RuntimeConfig {
            components: components.values().cloned().collect(),
            files_per_agent: 1 + usize::from(roles.values().any(|role| role.workspace)),
            disk_floor: disk_floor(&file.state),
            reserved_memory_bytes: largest_limit(&roles),
            max_agents: file.limits.max_agents.as_usize(),
            pooling: file.limits.memory_pool,
            max_agent_memory_bytes,
            aot_dir: Some(state_dir.join("aot")),
            aot_bytes: file.state.aot_mb.mebibytes(),
            core_dumps: core_dumps(&state_dir, &roles),
            max_component_bytes: file.limits.component_mb.mebibytes(),
            fast_lane_memory_bytes: file.limits.fast_lane_memory_mb.mebibytes(),
            compile: file.limits.compile_ms.millis(),
            compiler: compiler::check(&file.limits),
            instance_bounds: compiler::instance_bounds(&file.limits),
            connector: Model::way_to(model.as_ref(), outside),
            ..RuntimeConfig::default()
        },
        compile_memory_bytes: file.limits.compile_memory_mb.map(CompileMebibytes::mebibytes),
        memory: memory(&file.memory)?,
        model: model.map(|model| model.url),
        security: file.security,
        sigint: file.signals.sigint,
        state_dir,
        without_store: false,
        catalog: Catalog { roles, components, max_agent_memory_bytes },
        keep_ended: file.limits.keep_ended,
        ended_bytes: file.limits.ended_mb.mebibytes(),
        shutdown: file.limits.shutdown_ms.millis(),
        drain: file.limits.drain_ms.millis(),
        agents,
        hydration: HydrationRules {
            parallel: file.limits.hydration_parallel.as_usize(),
            deadline: file.limits.hydration_ms.millis(),
        },
    })
}

/// What a role's agents may take at most, of all roles, in bytes.
fn largest_limit(roles: &BTreeMap<Arc<str>, Role>) -> u64 {
    let limits = roles.values().map(|role| role.limits.memory_bytes);
    limits.max().unwrap_or(Limits::default().memory_bytes)
}

/// What agents leave free on the disk of the state directory.
fn disk_floor(state: &file::State) -> DiskFloor {
    let floor = DiskFloor::default();
    DiskFloor {
        bytes: state.keep_free_mb.map_or(floor.bytes, MebibytesOrNone::mebibytes),
        inodes: state.keep_free_inodes.unwrap_or(floor.inodes),
    }
}

fn memory(memory: &file::Memory) -> Result<MemorySettings, Problem> {
    let time = |key: &str, given: &Option<Spanned<Count>>, default: u64| {
        let Some(given) = given else { return Ok(Duration::from_millis(default)) };
        let ms = Spanned::new(given.span(), given.get_ref().0);
        within(&format!("memory.{key}"), &ms, MEMORY_MS).map(Duration::from_millis)
    };
    let mut admission = Admission::default();
    if let Some(mb) = memory.reserve_mb {
        admission.reserve_bytes = mb.mebibytes();
    }
    if let Some(overcommit) = &memory.overcommit {
        admission.overcommit = within("memory.overcommit", overcommit, OVERCOMMIT)?;
    }
    let config = MemoryConfig {
        budget_bytes: memory.budget_mb.map(Mebibytes::mebibytes),
        sample: time("sample_ms", &memory.sample_ms, 5_000)?,
        sheds: memory.shed.unwrap_or(true),
        admission,
    };
    Ok(MemorySettings { config, report: time("report_ms", &memory.report_ms, 30_000)? })
}

/// The number, unless it is out of its bounds.
fn within<T: Copy + PartialOrd + std::fmt::Display>(
    key: &str,
    given: &Spanned<T>,
    bounds: RangeInclusive<T>,
) -> Result<T, Problem> {
    let number = *given.get_ref();
    if bounds.contains(&number) {
        return Ok(number);
    }
    let message = format!("{number} is not between {} and {}", bounds.start(), bounds.end());
    Err(Problem { key: key.to_owned(), message, span: given.span() })
}

/// Between two signs of life, as the original has it.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// One call of the town.
const CALL: Duration = Duration::from_secs(10);

/// What the calls about one agent are to tell.
const GIVE_UP: Duration = Duration::from_secs(600);

/// The town's API. Without its URL the container runs by itself.
fn check_town(
    town: file::Town,
    base: &Path,
    outside: &Connector,
) -> Result<Option<TownConfig>, Problem> {
    // What the file of the token held is its token by now.
    let file::Town {
        id,
        api_url,
        token,
        token_file: _,
        ca_file,
        heartbeat_ms,
        call_ms,
        give_up_ms,
        on_fenced: _,
    } = town;
    let key = |span: &Range<usize>, key: &str, variable: &str| match span.is_empty() {
        true => variable.to_owned(),
        false => format!("town.{key}"),
    };
    let Some(api_url) = api_url else {
        let without = "is set without a town; set town.api_url (GASTOWN_API_URL)";
        if let Some(token) = token {
            let key = key(&token.span(), "token", "GASTOWN_CONTAINER_TOKEN");
            return Err(Problem { key, message: without.into(), span: token.span() });
        }
        if let Some(file) = ca_file {
            let key = "town.ca_file".to_owned();
            return Err(Problem { key, message: without.into(), span: file.span() });
        }
        return Ok(None);
    };
    let span = api_url.span();
    let key = key(&span, "api_url", "GASTOWN_API_URL");
    let problem = |message: String| Problem { key: key.clone(), message, span: span.clone() };
    let api = BaseUrl::parse(api_url.get_ref()).map_err(|error| {
        problem(match error {
            UrlError::Credentials => format!("{error}; use town.token"),
            error => error.to_string(),
        })
    })?;
    let Some(town_id) = id.filter(|id| !id.is_empty()) else {
        return Err(problem("needs the town's id; set town.id (GASTOWN_TOWN_ID)".into()));
    };
    let Some(token) = token else {
        return Err(problem(
            "needs a token; set GASTOWN_CONTAINER_TOKEN, town.token or town.token_file".into(),
        ));
    };
    let mut connector = outside.clone();
    if let Some(file) = ca_file {
        connector.trust = trust("town.ca_file", &file, base)?;
    }
    let mut config = TownConfig {
        town_id,
        api,
        token: token.into_inner(),
        connector,
        heartbeat: HEARTBEAT,
        call: CALL,
        give_up: GIVE_UP,
    };
    set_ms(&mut config.heartbeat, heartbeat_ms);
    set_ms(&mut config.call, call_ms);
    set_ms(&mut config.give_up, give_up_ms);
    Ok(Some(config))
}

/// The certificates in a file that the configuration names.
fn trust(key: &str, file: &Spanned<PathBuf>, base: &Path) -> Result<Trust, Problem> {
    Trust::from_file(&base.join(file.get_ref()))
        .map_err(|error| Problem::at(file.span(), key.to_owned(), chain(&error)))
}

/// Where core dumps go, when some role leaves any.
fn core_dumps(state_dir: &Path, roles: &BTreeMap<Arc<str>, Role>) -> Option<CoreDumpRules> {
    let wanted = roles.values().any(|role| role.core_dump);
    wanted.then(|| CoreDumpRules::in_dir(state_dir.join("cores")))
}

/// The model endpoint, as roles see it.
struct Model {
    keys: BTreeMap<String, Secret>,
    url: BaseUrl,
    rule: HttpRule,
    /// Who is believed to be it, where that is said.
    trust: Option<Trust>,
}

impl Model {
    fn check(model: file::Model, base: &Path) -> Result<Self, Problem> {
        let span = model.base_url.span();
        let key = if span.is_empty() { "BULKHEAD_MODEL_BASE_URL" } else { "model.base_url" };
        let text = model.base_url.into_inner().trim_end_matches('/').to_owned();
        let problem = |message: String| Problem::at(span.clone(), key.into(), message);
        let url = BaseUrl::parse(&text).map_err(|error| {
            problem(match error {
                UrlError::Credentials => format!("{error}; use api_key"),
                error => format!("{text:?} cannot be used: {error}"),
            })
        })?;
        // The operator wrote it down, so it is trusted to be where it should.
        let rule = HttpRule::parse(&url.destination.host_and_port())
            .map_err(|error| problem(error.to_string()))?
            .private();
        let trust = model.ca_file.map(|file| trust("model.ca_file", &file, base)).transpose()?;
        let mut keys = BTreeMap::new();
        keys.insert("model.base-url".to_owned(), Secret::from(text));
        keys.insert("model.name".to_owned(), Secret::from(model.name));
        if let Some(key) = model.api_key {
            keys.insert("model.api-key".to_owned(), key);
        }
        Ok(Self { keys, url, rule, trust })
    }

    /// The way out for agents.
    fn way_to(model: Option<&Self>, outside: &Connector) -> Connector {
        let mut connector = outside.clone();
        if let Some(Self { url, trust: Some(trust), .. }) = model {
            connector.trust = connector.trust.with(url.destination.clone(), trust.clone());
        }
        connector
    }
}

fn check_role(
    name: &str,
    role: file::Role,
    components: &BTreeMap<Arc<str>, PathBuf>,
    model: Option<&Model>,
    memory: &AgentMemory,
) -> Result<Role, Problem> {
    let limits = limits(name, &role, memory)?;
    let restart = restart_rules(name, &role)?;
    let snapshots = snapshot_rules(name, &role)?;
    let span = role.component.span();
    let Some((component, _)) = components.get_key_value(role.component.get_ref().as_str()) else {
        let wanted = role.component.get_ref();
        let known = known(components.keys());
        let message = format!("there is no [components.{wanted}]; the configuration has {known}");
        return Err(Problem { key: format!("roles.{name}.component"), message, span });
    };
    let model_span = role.model.span();
    let mut allow: Vec<HttpRule> = role.http_allow.into_iter().map(|rule| rule.0).collect();
    let mut config = BTreeMap::new();
    if role.model.into_inner() {
        let Some(model) = model else {
            let key = format!("roles.{name}.model");
            let message = "there is no [model]; add one with base_url, or set \
                           BULKHEAD_MODEL_BASE_URL"
                .into();
            return Err(Problem { key, message, span: model_span });
        };
        allow.push(model.rule.clone());
        config.extend(model.keys.clone());
    }
    config.extend(role.config);
    let eviction_weight_percent = match &role.eviction_weight_percent {
        Some(percent) => {
            within(&format!("roles.{name}.eviction_weight_percent"), percent, EVICTION_WEIGHT)?
        }
        None => 100,
    };
    Ok(Role {
        component: Arc::clone(component),
        args: role.args.0.into(),
        limits,
        http: HttpPolicy { allow },
        snapshots,
        restart,
        config,
        secret_env: role.secret_env,
        workspace: role.workspace,
        fault_injection: role.fault_injection,
        core_dump: role.core_dump,
        eviction_weight_percent,
    })
}

/// What the container says about the memory of its agents.
struct AgentMemory {
    max_mb: Mebibytes,
    /// Of a role that says nothing.
    default_bytes: u64,
    soft_percent: u8,
}

impl AgentMemory {
    fn check(limits: &file::Limits) -> Result<Self, Problem> {
        let (max_mb, defaults) = (limits.max_agent_memory_mb, Limits::default());
        let default_bytes = defaults.memory_bytes.min(max_mb.mebibytes());
        let mut memory = Self { max_mb, default_bytes, soft_percent: defaults.memory_soft_percent };
        if let Some(mb) = &limits.agent_memory_mb {
            memory.default_bytes = memory.bytes("limits.agent_memory_mb", mb)?;
        }
        if let Some(percent) = limits.agent_memory_soft_percent {
            memory.soft_percent = percent.0;
        }
        Ok(memory)
    }

    /// A limit that `key` sets, unless it is above what an agent may have.
    fn bytes(&self, key: &str, mb: &Spanned<Mebibytes>) -> Result<u64, Problem> {
        if *mb.get_ref() > self.max_mb {
            let message = format!(
                "{} is more than limits.max_agent_memory_mb, which is {}",
                mb.get_ref().0,
                self.max_mb.0
            );
            return Err(Problem { key: key.into(), message, span: mb.span() });
        }
        Ok(mb.get_ref().mebibytes())
    }
}

fn limits(name: &str, role: &file::Role, memory: &AgentMemory) -> Result<Limits, Problem> {
    let mut limits = Limits {
        memory_bytes: memory.default_bytes,
        memory_soft_percent: memory.soft_percent,
        ..Limits::default()
    };
    if let Some(mb) = &role.memory_limit_mb {
        limits.memory_bytes = memory.bytes(&format!("roles.{name}.memory_limit_mb"), mb)?;
    }
    if let Some(percent) = role.memory_soft_percent {
        limits.memory_soft_percent = percent.0;
    }
    if let Some(policy) = role.on_memory_limit {
        limits.on_memory_limit = policy;
    }
    set_ms(&mut limits.cpu, role.cpu_ms);
    limits.message_cpu = limits.cpu.saturating_mul(Limits::CALLS_OF_A_MESSAGE);
    set_ms(&mut limits.message_cpu, role.message_cpu_ms);
    set_ms(&mut limits.wall, role.wall_ms);
    set_ms(&mut limits.host_call, role.host_call_ms);
    set_ms(&mut limits.start, role.start_ms);
    set_ms(&mut limits.shutdown, role.shutdown_ms);
    if let Some(messages) = role.mailbox_messages {
        limits.mailbox_messages = messages.as_usize();
    }
    if let Some(kb) = role.mailbox_kb {
        limits.mailbox_bytes = kb.as_usize().saturating_mul(1024);
    }
    limits.idle = match role.idle_ms {
        None => default_idle(name),
        Some(Whole(0)) => None,
        Some(ms) => Some(ms.millis()),
    };
    if let Some(lines) = role.log_lines_per_second {
        limits.log_lines_per_second = u32::try_from(lines.0).unwrap_or(u32::MAX);
    }
    if let Some(mb) = role.workspace_mb {
        limits.workspace_bytes = mb.mebibytes();
    }
    if let Some(entries) = role.workspace_entries {
        limits.workspace_entries = entries.0;
    }
    Ok(limits)
}

fn restart_rules(name: &str, role: &file::Role) -> Result<RestartRules, Problem> {
    let mut rules = RestartRules::default();
    if let Some(policy) = role.restart {
        rules.policy = policy;
    }
    set_ms(&mut rules.backoff, role.restart_backoff_ms);
    set_ms(&mut rules.backoff_max, role.restart_backoff_max_ms);
    set_ms(&mut rules.healthy, role.restart_healthy_ms);
    set_ms(&mut rules.window, role.restart_window_ms);
    for (key, given, bounds, rule) in [
        ("restart_max", &role.restart_max, 0..=MAX_RESTARTS, &mut rules.max_restarts),
        ("restart_same_fault", &role.restart_same_fault, 1..=MAX_RESTARTS, &mut rules.same_fault),
        ("max_attempts", &role.max_attempts, 1..=MAX_ATTEMPTS, &mut rules.max_attempts),
    ] {
        if let Some(given) = given {
            *rule = within(&format!("roles.{name}.{key}"), given, bounds)?;
        }
    }
    Ok(rules)
}

fn snapshot_rules(name: &str, role: &file::Role) -> Result<SnapshotRules, Problem> {
    let mut rules = SnapshotRules::default();
    if let Some(when) = role.snapshot {
        rules.when = when;
    }
    set_ms(&mut rules.debounce, role.snapshot_ms);
    if let Some(kb) = &role.snapshot_kb {
        rules.max_bytes = kb.get_ref().as_usize().saturating_mul(1024);
        if rules.max_bytes > MAX_SNAPSHOT_BYTES {
            let (given, most) = (kb.get_ref().0, MAX_SNAPSHOT_BYTES / 1024);
            let message = format!("{given} is above the maximum of {most}");
            let key = format!("roles.{name}.snapshot_kb");
            return Err(Problem { key, message, span: kb.span() });
        }
    }
    Ok(rules)
}

/// How long an agent may have nothing to do, when its role does not say: the original's times, by role.
fn default_idle(role: &str) -> Option<Duration> {
    match role {
        "mayor" => None,
        "refinery" => Some(Duration::from_secs(600)),
        _ => Some(Duration::from_secs(120)),
    }
}

fn set_ms(limit: &mut Duration, ms: Option<Millis>) {
    if let Some(ms) = ms {
        *limit = ms.millis();
    }
}

fn check_agents(
    agents: Vec<file::Agent>,
    roles: &BTreeMap<Arc<str>, Role>,
) -> Result<Vec<StartRequest>, Problem> {
    let mut requests: Vec<StartRequest> = Vec::with_capacity(agents.len());
    for (index, agent) in agents.into_iter().enumerate() {
        let span = agent.role.span();
        let role = agent.role.into_inner();
        if !roles.contains_key(role.as_str()) {
            let known = known(roles.keys());
            let message = format!("there is no [roles.{role}]; the configuration has {known}");
            return Err(Problem { key: format!("agents[{index}].role"), message, span });
        }
        let id_span = agent.id.span();
        let id = agent.id.into_inner();
        if requests.iter().any(|request| request.agent_id == id) {
            let message = format!("{id} is listed twice");
            return Err(Problem { key: format!("agents[{index}].id"), message, span: id_span });
        }
        let mut request = StartRequest::new(id, role);
        request.prompt = agent.prompt;
        request.system_prompt = agent.system_prompt;
        request.model = agent.model;
        if let Some(name) = agent.name {
            request.name = name;
        }
        if let Some(issue) = request.beyond_bounds().into_iter().next() {
            let Issue { path, message } = issue;
            return Err(Problem { key: format!("agents[{index}].{path}"), message, span: id_span });
        }
        requests.push(request);
    }
    Ok(requests)
}

fn known<'a>(names: impl Iterator<Item = &'a Arc<str>>) -> String {
    let names: Vec<&str> = names.map(AsRef::as_ref).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
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

//! Roles and agents: `[roles.NAME]`, `[[agents]]`, `[limits]`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_api::{Issue, StartRequest};
use bulkhead_llm::Models;
use bulkhead_memory::shedding::MAX_WEIGHT;
use bulkhead_runtime::HttpSecrets;
use bulkhead_source::{Language, SourceCode};
use bulkhead_store::database::MAX_SNAPSHOT_BYTES;
use bulkhead_supervisor::Role;
use bulkhead_types::restart::{MAX_ATTEMPTS, MAX_RESTARTS};
use bulkhead_types::{GitAuthor, GitRules, HttpPolicy, Limits, RestartRules, SnapshotRules};
use toml::Spanned;

use super::file::{self, Mebibytes, Millis, Whole, set_ms};
use super::problem::{Problem, known, within};

/// Bounds of a role's `eviction_weight_percent`.
const EVICTION_WEIGHT: RangeInclusive<u32> = 0..=(MAX_WEIGHT as u32 * 100);

pub(super) fn check_role(
    name: &str,
    role: file::Role,
    (component, source): (Arc<str>, Option<SourceCode>),
    models: &Models,
    secrets: &HttpSecrets,
    usual: &AgentLimits,
) -> Result<Role, Problem> {
    let limits = limits(name, &role, source.as_ref().map(|code| code.language), usual)?;
    let restart = restart_rules(name, &role)?;
    let snapshots = snapshot_rules(name, &role)?;
    let models = named((name, "models"), &role.models, models.names())?;
    let eviction_weight_percent = match &role.eviction_weight_percent {
        Some(percent) => {
            within(&format!("roles.{name}.eviction_weight_percent"), percent, EVICTION_WEIGHT)?
        }
        None => 100,
    };
    if role.git && !role.workspace {
        let message = "a repository is a workspace, and this role has workspace = false".to_owned();
        return Err(Problem::at(0..0, format!("roles.{name}.git"), message));
    }
    if role.git_save && !role.git {
        let message = "is of no use without `git = true`".to_owned();
        return Err(Problem::at(0..0, format!("roles.{name}.git_save"), message));
    }
    let rules = GitRules { author: author(name, role.git_author)?, save: role.git_save };
    let git = role.git.then_some(rules);
    Ok(Role {
        component,
        source,
        args: role.args.0.into(),
        limits,
        http: HttpPolicy {
            allow: role.http_allow.into_iter().map(|rule| rule.0).collect(),
            secrets: named((name, "secrets"), &role.secrets, secrets.names())?,
        },
        models,
        tools: None,
        git,
        snapshots,
        restart,
        config: role.config,
        secret_env: role.secret_env,
        workspace: role.workspace,
        fault_injection: role.fault_injection,
        core_dump: role.core_dump,
        durable_in_fleet: role.durable == file::Durable::Fleet,
        live_output: role.live_output,
        eviction_weight_percent,
    })
}

/// `Name <name@host>`, as git writes it.
fn author(role: &str, given: Option<Spanned<String>>) -> Result<Option<GitAuthor>, Problem> {
    let Some(given) = given else { return Ok(None) };
    let parts = given.get_ref().strip_suffix('>').and_then(|text| text.split_once(" <"));
    let is_fit = |text: &str| {
        !text.trim().is_empty() && !text.contains(['<', '>']) && !text.chars().any(char::is_control)
    };
    match parts {
        Some((name, email)) if is_fit(name) && is_fit(email) => {
            Ok(Some(GitAuthor { name: name.to_owned(), email: email.to_owned() }))
        }
        _ => {
            let message = "is not of the form \"Name <name@host>\"".to_owned();
            Err(Problem::at(given.span(), format!("roles.{role}.git_author"), message))
        }
    }
}

/// The tables that a role names in its list `key`, in its order. They are `[KEY.NAME]`.
fn named<'a>(
    (role, key): (&str, &str),
    list: &[Spanned<String>],
    tables: impl Iterator<Item = &'a Arc<str>> + Clone,
) -> Result<Arc<[Arc<str>]>, Problem> {
    let mut found: Vec<Arc<str>> = Vec::with_capacity(list.len());
    for (index, given) in list.iter().enumerate() {
        let problem = |message: String| {
            Problem::at(given.span(), format!("roles.{role}.{key}[{index}]"), message)
        };
        let wanted = given.get_ref().as_str();
        let Some(name) = tables.clone().find(|name| ***name == *wanted) else {
            let known = known(tables);
            let message = format!("there is no [{key}.{wanted}]; the configuration has {known}");
            return Err(problem(message));
        };
        if found.contains(name) {
            return Err(problem(format!("{wanted} is listed twice")));
        }
        found.push(Arc::clone(name));
    }
    Ok(found.into())
}

/// What the container says about the limits of its agents.
pub(super) struct AgentLimits {
    pub(super) max_mb: Mebibytes,
    /// Of a role that says nothing, where the configuration says it.
    pub(super) given_bytes: Option<u64>,
    pub(super) soft_percent: u8,
    pub(super) cpu_max_percent: u8,
}

impl AgentLimits {
    pub(super) fn check(limits: &file::Limits) -> Result<Self, Problem> {
        let Limits { memory_soft_percent: soft_percent, cpu_max_percent, .. } = Limits::default();
        let max_mb = limits.max_agent_memory_mb;
        let mut usual = Self { max_mb, given_bytes: None, soft_percent, cpu_max_percent };
        if let Some(mb) = &limits.agent_memory_mb {
            usual.given_bytes = Some(usual.bytes("limits.agent_memory_mb", mb)?);
        }
        if let Some(percent) = limits.agent_memory_soft_percent {
            usual.soft_percent = percent.0;
        }
        if let Some(percent) = limits.agent_cpu_max_percent {
            usual.cpu_max_percent = percent.0;
        }
        Ok(usual)
    }

    /// Of a role that says nothing. An agent that is a text file has as much for itself as a component has in all.
    fn default_bytes(&self, language: Option<Language>) -> u64 {
        let usual = Limits::default().memory_bytes + language.map_or(0, interpreter_bytes);
        self.given_bytes.unwrap_or_else(|| usual.min(self.max_mb.mebibytes()))
    }

    /// A limit that `key` sets, unless it is above what an agent may have.
    pub(super) fn bytes(&self, key: &str, mb: &Spanned<Mebibytes>) -> Result<u64, Problem> {
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

/// What a runner's memory has before there is code of the author's in it, where that is much: CPython's image has 30 MB,
/// QuickJS's 2.6. Agents share it, and it counts for each.
fn interpreter_bytes(language: Language) -> u64 {
    match language {
        Language::JavaScript => 0,
        Language::Python => 32 * 1024 * 1024,
    }
}

pub(super) fn limits(
    name: &str,
    role: &file::Role,
    language: Option<Language>,
    usual: &AgentLimits,
) -> Result<Limits, Problem> {
    let mut limits = Limits {
        memory_bytes: usual.default_bytes(language),
        memory_soft_percent: usual.soft_percent,
        cpu_max_percent: usual.cpu_max_percent,
        ..Limits::default()
    };
    if let Some(mb) = &role.memory_limit_mb {
        limits.memory_bytes = usual.bytes(&format!("roles.{name}.memory_limit_mb"), mb)?;
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
    if let Some(percent) = role.cpu_max_percent {
        limits.cpu_max_percent = percent.0;
    }
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

pub(super) fn restart_rules(name: &str, role: &file::Role) -> Result<RestartRules, Problem> {
    let mut rules = RestartRules::default();
    if let Some(policy) = role.restart {
        rules.policy = policy;
    }
    set_ms(&mut rules.backoff_max, role.restart_backoff_max_ms);
    match &role.restart_backoff_ms {
        Some(given) => rules.backoff = backoff(name, given, rules.backoff_max)?,
        None => rules.backoff = rules.backoff.min(rules.backoff_max),
    }
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

/// The first bound of a backoff, which no later one falls below.
fn backoff(role: &str, given: &Spanned<Millis>, max: Duration) -> Result<Duration, Problem> {
    let backoff = given.get_ref().millis();
    if backoff <= max {
        return Ok(backoff);
    }
    let (backoff, max) = (backoff.as_millis(), max.as_millis());
    let message = format!("{backoff} is above `restart_backoff_max_ms`, which is {max}");
    Err(Problem::at(given.span(), format!("roles.{role}.restart_backoff_ms"), message))
}

pub(super) fn snapshot_rules(name: &str, role: &file::Role) -> Result<SnapshotRules, Problem> {
    let mut rules = SnapshotRules::default();
    if let Some(when) = role.snapshot {
        rules.when = when;
    }
    rules.ships_turns = role.durable == file::Durable::Fleet && rules.when.after_turns();
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
pub(super) fn default_idle(role: &str) -> Option<Duration> {
    match role {
        "mayor" => None,
        "refinery" => Some(Duration::from_secs(600)),
        _ => Some(Duration::from_secs(120)),
    }
}

pub(super) fn check_agents(
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

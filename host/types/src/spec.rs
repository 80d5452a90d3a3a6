//! What an agent is asked to be, and its limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AgentId, GitSpec, HttpPolicy, RestartRules, Secret, ToolRules};

/// Everything that a start decides about an agent. Two starts are "the same" when their specs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSpec {
    /// Which agent.
    pub id: AgentId,
    /// The role's name in the configuration.
    pub role: Arc<str>,
    /// The component's name in the configuration.
    pub component: Arc<str>,
    /// Arguments behind the component's name (`wasi:cli/environment`).
    pub args: Arc<[String]>,
    /// The name that people see.
    pub name: String,
    /// The town of the request, if it named one.
    pub town_id: Option<String>,
    /// The repository that it works on.
    pub rig_id: Option<String>,
    /// What to do first. May be empty.
    pub prompt: String,
    /// Standing instructions at first; [`Settings`](crate::Settings) has them as they are now.
    pub system_prompt: Option<String>,
    /// The language model to use at first.
    pub model: Option<String>,
    /// A cheaper one for small tasks at first.
    pub small_model: Option<String>,
    /// What `host.config` answers where the town sets nothing. Secrets may be among the values.
    pub config: BTreeMap<String, Secret>,
    /// Environment (`wasi:cli/environment`), below what the town sets.
    pub env: BTreeMap<String, Secret>,
    /// Credentials that it is started with, in its configuration and its environment, above both of these. They
    /// are no part of what the agent is: they can be swapped while it is active.
    pub secrets: BTreeMap<String, Secret>,
    /// Its limits.
    pub limits: Limits,
    /// What it may reach over HTTP.
    pub http: HttpPolicy,
    /// The model endpoints that it may use, by their names in the configuration. The first one is its default.
    pub models: Arc<[Arc<str>]>,
    /// The native programs that it may run. `None`: no programs.
    pub tools: Option<Arc<ToolRules>>,
    /// The repository that its workspace is. `None`: a plain directory.
    pub git: Option<Arc<GitSpec>>,
    /// Whether and when its state is kept.
    pub snapshots: SnapshotRules,
    /// Whether and when it is restarted after an end.
    pub restart: RestartRules,
    /// `host.config("fault-injection/...")` injects host faults. For tests of the host only.
    pub fault_injection: bool,
    /// A crash leaves a core dump: all that the agent had in memory, secrets included.
    pub core_dump: bool,
    /// What language models answer goes to those who follow the agent as it comes.
    pub live_output: bool,
    /// How readily it is ended when memory is short, in percent: 0 after all others.
    pub eviction_weight_percent: u32,
}

impl AgentSpec {
    /// An agent that asks for nothing: no prompt, no configuration, default limits. Its name is its id.
    pub fn new(id: AgentId, role: Arc<str>, component: Arc<str>) -> Self {
        Self {
            name: id.to_string(),
            id,
            role,
            component,
            args: Arc::default(),
            town_id: None,
            rig_id: None,
            prompt: String::new(),
            system_prompt: None,
            model: None,
            small_model: None,
            config: BTreeMap::new(),
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            limits: Limits::default(),
            http: HttpPolicy::default(),
            models: Arc::default(),
            tools: None,
            git: None,
            snapshots: SnapshotRules::default(),
            restart: RestartRules::default(),
            fault_injection: false,
            core_dump: false,
            live_output: true,
            eviction_weight_percent: 100,
        }
    }

    /// What its texts take in memory, in bytes: those that a start request brings.
    pub fn text_bytes(&self) -> u64 {
        let values = |map: &BTreeMap<String, Secret>| -> usize {
            map.iter().map(|(key, value)| key.len() + value.expose().len()).sum()
        };
        let system_prompt = self.system_prompt.as_ref().map_or(0, String::len);
        let texts = self.name.len() + self.prompt.len() + system_prompt;
        (texts + values(&self.config) + values(&self.env) + values(&self.secrets)) as u64
    }

    /// Whether a start of `other` asks for the same agent. How long the callers are willing to wait
    /// makes no difference, nor with which credentials it works. Copies nothing.
    pub fn is_same_as(&self, other: &Self) -> bool {
        // Every field by its name: a new one has to be thought of here. What is long comes last.
        let Self {
            id,
            role,
            component,
            args,
            name,
            town_id,
            rig_id,
            prompt,
            system_prompt,
            model,
            small_model,
            config,
            env,
            secrets: _,
            limits,
            http,
            models,
            tools,
            git,
            snapshots,
            restart,
            fault_injection,
            core_dump,
            live_output,
            eviction_weight_percent,
        } = self;
        *id == other.id
            && *role == other.role
            && *component == other.component
            && *args == other.args
            && *name == other.name
            && *town_id == other.town_id
            && *rig_id == other.rig_id
            && *model == other.model
            && *small_model == other.small_model
            && limits.is_same_as(&other.limits)
            && *http == other.http
            && *models == other.models
            && *tools == other.tools
            && *git == other.git
            && *snapshots == other.snapshots
            && *restart == other.restart
            && *fault_injection == other.fault_injection
            && *core_dump == other.core_dump
            && *live_output == other.live_output
            && *eviction_weight_percent == other.eviction_weight_percent
            && *config == other.config
            && *env == other.env
            && *system_prompt == other.system_prompt
            && *prompt == other.prompt
    }
}

/// Bounds on what one agent may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memories, tables and host bytes together.
    pub memory_bytes: u64,
    /// Percent of `memory_bytes` at which it is notified that it gets close, 1 to 100.
    pub memory_soft_percent: u8,
    /// What happens when growth would pass `memory_bytes`.
    pub on_memory_limit: MemoryPolicy,
    /// CPU time of one call into the guest.
    pub cpu: Duration,
    /// CPU time of all turns that one message takes, with a price for each turn after the first.
    pub message_cpu: Duration,
    /// Percent of one core that it may use over time, 1 to 100. Above it the guest waits. 100: no bound.
    pub cpu_max_percent: u8,
    /// Wall time of one turn, without the time in which the guest waits for CPU time.
    pub wall: Duration,
    /// Time in one host call.
    pub host_call: Duration,
    /// A whole start: waiting, compiling, instantiating, the guest's own `start`.
    pub start: Duration,
    /// Grace of a stop: what is left of the turn, and the guest's `shutdown`.
    pub shutdown: Duration,
    /// Messages that may wait.
    pub mailbox_messages: usize,
    /// Bytes of messages that may wait.
    pub mailbox_bytes: usize,
    /// How long it may have nothing to do before it is `completed`. `None`: it waits for ever.
    pub idle: Option<Duration>,
    /// Log lines a second, with a burst of ten times as many. More are dropped and counted.
    pub log_lines_per_second: u32,
    /// What its workspace may hold: the sizes of its files in blocks of 4 KiB, and 4 KiB for each directory.
    pub workspace_bytes: u64,
    /// Files, directories and links in it.
    pub workspace_entries: u64,
}

impl Limits {
    /// A message may take as much CPU time as so many calls that each go to their limit, where nothing else is said.
    pub const CALLS_OF_A_MESSAGE: u32 = 10;

    /// Whether they bound the same, but for the patience of a start.
    fn is_same_as(&self, other: &Self) -> bool {
        // No field owns memory: the copy is a few hundred bytes on the stack.
        Self { start: other.start, ..self.clone() } == *other
    }
}

impl Default for Limits {
    /// For an agent that talks to a language model: little memory, long waits.
    fn default() -> Self {
        Self {
            memory_bytes: 64 * 1024 * 1024,
            memory_soft_percent: 80,
            on_memory_limit: MemoryPolicy::End,
            cpu: Duration::from_secs(10),
            message_cpu: Duration::from_secs(10) * Self::CALLS_OF_A_MESSAGE,
            cpu_max_percent: 100,
            wall: Duration::from_secs(300),
            host_call: Duration::from_secs(120),
            start: Duration::from_secs(30),
            shutdown: Duration::from_secs(5),
            mailbox_messages: 256,
            mailbox_bytes: 4 * 1024 * 1024,
            idle: None,
            log_lines_per_second: 50,
            workspace_bytes: 1024 * 1024 * 1024,
            workspace_entries: 65_536,
        }
    }
}

/// Whether and when an agent's state is kept, to be given to its next incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRules {
    /// When.
    pub when: SnapshotPolicy,
    /// From a turn to the snapshot that has it. Turns meanwhile are in the same one.
    pub debounce: Duration,
    /// Largest snapshot. A larger one is refused, and the last good one stays.
    pub max_bytes: usize,
    /// Who waits for a turn is answered when its snapshot is shipped. It is taken at once.
    pub ships_turns: bool,
}

impl Default for SnapshotRules {
    fn default() -> Self {
        let debounce = Duration::from_secs(1);
        Self { when: SnapshotPolicy::Off, debounce, max_bytes: 1024 * 1024, ships_turns: false }
    }
}

/// What to do when the agent starts or runs already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum IfRunning {
    /// Join it when it is what the request asks for: the same spec from the same component. Another one is
    /// stopped and replaced.
    #[default]
    Join,
    /// Stop it, whatever it is, then start afresh.
    Restart,
    /// Leave it as it is, also when it is not what the request asks for.
    Keep,
}

/// When an agent's state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotPolicy {
    /// Never. Each incarnation begins without state.
    Off,
    /// When the agent is asked to end.
    Stop,
    /// After turns as well.
    Turn,
}

impl SnapshotPolicy {
    /// Whether a turn is answered by a snapshot.
    pub fn after_turns(self) -> bool {
        self == Self::Turn
    }

    /// Whether an agent that is asked to end is asked for a snapshot before.
    pub fn at_the_end(self) -> bool {
        self != Self::Off
    }
}

/// What happens when growth would pass the memory limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryPolicy {
    /// The incarnation ends as `memory_limit`, with the backtrace of the growth.
    End,
    /// The guest sees `memory.grow` fail.
    Deny,
}

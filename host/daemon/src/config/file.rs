//! The file's shape. What can be checked one value at a time is checked here, so that the parser can
//! point at the line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_control::{AllowedHost, Mcp};
use bulkhead_log::LogConfig;
use bulkhead_runtime::Cpu;
use bulkhead_types::{
    AgentId, MemoryPolicy, RestartPolicy, Secret, SnapshotPolicy, ToolNetwork, http::HttpRule,
};
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::cli::{Interrupt, LogFormat};
use crate::hardening::Security;

mod repositories;
mod services;

pub use repositories::{Rig, Tools, Workspaces};
pub use services::{
    Component, Dialect, Durable, Evidence, HttpSecret, Lease, LeaseAlone, Model, ModelName,
    Registry, SecretName, Ship,
};

/// The whole file. Everything has a default but the components and roles that one wants to use.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct File {
    pub server: Server,
    pub town: Town,
    pub log: Log,
    pub state: State,
    pub engine: Engine,
    pub evidence: Evidence,
    pub lease: Lease,
    pub ship: Ship,
    pub signals: Signals,
    pub limits: Limits,
    pub memory: Memory,
    pub security: Security,
    pub tools: Tools,
    pub workspaces: Workspaces,
    pub budget: Budget,
    pub models: BTreeMap<ModelName, Model>,
    pub secrets: BTreeMap<SecretName, HttpSecret>,
    pub rigs: BTreeMap<String, Rig>,
    pub registries: BTreeMap<String, Registry>,
    pub components: BTreeMap<String, Component>,
    pub roles: BTreeMap<String, Role>,
    pub agents: Vec<Agent>,
}

/// The part of the file that says where a host can be asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServerAlone {
    pub server: Server,
    pub state: State,
}

/// `[server]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    pub listen: Listen,
    pub token: Option<Spanned<Secret>>,
    pub token_file: Option<Spanned<PathBuf>>,
    pub allow_unauthenticated: bool,
    pub allowed_hosts: Vec<HostName>,
    pub probe_listen: Option<Listen>,
    pub mcp: Mcp,
}

impl Default for Server {
    fn default() -> Self {
        let listen = Listen(SocketAddr::from(([127, 0, 0, 1], 8080)));
        Self {
            listen,
            token: None,
            token_file: None,
            allow_unauthenticated: false,
            allowed_hosts: Vec::new(),
            probe_listen: None,
            mcp: Mcp::default(),
        }
    }
}

/// A secret that the environment brings.
#[derive(Debug)]
pub struct FromEnvironment {
    pub secret: Secret,
    /// The file that it stands in, if it does; absolute.
    pub file: Option<PathBuf>,
}

/// A whole number between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Whole<const LEAST: u64, const MOST: u64>(pub u64);

/// A number of things, of which there is at least one.
pub type Count = Whole<1, { u64::MAX }>;

/// The same, or nothing.
pub type CountOrNone = Whole<0, { u64::MAX }>;

/// A year. Longer times overflow the clock sooner or later, and nobody means them.
const YEAR_MS: u64 = 365 * 24 * 3600 * 1000;

/// A time that is not over at once.
pub type Millis = Whole<1, YEAR_MS>;

/// A time; 0 says that there is none.
pub type MillisOrNone = Whole<0, YEAR_MS>;

/// A size of up to a tebibyte.
pub type Mebibytes = Whole<1, { 1024 * 1024 }>;

/// The same, or nothing.
pub type MebibytesOrNone = Whole<0, { 1024 * 1024 }>;

/// Processes of a tool.
pub type Pids = Whole<1, 32_768>;

/// What a tool writes. All of it may be in memory at once.
pub type OutputMebibytes = Whole<1, 64>;

/// A size of up to a gibibyte.
pub type Kibibytes = Whole<1, { 1024 * 1024 }>;

/// The longest line of the log, up to a mebibyte.
pub type LineKibibytes = Whole<{ LogConfig::MIN_LINE_BYTES as u64 / 1024 }, 1024>;

/// CPU time of a compiler, which the kernel counts in seconds. At most a day.
pub type CompileMillis = Whole<1000, { 24 * 3600 * 1000 }>;

/// Memory of a compiler. With less it compiles nothing.
pub type CompileMebibytes = Whole<64, { 1024 * 1024 }>;

impl<const LEAST: u64, const MOST: u64> Whole<LEAST, MOST> {
    /// As a size in memory; a number that no machine has room for is as good as unbounded.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Units of a mebibyte in bytes.
    pub fn mebibytes(self) -> u64 {
        self.0.saturating_mul(1024 * 1024)
    }

    /// Units of a millisecond.
    pub fn millis(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl<'de, const LEAST: u64, const MOST: u64> Deserialize<'de> for Whole<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Within<const LEAST: u64, const MOST: u64>;

        impl<const LEAST: u64, const MOST: u64> Visitor<'_> for Within<LEAST, MOST> {
            type Value = Whole<LEAST, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match MOST {
                    u64::MAX => write!(f, "a whole number of at least {LEAST}"),
                    most => write!(f, "a whole number of at least {LEAST} and at most {most}"),
                }
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                let wrong = || E::invalid_value(Unexpected::Unsigned(number), &self);
                let fits = (LEAST..=MOST).contains(&number);
                fits.then_some(Whole(number)).ok_or_else(wrong)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                let wrong = |_| E::invalid_value(Unexpected::Signed(number), &self);
                u64::try_from(number).map_err(wrong).and_then(|number| self.visit_u64(number))
            }
        }

        deserializer.deserialize_u64(Within)
    }
}

/// A part of a limit, 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Percent(pub u8);

impl TryFrom<i64> for Percent {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        let percent = u8::try_from(number).ok().filter(|percent| (1..=100).contains(percent));
        percent.map(Self).ok_or_else(|| format!("{number} is not between 1 and 100"))
    }
}

/// Arguments of a program.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Arguments(pub Vec<String>);

/// Most arguments of a program.
const MAX_ARGUMENTS: usize = 256;

/// Most bytes of all arguments of a program. Every start of it copies them into its memory.
const MAX_ARGUMENT_BYTES: usize = 64 * 1024;

impl TryFrom<Vec<String>> for Arguments {
    type Error = String;

    fn try_from(args: Vec<String>) -> Result<Self, String> {
        let (number, bytes) = (args.len(), args.iter().map(String::len).sum::<usize>());
        if number > MAX_ARGUMENTS {
            return Err(format!("{number} arguments are more than {MAX_ARGUMENTS}"));
        }
        if bytes > MAX_ARGUMENT_BYTES {
            return Err(format!(
                "the arguments have {bytes} bytes, more than {MAX_ARGUMENT_BYTES}"
            ));
        }
        // A C program would take it for the argument's end.
        match args.iter().any(|argument| argument.contains('\0')) {
            true => Err("an argument has a NUL character".into()),
            false => Ok(Self(args)),
        }
    }
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct Listen(pub SocketAddr);

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| format!("{text:?} is not an address such as 127.0.0.1:8080"))
    }
}

/// A name that the host goes by.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct HostName(pub AllowedHost);

impl TryFrom<String> for HostName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

/// `[town]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Town {
    pub id: Option<String>,
    pub api_url: Option<Spanned<String>>,
    pub token: Option<Spanned<Secret>>,
    pub token_file: Option<Spanned<PathBuf>>,
    pub ca_file: Option<Spanned<PathBuf>>,
    pub heartbeat_ms: Option<Millis>,
    pub call_ms: Option<Millis>,
    pub give_up_ms: Option<Millis>,
    pub on_fenced: OnFenced,
}

/// What a run does when a newer one serves its town.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFenced {
    /// It drains and ends, as after SIGTERM.
    #[default]
    Drain,
    /// It runs on, without the town.
    Run,
}

/// `[log]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub format: LogFormat,
    pub level: LogLevel,
    pub buffer_mb: Mebibytes,
    pub max_line_kb: LineKibibytes,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            level: LogLevel::Info,
            buffer_mb: Whole(8),
            max_line_kb: Whole(LogConfig::MAX_LINE_BYTES as u64 / 1024),
        }
    }
}

/// The least important lines that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// `[state]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    pub dir: PathBuf,
    pub aot_mb: Mebibytes,
    pub aot_seed: Option<PathBuf>,
    pub components_mb: Mebibytes,
    pub keep_free_mb: Option<MebibytesOrNone>,
    pub keep_free_inodes: Option<u64>,
}

impl Default for State {
    fn default() -> Self {
        let (keep_free_mb, keep_free_inodes) = (None, None);
        let (dir, aot_mb, aot_seed) = ("state".into(), Whole(1024), None);
        let components_mb = Whole(1024);
        Self { dir, aot_mb, aot_seed, components_mb, keep_free_mb, keep_free_inodes }
    }
}

/// `[engine]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    pub cpu: Cpu,
}

/// `[signals]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Signals {
    pub sigint: Interrupt,
}

/// `[limits]`: of the container as a whole.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub max_agents: Count,
    pub memory_pool: bool,
    pub max_agent_memory_mb: Mebibytes,
    pub agent_memory_mb: Option<Spanned<Mebibytes>>,
    pub agent_memory_soft_percent: Option<Percent>,
    pub agent_cpu_max_percent: Option<Percent>,
    pub fast_lane_memory_mb: Mebibytes,
    pub component_mb: Mebibytes,
    pub keep_ended: usize,
    pub ended_mb: Mebibytes,
    pub shutdown_ms: Millis,
    pub drain_ms: Millis,
    pub hydration_parallel: Count,
    pub hydration_ms: Millis,
    pub compile_ms: Millis,
    pub compile_cpu_ms: Option<CompileMillis>,
    pub compile_memory_mb: Option<CompileMebibytes>,
    pub component_functions: Option<Count>,
    pub component_function_kb: Option<Kibibytes>,
    pub component_instances: Option<Count>,
    pub component_memories: Option<Count>,
    pub component_tables: Option<Count>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_agents: Whole(1000),
            memory_pool: true,
            max_agent_memory_mb: Whole(1024),
            agent_memory_mb: None,
            agent_memory_soft_percent: None,
            agent_cpu_max_percent: None,
            fast_lane_memory_mb: Whole(32),
            component_mb: Whole(64),
            keep_ended: 1000,
            ended_mb: Whole(16),
            // Well below the shortest grace of common platforms (30 s, then SIGKILL).
            shutdown_ms: Whole(20_000),
            // Below the 15 minutes that the original's platform gives.
            drain_ms: Whole(300_000),
            hydration_parallel: Whole(32),
            hydration_ms: Whole(10_000),
            // A large interpreter takes half a minute on a slow core, and several may wait for each other.
            compile_ms: Whole(600_000),
            compile_cpu_ms: None,
            compile_memory_mb: None,
            component_functions: None,
            component_function_kb: None,
            component_instances: None,
            component_memories: None,
            component_tables: None,
        }
    }
}

/// `[memory]`: how memory is watched.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    pub budget_mb: Option<Mebibytes>,
    pub sample_ms: Option<Spanned<Count>>,
    pub report_ms: Option<Spanned<Count>>,
    pub reserve_mb: Option<MebibytesOrNone>,
    pub overcommit: Option<Spanned<f64>>,
    pub shed: Option<bool>,
}

/// `[budget]` and `[roles.NAME.budget]`: what agents may use of language models.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    pub tokens_per_minute: Option<CountOrNone>,
    pub tokens_per_day: Option<CountOrNone>,
    pub tokens_per_message: Option<CountOrNone>,
    pub calls_per_turn: Option<CountOrNone>,
    pub cost_per_day: Option<Spanned<f64>>,
    pub on_exceeded: Option<OnExceeded>,
}

/// What follows when a budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExceeded {
    /// The call is refused.
    Refuse,
    /// The same, and the agent ends.
    End,
}

/// `[roles.NAME]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    pub component: Option<Spanned<String>>,
    pub source: Option<Spanned<PathBuf>>,
    pub runner: Option<Spanned<String>>,
    #[serde(default)]
    pub args: Arguments,
    pub restart: Option<RestartPolicy>,
    pub restart_backoff_ms: Option<Spanned<Millis>>,
    pub restart_backoff_max_ms: Option<Millis>,
    pub restart_healthy_ms: Option<Millis>,
    pub restart_max: Option<Spanned<u32>>,
    pub restart_window_ms: Option<Millis>,
    pub restart_same_fault: Option<Spanned<u32>>,
    pub max_attempts: Option<Spanned<u32>>,
    pub idle_ms: Option<MillisOrNone>,
    pub memory_limit_mb: Option<Spanned<Mebibytes>>,
    pub memory_soft_percent: Option<Percent>,
    pub on_memory_limit: Option<MemoryPolicy>,
    pub cpu_ms: Option<Millis>,
    pub message_cpu_ms: Option<Millis>,
    pub cpu_max_percent: Option<Percent>,
    pub wall_ms: Option<Millis>,
    pub host_call_ms: Option<Millis>,
    pub start_ms: Option<Millis>,
    pub shutdown_ms: Option<Millis>,
    pub mailbox_messages: Option<Count>,
    pub mailbox_kb: Option<Count>,
    pub log_lines_per_second: Option<Count>,
    #[serde(default)]
    pub durable: Durable,
    pub snapshot: Option<SnapshotPolicy>,
    pub snapshot_ms: Option<Millis>,
    pub snapshot_kb: Option<Spanned<Count>>,
    #[serde(default)]
    pub http_allow: Vec<Rule>,
    #[serde(default)]
    pub models: Vec<Spanned<String>>,
    #[serde(default)]
    pub secrets: Vec<Spanned<String>>,
    #[serde(default = "yes")]
    pub workspace: bool,
    pub workspace_mb: Option<Mebibytes>,
    pub workspace_entries: Option<Count>,
    #[serde(default)]
    pub git: bool,
    pub git_author: Option<Spanned<String>>,
    #[serde(default)]
    pub git_save: bool,
    #[serde(default)]
    pub tools: Vec<Spanned<String>>,
    pub tools_parallel: Option<Count>,
    pub tool_memory_mb: Option<Mebibytes>,
    pub tool_wall_ms: Option<Millis>,
    pub tool_cpu_ms: Option<Millis>,
    pub tool_pids: Option<Pids>,
    pub tool_output_mb: Option<OutputMebibytes>,
    #[serde(default)]
    pub tool_network: ToolNetwork,
    #[serde(default)]
    pub config: BTreeMap<String, Secret>,
    #[serde(default)]
    pub config_files: BTreeMap<String, Spanned<PathBuf>>,
    #[serde(default)]
    pub secret_env: BTreeSet<String>,
    #[serde(default)]
    pub fault_injection: bool,
    #[serde(default)]
    pub core_dump: bool,
    #[serde(default = "yes")]
    pub live_output: bool,
    pub eviction_weight_percent: Option<Spanned<u32>>,
    #[serde(default)]
    pub budget: Budget,
    pub same_tool_calls: Option<Spanned<u32>>,
    pub idle_continues: Option<Spanned<u32>>,
}

fn yes() -> bool {
    true
}

/// A destination of outgoing requests: `"host:port"`, or `{ host = "host:port", private = true }`.
#[derive(Debug, Clone)]
pub struct Rule(pub HttpRule);

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            host: String,
            #[serde(default)]
            private: bool,
        }

        struct TextOrTable;

        impl<'de> Visitor<'de> for TextOrTable {
            type Value = Rule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a destination, as \"host:port\" or { host = \"host:port\", private = true }",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Rule, E> {
                HttpRule::parse(text).map(Rule).map_err(E::custom)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Rule, A::Error> {
                let table = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let rule = HttpRule::parse(&table.host).map_err(de::Error::custom)?;
                Ok(Rule(if table.private { rule.private() } else { rule }))
            }
        }

        deserializer.deserialize_any(TextOrTable)
    }
}

/// `[[agents]]`: started at boot.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    pub id: Spanned<AgentId>,
    pub role: Spanned<String>,
    pub name: Option<String>,
    #[serde(default)]
    pub prompt: String,
    pub system_prompt: Option<String>,
    pub model: Option<String>,
}

pub(super) fn set_ms(limit: &mut Duration, ms: Option<Millis>) {
    if let Some(ms) = ms {
        *limit = ms.millis();
    }
}

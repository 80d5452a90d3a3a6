//! The file's shape. What can be checked one value at a time is checked here, so that the parser can
//! point at the line.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use bulkhead_model::{AgentId, MemoryPolicy, RestartPolicy, Secret, spec::HttpRule};
use serde::Deserialize;
use toml::Spanned;

use crate::cli::LogFormat;

/// The whole file. Everything has a default but the components and roles that one wants to use.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct File {
    pub server: Server,
    pub town: Town,
    pub log: Log,
    pub state: State,
    pub limits: Limits,
    pub model: Option<Model>,
    pub components: BTreeMap<String, Component>,
    pub roles: BTreeMap<String, Role>,
    pub agents: Vec<Agent>,
}

/// `[server]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    pub listen: Listen,
    pub token: Option<Secret>,
    pub allow_unauthenticated: bool,
}

impl Default for Server {
    fn default() -> Self {
        let listen = Listen(SocketAddr::from(([127, 0, 0, 1], 8080)));
        Self { listen, token: None, allow_unauthenticated: false }
    }
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct Listen(pub SocketAddr);

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("{text:?} is no address; write 127.0.0.1:8080"))
    }
}

/// `[town]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Town {
    pub id: Option<String>,
}

/// `[log]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub format: LogFormat,
    pub level: LogLevel,
    pub buffer_mb: NonZeroUsize,
}

impl Default for Log {
    fn default() -> Self {
        let buffer_mb = NonZeroUsize::MIN.saturating_add(7);
        Self { format: LogFormat::Auto, level: LogLevel::Info, buffer_mb }
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
    pub aot_mb: NonZeroU64,
}

impl Default for State {
    fn default() -> Self {
        Self { dir: "state".into(), aot_mb: NonZeroU64::MIN.saturating_add(1023) }
    }
}

/// `[limits]`: of the container as a whole.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub max_agents: NonZeroUsize,
    pub max_agent_memory_mb: NonZeroU64,
    pub component_mb: NonZeroU64,
    pub keep_ended: usize,
    pub shutdown_ms: NonZeroU64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_agents: NonZeroUsize::MIN.saturating_add(999),
            max_agent_memory_mb: NonZeroU64::MIN.saturating_add(1023),
            component_mb: NonZeroU64::MIN.saturating_add(63),
            keep_ended: 1000,
            // Well below the shortest grace of common platforms (30 s, then SIGKILL).
            shutdown_ms: NonZeroU64::MIN.saturating_add(19_999),
        }
    }
}

/// `[model]`: an OpenAI-compatible endpoint, for the roles with `model = true`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub base_url: Spanned<String>,
    pub api_key: Option<Secret>,
    #[serde(default = "default_model_name")]
    pub name: String,
}

pub(super) fn default_model_name() -> String {
    "default".into()
}

/// `[components.NAME]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    pub path: PathBuf,
}

/// `[roles.NAME]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    pub component: Spanned<String>,
    pub restart: Option<RestartPolicy>,
    pub memory_limit_mb: Option<Spanned<NonZeroU64>>,
    pub on_memory_limit: Option<MemoryPolicy>,
    pub cpu_ms: Option<NonZeroU64>,
    pub wall_ms: Option<NonZeroU64>,
    pub host_call_ms: Option<NonZeroU64>,
    pub start_ms: Option<NonZeroU64>,
    pub shutdown_ms: Option<NonZeroU64>,
    pub mailbox_messages: Option<NonZeroUsize>,
    pub mailbox_kb: Option<NonZeroUsize>,
    pub log_lines_per_second: Option<NonZeroU32>,
    #[serde(default)]
    pub http_allow: Vec<Rule>,
    #[serde(default)]
    pub model: bool,
    #[serde(default = "yes")]
    pub workspace: bool,
    #[serde(default)]
    pub config: BTreeMap<String, Secret>,
    #[serde(default)]
    pub fault_injection: bool,
}

fn yes() -> bool {
    true
}

/// A destination of outgoing requests.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Rule(pub HttpRule);

impl TryFrom<String> for Rule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        HttpRule::parse(&text).map(Self).map_err(|error| error.to_string())
    }
}

/// `[[agents]]`: started at boot.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    pub id: AgentId,
    pub role: Spanned<String>,
    pub name: Option<String>,
    #[serde(default)]
    pub prompt: String,
    pub system_prompt: Option<String>,
    pub model: Option<String>,
}

//! Arguments of the tools, and the checks that their schemas do not make.

use bulkhead_terminal::words::quoted;
use bulkhead_types::AgentId;
use schemars::JsonSchema;
use serde::Deserialize;

/// Who is asked about.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OneAgent {
    /// Id of the agent.
    pub(super) agent: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SomeAgents {
    /// List agents whose id is greater than this one: the next page.
    pub(super) after: Option<String>,
    /// How many, 1 to 1000. Default 100.
    pub(super) limit: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OneCrash {
    /// Id of the crash record, as other tools give it.
    pub(super) crash_id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SomeCrashes {
    /// Only those of this agent.
    pub(super) agent: Option<String>,
    /// Only those of this reason, for example `panic`, `trap`, `memory_limit`, `cpu_deadline`, `evicted_memory_pressure`.
    pub(super) reason: Option<String>,
    /// Only records older than this crash id: the next page.
    pub(super) before: Option<String>,
    /// How many, 1 to 200. Default 20.
    pub(super) limit: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WhoseMemory {
    /// Id of an agent. Without it: the container.
    pub(super) agent: Option<String>,
    /// Also the samples of the last ten minutes and of three hours. Default: only figures and trend.
    #[serde(default)]
    pub(super) samples: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SomeEvents {
    /// Id of the agent.
    pub(super) agent: String,
    /// Events after this id, oldest first. Without it: the newest.
    pub(super) after: Option<u64>,
    /// How many, 1 to 1000. Default 50.
    pub(super) limit: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WhoseUsage {
    /// Only that of this agent.
    pub(super) agent: Option<String>,
    /// Only that of this role.
    pub(super) role: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogText {
    /// Lines of the log of a container, at most 1 MiB. The last lines before each restart matter most.
    pub(super) log: String,
    /// Only restarts of this town.
    pub(super) town: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogFiles {
    /// Paths of log files, plain or gzip.
    pub(super) paths: Vec<String>,
    /// Only restarts of this town.
    pub(super) town: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageTo {
    /// Id of the agent.
    pub(super) agent: String,
    /// The text.
    pub(super) message: String,
    /// How long to wait for the reply, 0 to 600 seconds. Default 45. A turn that takes longer goes on.
    pub(super) wait_seconds: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAgent {
    /// Id of the agent.
    pub(super) agent: String,
    /// Name of a role of the configuration.
    pub(super) role: String,
    /// What it is to do first.
    pub(super) prompt: Option<String>,
    /// Standing instructions.
    pub(super) system_prompt: Option<String>,
    /// Language model.
    pub(super) model: Option<String>,
    /// Name of a configured component, if not that of the role.
    pub(super) component: Option<String>,
    /// Memory limit in MiB, if not that of the role.
    pub(super) memory_limit_mb: Option<u64>,
    /// What to do if it is up already. Default `keep`.
    pub(super) if_running: Option<IfUp>,
    /// Start it although it is quarantined.
    #[serde(default)]
    pub(super) force: bool,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum IfUp {
    /// Leave it as it is.
    Keep,
    /// Leave it if it was started with the same values, and replace it otherwise.
    Join,
    /// Replace it.
    Restart,
}

impl IfUp {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Join => "join",
            Self::Restart => "restart",
        }
    }
}

pub(super) fn within(
    name: &str,
    asked: Option<u64>,
    default: u64,
    most: u64,
) -> Result<u64, String> {
    match asked.unwrap_or(default) {
        number if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("{name} must be 1 to {most}")),
    }
}

/// Ids need no escape in a path.
pub(super) fn agent_id(text: &str) -> Result<AgentId, String> {
    AgentId::parse(text).map_err(|error| format!("{} is no agent id: {error}", quoted(text)))
}

pub(super) fn crash_id_of(text: &str) -> Result<&str, String> {
    plain("crash id", text)
}

/// A word that needs no escape in a path or a query.
pub(super) fn plain<'a>(name: &str, text: &'a str) -> Result<&'a str, String> {
    let is_plain = |found: u8| found.is_ascii_alphanumeric() || b"-_.".contains(&found);
    if !text.is_empty() && text.len() <= 256 && text.bytes().all(is_plain) {
        return Ok(text);
    }
    Err(format!("{} is no {name}", quoted(text)))
}

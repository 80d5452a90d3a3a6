//! The record of an abnormal end.

mod frames;

use std::borrow::Cow;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use frames::Frames;

use crate::event::AgentTag;
use crate::exit::Location;
use crate::memory::{Eviction, MemorySample};
use crate::restart::QuarantineReason;
use crate::{
    AgentId, Determinism, Digest, Exception, Exit, ExitReason, HostBytes, Incarnation, ModelCounts,
    Phase, RunningTool, Timestamp,
};

/// One frame of a wasm backtrace. Raw at first, without `file`, `line` and `column`; reading the debug
/// information later adds these, and a frame for each call that the compiler put in line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Frame {
    /// 0 is where it happened.
    pub index: usize,
    /// From the component's name section, demangled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The core module's name inside the component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Index of the function in its core module.
    pub function_index: u32,
    /// Offset from the start of the component file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_offset: Option<u64>,
    /// The source file, without the build machine's directories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// From 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// From 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The agent's own code: not the standard library, not a dependency, not the SDK.
    #[serde(default)]
    pub in_app: bool,
}

/// Whether the frames of a record have files and lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Symbolized {
    /// They are being resolved.
    Pending,
    /// As far as the component's debug information goes.
    Done,
    /// There is none, or it could not be read. Function names may be there all the same.
    Unavailable,
}

/// What the agent had used when it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Linear memories, tables and host bytes, at the end.
    pub memory_bytes: u64,
    /// The largest `memory_bytes` of the incarnation.
    pub memory_peak_bytes: u64,
    /// The limit it lived under.
    pub memory_limit_bytes: u64,
    /// The part of `memory_bytes` that the host held for it, by kind.
    #[serde(default)]
    pub host_bytes: HostBytes,
    /// Use went over the soft mark at some time.
    pub soft_limit_crossed: bool,
    /// Growths that were denied.
    pub denied_growths: u64,
    /// CPU time of all its calls.
    pub cpu_us: u64,
    /// Turns begun.
    pub turns: u64,
    /// Calls from the guest into the host.
    pub host_calls: u64,
    /// Messages that waited.
    pub mailbox_depth: usize,
    /// The last samples of its memory, oldest first, bounded. They may reach into earlier incarnations.
    #[serde(default)]
    pub samples: Vec<MemorySample>,
    /// What the incarnation used of language models.
    #[serde(default)]
    pub models: ModelCounts,
}

/// What the supervisor did about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "decision")]
pub enum Consequence {
    /// The agent stays down.
    None,
    /// It is restarted.
    Restart {
        /// When.
        restart_at: Timestamp,
        /// How long until then.
        backoff_ms: u64,
        /// Ends in the window, this one included.
        attempts_in_window: u32,
    },
    /// It stays down until a person or a new spec says otherwise.
    Quarantined {
        /// Which rule.
        why: QuarantineReason,
        /// The rule's figures, for a person.
        message: String,
        /// Ends in the window, this one included.
        attempts_in_window: u32,
    },
}

/// One of the agent's last events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastEvent {
    /// Its id in the agent's event stream.
    pub id: u64,
    /// Its name.
    pub event: Arc<str>,
    /// When it was reported.
    pub timestamp: Timestamp,
}

/// Where the core dump of an end is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CoreDumpRef {
    /// Names it.
    pub id: String,
    /// Its size.
    pub bytes: u64,
    /// What is missing in it, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Everything known about one abnormal end. Written once, to the log and to the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CrashRecord {
    /// Unique across runs.
    pub crash_id: String,
    /// Who.
    pub agent_id: AgentId,
    /// Its role.
    pub role: Arc<str>,
    /// Its name for people.
    pub name: String,
    /// The repository that it worked on.
    pub rig_id: Option<String>,
    /// The town that the container served, when it was known.
    pub town_id: Option<String>,
    /// The run of the host.
    pub run_id: String,
    /// Which incarnation.
    pub incarnation: Incarnation,
    /// 1 for the first incarnation of a start, one more for each restart.
    pub start_attempt: u32,
    /// The component's name in the configuration.
    pub component: Arc<str>,
    /// SHA-256 of its file; null when it could not be read.
    pub component_sha256: Option<Digest>,
    /// SHA-256 over the paths and contents of its source code, where its role has `source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_sha256: Option<Digest>,
    /// Why.
    pub reason: ExitReason,
    /// The wasm trap in kebab case.
    pub trap: Option<Cow<'static, str>>,
    /// One sentence for a person.
    pub message: String,
    /// Where a guest panic happened, or an exception was thrown.
    pub location: Option<Location>,
    /// What was thrown, then what caused it, and what caused that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<Exception>,
    /// WASI exit status.
    pub status: Option<i32>,
    /// The agent's own error code.
    pub code: Option<String>,
    /// The denied growth.
    pub requested_bytes: Option<u64>,
    /// Groups records of one cause: stable across runs and agents.
    pub fingerprint: String,
    /// Whether a retry can help.
    pub deterministic: Determinism,
    /// Innermost first.
    #[schemars(with = "Vec<Frame>")]
    pub frames: Frames,
    /// Whether the frames say files and lines.
    pub symbolized: Symbolized,
    /// When the incarnation began.
    pub started_at: Timestamp,
    /// When it ended.
    pub crashed_at: Timestamp,
    /// From `startedAt` to `crashedAt`. A line's own `uptimeMs` is the host's.
    pub agent_uptime_ms: u64,
    /// In which call.
    pub phase: Phase,
    /// The message whose turn it was.
    pub message_id: Option<String>,
    /// The host function that was in flight, or whose failure ended it: `PACKAGE/INTERFACE.FUNCTION` without a
    /// version, as in `wasi:http/outgoing-handler.handle`; `unnamed` for the few of WASI that have no name.
    pub host_call: Option<String>,
    /// What it had used.
    pub resources: Resources,
    /// Its last log lines, oldest first, bounded.
    pub last_log_lines: Vec<String>,
    /// Its last events, oldest first, bounded.
    #[serde(default)]
    pub last_events: Vec<LastEvent>,
    /// The tools it reported as in use.
    pub active_tools: Vec<String>,
    /// The native programs that ran for it. They were killed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools_in_flight: Vec<RunningTool>,
    /// Agents alive at that moment.
    pub active_agents: usize,
    /// Resident memory of the host in mebibytes, as last read. Null where nothing reports it.
    #[serde(default, rename = "rssMB")]
    pub rss_mb: Option<f64>,
    /// How much of the last 10 s went by for some task of the container waiting for memory, in percent, as
    /// last read. Null where nothing reports it.
    #[serde(default)]
    pub pressure: Option<f64>,
    /// Why this agent was ended and not another one, when memory was short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eviction: Option<Eviction>,
    /// What the supervisor did about it.
    pub consequence: Consequence,
    /// Its memory and stack as they were, where that is enabled.
    pub core_dump: Option<CoreDumpRef>,
}

impl CrashRecord {
    /// What an end says by itself. Callers that know the agent add the rest: this one began and ended at the same
    /// time, used nothing and left nothing.
    pub fn new(crash_id: String, agent: AgentTag, exit: &Exit, crashed_at: Timestamp) -> Self {
        let AgentTag { agent_id, role, incarnation } = agent;
        Self {
            crash_id,
            agent_id,
            role,
            name: String::new(),
            rig_id: None,
            town_id: None,
            run_id: String::new(),
            incarnation,
            start_attempt: 1,
            component: "".into(),
            component_sha256: None,
            source_sha256: None,
            reason: exit.reason,
            trap: exit.trap.map(Into::into),
            message: exit.message.clone(),
            location: exit.location.clone(),
            exceptions: exit.exceptions.clone(),
            status: exit.status,
            code: exit.code.clone(),
            requested_bytes: exit.requested_bytes,
            fingerprint: exit.fingerprint(),
            deterministic: exit.deterministic,
            frames: exit.frames.clone(),
            symbolized: Symbolized::Unavailable,
            started_at: crashed_at,
            crashed_at,
            agent_uptime_ms: 0,
            phase: exit.phase,
            message_id: None,
            host_call: exit.host_call.clone(),
            resources: Resources::default(),
            last_log_lines: Vec::new(),
            last_events: Vec::new(),
            active_tools: Vec::new(),
            tools_in_flight: Vec::new(),
            active_agents: 0,
            rss_mb: None,
            pressure: None,
            eviction: None,
            consequence: Consequence::None,
            core_dump: None,
        }
    }
}

#[cfg(test)]
mod tests;

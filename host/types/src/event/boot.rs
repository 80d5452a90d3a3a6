//! What a boot logs.

use schemars::JsonSchema;
use serde::Serialize;

use super::tool::ToolSandbox;
use crate::memory::MemorySources;
use crate::{AgentId, Cause, Confidence};

/// See [`Event::ColdStart`](super::Event::ColdStart).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ColdStart {
    /// Of this program.
    pub version: &'static str,
    /// Boot id of the kernel.
    pub boot_id: Option<String>,
    /// Of the process that logs this.
    pub pid: u32,
    /// Whether an init process watches over it.
    pub init: bool,
    /// How often the init process restarted the host.
    pub restart_seq: u64,
    /// The epoch of the lease that it runs under, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_epoch: Option<u64>,
    /// What became of the run before, in short: see `container.previous_run`.
    pub previous_run: PreviousSummary,
    /// Address of the control server.
    pub listen: String,
    /// Address at which it answers probes alone, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_listen: Option<String>,
    /// Largest number of live agents.
    pub max_agents: usize,
    /// `pooling` or `on_demand`.
    pub allocator: &'static str,
    /// Names of the configured components.
    pub components: Vec<String>,
    /// Names of the configured roles.
    pub roles: Vec<String>,
    /// Agents that the configuration starts.
    pub boot_agents: usize,
    /// How long the whole end takes at most after SIGTERM, in milliseconds. The container's runtime has to wait
    /// longer than that before it kills.
    pub drain_ms: u64,
    /// The part of it in which agents are asked to end.
    pub shutdown_ms: u64,
    /// What the process gave up, so that an intruder has little.
    pub security: Box<Confinement>,
    /// What confines native programs. Null when no role lists any.
    pub tools: Option<Box<ToolSandbox>>,
    /// Where figures of memory come from.
    pub memory: Box<MemorySources>,
}

/// See [`Event::HydrationStarted`](super::Event::HydrationStarted).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct HydrationStarted {
    /// Agents to be started.
    pub agents: usize,
    /// Agents that an earlier run left running.
    pub from_store: usize,
    /// Agents that the town wants and that have to be started. Some of them may be left by an earlier run
    /// as well.
    pub from_town: usize,
    /// Agents that an earlier run put into quarantine. They stay there.
    pub quarantined: usize,
    /// Whose word counts: `store`, or `town_and_store` when the town answered.
    pub source: &'static str,
    /// Why the town did not answer, when it was asked and did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub town_error: Option<String>,
}

/// See [`Event::HydrationFinished`](super::Event::HydrationFinished).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct HydrationFinished {
    /// Agents that were to be started.
    pub agents: usize,
    /// Agents that run.
    pub running: usize,
    /// Agents that do not. Each has its own `agent.start_failed` as well.
    pub failed: usize,
    /// Agents that are still starting. Each has its own deadline.
    pub late: usize,
    /// Agents for which a start came before it was their turn.
    pub overtaken: usize,
    /// Agents in quarantine.
    pub quarantined: usize,
    /// Whose word counted: see `container.boot_hydration_started`.
    pub source: &'static str,
    /// All of it.
    pub duration_ms: u64,
    /// How those went that do not run, the first hundred.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<HydrationResult>,
}

/// See [`Event::HydrationFailed`](super::Event::HydrationFailed).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct HydrationFailed {
    /// What went wrong.
    pub error: String,
    /// What a person can do about it.
    pub action: &'static str,
}

/// What the host's process gave up at its boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Confinement {
    /// Which files it may open and what it may run: `full`, `partial` (an older kernel), `none` (it cannot be had, and a
    /// warning says why), `off` (by the configuration).
    pub landlock: &'static str,
    /// Which system calls it may make: `full`, `none` or `off`.
    pub seccomp: &'static str,
    /// Nothing that it runs gets more rights than it has.
    pub no_new_privs: bool,
    /// Debuggers of the same user and core files are let in.
    pub debuggable: bool,
}

/// How it went with one agent that had to be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HydrationResult {
    /// Who.
    pub agent_id: AgentId,
    /// `failed`, or `late`: still starting.
    pub result: &'static str,
    /// The kind of failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_type: Option<&'static str>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What became of the run before, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviousSummary {
    /// Its `runId`. Absent when nothing is known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Why it ended.
    pub cause: Cause,
    /// How sure that is.
    pub confidence: Confidence,
}

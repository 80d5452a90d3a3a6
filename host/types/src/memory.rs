//! Memory over time: the words that log lines, answers and records share.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AgentId, Incarnation, Timestamp};

/// Pressure: how much of the last 10 s went by waiting for memory, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Psi {
    /// Time in which at least one task waited.
    pub some_avg10: f64,
    /// Time in which every task waited.
    pub full_avg10: f64,
}

/// A line through the samples of memory in use.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryTrend {
    /// How fast use rises; negative when it falls.
    pub bytes_per_minute: i64,
    /// Share of the ups and downs that the line explains, from 0 to 1.
    pub fit: f64,
    /// Samples that it goes through.
    pub samples: usize,
    /// From the first of them to the last.
    pub over_ms: u64,
    /// It rises all the time, and not in one step or up and down.
    pub grows: bool,
    /// When it goes on like this, the limit is reached then. Absent when it does not grow, or without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_left_ms: Option<u64>,
}

/// One of the agents that use most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LargeAgent {
    /// Who.
    pub agent_id: AgentId,
    /// Its role.
    pub role: Arc<str>,
    /// Which incarnation.
    pub incarnation: Incarnation,
    /// In use when it was last sampled.
    pub used_bytes: u64,
    /// Its hard limit.
    pub limit_bytes: u64,
    /// How its use goes on. Null until there are enough samples of this incarnation.
    pub trend: Option<MemoryTrend>,
}

/// Where the figures of the container's memory come from. Null is what this machine does not report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemorySources {
    /// Who says the limit: `cgroup2`, `cgroup2_above`, `cgroup1`, `cgroup1_above`, `meminfo`, or `budget`
    /// for the configuration. `_above` is a group above this process's.
    pub limit: Option<Cow<'static, str>>,
    /// The limit.
    pub limit_bytes: Option<u64>,
    /// The file that reports pressure.
    pub pressure: Option<String>,
    /// `trigger` when the kernel wakes the host at pressure, `polling` when the host has to look.
    pub pressure_watch: Option<Cow<'static, str>>,
    /// The allocator of the heap, whose figures are reported: `jemalloc`.
    pub heap: Option<Cow<'static, str>>,
}

/// One sample of an agent's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemorySample {
    /// When.
    pub ts: Timestamp,
    /// In use then, in whole KiB.
    pub bytes: u64,
}

/// Why an agent was ended to save the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Eviction {
    /// The largest of all: use of its limit × what it frees of what is needed × weight × 1.5 when idle.
    pub score: f64,
    /// What it held.
    pub used_bytes: u64,
    /// It waited for work.
    pub idle: bool,
    /// Of its role.
    pub weight: f64,
    /// What was used of the container's limit.
    pub container_used_bytes: u64,
    /// The container's limit.
    pub container_limit_bytes: u64,
    /// Those that would have been next, the next one first.
    pub alternatives: Vec<Alternative>,
}

/// An agent that could have been evicted instead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alternative {
    /// Who.
    pub agent_id: AgentId,
    /// Its score.
    pub score: f64,
    /// What it held.
    pub used_bytes: u64,
}

/// How the memory of the container is: the fields of `container.memory_usage`. Null is what this machine
/// does not report. MB are mebibytes, as the original's dashboards read them.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryUsage {
    /// Resident memory of the host.
    #[serde(rename = "rssMB")]
    pub rss_mb: Option<f64>,
    /// In allocations of the host.
    #[serde(rename = "heapUsedMB")]
    pub heap_used_mb: Option<f64>,
    /// What the host's allocator took from the kernel.
    #[serde(rename = "heapTotalMB")]
    pub heap_total_mb: Option<f64>,
    /// What the agents hold: linear memories, tables, and host bytes.
    #[serde(rename = "externalMB")]
    pub external_mb: f64,
    /// Known agents.
    pub agents: usize,
    /// Known agents that are active.
    pub active_agents: usize,
    /// The smallest limit that holds for the container.
    #[serde(rename = "limitMB")]
    pub limit_mb: Option<f64>,
    /// What is used of it: what only swapping could free.
    #[serde(rename = "usedMB")]
    pub used_mb: Option<f64>,
    /// What can still be had before a limit is reached.
    #[serde(rename = "availableMB")]
    pub available_mb: Option<f64>,
    /// How much time goes by waiting for memory.
    pub psi: Option<Psi>,
    /// Processes that the kernel killed for memory since the machine booted.
    pub oom_kills: Option<u64>,
    /// Processes of the container's own cgroup that the kernel killed for memory.
    pub group_oom_kills: Option<u64>,
    /// How often the limit of this process's cgroup was hit.
    pub limit_hits: Option<u64>,
    /// How the use of the limit goes on. Null until there are enough samples.
    pub trend: Option<MemoryTrend>,
    /// The agents that hold most, the largest first.
    pub largest: Vec<LargeAgent>,
}

/// Mebibytes to a tenth, for a field that says MB.
pub fn mebibytes(bytes: u64) -> f64 {
    (bytes as f64 / (1024.0 * 1024.0) * 10.0).round() / 10.0
}

//! `GET /memory`, `GET /agents/{id}/memory`.

use std::sync::Arc;

use bulkhead_types::memory::{LargeAgent, MemorySample, MemorySources, MemoryTrend, Psi};
use bulkhead_types::{AgentId, Incarnation, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Samples at two resolutions, oldest first. Times in which nothing lived are left out.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SeriesView {
    /// The last 120 samples: ten minutes of one every 5 s.
    pub fine: Vec<MemorySample>,
    /// The largest of every 12 samples, the last 180 of them: three hours of one a minute.
    pub coarse: Vec<MemorySample>,
}

/// The heap of the host.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeapView {
    /// In allocations.
    pub used_bytes: u64,
    /// What the allocator took from the kernel and did not give back.
    pub total_bytes: u64,
}

/// `GET /memory`. Null is what this machine does not report.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerMemoryView {
    /// When this was answered.
    pub at: Timestamp,
    /// The smallest limit that holds for the container.
    pub limit_bytes: Option<u64>,
    /// What is used of it: what only swapping could free, where the limit holds.
    pub used_bytes: Option<u64>,
    /// What can still be had before a limit is reached.
    pub available_bytes: Option<u64>,
    /// Resident memory of the host.
    pub rss_bytes: Option<u64>,
    /// The host's heap, when it was last asked for: with each `container.memory_usage`.
    pub heap: Option<HeapView>,
    /// How much time goes by waiting for memory.
    pub psi: Option<Psi>,
    /// Memory is short.
    pub high: bool,
    /// Processes that the kernel killed for memory since the machine booted.
    pub oom_kills: Option<u64>,
    /// Of them, those of the container's own cgroup.
    pub group_oom_kills: Option<u64>,
    /// How often the limit of this process's cgroup was hit.
    pub limit_hits: Option<u64>,
    /// Known agents in the last sweep.
    pub agents: usize,
    /// Of them, those that lived.
    pub active_agents: usize,
    /// What those held.
    pub agents_bytes: u64,
    /// Where these figures come from.
    pub sources: MemorySources,
    /// Between two samples.
    pub sample_ms: u64,
    /// How the use of the limit goes on. Null until there are enough samples.
    pub trend: Option<MemoryTrend>,
    /// The agents that hold most, the largest first.
    pub largest: Vec<LargeAgent>,
    /// `usedBytes` over time.
    pub used: SeriesView,
    /// `rssBytes` over time.
    pub rss: SeriesView,
    /// `agentsBytes` over time.
    pub guests: SeriesView,
}

/// `GET /agents/{id}/memory`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentMemoryView {
    /// Who.
    pub agent_id: AgentId,
    /// Its role.
    pub role: Arc<str>,
    /// Which incarnation; the last one when none is active.
    pub incarnation: Incarnation,
    /// In use now. Null when no incarnation is active.
    pub used_bytes: Option<u64>,
    /// Of it, what the host holds for it: mail, events, lines.
    pub host_bytes: Option<u64>,
    /// The largest `usedBytes` of this incarnation.
    pub peak_bytes: u64,
    /// Its hard limit.
    pub limit_bytes: u64,
    /// How its use goes on, with the time left to the limit. Null until there are enough samples of this
    /// incarnation.
    pub trend: Option<MemoryTrend>,
    /// Between two samples.
    pub sample_ms: u64,
    /// Its samples, over all its incarnations.
    #[serde(flatten)]
    pub series: SeriesView,
}

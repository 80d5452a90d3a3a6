//! Where memory is short.

use schemars::JsonSchema;
use serde::Serialize;

use super::parts::AgentTag;
use crate::memory::{LargeAgent, Psi};

/// See [`Event::MemoryPressure`](super::Event::MemoryPressure).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct MemoryPressure {
    /// `high` when it became short, `normal` when it is so no more.
    pub state: &'static str,
    /// What made it short: `psi_trigger`, `psi` or `used`.
    pub source: &'static str,
    /// How much time goes by waiting for memory.
    pub psi: Option<Psi>,
    /// What is used of the limit.
    pub used_bytes: Option<u64>,
    /// The smallest limit that holds for the container.
    pub limit_bytes: Option<u64>,
    /// The agents that hold most, the largest first.
    pub largest: Vec<LargeAgent>,
    /// What the host does about it: `shed` when it ends agents until it is over, or `none`.
    pub action: &'static str,
}

/// See [`Event::MemoryUsageFailed`](super::Event::MemoryUsageFailed).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct MemoryUsageFailed {
    /// The file.
    pub source: String,
    /// What is wrong with it.
    pub error: String,
}

/// See [`Event::MemorySoftLimit`](super::Event::MemorySoftLimit).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct MemorySoftLimit {
    /// Which agent.
    #[serde(flatten)]
    pub agent: AgentTag,
    /// In use now: linear memories, tables and host bytes.
    pub used_bytes: u64,
    /// The part of them that the host holds for it.
    pub host_bytes: u64,
    /// The soft mark.
    pub soft_bytes: u64,
    /// The hard limit.
    pub limit_bytes: u64,
}

//! What native programs do.

use schemars::JsonSchema;
use serde::Serialize;

use super::parts::AgentTag;
use crate::ToolEnd;

/// See [`Event::ToolStarted`](super::Event::ToolStarted).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ToolStarted {
    /// Which agent.
    #[serde(flatten)]
    pub agent: AgentTag,
    /// Names it among all tools of the run.
    pub tool: u64,
    /// The name by which the agent asked for it.
    pub program: String,
    /// Its arguments, the first 512 bytes of them.
    pub arguments: Vec<String>,
}

/// See [`Event::ToolExited`](super::Event::ToolExited).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ToolExited {
    /// Which agent.
    #[serde(flatten)]
    pub agent: AgentTag,
    /// As in `agent.tool_started`.
    pub tool: u64,
    /// The name by which the agent asked for it.
    pub program: String,
    /// How it ended.
    pub end: ToolEnd,
    /// The code that it returned. Null unless it exited.
    pub code: Option<i32>,
    /// The signal that it died of. Null unless it died of one.
    pub signal: Option<i32>,
    /// From its start to its end.
    pub wall_ms: u64,
    /// CPU time of all its processes.
    pub cpu_ms: u64,
    /// The largest memory of them together.
    pub peak_memory_bytes: u64,
    /// Read of its stdout and stderr.
    pub output_bytes: u64,
}

/// What confines native programs on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolSandbox {
    /// What limits a program with all that it starts: `v2`, `v1`, or `none`, when limits hold for each process by itself.
    pub cgroup: &'static str,
    /// It sees its own processes only, and all of them end with it.
    pub pid_namespace: bool,
    /// It sees its workspace and the system's files only.
    pub mount_namespace: bool,
    /// It has no network unless its role says so.
    pub network_namespace: bool,
    /// As whom it runs: `own_uid`, `user_namespace` (the host's user, without rights), or `host_uid`.
    pub identity: &'static str,
    /// Landlock: `full`, `partial` or `none`.
    pub landlock: String,
    /// A filter of system calls.
    pub seccomp: bool,
}

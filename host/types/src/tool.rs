//! Native programs that agents run through the host: tools.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Secret, Timestamp};

/// Which programs an agent may run, and what each of them may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolRules {
    /// By the name that the agent says.
    pub programs: BTreeMap<Arc<str>, PathBuf>,
    /// Of one of them, with all that it starts.
    pub limits: ToolLimits,
    /// How many of them may run at a time.
    pub parallel: usize,
    /// What they reach.
    pub network: ToolNetwork,
}

/// Bounds of one tool with all that it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolLimits {
    /// Memory.
    pub memory_bytes: u64,
    /// From its start to its end.
    pub wall: Duration,
    /// CPU time.
    pub cpu: Duration,
    /// Processes and threads at a time.
    pub pids: u32,
    /// What it writes to stdout and stderr together.
    pub output_bytes: u64,
}

impl Default for ToolLimits {
    /// Room for a compiler at work on something small.
    fn default() -> Self {
        Self {
            memory_bytes: 512 * 1024 * 1024,
            wall: Duration::from_secs(120),
            cpu: Duration::from_secs(120),
            pids: 256,
            output_bytes: 4 * 1024 * 1024,
        }
    }
}

/// What a tool reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolNetwork {
    /// Nothing, this machine included.
    #[default]
    None,
    /// Everything that the host reaches, with the host's addresses.
    Open,
}

/// How a tool ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolEnd {
    /// With a code.
    Exited,
    /// Of a signal that was not the host's.
    Signalled,
    /// It took too long.
    WallDeadline,
    /// It took too much CPU time.
    CpuDeadline,
    /// It wanted too much memory, or the kernel ended it when memory was short.
    MemoryLimit,
    /// It wrote too much to stdout and stderr.
    OutputLimit,
    /// It wanted too many processes, and failed.
    PidsLimit,
    /// The workspace grew too large.
    WorkspaceLimit,
    /// The agent did not want it any more, or ended.
    Cancelled,
    /// The container was short of memory.
    Evicted,
    /// The launcher died.
    Lost,
}

impl ToolEnd {
    /// Every way.
    pub const ALL: [Self; 11] = [
        Self::Exited,
        Self::Signalled,
        Self::WallDeadline,
        Self::CpuDeadline,
        Self::MemoryLimit,
        Self::OutputLimit,
        Self::PidsLimit,
        Self::WorkspaceLimit,
        Self::Cancelled,
        Self::Evicted,
        Self::Lost,
    ];

    /// Its name in logs, metrics and spans.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Signalled => "signalled",
            Self::WallDeadline => "wall_deadline",
            Self::CpuDeadline => "cpu_deadline",
            Self::MemoryLimit => "memory_limit",
            Self::OutputLimit => "output_limit",
            Self::PidsLimit => "pids_limit",
            Self::WorkspaceLimit => "workspace_limit",
            Self::Cancelled => "cancelled",
            Self::Evicted => "evicted",
            Self::Lost => "lost",
        }
    }
}

/// A tool that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunningTool {
    /// Names it among all tools of the run.
    pub tool: u64,
    /// The name by which the agent asked for it.
    pub program: String,
    /// Its arguments, the first 512 bytes of them.
    pub arguments: Vec<String>,
    /// Since when.
    pub started_at: Timestamp,
    /// Of all its processes, as read a tenth of a second ago or so; 0 before that.
    pub memory_bytes: u64,
}

/// A tool that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedTool {
    /// As in [`RunningTool`].
    pub tool: u64,
    /// As in [`RunningTool`].
    pub program: String,
    /// How.
    pub end: ToolEnd,
    /// Of [`ToolEnd::Exited`].
    pub code: Option<i32>,
    /// Of [`ToolEnd::Signalled`].
    pub signal: Option<i32>,
    /// From its start to its end.
    pub wall: Duration,
    /// CPU time of all its processes.
    pub cpu: Duration,
    /// The largest memory of them together.
    pub peak_memory_bytes: u64,
    /// Read of its stdout and stderr.
    pub output_bytes: u64,
}

/// Bytes of arguments that are shown.
const SHOWN_BYTES: usize = 512;

/// A shorter value would be masked where it stands by chance.
const MIN_SECRET_BYTES: usize = 8;

/// What stands for a secret.
const MASK: &str = "***";

/// The arguments as they are shown: the first 512 bytes, with `…` where something is missing. A value of `secrets` of 8
/// bytes or more is masked.
pub fn shown_arguments(arguments: &[String], secrets: &[Secret]) -> Vec<String> {
    let mut secrets: Vec<&str> = secrets.iter().map(Secret::expose).collect();
    secrets.retain(|secret| secret.len() >= MIN_SECRET_BYTES);
    secrets.sort_by_key(|secret| Reverse(secret.len()));
    let mut left = SHOWN_BYTES;
    let mut shown = Vec::new();
    for argument in arguments {
        let argument = masked(argument, &secrets);
        if argument.len() >= left {
            let part = &argument[..argument.floor_char_boundary(left)];
            shown.push(if part.len() < argument.len() {
                format!("{part}…")
            } else {
                part.into()
            });
            break;
        }
        left -= argument.len() + 1;
        shown.push(argument);
    }
    shown
}

/// The beginning of an argument, more of it than is shown. The longest secret comes first.
fn masked(argument: &str, secrets: &[&str]) -> String {
    let longest = secrets.first().map_or(0, |secret| secret.len());
    let enough = argument.floor_char_boundary(SHOWN_BYTES + longest + 1);
    let beginning = argument[..enough].to_owned();
    secrets.iter().fold(beginning, |text, secret| text.replace(secret, MASK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_at_its_place() {
        for (index, end) in ToolEnd::ALL.into_iter().enumerate() {
            assert_eq!(end as usize, index);
            assert_eq!(serde_json::to_value(end).unwrap(), end.as_str());
        }
    }

    #[test]
    fn of_many_arguments_the_first_bytes_are_shown() {
        let args = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let few = args(&["a", "", "b c"]);
        assert_eq!(shown_arguments(&few, &[]), few);
        let shown = shown_arguments(&args(&["x", &"ä".repeat(1000), "never"]), &[]);
        assert_eq!(shown, ["x".to_owned(), format!("{}…", "ä".repeat(255))]);
        let many = vec!["ab".to_owned(); 1000];
        assert!(shown_arguments(&many, &[]).concat().len() <= SHOWN_BYTES);
    }

    #[test]
    fn a_secret_is_in_no_argument_that_is_shown() {
        let secrets = ["hunter2-hunter2", "hunter2-hunter2-long", "short"];
        let secrets = secrets.map(|text| Secret::from(text.to_owned()));
        let show = |text: String| shown_arguments(&[text], &secrets).concat();
        assert_eq!(show("-H=hunter2-hunter2 short".into()), "-H=*** short");
        assert_eq!(show("hunter2-hunter2-long".into()), "***");
        for before in 480..530 {
            let shown = show(format!("{}hunter2-hunter2-long!", "x".repeat(before)));
            assert!(!shown.contains("hun"), "{before}: {shown}");
        }
    }
}

//! A program that somebody outside runs in an agent's place: in its workspace, under its limits, by its rules.

use std::collections::BTreeMap;
use std::time::Duration;

use bulkhead_tools::Finished;
use bulkhead_types::ToolEnd;

use super::access::Starter;
use super::ask;
use super::running::kind;
use crate::bindings::bulkhead::agent::tools::{Command, Limits, ToolError};

/// What it writes to stdout and stderr together, where the role allows more: it is answered as a whole.
const MAX_OUTPUT_BYTES: u64 = 4 * 1024 * 1024;

/// A program to run.
#[derive(Debug, Clone, Default)]
pub struct Exec {
    /// Its name, one of the agent's tools.
    pub program: String,
    /// Its arguments, without its name.
    pub arguments: Vec<String>,
    /// Where it begins, relative to the workspace.
    pub directory: Option<String>,
    /// Variables beside those that every tool has.
    pub environment: BTreeMap<String, String>,
    /// What it reads.
    pub stdin: Vec<u8>,
}

/// How it ended.
#[derive(Debug, Clone)]
pub struct Executed {
    /// What ended it.
    pub end: ToolEnd,
    /// Its exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
    /// From its start to its end.
    pub wall: Duration,
    /// With all that it started.
    pub cpu: Duration,
    /// With all that it started.
    pub peak_memory_bytes: u64,
    /// What it wrote.
    pub stdout: Vec<u8>,
    /// The same of stderr.
    pub stderr: Vec<u8>,
}

/// Why it does not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// The agent's role does not list it.
    #[error("{0}")]
    Denied(String),
    /// It is not there.
    #[error("{0}")]
    NotFound(String),
    /// The order breaks a rule.
    #[error("{0}")]
    Invalid(String),
    /// This host, or its sandbox, runs nothing now.
    #[error("{0}")]
    Unavailable(String),
}

impl Starter {
    /// Runs a program to its end, with its output up to the limit of the role. Dropping the future kills it.
    pub(crate) async fn execute(&self, exec: Exec) -> Result<Executed, ExecError> {
        let Exec { program, arguments, directory, environment, stdin } = exec;
        let environment = environment.into_iter().collect();
        let limits = Limits {
            memory_bytes: None,
            wall_ms: None,
            cpu_ms: None,
            pids: None,
            output_bytes: Some(MAX_OUTPUT_BYTES),
        };
        let asked = ask::check(Command { program, arguments, directory, environment, limits })?;
        ask::check_stdin(&stdin)?;
        let admitted = self.admit(&asked.program)?;
        let child = self.start(asked, admitted, Duration::MAX).await?;
        let Finished { ended, stdout, stderr, .. } = child.finish(&stdin, |_| true).await;
        let (end, code, signal) = kind(ended.end);
        let (usage, stdout, stderr) = (ended.usage, stdout, stderr);
        Ok(Executed {
            end,
            code,
            signal,
            wall: usage.wall,
            cpu: usage.cpu,
            peak_memory_bytes: usage.peak_memory_bytes,
            stdout,
            stderr,
        })
    }
}

impl From<ToolError> for ExecError {
    fn from(error: ToolError) -> Self {
        match error {
            ToolError::Denied(text) => Self::Denied(text),
            ToolError::NotFound(text) => Self::NotFound(text),
            ToolError::Invalid(text) => Self::Invalid(text),
            ToolError::Unavailable(text) => Self::Unavailable(text),
        }
    }
}

//! Native programs, run by the host under limits.
//!
//! A program works in the agent's workspace and sees nothing else of the machine. Which programs an agent may run is
//! set by its role (`tools`).
//!
//! ```no_run
//! use bulkhead_guest::tools::Command;
//!
//! let finished = Command::new("git").args(["log", "--oneline", "-5"]).run()?;
//! if finished.succeeded() {
//!     let log = finished.stdout();
//! }
//! # Ok::<(), bulkhead_guest::AgentError>(())
//! ```
//!
//! However it ends, [`Command::run`] returns: a program that takes too much memory ends with [`End::MemoryLimit`], and
//! the agent goes on. [`Command::spawn`] returns a program that runs, with its streams.

use std::fmt;
use std::time::Duration;

use crate::AgentError;
use crate::bindings::bulkhead::agent::tools as raw;
use crate::host::{command_bytes, copied_less_than};

pub use raw::{Child, End, Usage};

/// A program to run.
#[derive(Debug, Clone)]
pub struct Command {
    raw: raw::Command,
    stdin: Vec<u8>,
}

impl Command {
    /// The program of this name, without arguments, in the workspace, with the limits of the role.
    pub fn new(program: impl Into<String>) -> Self {
        let limits = raw::Limits {
            memory_bytes: None,
            wall_ms: None,
            cpu_ms: None,
            pids: None,
            output_bytes: None,
        };
        let raw = raw::Command {
            program: program.into(),
            arguments: Vec::new(),
            directory: None,
            environment: Vec::new(),
            limits,
        };
        Self { raw, stdin: Vec::new() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.raw.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<T: Into<String>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.raw.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Where it begins, relative to the workspace.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<String>) -> Self {
        self.raw.directory = Some(directory.into());
        self
    }

    /// Adds a variable to its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.raw.environment.push((name.into(), value.into()));
        self
    }

    /// What it can read on its stdin, at most 8 MiB. [`Command::spawn`] has a stream instead.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Lowers the time that it may take.
    #[must_use]
    pub fn wall(mut self, time: Duration) -> Self {
        self.raw.limits.wall_ms = Some(millis(time));
        self
    }

    /// Lowers the CPU time that it may take.
    #[must_use]
    pub fn cpu(mut self, time: Duration) -> Self {
        self.raw.limits.cpu_ms = Some(millis(time));
        self
    }

    /// Lowers the memory that it may take, in bytes.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.raw.limits.memory_bytes = Some(bytes);
        self
    }

    /// Lowers the number of processes and threads that it may have at a time.
    #[must_use]
    pub fn pids(mut self, pids: u32) -> Self {
        self.raw.limits.pids = Some(pids);
        self
    }

    /// Lowers what it may write to stdout and stderr together, in bytes.
    #[must_use]
    pub fn output(mut self, bytes: u64) -> Self {
        self.raw.limits.output_bytes = Some(bytes);
        self
    }

    /// Runs it to its end, whatever that is.
    pub fn run(&self) -> Result<Finished, Error> {
        if let Some(most) = copied_less_than(self.stdin.len() + self.bytes()?) {
            return Err(Error::Invalid(format!(
                "stdin is too large: a call copies at most {most} bytes; spawn the program and write to it"
            )));
        }
        Ok(Finished(raw::run(&self.raw, &self.stdin)?))
    }

    /// Starts it. It goes on between turns, and is killed when what is returned is dropped.
    pub fn spawn(&self) -> Result<Child, Error> {
        self.bytes()?;
        Ok(raw::spawn(&self.raw)?)
    }

    /// What a call copies of it beside stdin, about.
    fn bytes(&self) -> Result<usize, Error> {
        command_bytes(&self.raw.arguments, &self.raw.environment).map_err(Error::Invalid)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Names of the programs that this agent may run, sorted.
pub fn programs() -> Vec<String> {
    raw::programs()
}

/// A program that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished(raw::Finished);

impl Finished {
    /// How it ended.
    pub fn end(&self) -> End {
        self.0.end
    }

    /// It returned 0.
    pub fn succeeded(&self) -> bool {
        self.0.end == End::Exited(0)
    }

    /// What it used.
    pub fn usage(&self) -> Usage {
        self.0.usage
    }

    /// What it wrote to stdout. What is no UTF-8 is replaced.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    /// What it wrote to stderr. What is no UTF-8 is replaced.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// Stdout as it was written.
    pub fn stdout_bytes(&self) -> &[u8] {
        &self.0.stdout
    }

    /// Stderr as it was written.
    pub fn stderr_bytes(&self) -> &[u8] {
        &self.0.stderr
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signalled(signal) => write!(f, "died of signal {signal}"),
            Self::WallDeadline => f.write_str("was ended: it took too long"),
            Self::CpuDeadline => f.write_str("was ended: it took too much CPU time"),
            Self::MemoryLimit => f.write_str("was ended: it wanted too much memory"),
            Self::OutputLimit => f.write_str("was ended: it wrote too much"),
            Self::PidsLimit => f.write_str("failed: it wanted too many processes"),
            Self::WorkspaceLimit => f.write_str("was ended: the workspace is full"),
            Self::Cancelled => f.write_str("was cancelled"),
            Self::Evicted => f.write_str("was ended: the container is short of memory"),
            Self::Lost => f.write_str("was lost: what runs programs failed; try again"),
        }
    }
}

/// Why nothing was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// An argument breaks its rule; the text names the argument and the rule.
    Invalid(String),
    /// The role does not list this program. The text says which it lists.
    Denied(String),
    /// The program or the directory is not there, or cannot be run.
    NotFound(String),
    /// As many programs run as the role or the host allows, or the host cannot run any now.
    Unavailable(String),
}

impl From<raw::ToolError> for Error {
    fn from(error: raw::ToolError) -> Self {
        match error {
            raw::ToolError::Invalid(text) => Self::Invalid(text),
            raw::ToolError::Denied(text) => Self::Denied(text),
            raw::ToolError::NotFound(text) => Self::NotFound(text),
            raw::ToolError::Unavailable(text) => Self::Unavailable(text),
        }
    }
}

impl Error {
    /// A stable word for it: `tool-invalid`, `tool-denied`, `tool-not-found` or `tool-unavailable`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "tool-invalid",
            Self::Denied(_) => "tool-denied",
            Self::NotFound(_) => "tool-not-found",
            Self::Unavailable(_) => "tool-unavailable",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => write!(f, "invalid command: {text}"),
            Self::Denied(text) => write!(f, "program denied: {text}"),
            Self::NotFound(text) => write!(f, "program not found: {text}"),
            Self::Unavailable(text) => write!(f, "programs unavailable: {text}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for AgentError {
    /// Fails the turn.
    fn from(error: Error) -> Self {
        Self::failed(error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_program_takes_is_told_as_what_it_is() {
        let large = "x".repeat(2_000_000);
        for command in [Command::new("cat").args([&large]), Command::new("cat").env("A", &large)] {
            let refused = [command.run().map(drop), command.spawn().map(drop)];
            for error in refused.map(Result::unwrap_err) {
                let text = "arguments and environment have 200000";
                assert!(matches!(&error, Error::Invalid(it) if it.starts_with(text)), "{error}");
            }
        }
    }
}

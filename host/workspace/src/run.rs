//! How a program runs: the one thing that this crate asks of the sandbox.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_tools::DiskLimit;
use futures_util::future::BoxFuture;

/// Where programs of an agent's sandbox see the objects of the mirror, unless [`Run::objects`] says otherwise.
pub const OBJECTS: &str = "/rig/objects";

/// Runs programs in sandboxes.
///
/// Dropping the future of a program kills the program and all that it started.
pub trait Run: Send + Sync {
    /// Runs a program to its end.
    fn run(&self, command: Command) -> BoxFuture<'_, Result<Finished, RunError>>;

    /// Waits until programs whose futures were dropped no longer write to a directory. No program starts there before.
    fn settle<'a>(&'a self, folder: &'a Path) -> BoxFuture<'a, ()>;

    /// Where programs of an agent's sandbox see the objects of a mirror.
    fn objects(&self, _host: &Path) -> PathBuf {
        PathBuf::from(OBJECTS)
    }
}

/// The boundary that a program runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sandbox {
    /// The agent's own, for a repository that the agent controls. There is no network and no credential.
    Tree {
        /// The agent's workspace, the working directory, and all that is writable.
        workspace: PathBuf,
        /// The objects of the rig's mirror, read-only; a workspace without a rig has none.
        objects: Option<PathBuf>,
        /// What may lie in the workspace. `None` is no limit.
        limit: Option<DiskLimit>,
    },
    /// The host's own: only the mirror is visible, no workspace of an agent.
    Mirror {
        /// The bare repository, the working directory, and all that is writable.
        mirror: PathBuf,
        /// Whether the program has the network.
        network: bool,
    },
}

impl Sandbox {
    /// The working directory, which alone is writable.
    pub fn folder(&self) -> &Path {
        match self {
            Self::Tree { workspace, .. } => workspace,
            Self::Mirror { mirror, .. } => mirror,
        }
    }

    /// What may lie in an agent's workspace.
    pub(crate) fn limit(&self) -> Option<DiskLimit> {
        match self {
            Self::Tree { limit, .. } => *limit,
            Self::Mirror { .. } => None,
        }
    }
}

/// A program to run.
pub struct Command {
    /// The boundary. It says the working directory too.
    pub sandbox: Sandbox,
    /// `git` or `sh`; the sandbox knows where they are.
    pub program: &'static str,
    /// Arguments, without the program's name.
    pub args: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// What the program reads. It may be a credential, so it is never logged.
    pub stdin: Vec<u8>,
    /// What the program may use.
    pub limits: Limits,
    /// Takes pieces of stderr as they come. A sandbox that cannot watch a program never calls it.
    pub watch: Option<Watch>,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("sandbox", &self.sandbox)
            .field("program", &self.program)
            .field("args", &self.args)
            .field("stdin_bytes", &self.stdin.len())
            .finish_non_exhaustive()
    }
}

/// Takes pieces of a program's stderr.
pub type Watch = Box<dyn FnMut(&[u8]) + Send>;

/// What one program may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory of the program and its children.
    pub memory_bytes: u64,
    /// Time from start to end.
    pub wall: Duration,
    /// Bytes of stdout that are kept; at least 64 KiB of stderr are kept beside them.
    pub output_bytes: usize,
    /// Bytes of one file that it writes.
    pub file_bytes: u64,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// At its deadline.
    Deadline,
    /// At its memory limit.
    Memory,
    /// At its output limit.
    Output,
    /// Because its workspace is above its limit.
    Disk,
    /// At another limit of the sandbox, or because the sandbox was cancelled.
    Stopped(&'static str),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "status {status}"),
            Self::Signalled(signal) => write!(f, "signal {signal}"),
            Self::Deadline => f.write_str("deadline"),
            Self::Memory => f.write_str("memory limit"),
            Self::Output => f.write_str("output limit"),
            Self::Disk => f.write_str("limit of the workspace"),
            Self::Stopped(why) => f.write_str(why),
        }
    }
}

/// A program that ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How.
    pub end: End,
    /// What it wrote, up to the limit.
    pub stdout: Vec<u8>,
    /// What it complained about, up to a limit.
    pub stderr: Vec<u8>,
    /// More was written than is here.
    pub cut: bool,
}

/// A program that did not start.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot run {program}: {why}")]
pub struct RunError {
    /// Its name.
    pub program: String,
    /// Why not.
    pub why: String,
}

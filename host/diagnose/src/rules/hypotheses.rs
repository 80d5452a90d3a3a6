//! What can be behind a restart.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a run of a container ended.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Hypothesis {
    /// A failure in the background that nobody handles, or an exception that escapes.
    H1,
    /// Starts fail on stale session state, again and again.
    H2,
    /// Memory grows until something outside kills the process.
    H3,
    /// Somebody ends it: the control plane, a service manager, or a person at a terminal.
    H4,
    /// A token refresh restarts agents.
    H5,
    /// Starts of one agent overlap.
    H6,
    /// A machine instruction or the runtime itself failed: SIGSEGV, SIGBUS, SIGILL, SIGABRT.
    H7,
    /// It did little but wait for memory.
    H8,
    /// The machine under it was replaced or booted again.
    H9,
    /// One agent crashes in a loop.
    H10,
    /// Agents are not restored at boot.
    H11,
    /// The process does not get through its own boot.
    H12,
    /// SIGKILL from outside, without a sign of memory.
    H13,
}

use Hypothesis::*;

impl Hypothesis {
    /// All of them, in order.
    pub const ALL: [Self; 13] = [H1, H2, H3, H4, H5, H6, H7, H8, H9, H10, H11, H12, H13];

    /// `H1` and so on.
    pub fn id(self) -> &'static str {
        ["H1", "H2", "H3", "H4", "H5", "H6", "H7", "H8", "H9", "H10", "H11", "H12", "H13"]
            [self as usize]
    }

    /// A few words for a heading.
    pub fn title(self) -> &'static str {
        match self {
            H1 => "unhandled failure",
            H2 => "starts fail on stale session state",
            H3 => "memory growth and a kill",
            H4 => "ended on request",
            H5 => "token refresh churn",
            H6 => "start race",
            H7 => "native fault",
            H8 => "memory thrash",
            H9 => "machine replaced",
            H10 => "crash loop of an agent",
            H11 => "hydration failing",
            H12 => "boot failing",
            H13 => "killed from outside",
        }
    }

    /// Whether it is about agents, which end no host that contains them.
    pub fn is_of_agents(self) -> bool {
        matches!(self, H2 | H6 | H10 | H11)
    }

    /// What to log or to look at next.
    pub fn next(self) -> &'static str {
        match self {
            H1 => {
                "read the message and the stack of the first line of the cluster, and find the code that drops that promise or task"
            }
            H2 => "delete the snapshot of the agent named, and find the version that wrote it",
            H3 => {
                "find the part that grows (heap, external, the largest agents), and compare it with the limit of the container"
            }
            H4 => {
                "ask who runs it: the log of the control plane or of the service manager has the caller"
            }
            H5 => {
                "find why the token is refreshed that often, and refresh it without restarting agents"
            }
            H6 => "let the control plane send one start for an agent, or let starts join",
            H7 => "save a core dump of the process, and search its stack for native code",
            H8 => {
                "check memory pressure and page cache: the limit is too small for the working set, or a file is read over and over"
            }
            H9 => "nothing inside the container: ask the platform for its record of that machine",
            H10 => "read the crash records of the agent named (`bulkhead crashes list --agent`)",
            H11 => "call the registry of the town by hand, and start the agents named one by one",
            H12 => "run the same image with the same environment by hand and read its first error",
            H13 => "ask the platform for the reason of the kill",
        }
    }
}

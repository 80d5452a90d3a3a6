//! Refusals, named so that an operator can read them. HTTP statuses are the edge's business.

use std::sync::Arc;

use bulkhead_account::OverLimit;
use bulkhead_types::restart::PastEnd;
use bulkhead_types::{AgentId, AgentState, ExitReason, RestartState, StartPhase};

/// Why a start did not lead to a running agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    /// Where it failed.
    pub phase: StartPhase,
    /// What kind of failure.
    pub kind: StartFailure,
    /// What went wrong, naming the thing. Never empty.
    pub message: String,
    /// The crash record, when the guest died in its start.
    pub crash_id: Option<String>,
    /// The ends that led to quarantine, oldest first.
    pub history: Vec<Arc<PastEnd>>,
}

/// The kinds of start failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StartFailure {
    /// The request names a role that is not configured.
    UnknownRole,
    /// The request names a component that is not configured.
    UnknownComponent,
    /// A field of the request breaks a bound of its role.
    InvalidRequest,
    /// As many agents are active as the container can hold.
    Capacity,
    /// The container has no memory for it.
    Memory,
    /// There is no room for its prompt.
    PromptTooLarge,
    /// The container is going away.
    Draining,
    /// The agent is quarantined.
    Quarantined,
    /// A newer start took over.
    Superseded,
    /// The start's deadline passed.
    Deadline,
    /// The caller's deadline passed while the component was compiled. The start goes on.
    StillCompiling,
    /// The component was not compiled within the bound for that.
    CompileDeadline,
    /// The component's file cannot be read.
    ComponentUnreadable,
    /// The component's file is larger than allowed.
    ComponentTooLarge,
    /// The component needs what the engine does not have.
    ComponentUnsupported,
    /// The component needs more than an agent has in the pool.
    ComponentDoesNotFit,
    /// The component's file is no component.
    ComponentInvalid,
    /// There is more code in the component than is compiled.
    ComponentTooComplex,
    /// The compiler needed more memory for the component than it may take.
    CompileMemory,
    /// The compiler needed more CPU time for the component than it may take.
    CompileTime,
    /// The compiler died of the component.
    CompilerCrashed,
    /// Somebody outside the host killed the compiler.
    CompilerKilled,
    /// The source code cannot be read, or is more than is taken.
    SourceInvalid,
    /// The system gives no process to compile the component in.
    NoProcess,
    /// The component is of another world.
    WrongWorld,
    /// The component needs more memory at instantiation than the agent may have.
    MemoryMinimum,
    /// The remote of its repository was not reached, or has not what is wanted.
    CloneFailed,
    /// Its repository is larger than a limit of the host or of its workspace.
    RepositoryTooLarge,
    /// Its workspace could not be made for another reason.
    Workspace,
    /// No instance could be made.
    Instantiate,
    /// It runs, and the state of the town was not shipped in time.
    NotShipped,
    /// The guest's `start` returned an error.
    GuestError,
    /// The guest died in its start.
    GuestCrashed,
    /// The host failed.
    Host,
}

/// Code of the exit of a start that has no room for its prompt.
pub(crate) const PROMPT_TOO_LARGE: &str = "prompt-too-large";

impl StartFailure {
    /// Stable kebab-case name, `error_type` in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownRole => "unknown-role",
            Self::UnknownComponent => "unknown-component",
            Self::InvalidRequest => "invalid-request",
            Self::Capacity => "capacity",
            Self::Memory => "memory",
            Self::PromptTooLarge => PROMPT_TOO_LARGE,
            Self::Draining => "draining",
            Self::Quarantined => "quarantined",
            Self::Superseded => "superseded",
            Self::Deadline => "deadline",
            Self::StillCompiling => "still-compiling",
            Self::CompileDeadline => "compile-deadline",
            Self::ComponentUnreadable => "component-unreadable",
            Self::ComponentTooLarge => "component-too-large",
            Self::ComponentUnsupported => "component-unsupported",
            Self::ComponentDoesNotFit => "component-does-not-fit",
            Self::ComponentInvalid => "component-invalid",
            Self::ComponentTooComplex => "component-too-complex",
            Self::CompileMemory => "compile-memory",
            Self::CompileTime => "compile-time",
            Self::CompilerCrashed => "compiler-crashed",
            Self::CompilerKilled => "compiler-killed",
            Self::SourceInvalid => "source-invalid",
            Self::NoProcess => "no-process",
            Self::WrongWorld => "wrong-world",
            Self::MemoryMinimum => "memory-minimum",
            Self::CloneFailed => "clone-failed",
            Self::RepositoryTooLarge => "repository-too-large",
            Self::Workspace => "workspace",
            Self::Instantiate => "instantiate",
            Self::NotShipped => "not-shipped",
            Self::GuestError => "guest-error",
            Self::GuestCrashed => "guest-crashed",
            Self::Host => "host",
        }
    }

    /// What a person can do about it.
    pub fn action(self) -> &'static str {
        match self {
            Self::UnknownRole => "use a role of the configuration, or add it there",
            Self::UnknownComponent => "use a component of the configuration, or add it there",
            Self::InvalidRequest => "correct the named field",
            Self::Capacity => "stop an agent, or raise limits.max_agents",
            Self::Memory => {
                "stop an agent, lower memory limits, raise memory.overcommit, or give it more memory"
            }
            Self::PromptTooLarge => {
                "shorten the prompt, or raise the role's mailbox_kb or the agent's memory limit"
            }
            Self::Draining => "start it on another container",
            Self::Quarantined => "read its crash records, then start it with force or a new spec",
            Self::Superseded => "nothing: a newer start of this agent took over",
            Self::Deadline => "check the phase timings, or raise the role's start_ms",
            Self::StillCompiling => {
                "wait: the start continues; `bulkhead compile` fills the cache beforehand"
            }
            Self::CompileDeadline => {
                "raise limits.compile_ms, or fill the cache with `bulkhead compile`"
            }
            Self::ComponentUnreadable => {
                "check the path and the permissions of the component's file, or its reference and its registry"
            }
            Self::ComponentTooLarge => "strip the component, or raise limits.component_mb",
            Self::ComponentUnsupported => "build the component without the named features",
            Self::ComponentDoesNotFit => {
                "restart the host if the file changed since: the pool is made for the components of the \
                 configuration; else set limits.memory_pool = false"
            }
            Self::ComponentInvalid => {
                "rebuild the component for the target wasm32-wasip2; restart the host to fetch one with a reference again"
            }
            Self::ComponentTooComplex => {
                "split the component's functions, or raise the setting that the error names"
            }
            Self::CompileMemory => "make the component smaller, or raise limits.compile_memory_mb",
            Self::CompileTime => "make the component smaller, or raise limits.compile_cpu_ms",
            Self::CompilerCrashed => {
                "build the component differently, and report this one: it crashes its compiler"
            }
            Self::CompilerKilled => {
                "give the container more memory, or compile ahead with `bulkhead compile`"
            }
            Self::SourceInvalid => "correct the file or the directory that the error names",
            Self::NoProcess => {
                "raise the container's limit of processes (pids, RLIMIT_NPROC) or allow fork and exec, or compile \
                 ahead with `bulkhead compile`"
            }
            Self::WrongWorld => "build the component for world bulkhead:agent/agent@0.2.0",
            Self::MemoryMinimum => "raise the memory limit of the role or of the request",
            Self::CloneFailed => {
                "check the repository's URL, branch and token, and whether its server is reached"
            }
            Self::RepositoryTooLarge => {
                "raise the role's workspace_mb or workspace_entries, or start from a smaller branch"
            }
            Self::Workspace => "read the reason: the workspace holds something else, or git failed",
            Self::Instantiate => "read the error; the host's log has the whole chain",
            Self::NotShipped => {
                "nothing: the agent runs; start it again to learn when it is shipped"
            }
            Self::GuestError => "read the agent's error message",
            Self::GuestCrashed => "read the crash record",
            Self::Host => {
                "read the error, and the host's log: this is a failure of the host, not of the agent"
            }
        }
    }
}

impl StartFailure {
    /// Whether the same start may go well later, without anybody changing what it asks for.
    pub(crate) fn may_pass(self) -> bool {
        match self {
            Self::Capacity
            | Self::Memory
            | Self::Deadline
            | Self::StillCompiling
            | Self::CompileDeadline
            | Self::ComponentUnreadable
            | Self::CompilerKilled
            | Self::SourceInvalid
            | Self::NoProcess
            | Self::CloneFailed
            | Self::Workspace
            | Self::Instantiate
            | Self::NotShipped
            | Self::Host => true,
            Self::UnknownRole
            | Self::UnknownComponent
            | Self::InvalidRequest
            | Self::RepositoryTooLarge
            | Self::PromptTooLarge
            | Self::Draining
            | Self::Quarantined
            | Self::Superseded
            | Self::ComponentTooLarge
            | Self::ComponentInvalid
            | Self::ComponentUnsupported
            | Self::ComponentDoesNotFit
            | Self::ComponentTooComplex
            | Self::CompileMemory
            | Self::CompileTime
            | Self::CompilerCrashed
            | Self::WrongWorld
            | Self::MemoryMinimum
            | Self::GuestError
            | Self::GuestCrashed => false,
        }
    }

    /// Whether it says something of the agent, and not of others that came before or after it.
    pub(crate) fn is_its_own(self) -> bool {
        !matches!(self, Self::Superseded | Self::Draining | Self::Quarantined)
    }
}

impl StartError {
    /// A failure without a crash record.
    pub fn new(phase: StartPhase, kind: StartFailure, message: impl Into<String>) -> Self {
        Self { phase, kind, message: message.into(), crash_id: None, history: Vec::new() }
    }

    /// The refusal of a container that goes away.
    pub fn draining() -> Self {
        let text = "the container is going away and takes no starts";
        Self::new(StartPhase::Admission, StartFailure::Draining, text)
    }
}

impl From<RestartState> for StartError {
    /// The refusal of a start in quarantine.
    fn from(state: RestartState) -> Self {
        let why = state.quarantine.as_ref().map_or("", |quarantine| &quarantine.message);
        let text = format!("the agent is quarantined: {why}");
        let error = Self::new(StartPhase::Admission, StartFailure::Quarantined, text);
        Self { history: state.ends, ..error }
    }
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Nobody of that name.
    #[error("no such agent: {0}")]
    NoSuchAgent(AgentId),
    /// Boot is under way, and may still bring it back.
    #[error("agent {0} is not there yet: the host is still bringing agents back")]
    NotBackYet(AgentId),
    /// It takes no messages in its state.
    #[error("agent {id} is {}, not running", state.as_str())]
    NotRunning {
        /// Who.
        id: AgentId,
        /// Its state.
        state: AgentState,
    },
    /// Its mailbox would not have room for it if it were empty.
    #[error("message has {bytes} bytes, the mailbox of agent {id} has room for {max_bytes}")]
    TooLarge {
        /// Who.
        id: AgentId,
        /// Of the message.
        bytes: usize,
        /// Of all messages that may wait.
        max_bytes: usize,
    },
    /// Its mailbox is full.
    #[error("mailbox of agent {id} is full: {messages} messages, {bytes} bytes wait")]
    MailboxFull {
        /// Who.
        id: AgentId,
        /// Messages that wait.
        messages: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// The agent may hold no more memory.
    #[error("agent {id} has no memory for the message: {over}, {} of them by the host", over.host_bytes)]
    NoMemory {
        /// Who.
        id: AgentId,
        /// The figures of its account.
        over: OverLimit,
    },
}

/// Why a stop did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// Nobody of that name.
    #[error("no such agent: {0}")]
    NoSuchAgent(AgentId),
    /// It has ended, and that was not shipped in time.
    #[error("the agent has stopped, and this was not shipped: {0}")]
    NotShipped(Arc<str>),
}

/// What came of a message that an agent finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedTurn {
    /// What the agent says.
    pub outcome: bulkhead_types::Outcome,
    /// What the incarnation that finished it used of language models for it, in all its turns.
    pub tokens: bulkhead_types::TokenUsage,
    /// What its snapshot survives, of an agent whose snapshots are shipped before it answers. `None`: nothing is said of it.
    pub durable: Option<bulkhead_types::Durable>,
}

/// How the turn of a message ended, as far as its sender is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnReport {
    /// The agent finished it.
    Finished(FinishedTurn),
    /// The agent reported an error and keeps running.
    Failed {
        /// The agent's own kebab-case code.
        code: String,
        /// The agent's own words.
        message: String,
    },
    /// The agent ended first.
    Ended {
        /// Why.
        reason: ExitReason,
        /// One sentence.
        message: String,
        /// Present when the end was abnormal.
        crash_id: Option<String>,
    },
    /// The agent ended in each delivery of the message, and it is not delivered again.
    SetAside {
        /// Why it ended last.
        reason: ExitReason,
        /// One sentence about that end.
        message: String,
        /// How often the message was delivered.
        attempts: u32,
        /// The crash records of its deliveries, oldest first; the last ten.
        crash_ids: Vec<String>,
    },
}

/// A message that was taken.
#[derive(Debug)]
pub struct Delivery {
    /// The message's id.
    pub message_id: String,
    /// Yields how its turn ended. Dropping it does not disturb the turn.
    pub report: tokio::sync::oneshot::Receiver<TurnReport>,
}

//! What an agent is, said in plain data.
//!
//! The ground floor: every other crate may import this one, and this one imports none of them. It has
//! no I/O, no async, no clock and no engine, so that everything in it can be tested with values alone.
//!
//! - [`id`]: names that were checked once and need no checking again
//! - [`spec`]: what an agent is asked to be, and its limits
//! - [`http`]: what it may reach over HTTP
//! - [`settings`]: what may change about it while it is active
//! - [`state`]: the lifecycle machine
//! - [`message`]: what goes in and out of a turn
//! - [`model`]: calls of language models
//! - [`tool`]: native programs that agents run through the host
//! - [`git`]: the repository that an agent works on
//! - [`exception`]: what programs of languages with exceptions throw
//! - [`exit`]: why an incarnation ended
//! - [`restart`]: whether it is restarted, and when
//! - [`held`]: what the host holds for an agent
//! - [`crash`]: the record of an abnormal end
//! - [`memory`]: memory over time, as lines, answers and records say it
//! - [`previous`]: what became of the run before this one
//! - [`event`]: the lines of the log, a contract with those who read them
//! - [`backoff`]: how long to wait before something is tried again
//! - [`error`]: an error as one line
//! - [`time`], [`secret`]: instants and values that must not be printed

pub mod backoff;
pub mod crash;
pub mod error;
pub mod event;
pub mod exception;
pub mod exit;
pub mod git;
pub mod held;
pub mod http;
pub mod id;
pub mod memory;
pub mod message;
pub mod model;
mod names;
pub mod previous;
pub mod restart;
pub mod ring;
pub mod secret;
pub mod settings;
pub mod spec;
pub mod state;
pub mod time;
pub mod tool;
pub mod town;

pub use backoff::Backoff;
pub use crash::{Consequence, CrashRecord, Frame, Frames, Resources, Symbolized};
pub use event::{Event, Level};
pub use exception::{Exception, SourceFrame};
pub use exit::{Determinism, Exit, ExitClass, ExitReason, ExitSummary, Phase, StartPhase};
pub use git::{GitAuthor, GitRules, GitSpec};
pub use held::{HostBytes, HostKind};
pub use http::{AddressClass, HttpDenied, HttpPolicy, HttpRule, HttpRuleError};
pub use id::{AgentId, Digest, IdError, Incarnation};
pub use message::{Body, Durable, Message, MessageSetAside, Next, Outcome, Sender};
pub use model::{
    Cost, ModelCall, ModelCounts, TokenUsage, UsageChange, UsageDay, UsageKey, UsageRow,
};
pub use previous::{Cause, Confidence, PreviousRun};
pub use restart::{RestartPolicy, RestartRules, RestartState};
pub use ring::{RingEvent, RingPage};
pub use secret::{Secret, is_secret_name};
pub use settings::Settings;
pub use spec::{AgentSpec, IfRunning, Limits, MemoryPolicy, SnapshotPolicy, SnapshotRules};
pub use state::{AgentState, Input, InvalidTransition};
pub use time::Timestamp;
pub use tool::{EndedTool, RunningTool, ToolEnd, ToolLimits, ToolNetwork, ToolRules};
pub use town::TownFigures;

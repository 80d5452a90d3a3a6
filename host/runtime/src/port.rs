//! What a guest can reach above the runtime. The agent implements it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_account::AccountReading;
use bulkhead_types::{Body, EndedTool, Exception, Level, ModelCall, RunningTool, Secret, Settings};
use bulkhead_usage::Exhausted;
use serde_json::value::RawValue;

mod empty;
#[cfg(test)]
pub(crate) mod fake;

/// A message from the control plane that waits until the agent is idle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nudge {
    /// Names it.
    pub id: String,
    /// Its text.
    pub body: String,
    /// Who sent it.
    pub source: String,
}

/// Why the host refused a guest's request. The words of `variant host-error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortError {
    /// An argument breaks its rule.
    Invalid(String),
    /// An argument is larger than this many bytes.
    TooLarge(u64),
    /// Nobody of that name.
    NotFound(String),
    /// The other side takes nothing now.
    Unavailable(String),
    /// The agent's rate is used up; try again after this many milliseconds.
    RateLimited(u64),
}

/// What happens between a guest and a language model, as those who follow the agent see it.
#[derive(Debug, Clone, Copy)]
pub enum ModelStep<'a> {
    /// The next text of an answer.
    Text(&'a str),
    /// The next text of the reasoning.
    Reasoning(&'a str),
    /// The model asks for a tool.
    ToolCall {
        /// Connects the call and its result.
        id: &'a str,
        /// Of the tool.
        name: &'a str,
        /// JSON, if the model keeps to it.
        arguments: &'a str,
    },
    /// The guest sends the result of a tool.
    ToolResult {
        /// As in the call.
        id: &'a str,
    },
}

/// A native program that runs, with all that it started.
pub trait ToolProcess: Send + Sync {
    /// Its memory, as read a tenth of a second ago or so; none before that.
    fn memory_bytes(&self) -> Option<u64>;
    /// Ends it because memory is short. The agent reads that of its end.
    fn evict(&self);
    /// Ends it because its agent has ended.
    fn cancel(&self);
}

/// The way from a guest to the rest of the host. Nothing here may block.
pub trait Port: Send + Sync + 'static {
    /// Publishes an event. Name and data were checked.
    fn emit(&self, name: &str, data: Box<RawValue>) -> Result<(), PortError>;
    /// Puts a message into another agent's mailbox and returns its id.
    fn send(&self, agent_id: &str, body: Body) -> Result<String, PortError>;
    /// Says which tools are in use.
    fn set_active_tools(&self, tools: Vec<String>);
    /// Takes the nudges that wait.
    fn nudges(&self) -> Vec<Nudge>;
    /// A line of the guest's log or stdio. `dropped` lines before it did not get through.
    fn log_line(
        &self,
        level: Level,
        stream: &'static str,
        message: String,
        fields: BTreeMap<String, String>,
        dropped: u64,
    );
    /// Exceptions that nobody caught and that ended nothing: one, and what caused it. `dropped` lines and exceptions
    /// before it did not get through.
    fn unhandled_rejection(&self, exceptions: Vec<Exception>, dropped: u64);
    /// Memory use crossed the soft mark upward.
    fn memory_soft_limit(&self, memory: &AccountReading);
    /// The agent used its percent of a core and waits, for the first time in a while. `cpu_us` is what its incarnation
    /// used.
    fn cpu_throttle_begins(&self, cpu_us: u64);
    /// It waited for so long.
    fn cpu_throttled(&self, waited: Duration);
    /// A request to `to` (host and port) leaves with the credential of this name.
    fn secret_used(&self, name: &str, to: &str);
    /// Whether a call of a language model may begin. One that may counts as begun, and [`Port::asked`] follows.
    fn may_ask(&self, endpoint: &str, model: &str) -> Result<(), Exhausted>;
    /// A call of a language model is over.
    fn asked(&self, call: ModelCall);
    /// Something came of a call of a language model, or goes into one.
    fn saw(&self, step: ModelStep<'_>);
    /// A native program runs.
    fn tool_started(&self, tool: RunningTool, process: Arc<dyn ToolProcess>);
    /// It has ended, maybe after the incarnation.
    fn tool_ended(&self, tool: EndedTool);
    /// The incarnation ends: what runs now is killed.
    fn tools_abandoned(&self);
    /// What the agent should go by now.
    fn settings(&self) -> Settings;
    /// The value of a configuration key that may change while the agent is active: the town's, or a credential. It
    /// wins over what the spec says.
    fn live_value(&self, key: &str) -> Option<Secret>;
    /// All that [`Port::live_value`] answers, for the environment of an incarnation that begins.
    fn live_values(&self) -> BTreeMap<String, Secret>;
}

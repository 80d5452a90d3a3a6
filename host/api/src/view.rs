//! Answers.

use std::borrow::Cow;
use std::sync::Arc;

use std::time::Duration;

use bulkhead_types::restart::{PastEnd, Quarantine};
use bulkhead_types::time::millis;
use bulkhead_types::{
    AgentId, Durable, ExitSummary, HostBytes, Incarnation, MessageSetAside, RestartPolicy,
    RestartRules, RestartState, RingEvent, RingPage, RunningTool, Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::usage::AgentUsageView;

/// `GET /health`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// `ok`, or `degraded` while something that a person should see is wrong.
    pub status: Cow<'static, str>,
    /// Live agents.
    pub agents: usize,
    /// Desired agents that are missing and not restarted automatically. Absent when there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing: usize,
    /// Absent while what agents have is durable. `off`: the host was started with `--without-store`; `lost`: the
    /// database cannot be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Cow<'static, str>>,
    /// Kept for the original's dashboards; there are no per-agent servers.
    pub servers: usize,
    /// Seconds since the process began.
    pub uptime: u64,
    /// Present while the container drains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draining: Option<bool>,
    /// When the process began.
    pub started_at: Timestamp,
    /// When the mayor first got to running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mayor_ready_at: Option<Timestamp>,
    /// This run of the process.
    pub run_id: String,
    /// Of this program.
    pub version: Cow<'static, str>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// `GET /readyz`, 200.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// Always `ready`: starts are taken.
    pub status: Cow<'static, str>,
    /// How many desired agents are missing.
    #[serde(default)]
    pub missing: usize,
    /// The first 100 of them, for callers that may see agents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<MissingAgent>,
    /// As in `GET /health`: absent while what agents have is durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Cow<'static, str>>,
    /// Why the database cannot be written, when that is so, for callers that may see agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_error: Option<String>,
    /// The epoch of the lease that the host runs under, where it runs under one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_epoch: Option<u64>,
    /// Present while the state of the town is not shipped: for how long something waits, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ship: Option<Stuck>,
    /// Present while the evidence sink takes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Stuck>,
}

/// What should leave the machine and does not arrive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stuck {
    /// For how long, in milliseconds.
    pub for_ms: u64,
    /// Why, where that is known, for callers that may see agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An agent that an earlier run, the town or the configuration wants and that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MissingAgent {
    /// Who.
    pub agent_id: AgentId,
    /// `failed`, `quarantined`, or `backoff` when it is restarted automatically.
    pub status: Cow<'static, str>,
    /// One sentence for a person.
    pub reason: String,
}

/// Memory of one agent, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryView {
    /// In use now, in the guest and in the host.
    pub used_bytes: u64,
    /// Linear memories and tables of all its core instances.
    pub guest_bytes: u64,
    /// What the host holds for it.
    pub host_bytes: u64,
    /// The same by kind.
    pub host: HostBytes,
    /// Of the native programs that run for it. They have limits of their own, and are no part of the others.
    #[serde(default)]
    pub tool_bytes: u64,
    /// The largest `used_bytes` of this incarnation.
    pub peak_bytes: u64,
    /// When `used_bytes` gets here, `agent.memory_soft_limit` is logged. 0 before it is instantiated.
    pub soft_bytes: u64,
    /// The hard limit.
    pub limit_bytes: u64,
    /// Growths of the guest that were denied in this incarnation.
    pub denied_growths: u64,
    /// What the host did not take for it in this incarnation because of the limit: mail, log lines, events,
    /// requests.
    pub refused: u64,
}

/// How the last incarnation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExitView {
    /// One word of the exit taxonomy.
    pub reason: String,
    /// One sentence for a person.
    pub message: String,
    /// When.
    pub at: Timestamp,
    /// Present when the end was abnormal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash_id: Option<String>,
}

impl From<ExitSummary> for ExitView {
    fn from(ExitSummary { reason, message, at, crash_id }: ExitSummary) -> Self {
        Self { reason: reason.as_str().to_owned(), message, at, crash_id }
    }
}

/// A message that is not delivered any more: its agent ended in too many of its deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetAsideView {
    /// Which.
    pub message_id: String,
    /// When it was set aside.
    pub at: Timestamp,
    /// How often it was delivered.
    pub attempts: u32,
    /// The crash records of its deliveries, oldest first; the last ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crash_ids: Vec<String>,
}

impl From<MessageSetAside> for SetAsideView {
    fn from(message: MessageSetAside) -> Self {
        let MessageSetAside { message_id, at, attempts, crash_ids } = message;
        Self { message_id, at, attempts, crash_ids }
    }
}

/// `GET /agents/{id}/status`, and one entry of `GET /agents`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentView {
    /// Who.
    pub agent_id: AgentId,
    /// The name that people see.
    pub name: String,
    /// Its role.
    pub role: Arc<str>,
    /// The component's name in the configuration.
    pub component: Arc<str>,
    /// The town that it belongs to.
    pub town_id: Option<String>,
    /// The repository that it works on.
    pub rig_id: Option<String>,
    /// The language model that it was last configured to use.
    pub model: Option<String>,
    /// `starting`, `running`, `stopping`, `exited`, `failed`, `backoff` or `quarantined`.
    pub status: Cow<'static, str>,
    /// In a turn right now.
    pub busy: bool,
    /// Which incarnation.
    pub incarnation: Incarnation,
    /// When this incarnation began.
    pub started_at: Timestamp,
    /// When a turn last began or ended, or the agent spoke.
    pub last_activity_at: Timestamp,
    /// The tools that the agent said it is using.
    pub active_tools: Vec<String>,
    /// The native programs that run for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub running_tools: Vec<RunningTool>,
    /// Messages taken from the mailbox in this incarnation.
    pub message_count: u64,
    /// Messages that wait.
    pub mailbox_depth: usize,
    /// Nudges that wait.
    pub nudges: usize,
    /// CPU time of all its calls, in microseconds.
    pub cpu_us: u64,
    /// Time in which this incarnation waited because of its role's `cpu_max_percent`, in microseconds.
    #[serde(default)]
    pub cpu_throttled_us: u64,
    /// Its memory.
    pub memory: MemoryView,
    /// Its use of language models.
    #[serde(default)]
    pub usage: AgentUsageView,
    /// Whether and when it comes back after an end.
    pub restart: RestartView,
    /// Reason of the last end, if it ended.
    pub exit_reason: Option<String>,
    /// More about the last end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<ExitView>,
    /// The last message that was set aside since the agent was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_aside: Option<SetAsideView>,
}

/// What an agent's restarts have come to.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestartView {
    /// `permanent`, `transient` or `temporary`.
    pub policy: RestartPolicy,
    /// Ends that the policy answered, within the window that ends now.
    pub attempts_in_window: u32,
    /// As many ends in the window are answered by a restart; one more is quarantined.
    pub max_restarts: u32,
    /// The window.
    pub window_ms: u64,
    /// When it is restarted, while it is in backoff.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_restart_at: Option<Timestamp>,
    /// Why it is not restarted, while it is quarantined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
    /// The last ends that the policy answered, oldest first: why it is where it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Arc<PastEnd>>,
}

impl RestartView {
    /// The view at `now`, when the run has lived for `uptime`.
    pub fn new(
        rules: &RestartRules,
        state: RestartState,
        next_restart_at: Option<Timestamp>,
        now: Timestamp,
        uptime: Option<Duration>,
    ) -> Self {
        Self {
            policy: rules.policy,
            attempts_in_window: state.attempts_in_window(rules, now, uptime),
            max_restarts: rules.max_restarts,
            window_ms: millis(rules.window),
            next_restart_at,
            quarantine: state.quarantine,
            history: state.ends,
        }
    }
}

/// `GET /agents`.
pub type AgentList = Vec<AgentView>;

/// An answer, with the fields of its request that were ignored.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}WithIgnored")]
pub struct WithIgnored<T> {
    /// The answer.
    #[serde(flatten)]
    pub answer: T,
    /// Names of fields that are not known here, the first 16 of them, cut to 64 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
}

/// `POST /agents/start`, 201 or 200.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartAnswer {
    /// The agent.
    #[serde(flatten)]
    pub agent: AgentView,
    /// An incarnation of the same spec was up or starting already, and this is it, with the credentials of the
    /// request. Never of an `ifRunning: "keep"` that kept one as it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub joined: bool,
    /// `node`: the database of this machine has it, so that it survives the death of the process. `fleet`: it is shipped, and
    /// survives the loss of the machine, as roles with `durable = "fleet"` need it. Absent: nothing is durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durable: Option<Durable>,
}

/// `POST /agents/{id}/stop`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StopAnswer {
    /// Always true: the incarnation is gone.
    pub stopped: bool,
    /// How it ended.
    pub exit_reason: String,
    /// `node`: the database of this machine has it, so that it survives the death of the process. `fleet`: it is shipped, and
    /// survives the loss of the machine, as roles with `durable = "fleet"` need it. Absent: nothing is durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durable: Option<Durable>,
}

/// How a turn ended, for `?wait`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TurnView {
    /// `idle`, `continue`, `done`; or `pending` when the wait was over first.
    pub outcome: String,
    /// The agent's answer, at most 1 MiB of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// The agent said more than that, and the host kept the beginning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reply_cut: bool,
    /// Of a role with `durable = "fleet"` and `snapshot = "turn"`: what the snapshot of the turn survives. `fleet`: the loss of
    /// the machine. `node`: the death of the process; it was not shipped in time. Absent: nothing is said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durable: Option<Durable>,
}

/// `POST /agents/{id}/message`, 200; 202 when `?wait` was over before the turn.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageAnswer {
    /// Always true: the message is in the mailbox.
    pub sent: bool,
    /// Its id.
    pub message_id: String,
    /// Present with `?wait`.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnView>,
}

/// `PATCH /agents/{id}/model`, `PUT /agents/{id}/system-prompt`, `POST /dashboard-context`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
pub struct UpdateAnswer {
    /// Always true: the agent's next turn goes by it.
    pub updated: bool,
}

/// `POST /sync-config`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
pub struct SyncAnswer {
    /// Agents see the values from now on. False when they came in a header that could not be read.
    pub synced: bool,
}

/// `POST /refresh-token`.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub struct RefreshTokenAnswer {
    /// Always true: every call of the town from now on uses it. No agent was restarted for it.
    pub refreshed: bool,
}

/// `POST /agents/{id}/nudge`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NudgeAnswer {
    /// Always true: the nudge waits.
    pub queued: bool,
    /// Its id.
    pub nudge_id: String,
}

/// One entry of an agent's event ring.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// Rises by one with each event of this agent in this run.
    pub id: u64,
    /// For example `agent.turn`, or a name the guest chose.
    pub event: Arc<str>,
    /// Any JSON value.
    #[schemars(with = "serde_json::Value")]
    pub data: Arc<RawValue>,
    /// When.
    pub timestamp: Timestamp,
}

/// `GET /agents/{id}/events?after=N`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventsPage {
    /// Events with an id above `after`, oldest first.
    pub events: Vec<EventView>,
    /// Events that were dropped before they could be read end before this id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped_before: Option<u64>,
}

impl From<RingPage> for EventsPage {
    fn from(RingPage { events, dropped_before }: RingPage) -> Self {
        let view =
            |RingEvent { id, event, data, timestamp }| EventView { id, event, data, timestamp };
        Self { events: events.into_iter().map(view).collect(), dropped_before }
    }
}

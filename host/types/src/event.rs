//! The lines of the log: a contract with dashboards and with `diagnose`.
//!
//! One variant, one kind of line. `bulkhead-log` adds what every line has (`ts`, `level`, `event`, `schema`,
//! `townId`, `runId`, `seq`, `uptimeMs`).

mod boot;
mod drain;
mod evidence;
mod level;
mod memory;
mod message;
mod model;
mod name;
mod parts;
mod restart;
mod ship;
mod snapshot;
mod store;
mod tool;
mod town;
mod workspace;

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

pub use boot::{
    ColdStart, Confinement, HydrationFailed, HydrationFinished, HydrationResult, HydrationStarted,
    PreviousSummary,
};
pub use drain::{DrainPhase, DrainPhaseReport, Drained, Draining, Stopped};
pub use evidence::{EvidenceAvailable, EvidenceFailed, EvidenceFound, EvidenceLate};
pub use level::Level;
pub use memory::{MemoryPressure, MemorySoftLimit, MemoryUsageFailed};
pub use message::{AgentMessage, MessageSetAside};
pub use model::{AgentStuck, ModelBudget};
pub use parts::{AgentTag, StartTimings};
pub use restart::{AgentQuarantined, RestartCancelled, RestartScheduled};
pub use ship::{ShipAvailable, ShipFailed, ShipRestored};
pub use snapshot::SnapshotNotKept;
pub use store::{StoreAvailable, StoreSetAside, StoreUnavailable};
pub use tool::{ToolExited, ToolSandbox, ToolStarted};
pub use town::{
    RefreshTokenReceived, TownCallFailed, TownCallGivenUp, TownCallSwitchedOff, TownConfigIgnored,
    TownDropped, TownFenced, TownReachable, TownTokenRefreshed, TownUnreachable,
};
pub use workspace::{
    WorkNotSaved, WorkSaved, WorkspaceArrived, WorkspaceNotShipped, WorkspacePrepared,
    WorkspaceRemoved, WorkspaceShipped, WorkspacesFull,
};

use crate::crash::CoreDumpRef;
use parts::is_zero;

use crate::memory::MemoryUsage;
use crate::{
    AgentId, CrashRecord, Digest, Exception, ExitReason, Frame, Frames, Incarnation, Next, Phase,
    PreviousRun, StartPhase, Symbolized, Timestamp,
};

/// Version of the log line's shape.
pub const SCHEMA: u32 = 1;

/// One fact.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all_fields = "camelCase")]
pub enum Event {
    /// First line of a run.
    #[serde(rename = "container.cold_start")]
    ColdStart(ColdStart),
    /// What became of the run before this one.
    #[serde(rename = "container.previous_run")]
    PreviousRun {
        /// Not part of the line's fields: it is the line's level.
        #[serde(skip)]
        level: Level,
        /// The whole of it.
        #[serde(flatten)]
        run: Box<PreviousRun>,
        /// Runs before that one that no run reported, because boots were killed. Oldest first, at most 16.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        earlier: Vec<PreviousRun>,
        /// How many there were before those, at least: of so many in a row nothing is known any more.
        #[serde(skip_serializing_if = "is_zero")]
        earlier_forgotten: u64,
    },
    /// Agents are about to be restored.
    #[serde(rename = "container.boot_hydration_started")]
    HydrationStarted(HydrationStarted),
    /// Every agent that had to be restored runs, or has its reason why not, or takes longer than
    /// readiness waits for it.
    #[serde(rename = "container.boot_hydration_finished")]
    HydrationFinished(HydrationFinished),
    /// The agents could not be restored. The host goes on and takes starts.
    #[serde(rename = "container.boot_hydration_failed")]
    HydrationFailed(HydrationFailed),
    /// The database was damaged, and is kept under another name; or it was gone. A new one is there.
    #[serde(rename = "container.store_set_aside")]
    StoreSetAside(StoreSetAside),
    /// There is no database to write to. The host goes on; nothing is durable.
    #[serde(rename = "container.store_unavailable")]
    StoreUnavailable(StoreUnavailable),
    /// The host was started with `--without-store`: nothing is durable, as somebody wants it.
    #[serde(rename = "container.store_off")]
    StoreOff {},
    /// The database is back, with what was kept in memory meanwhile: agents, and crash records as far as they had
    /// room. Snapshots that were refused are not in it.
    #[serde(rename = "container.store_available")]
    StoreAvailable(StoreAvailable),
    /// A limit of the machine is below what was configured.
    #[serde(rename = "container.capacity_limited")]
    CapacityLimited {
        /// What the configuration asked for.
        requested: usize,
        /// What is given.
        granted: usize,
        /// Which limit, with its figures.
        reason: String,
    },
    /// A component is ready to be instantiated.
    #[serde(rename = "container.component_loaded")]
    ComponentLoaded {
        /// Its name in the configuration.
        component: Arc<str>,
        /// SHA-256 of the file.
        sha256: String,
        /// Size of the file.
        bytes: u64,
        /// `compiled` now, or taken from the `cache` or the `seed`.
        source: &'static str,
        /// How long that took.
        duration_ms: u64,
    },
    /// An entry of the compile cache, which is replaced, or of the seed was unusable.
    #[serde(rename = "container.cache_entry_rejected")]
    CacheEntryRejected {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A background task panicked or returned an error that nobody handles. The process goes on.
    #[serde(rename = "container.unhandled_rejection")]
    UnhandledRejection {
        /// The task's name.
        task: String,
        /// `panic` or `error`.
        name: &'static str,
        /// Its text.
        message: String,
        /// Where, when known.
        stack: Option<String>,
        /// Agents alive at that moment.
        active_agents: usize,
        /// Groups failures of one cause.
        fingerprint: String,
        /// How often this fingerprint was held back since its last line.
        repeated: u64,
    },
    /// A panic that nothing contains. The process ends.
    #[serde(rename = "container.uncaught_exception")]
    UncaughtException {
        /// `panic`.
        name: &'static str,
        /// Its text.
        message: String,
        /// Where.
        stack: Option<String>,
        /// Agents alive at that moment.
        active_agents: usize,
    },
    /// A deliberate end of the process begins.
    #[serde(rename = "container.stop_intent")]
    StopIntent {
        /// Who asked, for example `SIGTERM`.
        by: String,
        /// Why.
        reason: String,
        /// How long the end may take. Absent when there is no grace.
        #[serde(skip_serializing_if = "Option::is_none")]
        drain_ms: Option<u64>,
    },
    /// A phase of the drain begins.
    #[serde(rename = "container.draining")]
    Draining(Draining),
    /// The drain is through: every agent is gone.
    #[serde(rename = "container.drained")]
    Drained(Drained),
    /// The process is about to end, after all agents ended. Nothing is logged after it.
    #[serde(rename = "container.stopped")]
    Stopped(Stopped),
    /// How the memory of the container is, every 30 s and when a drain begins.
    #[serde(rename = "container.memory_usage")]
    MemoryUsage(Box<MemoryUsage>),
    /// Memory became short, or is not short any more.
    #[serde(rename = "container.memory_pressure")]
    MemoryPressure(MemoryPressure),
    /// A source of the container's memory is there and gave no figure. Once for each source and cause.
    #[serde(rename = "container.memory_usage_failed")]
    MemoryUsageFailed(MemoryUsageFailed),
    /// The workspace of an agent was removed: its agent does not run, and a policy or somebody wants it so.
    #[serde(rename = "container.workspace_removed")]
    WorkspaceRemoved(WorkspaceRemoved),
    /// Workspaces of agents that do not run take more than they may, and hold work that is nowhere else.
    #[serde(rename = "container.workspaces_full")]
    WorkspacesFull(WorkspacesFull),
    /// An upgrade of a role goes on, or has ended.
    #[serde(rename = "container.role_upgrade")]
    RoleUpgrade {
        /// Which role.
        role: Arc<str>,
        /// The component whose file is replaced, as the configuration names it.
        component: Arc<str>,
        /// Of the new code, once it is loaded.
        #[serde(skip_serializing_if = "Option::is_none")]
        code_sha256: Option<Digest>,
        /// `loading`, `rolling`, `proving`, `reverting`, `done`, `failed`, or `aborted`.
        phase: &'static str,
        /// Agents of the role that it is about.
        agents: usize,
        /// Those that run on the new code.
        upgraded: usize,
        /// Why it failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
    /// A request that the control API refused.
    #[serde(rename = "container.request_refused")]
    RequestRefused {
        /// For example `POST`.
        method: String,
        /// Path without its query.
        path: String,
        /// HTTP status of the answer.
        status: u16,
        /// The answer's error text.
        error: String,
        /// Refusals without a line since the last one that got one.
        #[serde(skip_serializing_if = "is_zero")]
        suppressed: u64,
    },
    /// What earlier runs left at the evidence sink was fetched, at boot. A sink that does not answer in time is
    /// `container.evidence_failed`.
    #[serde(rename = "container.evidence_found")]
    EvidenceFound(EvidenceFound),
    /// The evidence sink did not do what it was asked for. It is tried again, and nothing waits for it.
    #[serde(rename = "container.evidence_failed")]
    EvidenceFailed(EvidenceFailed),
    /// The evidence sink stores again.
    #[serde(rename = "container.evidence_available")]
    EvidenceAvailable(EvidenceAvailable),
    /// What was shipped of the state of the town was read at boot, and where it was newer than this disk the database was made
    /// from it.
    #[serde(rename = "container.ship_restored")]
    ShipRestored(ShipRestored),
    /// The state of the town cannot be shipped, for now. The town goes on, and what it does is on this disk only.
    #[serde(rename = "container.ship_failed")]
    ShipFailed(ShipFailed),
    /// The state of the town is shipped again.
    #[serde(rename = "container.ship_available")]
    ShipAvailable(ShipAvailable),
    /// The evidence sink did not answer at boot, and now says more of the run before this one than was reported then.
    #[serde(rename = "container.evidence_late")]
    EvidenceLate(EvidenceLate),
    /// Something in the town's configuration is no use (the header `X-Town-Config` of a call). The rest was taken, and
    /// the call went on. Each problem is logged once.
    #[serde(rename = "town.config_ignored")]
    TownConfigIgnored(TownConfigIgnored),
    /// A call of the town API failed, after everything that was tried. No agent feels it.
    #[serde(rename = "town.call_failed")]
    TownCallFailed(TownCallFailed),
    /// The town does not answer any more.
    #[serde(rename = "town.unreachable")]
    TownUnreachable(TownUnreachable),
    /// The town answers again.
    #[serde(rename = "town.reachable")]
    TownReachable(TownReachable),
    /// A newer run serves the town. This one makes no further calls; its agents run on.
    #[serde(rename = "town.fenced")]
    TownFenced(TownFenced),
    /// The container asked for a new token and got one. No agent was restarted for it.
    #[serde(rename = "town.token_refreshed")]
    TownTokenRefreshed(TownTokenRefreshed),
    /// The town sent a new token. No agent was restarted for it.
    #[serde(rename = "refresh_token.received")]
    RefreshTokenReceived(RefreshTokenReceived),
    /// Something for the town had no room or no time. It is logged at most every ten seconds.
    #[serde(rename = "town.dropped")]
    TownDropped(TownDropped),
    /// A call about an agent is not tried any more: the town answers others, and has
    /// not taken this for too long.
    #[serde(rename = "town.call_given_up")]
    TownCallGivenUp(TownCallGivenUp),
    /// A call that the town need not have was refused, and is not made again in this run.
    #[serde(rename = "town.call_switched_off")]
    TownCallSwitchedOff(TownCallSwitchedOff),
    /// A diagnostic of the host itself or of a library.
    #[serde(rename = "container.log")]
    HostLog {
        /// Not part of the line's fields: it is the line's level.
        #[serde(skip)]
        level: Level,
        /// The module that spoke.
        target: String,
        /// Its text.
        message: String,
        /// Its fields.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        fields: BTreeMap<String, String>,
    },
    /// The rest of a record that is longer than a line may be. The line before the first of them has part 1 and the
    /// record's own event: all of its fields, the long ones shortened. The texts of all others, put together in their
    /// order, are the whole record as one JSON object, without `seq`.
    #[serde(rename = "container.line_part")]
    LinePart {
        /// Not part of the line's fields: it is the line's level.
        #[serde(skip)]
        level: Level,
        /// The event of the record.
        of: &'static str,
        /// A piece of the record's JSON.
        text: String,
    },

    /// An agent is running.
    #[serde(rename = "agent.start")]
    AgentStart {
        /// Which agent.
        #[serde(flatten)]
        agent: AgentTag,
        /// The component's name in the configuration.
        component: Arc<str>,
        /// Where the start spent its time.
        timings: StartTimings,
    },
    /// A start asked for what runs or starts already, and got that.
    #[serde(rename = "agent.start_joined")]
    AgentStartJoined {
        /// Who.
        agent_id: AgentId,
        /// Its role.
        role: Arc<str>,
        /// The one that both callers get. Absent while the start that was joined has none.
        #[serde(skip_serializing_if = "Option::is_none")]
        incarnation: Option<Incarnation>,
        /// It ran already: nothing was started twice. `false`: its start was under way.
        running: bool,
    },
    /// A start was cancelled before the agent ran, by a newer start or a stop.
    #[serde(rename = "agent.start_superseded")]
    AgentStartSuperseded {
        /// Who.
        agent_id: AgentId,
        /// Its role.
        role: Arc<str>,
        /// The one that was not to be. Absent when it had no number yet.
        #[serde(skip_serializing_if = "Option::is_none")]
        incarnation: Option<Incarnation>,
        /// Who took over.
        by: Option<String>,
    },
    /// An agent did not get to running.
    #[serde(rename = "agent.start_failed")]
    AgentStartFailed {
        /// Who.
        agent_id: AgentId,
        /// The role of the request.
        role: String,
        /// Absent when it had no number yet.
        #[serde(skip_serializing_if = "Option::is_none")]
        incarnation: Option<Incarnation>,
        /// Where it failed.
        phase: StartPhase,
        /// A stable kebab-case name of the failure.
        error_type: String,
        /// What went wrong. Never empty.
        error: String,
        /// What can be done about it.
        action: String,
    },
    /// An incarnation ended. Exactly one line for each.
    #[serde(rename = "agent.exit")]
    AgentExit {
        /// Which agent.
        #[serde(flatten)]
        agent: AgentTag,
        /// Why.
        reason: ExitReason,
        /// In which call.
        phase: Phase,
        /// One sentence for a person.
        message: String,
        /// Who asked, when somebody did.
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// How long it lived.
        agent_uptime_ms: u64,
        /// Turns begun.
        turns: u64,
        /// CPU time of all its calls.
        cpu_us: u64,
        /// Messages that waited and were not worked on. Their senders were notified.
        #[serde(skip_serializing_if = "is_zero")]
        undelivered: u64,
        /// Lines of its log and stdio that were dropped in this incarnation.
        #[serde(skip_serializing_if = "is_zero")]
        dropped_log_lines: u64,
        /// Present when the end was abnormal.
        #[serde(skip_serializing_if = "Option::is_none")]
        crash_id: Option<String>,
    },
    /// An incarnation ended abnormally: the whole record.
    #[serde(rename = "agent.crash")]
    AgentCrash(Arc<CrashRecord>),
    /// Files and lines of a crash were found, after its record was written.
    #[serde(rename = "agent.crash_symbolized")]
    CrashSymbolized {
        /// Which agent, and the incarnation that ended.
        #[serde(flatten)]
        agent: AgentTag,
        /// The crash record.
        crash_id: String,
        /// `done`, or `unavailable`.
        symbolized: Symbolized,
        /// All frames, calls in line included. The raw ones when unavailable.
        #[schemars(with = "Vec<Frame>")]
        frames: Frames,
        /// Why they are unavailable.
        #[serde(skip_serializing_if = "Option::is_none")]
        unavailable: Option<String>,
    },
    /// A core dump of a crash is in its file.
    #[serde(rename = "agent.core_dump")]
    CoreDumpKept {
        /// Which agent, and the incarnation that ended.
        #[serde(flatten)]
        agent: AgentTag,
        /// The crash record.
        crash_id: String,
        /// The file.
        core_dump: CoreDumpRef,
    },
    /// An incarnation ended, and the agent is restarted automatically.
    #[serde(rename = "agent.restart_scheduled")]
    RestartScheduled(RestartScheduled),
    /// A restart that was scheduled does not happen.
    #[serde(rename = "agent.restart_cancelled")]
    RestartCancelled(RestartCancelled),
    /// An agent is not restarted until a person or a new spec says otherwise.
    #[serde(rename = "agent.quarantined")]
    AgentQuarantined(AgentQuarantined),
    /// Of a budget for language models, 80 % or all is used. Once of each in the budget's window.
    #[serde(rename = "agent.model_budget")]
    ModelBudget(ModelBudget),
    /// An agent repeated itself as often as its role allows, without anything new. It is ended.
    #[serde(rename = "agent.stuck")]
    AgentStuck(AgentStuck),
    /// A snapshot is not restored from any more; the one before it is. It is kept for a person.
    #[serde(rename = "agent.snapshot_set_aside")]
    SnapshotSetAside {
        /// Which agent, and the incarnation that failed with it or found it.
        #[serde(flatten)]
        agent: AgentTag,
        /// Names the snapshot in the database; 0 for one that lies at the town.
        generation: u64,
        /// When it was taken.
        taken_at: Timestamp,
        /// Its size.
        bytes: usize,
        /// How often the agent failed with it.
        failures: u32,
        /// Why.
        reason: &'static str,
    },
    /// What the agent remembers is not kept: its last snapshot stays. Once for each reason, until a snapshot is kept.
    #[serde(rename = "agent.snapshot_not_kept")]
    SnapshotNotKept(SnapshotNotKept),
    /// Memory use crossed the soft mark upward.
    #[serde(rename = "agent.memory_soft_limit")]
    MemorySoftLimit(MemorySoftLimit),
    /// The agent used its percent of a core and waits for more CPU time, for the first time in a minute.
    #[serde(rename = "agent.cpu_throttled")]
    AgentCpuThrottled {
        /// Which agent.
        #[serde(flatten)]
        agent: AgentTag,
        /// Percent of one core that its role may use over time.
        cpu_max_percent: u8,
        /// CPU time of this incarnation so far, in microseconds.
        cpu_us: u64,
    },
    /// A request of the agent left with a credential that the agent does not have.
    #[serde(rename = "agent.secret_used")]
    SecretUsed {
        /// Which agent.
        #[serde(flatten)]
        agent: AgentTag,
        /// Its name in the configuration.
        secret: String,
        /// Where the request goes: host and port.
        destination: String,
    },
    /// The repository that the agent works on is there, before the agent begins.
    #[serde(rename = "agent.workspace_prepared")]
    WorkspacePrepared(WorkspacePrepared),
    /// The workspace of the agent was brought here before the agent begins: another machine had shipped it.
    #[serde(rename = "agent.workspace_arrived")]
    WorkspaceArrived(WorkspaceArrived),
    /// The workspace of the agent is shipped, as it is at the end of an incarnation.
    #[serde(rename = "agent.workspace_shipped")]
    WorkspaceShipped(WorkspaceShipped),
    /// The workspace of the agent is not shipped as it is: a copy of the town on another machine finds an older one there, or none.
    #[serde(rename = "agent.workspace_not_shipped")]
    WorkspaceNotShipped(WorkspaceNotShipped),
    /// What the agent did in its repository is on the remote: an incarnation ended, and its role wants that then.
    #[serde(rename = "agent.work_saved")]
    WorkSaved(WorkSaved),
    /// What the agent did in its repository may be in its workspace only, or in part, although its role wants it on the
    /// remote.
    #[serde(rename = "agent.work_not_saved")]
    WorkNotSaved(WorkNotSaved),
    /// The agent has an exception that nobody caught and that ended nothing: a rejected promise, a failed timer or task.
    #[serde(rename = "agent.unhandled_rejection")]
    AgentUnhandledRejection {
        /// Which agent.
        #[serde(flatten)]
        agent: AgentTag,
        /// The exception in one line: its kind and what it says.
        message: String,
        /// The exception, then what caused it, and what caused that.
        exceptions: Vec<Exception>,
        /// Lines and exceptions of the agent before this one that were over its rate.
        dropped: u64,
    },
    /// A native program of the agent runs.
    #[serde(rename = "agent.tool_started")]
    ToolStarted(ToolStarted),
    /// A native program of the agent has ended, with all that it had started.
    #[serde(rename = "agent.tool_exited")]
    ToolExited(ToolExited),
    /// A line from the guest: its own log, or its stdout or stderr.
    #[serde(rename = "agent.log")]
    AgentLog {
        /// Which agent.
        #[serde(flatten)]
        agent: AgentTag,
        /// Not part of the line's fields: it is the line's level.
        #[serde(skip)]
        level: Level,
        /// `log`, `stdout` or `stderr`.
        stream: &'static str,
        /// Lines dropped since the last one that got through.
        #[serde(skip_serializing_if = "is_zero")]
        dropped: u64,
        // What the guest chose comes last: a line that ends early has all that is the host's.
        /// The text, at most 8 KiB of it: a log call's is cut there, of what is printed the rest follows in lines of its
        /// own.
        message: String,
        /// Its fields, each under the guest's name for it with `guest.` before it.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        fields: BTreeMap<String, String>,
    },
    /// A message was taken into a mailbox.
    #[serde(rename = "agent.message")]
    AgentMessage(AgentMessage),
    /// The agent ended in each delivery of a message; it is not delivered again.
    #[serde(rename = "agent.message_set_aside")]
    MessageSetAside(MessageSetAside),
    /// A turn ended and the agent keeps running.
    #[serde(rename = "agent.turn")]
    AgentTurn {
        /// Which agent.
        #[serde(flatten)]
        agent: AgentTag,
        /// The message it was about.
        message_id: String,
        /// What the agent wants next; null when the turn failed.
        outcome: Option<Next>,
        /// The agent's own words when the turn failed. They count for its rate of log lines, and are left out above it.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// CPU time.
        cpu_us: u64,
        /// Wall time.
        wall_ms: u64,
    },
}

#[cfg(test)]
mod tests;

//! The lines of the log: a contract with dashboards and with `diagnose`.
//!
//! One variant, one kind of line. `bulkhead-log` adds what every line has (`ts`, `level`, `event`, `schema`,
//! `townId`, `runId`, `seq`, `uptimeMs`).

mod level;
mod name;
mod parts;

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

pub use level::Level;
pub use parts::{
    AgentTag, DrainPhase, DrainPhaseReport, HydrationResult, PreviousSummary, StartTimings,
};

use crate::crash::CoreDumpRef;
use crate::memory::{LargeAgent, MemorySources, MemoryUsage, Psi};
use crate::restart::QuarantineReason;
use crate::{
    AgentId, CrashRecord, Digest, Exception, ExitReason, Frame, Frames, Incarnation, Next, Phase,
    PreviousRun, Sender, StartPhase, Symbolized, Timestamp, ToolEnd,
};

/// Version of the log line's shape.
pub const SCHEMA: u32 = 1;

/// What the host's process gave up at its boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Confinement {
    /// Which files it may open and what it may run: `full`, `partial` (an older kernel), `none` (it cannot be had, and a
    /// warning says why), `off` (by the configuration).
    pub landlock: &'static str,
    /// Which system calls it may make: `full`, `none` or `off`.
    pub seccomp: &'static str,
    /// Nothing that it runs gets more rights than it has.
    pub no_new_privs: bool,
    /// Debuggers of the same user and core files are let in.
    pub debuggable: bool,
}

/// What confines native programs on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolSandbox {
    /// What limits a program with all that it starts: `v2`, `v1`, or `none`, when limits hold for each process by itself.
    pub cgroup: &'static str,
    /// It sees its own processes only, and all of them end with it.
    pub pid_namespace: bool,
    /// It sees its workspace and the system's files only.
    pub mount_namespace: bool,
    /// It has no network unless its role says so.
    pub network_namespace: bool,
    /// As whom it runs: `own_uid`, `user_namespace` (the host's user, without rights), or `host_uid`.
    pub identity: &'static str,
    /// Landlock: `full`, `partial` or `none`.
    pub landlock: String,
    /// A filter of system calls.
    pub seccomp: bool,
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all_fields = "camelCase")]
pub enum Event {
    /// First line of a run.
    #[serde(rename = "container.cold_start")]
    ColdStart {
        /// Of this program.
        version: &'static str,
        /// Boot id of the kernel.
        boot_id: Option<String>,
        /// Of the process that logs this.
        pid: u32,
        /// Whether an init process watches over it.
        init: bool,
        /// How often the init process restarted the host.
        restart_seq: u64,
        /// The epoch of the lease that it runs under, where there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        lease_epoch: Option<u64>,
        /// What became of the run before, in short: see [`Event::PreviousRun`].
        previous_run: PreviousSummary,
        /// Address of the control server.
        listen: String,
        /// Address at which it answers probes alone, if there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        probe_listen: Option<String>,
        /// Largest number of live agents.
        max_agents: usize,
        /// `pooling` or `on_demand`.
        allocator: &'static str,
        /// Names of the configured components.
        components: Vec<String>,
        /// Names of the configured roles.
        roles: Vec<String>,
        /// Agents that the configuration starts.
        boot_agents: usize,
        /// How long the whole end takes at most after SIGTERM, in milliseconds. The container's runtime has to wait
        /// longer than that before it kills.
        drain_ms: u64,
        /// The part of it in which agents are asked to end.
        shutdown_ms: u64,
        /// What the process gave up, so that an intruder has little.
        security: Box<Confinement>,
        /// What confines native programs. Null when no role lists any.
        tools: Option<Box<ToolSandbox>>,
        /// Where figures of memory come from.
        memory: Box<MemorySources>,
    },
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
    HydrationStarted {
        /// Agents to be started.
        agents: usize,
        /// Agents that an earlier run left running.
        from_store: usize,
        /// Agents that the town wants and that have to be started. Some of them may be left by an earlier run
        /// as well.
        from_town: usize,
        /// Agents that an earlier run put into quarantine. They stay there.
        quarantined: usize,
        /// Whose word counts: `store`, or `town_and_store` when the town answered.
        source: &'static str,
        /// Why the town did not answer, when it was asked and did not.
        #[serde(skip_serializing_if = "Option::is_none")]
        town_error: Option<String>,
    },
    /// Every agent that had to be restored runs, or has its reason why not, or takes longer than
    /// readiness waits for it.
    #[serde(rename = "container.boot_hydration_finished")]
    HydrationFinished {
        /// Agents that were to be started.
        agents: usize,
        /// Agents that run.
        running: usize,
        /// Agents that do not. Each has its own `agent.start_failed` as well.
        failed: usize,
        /// Agents that are still starting. Each has its own deadline.
        late: usize,
        /// Agents for which a start came before it was their turn.
        overtaken: usize,
        /// Agents in quarantine.
        quarantined: usize,
        /// Whose word counted: see `container.boot_hydration_started`.
        source: &'static str,
        /// All of it.
        duration_ms: u64,
        /// How those went that do not run, the first hundred.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        results: Vec<HydrationResult>,
    },
    /// The agents could not be restored. The host goes on and takes starts.
    #[serde(rename = "container.boot_hydration_failed")]
    HydrationFailed {
        /// What went wrong.
        error: String,
        /// What a person can do about it.
        action: &'static str,
    },
    /// The database was damaged. It is kept under another name, and a new one is there.
    #[serde(rename = "container.store_set_aside")]
    StoreSetAside {
        /// What was found.
        reason: String,
        /// Where it is now.
        kept_as: String,
        /// One that was set aside long ago and had to make room.
        #[serde(skip_serializing_if = "Option::is_none")]
        removed: Option<String>,
    },
    /// There is no database to write to. The host goes on; nothing is durable.
    #[serde(rename = "container.store_unavailable")]
    StoreUnavailable {
        /// What went wrong.
        reason: String,
        /// Whether it is tried again.
        retries: bool,
    },
    /// The host was started with `--without-store`: nothing is durable, as somebody wants it.
    #[serde(rename = "container.store_off")]
    StoreOff {},
    /// The database is back, with what was kept in memory meanwhile: agents, and crash records as far as they had
    /// room. Snapshots that were refused are not in it.
    #[serde(rename = "container.store_available")]
    StoreAvailable {
        /// Crash records that waited and are written.
        crash_records_written: u64,
        /// Crash records that had to make room for newer ones. The log has them.
        crash_records_dropped: u64,
    },
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
    Draining {
        /// Which one.
        phase: DrainPhase,
        /// Agents that are there.
        agents: usize,
        /// Of them, those that work or have mail.
        busy: usize,
        /// How long the phase may take.
        limit_ms: u64,
    },
    /// The drain is through: every agent is gone.
    #[serde(rename = "container.drained")]
    Drained {
        /// What each phase came to, in order.
        phases: Vec<DrainPhaseReport>,
        /// All of them.
        duration_ms: u64,
    },
    /// The process is about to end, after all agents ended.
    #[serde(rename = "container.stopped")]
    Stopped {
        /// Agents that ended in time.
        stopped: usize,
        /// Agents that had to be killed.
        killed: usize,
        /// The whole shutdown.
        duration_ms: u64,
        /// Log lines that were dropped in this run.
        dropped_lines: u64,
    },
    /// How the memory of the container is, every 30 s and when a drain begins.
    #[serde(rename = "container.memory_usage")]
    MemoryUsage(Box<MemoryUsage>),
    /// Memory became short, or is not short any more.
    #[serde(rename = "container.memory_pressure")]
    MemoryPressure {
        /// `high` when it became short, `normal` when it is so no more.
        state: &'static str,
        /// What made it short: `psi_trigger`, `psi` or `used`.
        source: &'static str,
        /// How much time goes by waiting for memory.
        psi: Option<Psi>,
        /// What is used of the limit.
        used_bytes: Option<u64>,
        /// The smallest limit that holds for the container.
        limit_bytes: Option<u64>,
        /// The agents that hold most, the largest first.
        largest: Vec<LargeAgent>,
        /// What the host does about it: `shed` when it ends agents until it is over, or `none`.
        action: &'static str,
    },
    /// A source of the container's memory is there and gave no figure. Once for each source and cause.
    #[serde(rename = "container.memory_usage_failed")]
    MemoryUsageFailed {
        /// The file.
        source: String,
        /// What is wrong with it.
        error: String,
    },
    /// The workspace of an agent was removed: its agent does not run, and a policy or somebody wants it so.
    #[serde(rename = "container.workspace_removed")]
    WorkspaceRemoved {
        /// Whose.
        agent_id: AgentId,
        /// Why: `expired`, `pushed`, `space`, or `asked`.
        why: &'static str,
        /// Freed on disk.
        bytes: u64,
        /// Files, directories and links.
        entries: u64,
        /// Why something is left on disk, for the next boot to delete.
        left: Option<String>,
    },
    /// Workspaces of agents that do not run take more than they may, and hold work that is nowhere else.
    #[serde(rename = "container.workspaces_full")]
    WorkspacesFull {
        /// How much more.
        excess_bytes: u64,
        /// What they may take together.
        max_bytes: u64,
    },
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
    EvidenceFound {
        /// The sink, without credentials.
        sink: String,
        /// How long the boot waited for it.
        duration_ms: u64,
        /// The newest run that the sink has; null without any.
        previous_run_id: Option<String>,
        /// When that run last stored anything.
        #[serde(skip_serializing_if = "Option::is_none")]
        written_at: Option<Timestamp>,
        /// Whose word counts about that run: `disk`, which has its black box or a newer one; `sink`, which is newer than
        /// the disk; `nobody` without a run.
        believed: &'static str,
        /// Crash records that the disk did not have.
        crash_records: usize,
        /// Agents whose numbers or histories the disk did not have.
        agents: usize,
        /// Documents that are not believed, one sentence each.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        damaged: Vec<String>,
    },
    /// The evidence sink did not do what it was asked for. It is tried again, and nothing waits for it.
    #[serde(rename = "container.evidence_failed")]
    EvidenceFailed {
        /// `fetch` or `store`.
        doing: &'static str,
        /// What kind of failure: `deadline`, `connect`, `protocol`, `refused`, `full` or `disk`.
        cause: &'static str,
        /// What went wrong.
        message: String,
        /// Groups failures of one cause.
        fingerprint: String,
        /// How often this fingerprint was held back since its last line.
        repeated: u64,
    },
    /// The evidence sink stores again.
    #[serde(rename = "container.evidence_available")]
    EvidenceAvailable {
        /// How long it did not.
        down_ms: u64,
    },
    /// What was shipped of the state of the town was read at boot, and where it was newer than this disk the database was made
    /// from it.
    #[serde(rename = "container.ship_restored")]
    ShipRestored {
        /// Where it was read.
        from: String,
        /// `nothing`: nothing was shipped before; `disk`: this disk has all of it; `shipped`: the database was made from it.
        state: &'static str,
        /// Segments that were read.
        segments: u64,
        /// Size of the database that was made.
        bytes: u64,
        /// How long it took.
        duration_ms: u64,
        /// The run that shipped it had shipped everything at its end. If not, what it did last is lost, and numbers of
        /// incarnations are left out.
        complete: bool,
        /// Where the database is now that was on this disk.
        #[serde(skip_serializing_if = "Option::is_none")]
        kept_as: Option<String>,
    },
    /// The state of the town cannot be shipped, for now. The town goes on, and what it does is on this disk only.
    #[serde(rename = "container.ship_failed")]
    ShipFailed {
        /// What went wrong, with the object.
        message: String,
    },
    /// The state of the town is shipped again.
    #[serde(rename = "container.ship_available")]
    ShipAvailable {
        /// How long it was not.
        down_ms: u64,
    },
    /// The evidence sink did not answer at boot, and now says more of the run before this one than was reported then.
    #[serde(rename = "container.evidence_late")]
    EvidenceLate {
        /// The run.
        previous_run_id: String,
        /// Why it ended, as its evidence says.
        cause: crate::Cause,
        /// How sure that is.
        confidence: crate::Confidence,
        /// What speaks for it.
        evidence: Vec<String>,
        /// Crash records that came with it.
        crash_records: usize,
    },
    /// Something in the town's configuration is no use (the header `X-Town-Config` of a call). The rest was taken, and
    /// the call went on. Each problem is logged once.
    #[serde(rename = "town.config_ignored")]
    TownConfigIgnored {
        /// Where it stands, for example `env_vars.a=b`.
        path: String,
        /// What is wrong with it. Never a value.
        problem: String,
    },
    /// A call of the town API failed, after everything that was tried. No agent feels it.
    #[serde(rename = "town.call_failed")]
    TownCallFailed {
        /// Which call, for example `heartbeat`.
        call: &'static str,
        /// What kind of failure: `dns`, `connect`, `tls`, `deadline`, `status`, `half_closed`, `not_http`,
        /// `not_json`, `too_large` or `corrupt`.
        cause: &'static str,
        /// HTTP status of the answer, when there was one.
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// How often it was tried.
        attempts: u32,
        /// What went wrong.
        message: String,
        /// Which agent the call was about, when it was about one.
        #[serde(skip_serializing_if = "Option::is_none")]
        agent_id: Option<AgentId>,
        /// Groups failures of one cause.
        fingerprint: String,
        /// How often this fingerprint was held back since its last line.
        repeated: u64,
    },
    /// The town does not answer any more.
    #[serde(rename = "town.unreachable")]
    TownUnreachable {
        /// What kind of failure: see `town.call_failed`.
        cause: &'static str,
        /// What went wrong.
        message: String,
    },
    /// The town answers again.
    #[serde(rename = "town.reachable")]
    TownReachable {
        /// How long it did not.
        down_ms: u64,
    },
    /// A newer run serves the town. This one makes no further calls; its agents run on.
    #[serde(rename = "town.fenced")]
    TownFenced {
        /// The newer run, when the town says which.
        #[serde(skip_serializing_if = "Option::is_none")]
        newer_run_id: Option<String>,
        /// What a person can do about it.
        action: &'static str,
    },
    /// The container asked for a new token and got one. No agent was restarted for it.
    #[serde(rename = "town.token_refreshed")]
    TownTokenRefreshed {
        /// `expiry` when the old one was about to end, `unauthorized` when the town refused it.
        why: &'static str,
        /// When the new one ends, when it says so.
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
    },
    /// The town sent a new token. No agent was restarted for it.
    #[serde(rename = "refresh_token.received")]
    RefreshTokenReceived {
        /// When it ends, when it says so.
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
    },
    /// Something for the town had no room or no time. It is logged at most every ten seconds.
    #[serde(rename = "town.dropped")]
    TownDropped {
        /// What: `events`, `completions` or `nudges`.
        what: &'static str,
        /// How many since the last line.
        dropped: u64,
        /// All of this run.
        total: u64,
    },
    /// A call about an agent is not tried any more: the town answers others, and has
    /// not taken this for too long.
    #[serde(rename = "town.call_given_up")]
    TownCallGivenUp {
        /// Which call, for example `completed`.
        call: &'static str,
        /// Which agent.
        agent_id: AgentId,
        /// How often it was made.
        attempts: u32,
        /// For how long.
        tried_ms: u64,
        /// What went wrong the last time.
        message: String,
    },
    /// A call that the town need not have was refused, and is not made again in this run.
    #[serde(rename = "town.call_switched_off")]
    TownCallSwitchedOff {
        /// Which call, for example `pending_nudges`.
        call: &'static str,
        /// HTTP status of the refusal.
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// For which agent; without it: for all.
        #[serde(skip_serializing_if = "Option::is_none")]
        agent_id: Option<AgentId>,
    },
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
    RestartScheduled {
        /// Which agent, and the incarnation that ended.
        #[serde(flatten)]
        agent: AgentTag,
        /// Why that one ended.
        reason: ExitReason,
        /// When the next one begins.
        restart_at: Timestamp,
        /// How long until then.
        backoff_ms: u64,
        /// Ends in the window, this one included.
        attempts_in_window: u32,
        /// Ends in the window that are answered by a restart.
        max_restarts: u32,
        /// The window.
        window_ms: u64,
    },
    /// A restart that was scheduled does not happen.
    #[serde(rename = "agent.restart_cancelled")]
    RestartCancelled {
        /// Which agent, and the incarnation that ended.
        #[serde(flatten)]
        agent: AgentTag,
        /// Who wanted it so: a start that took over, or a stop.
        by: String,
    },
    /// An agent is not restarted until a person or a new spec says otherwise.
    #[serde(rename = "agent.quarantined")]
    AgentQuarantined {
        /// Which agent, and the incarnation that ended.
        #[serde(flatten)]
        agent: AgentTag,
        /// Which rule.
        why: QuarantineReason,
        /// One sentence for a person, with the figures.
        message: String,
        /// Why the last incarnation ended.
        reason: ExitReason,
        /// Ends in the window, this one included.
        attempts_in_window: u32,
        /// The crash record of the last one.
        #[serde(skip_serializing_if = "Option::is_none")]
        crash_id: Option<String>,
        /// What a person can do about it.
        action: &'static str,
    },
    /// Of a budget for language models, 80 % or all is used. Once of each in the budget's window.
    #[serde(rename = "agent.model_budget")]
    ModelBudget {
        /// Whose call it was.
        #[serde(flatten)]
        agent: AgentTag,
        /// Which budget, by its key in the configuration.
        budget: &'static str,
        /// Whose: `role` or `container`.
        scope: &'static str,
        /// What it is measured in: tokens, calls, or billionths of the unit of the prices.
        used: u64,
        /// In the same measure.
        bound: u64,
        /// A call was refused for it.
        exhausted: bool,
        /// The agent is ended for it.
        ends: bool,
    },
    /// An agent repeated itself as often as its role allows, without anything new. It is ended.
    #[serde(rename = "agent.stuck")]
    AgentStuck {
        /// Which agent.
        #[serde(flatten)]
        agent: AgentTag,
        /// Which rule, by its key in the configuration: `same_tool_calls` or `idle_continues`.
        rule: &'static str,
        /// How often it repeated.
        count: u32,
        /// What, in a sentence.
        message: String,
    },
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
    /// Memory use crossed the soft mark upward.
    #[serde(rename = "agent.memory_soft_limit")]
    MemorySoftLimit {
        /// Which agent.
        #[serde(flatten)]
        agent: AgentTag,
        /// In use now: linear memories, tables and host bytes.
        used_bytes: u64,
        /// The part of them that the host holds for it.
        host_bytes: u64,
        /// The soft mark.
        soft_bytes: u64,
        /// The hard limit.
        limit_bytes: u64,
    },
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
    WorkspacePrepared {
        /// Which agent.
        #[serde(flatten)]
        agent: AgentTag,
        /// Of which repository, by the rig's name.
        rig: String,
        /// The agent's branch.
        branch: String,
        /// The commit that is checked out.
        head: String,
        /// It was there, and is as the agent left it.
        reused: bool,
        /// How long that took.
        duration_ms: u64,
    },
    /// What the agent did in its repository is on the remote: an incarnation ended, and its role wants that then.
    #[serde(rename = "agent.work_saved")]
    WorkSaved {
        /// Which agent.
        #[serde(flatten)]
        agent: AgentTag,
        /// Of which repository, by the rig's name.
        rig: String,
        /// The agent's branch.
        branch: String,
        /// What the remote has there now.
        commit: String,
        /// How long that took.
        duration_ms: u64,
    },
    /// What the agent did in its repository may be in its workspace only, or in part, although its role wants it on the
    /// remote.
    #[serde(rename = "agent.work_not_saved")]
    WorkNotSaved {
        /// Which agent.
        #[serde(flatten)]
        agent: AgentTag,
        /// Of which repository, by the rig's name.
        rig: String,
        /// The agent's branch.
        branch: String,
        /// Why not, for programs.
        code: String,
        /// Why not.
        message: String,
        /// How long that took.
        duration_ms: u64,
    },
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
    ToolStarted {
        /// Which agent.
        #[serde(flatten)]
        agent: AgentTag,
        /// Names it among all tools of the run.
        tool: u64,
        /// The name by which the agent asked for it.
        program: String,
        /// Its arguments, the first 512 bytes of them.
        arguments: Vec<String>,
    },
    /// A native program of the agent has ended, with all that it had started.
    #[serde(rename = "agent.tool_exited")]
    ToolExited {
        /// Which agent.
        #[serde(flatten)]
        agent: AgentTag,
        /// As in `agent.tool_started`.
        tool: u64,
        /// The name by which the agent asked for it.
        program: String,
        /// How it ended.
        end: ToolEnd,
        /// The code that it returned. Null unless it exited.
        code: Option<i32>,
        /// The signal that it died of. Null unless it died of one.
        signal: Option<i32>,
        /// From its start to its end.
        wall_ms: u64,
        /// CPU time of all its processes.
        cpu_ms: u64,
        /// The largest memory of them together.
        peak_memory_bytes: u64,
        /// Read of its stdout and stderr.
        output_bytes: u64,
    },
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
    AgentMessage {
        /// Which agent.
        #[serde(flatten)]
        agent: AgentTag,
        /// The message.
        message_id: String,
        /// Where it comes from.
        sender: Sender,
        /// Its size. The text is not logged.
        bytes: usize,
        /// Which delivery it waits for: 1, or more when the agent ended in the one before.
        attempt: u32,
    },
    /// The agent ended in each delivery of a message; it is not delivered again.
    #[serde(rename = "agent.message_set_aside")]
    MessageSetAside {
        /// Which agent.
        #[serde(flatten)]
        agent: AgentTag,
        /// The message.
        message_id: String,
        /// Where it comes from.
        sender: Sender,
        /// How often it was delivered.
        attempts: u32,
        /// The crash records of its deliveries, oldest first; the last ten. A delivery in which the host died has
        /// none.
        crash_ids: Vec<String>,
    },
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

fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests;

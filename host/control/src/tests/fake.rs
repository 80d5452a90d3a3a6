//! A supervisor that is played, and a server on it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bulkhead_api::{
    AgentList, AgentMemoryView, AgentUsageView, AgentView, ContainerMemoryView,
    DashboardContextRequest, DiffBase, DiffView, EventsPage, ExecAnswer, ExecRequest, FilesView,
    Health, MemoryView, MergeAnswer, MergeRequest, MissingAgent, ModelRequest, NudgeRequest,
    PrepareRequest, RemovedWorkspace, RestartView, RigView, SeriesView, StartAnswer, StartRequest,
    StopAnswer, SystemPromptRequest, TownConfig, UpgradeView, UsageView, WorkspaceList,
};
use bulkhead_feed::{Feed, Ring, RingLimits};
use bulkhead_log::{RunContext, SharedSink, Sink};
use bulkhead_memory::{
    Heap, Kernel, Limit, LimitSource, Memory, MemoryConfig, Now, Reading, Snapshot, Totals,
};
use bulkhead_supervisor::{
    BroughtComponent, CoreDumpFigures, CrashFilter, CrashPage, CrashStats, Delivery, DiskFigures,
    DurationFigures, EndpointFigures, ExecRefusal, FinishedTurn, Incoming, Metrics, ModelFigures,
    Outgoing, RoleFigures, RoleMetrics, SendError, SettingsError, SinkStats, SpanFigures,
    StartError, StartFailure, Started, StopError, SymbolizerFigures, ToolFigures, TownConfigError,
    TurnReport, UpgradeRefusal, UsageFilter, WorkspaceError,
};
use bulkhead_telemetry::TraceContext;
use bulkhead_types::memory::Psi;
use bulkhead_types::{
    AgentId, AgentState, Body, Cause, Confidence, CrashRecord, Durable, Event, ExitReason,
    Incarnation, ModelCounts, Next, Outcome, RestartRules, RestartState, Secret, Sender,
    StartPhase, Timestamp, TokenUsage,
};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::client::Client;
use crate::{Backend, ControlConfig, ControlLimits, ControlServer, Mcp, TownEdge};

mod figures;
mod reads;
mod upgrade;
mod workspaces;

use figures::{metrics, view};
use reads::AtGate;

/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Plays by the agent's id, the role of a start and the text of a message.
#[derive(Clone)]
pub(super) struct Fake(Arc<State>);

struct State {
    ready: AtomicBool,
    draining: AtomicBool,
    /// A start in role `gated`, and a program `hang`, adds a permit to the first and takes one from the second.
    entered: Semaphore,
    gate: Semaphore,
    /// One that ends before it has that permit adds one here.
    abandoned: Semaphore,
    reads: reads::Reads,
    /// Reports that nobody makes.
    unmade: Mutex<Vec<oneshot::Sender<TurnReport>>>,
    /// What was changed, in words.
    changes: Mutex<Vec<String>>,
    missing: Mutex<Vec<MissingAgent>>,
    store_error: Mutex<Option<Arc<str>>>,
    outgoing: Mutex<Outgoing>,
    feed: Arc<Feed>,
    rings: Mutex<HashMap<AgentId, Arc<Ring>>>,
}

impl Fake {
    pub(super) fn set_ready(&self, ready: bool) {
        self.0.ready.store(ready, Ordering::SeqCst);
    }

    pub(super) fn set_missing(&self, agent: &str) {
        self.0.missing.lock().push(MissingAgent {
            agent_id: AgentId::parse(agent).unwrap(),
            status: "failed".into(),
            reason: "no component".into(),
        });
    }

    /// Blocks until a start has come to the gate.
    #[track_caller]
    pub(super) fn await_gated_start(&self) {
        take(&self.0.entered, "a start at the gate");
    }

    /// Blocks until a start that was at the gate is dropped.
    #[track_caller]
    pub(super) fn await_abandoned_start(&self) {
        take(&self.0.abandoned, "an end of the start at the gate");
    }

    pub(super) fn open_gate(&self) {
        self.0.gate.add_permits(1);
    }

    pub(super) fn changes(&self) -> Vec<String> {
        self.0.changes.lock().clone()
    }

    fn change(&self, id: &AgentId, what: String) -> Result<(), SettingsError> {
        match id.as_str() {
            "ghost" => return Err(SettingsError::NoSuchAgent(id.clone())),
            "asleep" => {
                let (id, state) = (id.clone(), AgentState::Exited);
                return Err(SettingsError::NotRunning { id, state });
            }
            _ => {}
        }
        self.0.changes.lock().push(format!("{id} {what}"));
        Ok(())
    }
}

/// Blocks until there is a permit, and takes it.
#[track_caller]
fn take(permits: &Semaphore, of: &str) {
    let until = Instant::now() + PATIENCE;
    while permits.try_acquire().map(|permit| permit.forget()).is_err() {
        assert!(Instant::now() < until, "waited {PATIENCE:?} for {of}");
        std::thread::yield_now();
    }
}

impl TownEdge for Fake {
    fn refresh_token(&self, token: Secret) -> Result<(), String> {
        if token.expose() == "bad" {
            return Err("has blanks".into());
        }
        self.0.changes.lock().push(format!("token {}", token.expose()));
        Ok(())
    }

    fn acknowledge(&self, town_id: Option<&str>, nonce: &str) {
        self.0.changes.lock().push(format!("nonce {nonce} of {town_id:?}"));
    }

    fn figures(&self) -> bulkhead_types::TownFigures {
        bulkhead_types::TownFigures {
            calls: vec![("heartbeat", "ok", 24), ("heartbeat", "deadline", 25)],
            waiting: vec![("events", 26)],
            dropped: vec![("events", 27)],
            given_up: vec![("completed", 28)],
            reachable: true,
            fenced: false,
        }
    }
}

impl Backend for Fake {
    async fn start(
        &self,
        request: StartRequest,
        _: Option<TraceContext>,
    ) -> Result<Started, StartError> {
        match request.role.as_str() {
            "gated" => {
                let waiting = AtGate(&self.0.abandoned);
                self.0.entered.add_permits(1);
                self.0.gate.acquire().await.expect("never closed").forget();
                std::mem::forget(waiting);
            }
            "polecat" | "kept" => {}
            "full" => {
                let kind = StartFailure::Capacity;
                return Err(StartError::new(StartPhase::Admission, kind, "1000 agents run"));
            }
            role => {
                let message = format!("no such role: {role}");
                let kind = StartFailure::UnknownRole;
                return Err(StartError::new(StartPhase::Admission, kind, message));
            }
        }
        let created = request.role != "kept";
        let answer = StartAnswer {
            agent: view(request.agent_id),
            joined: false,
            durable: Some(Durable::Node),
        };
        Ok(Started { answer, created })
    }

    async fn start_again(
        &self,
        id: &AgentId,
        trace: Option<TraceContext>,
    ) -> Result<Option<Started>, StartError> {
        match id.as_str() {
            "ghost" => Ok(None),
            _ => self.start(StartRequest::new(id.clone(), "polecat"), trace).await.map(Some),
        }
    }

    async fn stop(&self, id: &AgentId, by: &str) -> Result<StopAnswer, StopError> {
        match id.as_str() {
            "ghost" => Err(StopError::NoSuchAgent(id.clone())),
            _ => Ok(StopAnswer {
                stopped: true,
                exit_reason: format!("stopped by {by}"),
                durable: Some(Durable::Node),
            }),
        }
    }

    async fn brought_back(&self, id: &AgentId) -> Result<(), SendError> {
        match id.as_str() {
            "late" => Err(SendError::NotBackYet(id.clone())),
            _ => Ok(()),
        }
    }

    fn send(
        &self,
        id: &AgentId,
        sender: Sender,
        body: Body,
        trace: Option<TraceContext>,
    ) -> Result<Delivery, SendError> {
        let trace = trace.map(|trace| trace.traceparent());
        self.0.changes.lock().extend(trace.map(|trace| format!("trace {trace}")));
        assert_eq!(sender, Sender::Operator);
        match id.as_str() {
            "ghost" => return Err(SendError::NoSuchAgent(id.clone())),
            "asleep" => {
                return Err(SendError::NotRunning { id: id.clone(), state: AgentState::Exited });
            }
            "full" => {
                return Err(SendError::MailboxFull { id: id.clone(), messages: 64, bytes: 9 });
            }
            _ => {}
        }
        let (sender, report) = oneshot::channel();
        let finished = |next| {
            let reply_cut = &*body == "say much";
            let outcome = Outcome { reply: Some(format!("you said {body}")), reply_cut, next };
            let tokens = TokenUsage { input: 90, cached: 40, output: 9, reasoning: 4 };
            TurnReport::Finished(FinishedTurn { outcome, tokens, durable: None })
        };
        let reported = match body.as_ref() {
            "hang" => {
                self.0.unmade.lock().push(sender);
                return Ok(Delivery { message_id: "m1".into(), report });
            }
            "lose" => return Ok(Delivery { message_id: "m1".into(), report }),
            "fail" => TurnReport::Failed { code: "no-luck".into(), message: "bad day".into() },
            "crash" => TurnReport::Ended {
                reason: ExitReason::Trap,
                message: "unreachable".into(),
                crash_id: Some("c1".into()),
            },
            "done" => finished(Next::Done),
            _ => finished(Next::Idle),
        };
        sender.send(reported).unwrap();
        Ok(Delivery { message_id: "m1".into(), report })
    }

    fn nudge(&self, id: &AgentId, request: NudgeRequest) -> Result<String, SendError> {
        match id.as_str() {
            "ghost" => Err(SendError::NoSuchAgent(id.clone())),
            "full" => Err(SendError::MailboxFull { id: id.clone(), messages: 64, bytes: 9 }),
            _ => {
                let NudgeRequest { message, source, nudge_id } = request;
                self.0.changes.lock().push(format!("nudge {message} from {source}"));
                Ok(nudge_id.unwrap_or_else(|| "n1".into()))
            }
        }
    }

    fn list(&self, after: Option<&AgentId>, limit: usize) -> AgentList {
        self.0.reads.read();
        let ids = ["a1", "a2", "a3"].map(|id| AgentId::parse(id).unwrap());
        ids.into_iter().filter(|id| Some(id) > after).take(limit).map(view).collect()
    }

    fn status(&self, id: &AgentId) -> Option<AgentView> {
        match id.as_str() {
            "ghost" => None,
            "bomb" => panic!("the backend blew up"),
            _ => Some(view(id.clone())),
        }
    }

    fn events_after(&self, _id: &AgentId, after: u64) -> EventsPage {
        self.0.reads.read();
        EventsPage { events: Vec::new(), dropped_before: Some(after) }
    }

    fn feed(&self) -> &Arc<Feed> {
        &self.0.feed
    }

    fn ring(&self, id: &AgentId) -> Option<Arc<Ring>> {
        if id.as_str() == "ghost" {
            return None;
        }
        let new = || {
            let limits = RingLimits::default();
            Arc::new(Ring::new(&self.0.feed, id.clone(), limits, &Arc::default()))
        };
        let mut rings = self.0.rings.lock();
        Some(Arc::clone(rings.entry(id.clone()).or_insert_with(new)))
    }

    async fn fetch_component(
        &self,
        _role: &str,
        reference: &str,
    ) -> Result<BroughtComponent, UpgradeRefusal> {
        upgrade::fetch_component(reference)
    }

    async fn receive_component(&self) -> Result<Incoming, UpgradeRefusal> {
        upgrade::receive_component()
    }

    async fn upgrade(
        &self,
        role: &str,
        component: Option<BroughtComponent>,
        _: Duration,
    ) -> Result<UpgradeView, UpgradeRefusal> {
        upgrade::upgrade(role, component)
    }

    fn upgrade_of(&self, role: &str) -> Result<UpgradeView, UpgradeRefusal> {
        upgrade::upgrade_of(role)
    }

    fn abort_upgrade(&self, role: &str) -> Result<UpgradeView, UpgradeRefusal> {
        upgrade::abort_upgrade(role)
    }

    fn give_up(&self) -> Option<u64> {
        Some(12)
    }

    async fn workspaces(&self) -> Result<WorkspaceList, WorkspaceError> {
        workspaces::workspaces()
    }

    async fn remove_workspace(
        &self,
        id: &AgentId,
        force: bool,
    ) -> Result<RemovedWorkspace, WorkspaceError> {
        workspaces::remove_workspace(id, force)
    }

    async fn files(
        &self,
        id: &AgentId,
        path: &str,
        offset: u64,
        max_bytes: usize,
    ) -> Result<FilesView, WorkspaceError> {
        workspaces::files(id, path, offset, max_bytes)
    }

    async fn diff(
        &self,
        id: &AgentId,
        against: DiffBase,
        max_bytes: usize,
    ) -> Result<DiffView, WorkspaceError> {
        workspaces::diff(id, against, max_bytes)
    }

    async fn exec(&self, id: &AgentId, request: ExecRequest) -> Result<ExecAnswer, ExecRefusal> {
        if request.program == "hang" {
            let _waiting = AtGate(&self.0.abandoned);
            self.0.entered.add_permits(1);
            std::future::pending::<()>().await;
        }
        workspaces::exec(id, request)
    }

    async fn prepare_rig(
        &self,
        rig: &str,
        request: PrepareRequest,
    ) -> Result<RigView, WorkspaceError> {
        workspaces::prepare_rig(rig, request)
    }

    async fn merge(&self, rig: &str, request: MergeRequest) -> Result<MergeAnswer, WorkspaceError> {
        workspaces::merge(rig, request)
    }

    fn crashes(&self, filter: &CrashFilter) -> CrashPage {
        self.0.reads.read();
        self.0.changes.lock().push(format!("crashes {filter:?}"));
        CrashPage { more: true, ..CrashPage::default() }
    }

    fn crash(&self, _: &str) -> Option<Arc<CrashRecord>> {
        None
    }

    fn memory(&self) -> ContainerMemoryView {
        let config = MemoryConfig { budget_bytes: Some(1 << 20), ..MemoryConfig::default() };
        Memory::new(Kernel::here(), config, Now::clock()).view()
    }

    fn agent_memory(&self, id: &AgentId) -> Option<AgentMemoryView> {
        let view = |id: &AgentId| AgentMemoryView {
            agent_id: id.clone(),
            role: "polecat".into(),
            incarnation: Incarnation(1),
            used_bytes: Some(5),
            host_bytes: Some(1),
            peak_bytes: 6,
            limit_bytes: 7,
            trend: None,
            sample_ms: 5000,
            series: SeriesView::default(),
        };
        (id.as_str() != "ghost").then(|| view(id))
    }

    fn usage(&self, filter: &UsageFilter) -> UsageView {
        self.0.reads.read();
        self.0.changes.lock().push(format!("usage {filter:?}"));
        UsageView {
            at: Timestamp(0),
            priced: false,
            total: ModelCounts::default(),
            entries: Vec::new(),
            today: Vec::new(),
            budgets: Vec::new(),
            merged: 0,
        }
    }

    fn health(&self) -> Health {
        Health {
            status: "ok".into(),
            agents: 1,
            missing: 0,
            store: self.store_error().map(|_| "lost".into()),
            servers: 0,
            uptime: 0,
            draining: self.0.draining.load(Ordering::SeqCst).then_some(true),
            started_at: Timestamp(0),
            mayor_ready_at: None,
            run_id: "run".into(),
            version: "0".into(),
        }
    }

    fn metrics(&self) -> Metrics {
        metrics(self.is_ready(), self.store_error().is_none())
    }

    fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::SeqCst)
    }

    fn missing(&self) -> Vec<MissingAgent> {
        self.0.missing.lock().clone()
    }

    fn store_error(&self) -> Option<Arc<str>> {
        self.0.store_error.lock().clone()
    }

    fn outgoing(&self) -> Outgoing {
        self.0.outgoing.lock().clone()
    }

    fn set_model(&self, id: &AgentId, request: ModelRequest) -> Result<(), SettingsError> {
        let ModelRequest { model, small_model } = request;
        self.change(id, format!("model {model}, small {small_model:?}"))
    }

    fn set_system_prompt(
        &self,
        id: &AgentId,
        request: SystemPromptRequest,
    ) -> Result<(), SettingsError> {
        self.change(id, format!("system prompt {}", request.system_prompt))
    }

    fn set_dashboard_context(&self, request: DashboardContextRequest) {
        self.0.changes.lock().push(format!("dashboard {:?}", request.context));
    }

    fn sync_config(&self, config: &TownConfig) -> Result<(), TownConfigError> {
        if config.env_vars.contains_key("FULL") {
            return Err(TownConfigError::TooMany(257));
        }
        let word = |(key, value): (&String, &Option<Secret>)| match value {
            Some(value) => format!("{key}={}", value.expose()),
            None => key.clone(),
        };
        let words: Vec<_> = config.env_vars.iter().map(word).collect();
        self.0.changes.lock().push(format!("sync {}", words.join(" ")));
        Ok(())
    }
}

/// A sink that keeps what it gets.
#[derive(Default)]
pub(super) struct Kept(Mutex<Vec<Event>>);

impl Sink for Kept {
    fn record(&self, event: Event) {
        self.0.lock().push(event);
    }
}

/// A server on a [`Fake`].
pub(super) struct Rig {
    pub(super) backend: Fake,
    pub(super) server: ControlServer,
    pub(super) kept: Arc<Kept>,
}

impl Rig {
    pub(super) fn start() -> Self {
        Self::with(ControlLimits::default(), None)
    }

    pub(super) fn with(limits: ControlLimits, token: Option<&str>) -> Self {
        Self::with_mcp(limits, token, Mcp::default())
    }

    pub(super) fn with_mcp(limits: ControlLimits, token: Option<&str>, mcp: Mcp) -> Self {
        let backend = Fake(Arc::new(State {
            ready: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            entered: Semaphore::new(0),
            gate: Semaphore::new(0),
            abandoned: Semaphore::new(0),
            reads: reads::Reads::default(),
            unmade: Mutex::default(),
            changes: Mutex::default(),
            missing: Mutex::default(),
            store_error: Mutex::default(),
            outgoing: Mutex::default(),
            feed: Arc::default(),
            rings: Mutex::default(),
        }));
        let kept = Arc::new(Kept::default());
        let config = ControlConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            token: token.map(|token| Secret::from(token.to_owned())),
            allow_unauthenticated: false,
            allowed_hosts: Vec::new(),
            probe_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            mcp,
            limits,
        };
        let context = Arc::new(RunContext::new("run".into(), None));
        let sink = Arc::clone(&kept) as SharedSink;
        let town = Some(Arc::new(backend.clone()) as Arc<dyn TownEdge>);
        let mut server = ControlServer::bind(config, backend.clone(), town, sink, context).unwrap();
        server.serve();
        Self { backend, server, kept }
    }

    pub(super) fn client(&self) -> Client {
        Client::connect(self.server.local_addr())
    }

    /// A client of the listener for probes.
    pub(super) fn probe(&self) -> Client {
        Client::connect(self.server.probe_addr().unwrap())
    }

    /// Ends the server, so that every line is written, and returns the lines.
    pub(super) fn lines(self) -> Vec<Event> {
        self.server.shutdown(Duration::from_secs(5));
        std::mem::take(&mut *self.kept.0.lock())
    }

    /// As [`Rig::lines`], refused requests only, as `status method path error`.
    pub(super) fn refusals(self) -> Vec<String> {
        let refused = |event| match event {
            Event::RequestRefused { method, path, status, error, .. } => {
                Some(format!("{status} {method} {path} {error}"))
            }
            _ => None,
        };
        self.lines().into_iter().filter_map(refused).collect()
    }
}

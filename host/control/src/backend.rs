//! What the routes need from below.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_api::{
    AgentList, AgentMemoryView, AgentView, ContainerMemoryView, DashboardContextRequest, DiffBase,
    DiffView, EventsPage, ExecAnswer, ExecRequest, FilesView, Health, MergeAnswer, MergeRequest,
    MissingAgent, ModelRequest, NudgeRequest, PrepareRequest, RemovedWorkspace, RigView,
    StartRequest, StopAnswer, SystemPromptRequest, TownConfig, UpgradeView, UsageView,
    WorkspaceList,
};
use bulkhead_feed::{Feed, Ring};
use bulkhead_supervisor::{
    BroughtComponent, CrashFilter, CrashPage, Delivery, ExecRefusal, Incoming, Metrics, Outgoing,
    SendError, SettingsError, StartError, Started, StopError, Supervisor, TownConfigError,
    UpgradeRefusal, UsageFilter, WorkspaceError,
};
use bulkhead_telemetry::TraceContext;
use bulkhead_types::{AgentId, Body, CrashRecord, Sender};

/// The supervisor as the routes see it. A trait, so that the server's own tests need no engine.
///
/// A client that goes away drops the future of its call at any await; what it began must not depend
/// on it. Everything that is not async runs on the control server's only thread and must not wait.
pub trait Backend: Clone + Send + Sync + 'static {
    /// Starts an agent; resolves when it is running, or at its deadline. `trace` is the span that asks for it.
    fn start(
        &self,
        request: StartRequest,
        trace: Option<TraceContext>,
    ) -> impl Future<Output = Result<Started, StartError>> + Send;
    /// Starts an agent with what it was started with last, also out of a quarantine. `None`: nothing is known of it.
    fn start_again(
        &self,
        id: &AgentId,
        trace: Option<TraceContext>,
    ) -> impl Future<Output = Result<Option<Started>, StartError>> + Send;
    /// Stops an agent; resolves when its incarnation is gone. `by` says who asked.
    fn stop(
        &self,
        id: &AgentId,
        by: &str,
    ) -> impl Future<Output = Result<StopAnswer, StopError>> + Send;
    /// Resolves when boot has brought an agent back, or is not going to. An error when that takes long.
    fn brought_back(&self, id: &AgentId) -> impl Future<Output = Result<(), SendError>> + Send;
    /// Puts a message into an agent's mailbox. `trace` is the span that causes it.
    fn send(
        &self,
        id: &AgentId,
        sender: Sender,
        body: Body,
        trace: Option<TraceContext>,
    ) -> Result<Delivery, SendError>;
    /// Leaves a nudge for an agent and returns its id.
    fn nudge(&self, id: &AgentId, request: NudgeRequest) -> Result<String, SendError>;
    /// Agents that are known, by their ids: those above `after`, at most `limit`.
    fn list(&self, after: Option<&AgentId>, limit: usize) -> AgentList;
    /// One agent.
    fn status(&self, id: &AgentId) -> Option<AgentView>;
    /// An agent's events with an id above `after`.
    fn events_after(&self, id: &AgentId, after: u64) -> EventsPage;
    /// All events.
    fn feed(&self) -> &Arc<Feed>;
    /// Those of one agent, and its turns as they happen.
    fn ring(&self, id: &AgentId) -> Option<Arc<Ring>>;
    /// Some crash records, newest first.
    fn crashes(&self, filter: &CrashFilter) -> CrashPage;
    /// One crash record.
    fn crash(&self, crash_id: &str) -> Option<Arc<CrashRecord>>;
    /// The memory of the container.
    fn memory(&self) -> ContainerMemoryView;
    /// The memory of one agent.
    fn agent_memory(&self, id: &AgentId) -> Option<AgentMemoryView>;
    /// What agents used of language models.
    fn usage(&self, filter: &UsageFilter) -> UsageView;
    /// How the container is.
    fn health(&self) -> Health;
    /// The container in numbers.
    fn metrics(&self) -> Metrics;
    /// Whether new starts are taken.
    fn is_ready(&self) -> bool;
    /// Desired agents that are missing.
    fn missing(&self) -> Vec<MissingAgent>;
    /// Why nothing is durable that should be.
    fn store_error(&self) -> Option<Arc<str>>;
    /// What should leave the machine, and how it does.
    fn outgoing(&self) -> Outgoing;
    /// Changes the models of a live agent.
    fn set_model(&self, id: &AgentId, request: ModelRequest) -> Result<(), SettingsError>;
    /// Changes the standing instructions of a live agent.
    fn set_system_prompt(
        &self,
        id: &AgentId,
        request: SystemPromptRequest,
    ) -> Result<(), SettingsError>;
    /// Changes the dashboard's values for all agents.
    fn set_dashboard_context(&self, request: DashboardContextRequest);
    /// Changes the town's configuration values: all that are named, or none.
    fn sync_config(&self, config: &TownConfig) -> Result<(), TownConfigError>;
    /// Has the town move to another copy. The epoch that is given back; `None`: there is no lease.
    fn give_up(&self) -> Option<u64>;
    /// The workspaces of all agents.
    fn workspaces(&self) -> impl Future<Output = Result<WorkspaceList, WorkspaceError>> + Send;
    /// Removes one whose agent does not run. `force`: also with work that is nowhere else.
    fn remove_workspace(
        &self,
        id: &AgentId,
        force: bool,
    ) -> impl Future<Output = Result<RemovedWorkspace, WorkspaceError>> + Send;
    /// What is at a path of an agent's workspace; of a file at most `max_bytes` from `offset` on.
    fn files(
        &self,
        id: &AgentId,
        path: &str,
        offset: u64,
        max_bytes: usize,
    ) -> impl Future<Output = Result<FilesView, WorkspaceError>> + Send;
    /// What an agent did in its repository, at most `max_bytes` of it.
    fn diff(
        &self,
        id: &AgentId,
        against: DiffBase,
        max_bytes: usize,
    ) -> impl Future<Output = Result<DiffView, WorkspaceError>> + Send;
    /// Runs a program in an agent's place, to its end or that of the agent.
    fn exec(
        &self,
        id: &AgentId,
        request: ExecRequest,
    ) -> impl Future<Output = Result<ExecAnswer, ExecRefusal>> + Send;
    /// Fetches the repository of a rig.
    fn prepare_rig(
        &self,
        rig: &str,
        request: PrepareRequest,
    ) -> impl Future<Output = Result<RigView, WorkspaceError>> + Send;
    /// Merges a branch of a rig's repository into another one.
    fn merge(
        &self,
        rig: &str,
        request: MergeRequest,
    ) -> impl Future<Output = Result<MergeAnswer, WorkspaceError>> + Send;
    /// The component that a reference names, for an upgrade of this role.
    fn fetch_component(
        &self,
        role: &str,
        reference: &str,
    ) -> impl Future<Output = Result<BroughtComponent, UpgradeRefusal>> + Send;
    /// A file for a component that somebody brings.
    fn receive_component(&self) -> impl Future<Output = Result<Incoming, UpgradeRefusal>> + Send;
    /// Has all agents of a role go on with other code.
    fn upgrade(
        &self,
        role: &str,
        component: Option<BroughtComponent>,
        prove: Duration,
    ) -> impl Future<Output = Result<UpgradeView, UpgradeRefusal>> + Send;
    /// The upgrade of a role that is under way, or the last one.
    fn upgrade_of(&self, role: &str) -> Result<UpgradeView, UpgradeRefusal>;
    /// Takes an upgrade back that is under way.
    fn abort_upgrade(&self, role: &str) -> Result<UpgradeView, UpgradeRefusal>;
}

impl Backend for Supervisor {
    async fn start(
        &self,
        request: StartRequest,
        trace: Option<TraceContext>,
    ) -> Result<Started, StartError> {
        Supervisor::start(self, request, trace).await
    }

    async fn start_again(
        &self,
        id: &AgentId,
        trace: Option<TraceContext>,
    ) -> Result<Option<Started>, StartError> {
        Supervisor::start_again(self, id, trace).await
    }

    async fn stop(&self, id: &AgentId, by: &str) -> Result<StopAnswer, StopError> {
        Supervisor::stop(self, id, by).await
    }

    async fn brought_back(&self, id: &AgentId) -> Result<(), SendError> {
        Supervisor::brought_back(self, id).await
    }

    fn send(
        &self,
        id: &AgentId,
        sender: Sender,
        body: Body,
        trace: Option<TraceContext>,
    ) -> Result<Delivery, SendError> {
        Supervisor::send(self, id, sender, body, trace)
    }

    fn nudge(&self, id: &AgentId, request: NudgeRequest) -> Result<String, SendError> {
        Supervisor::nudge(self, id, request)
    }

    fn list(&self, after: Option<&AgentId>, limit: usize) -> AgentList {
        self.list_after(after, limit)
    }

    fn status(&self, id: &AgentId) -> Option<AgentView> {
        Supervisor::status(self, id)
    }

    fn events_after(&self, id: &AgentId, after: u64) -> EventsPage {
        Supervisor::events_after(self, id, after)
    }

    fn feed(&self) -> &Arc<Feed> {
        Supervisor::feed(self)
    }

    fn ring(&self, id: &AgentId) -> Option<Arc<Ring>> {
        Supervisor::ring(self, id)
    }

    fn crashes(&self, filter: &CrashFilter) -> CrashPage {
        Supervisor::crashes(self, filter)
    }

    fn crash(&self, crash_id: &str) -> Option<Arc<CrashRecord>> {
        Supervisor::crash(self, crash_id)
    }

    fn memory(&self) -> ContainerMemoryView {
        Supervisor::memory(self)
    }

    fn agent_memory(&self, id: &AgentId) -> Option<AgentMemoryView> {
        Supervisor::agent_memory(self, id)
    }

    fn usage(&self, filter: &UsageFilter) -> UsageView {
        Supervisor::usage(self, filter)
    }

    fn health(&self) -> Health {
        Supervisor::health(self)
    }

    fn metrics(&self) -> Metrics {
        Supervisor::metrics(self)
    }

    fn is_ready(&self) -> bool {
        Supervisor::is_ready(self)
    }

    fn missing(&self) -> Vec<MissingAgent> {
        Supervisor::missing(self)
    }

    fn store_error(&self) -> Option<Arc<str>> {
        Supervisor::store_error(self)
    }

    fn outgoing(&self) -> Outgoing {
        Supervisor::outgoing(self)
    }

    fn set_model(&self, id: &AgentId, request: ModelRequest) -> Result<(), SettingsError> {
        Supervisor::set_model(self, id, request)
    }

    fn set_system_prompt(
        &self,
        id: &AgentId,
        request: SystemPromptRequest,
    ) -> Result<(), SettingsError> {
        Supervisor::set_system_prompt(self, id, request)
    }

    fn set_dashboard_context(&self, request: DashboardContextRequest) {
        Supervisor::set_dashboard_context(self, request);
    }

    fn sync_config(&self, config: &TownConfig) -> Result<(), TownConfigError> {
        Supervisor::sync_config(self, config)
    }

    fn give_up(&self) -> Option<u64> {
        bulkhead_fence::give_up()
    }

    async fn workspaces(&self) -> Result<WorkspaceList, WorkspaceError> {
        Supervisor::workspaces(self).await
    }

    async fn remove_workspace(
        &self,
        id: &AgentId,
        force: bool,
    ) -> Result<RemovedWorkspace, WorkspaceError> {
        Supervisor::remove_workspace(self, id, force).await
    }

    async fn files(
        &self,
        id: &AgentId,
        path: &str,
        offset: u64,
        max_bytes: usize,
    ) -> Result<FilesView, WorkspaceError> {
        Supervisor::files(self, id, path, offset, max_bytes).await
    }

    async fn diff(
        &self,
        id: &AgentId,
        against: DiffBase,
        max_bytes: usize,
    ) -> Result<DiffView, WorkspaceError> {
        Supervisor::diff(self, id, against, max_bytes).await
    }

    async fn exec(&self, id: &AgentId, request: ExecRequest) -> Result<ExecAnswer, ExecRefusal> {
        Supervisor::exec(self, id, request).await
    }

    async fn prepare_rig(
        &self,
        rig: &str,
        request: PrepareRequest,
    ) -> Result<RigView, WorkspaceError> {
        Supervisor::prepare_rig(self, rig, request).await
    }

    async fn merge(&self, rig: &str, request: MergeRequest) -> Result<MergeAnswer, WorkspaceError> {
        Supervisor::merge(self, rig, request).await
    }

    async fn fetch_component(
        &self,
        role: &str,
        reference: &str,
    ) -> Result<BroughtComponent, UpgradeRefusal> {
        Supervisor::fetch_component(self, role, reference).await
    }

    async fn receive_component(&self) -> Result<Incoming, UpgradeRefusal> {
        Supervisor::receive_component(self).await
    }

    async fn upgrade(
        &self,
        role: &str,
        component: Option<BroughtComponent>,
        prove: Duration,
    ) -> Result<UpgradeView, UpgradeRefusal> {
        Supervisor::upgrade(self, role, component, prove).await
    }

    fn upgrade_of(&self, role: &str) -> Result<UpgradeView, UpgradeRefusal> {
        Supervisor::upgrade_of(self, role)
    }

    fn abort_upgrade(&self, role: &str) -> Result<UpgradeView, UpgradeRefusal> {
        Supervisor::abort_upgrade(self, role)
    }
}

//! The supervisor in this process: no HTTP, no log.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bulkhead_api::StartRequest;
use bulkhead_blackbox as blackbox;
use bulkhead_blackbox::{Geometry, Run};
use bulkhead_log::{RunContext, SharedSink};
use bulkhead_memory::{Kernel, Memory, MemoryConfig, Now};
use bulkhead_runtime::{Runtime, RuntimeConfig};
use bulkhead_store::crashes::{self, Crashes};
use bulkhead_store::{Database, database, journal};
use bulkhead_supervisor::{Catalog, Role, Stores, Supervisor, SupervisorConfig};
use bulkhead_types::{AgentId, HttpPolicy, Limits, RestartRules, SnapshotRules};
use harness::files;

/// Roles, each of the component of the same name.
const GUESTS: [&str; 2] = ["echo", "trap"];

/// A host without a server.
pub struct Inside {
    pub supervisor: Supervisor,
    runtime: Arc<Runtime>,
}

impl Inside {
    /// With a database in `dir`.
    pub fn durable(dir: &Path, sink: &SharedSink) -> Self {
        let (database, _) = Database::open(database::Config::in_state_dir(dir), |_| ());
        Self::with(database, dir, sink)
    }

    /// Without one.
    pub fn forgetful(dir: &Path, sink: &SharedSink) -> Self {
        Self::with(Database::absent(), dir, sink)
    }

    fn with(database: Database, dir: &Path, sink: &SharedSink) -> Self {
        let database = Arc::new(database);
        let config = crashes::Config::default();
        let crashes = Arc::new(Crashes::new(config, Arc::clone(&database), Vec::new()));
        let config = RuntimeConfig { max_agents: 8, ..RuntimeConfig::default() };
        let runtime = Arc::new(Runtime::new(&config, Arc::clone(sink)).expect("an engine"));
        let opened = blackbox::open(dir, &Run::default(), Geometry::default());
        let memory = Memory::new(Kernel::here(), MemoryConfig::default(), Now::clock());
        let in_flight = opened.blackbox.expect("a black box").in_flight();
        let components = GUESTS.iter().map(|guest| ((*guest).into(), files::component(guest)));
        let catalog = Catalog {
            roles: GUESTS.iter().map(|guest| ((*guest).into(), role(guest))).collect(),
            components: components.collect(),
            rigs: BTreeMap::new(),
            max_agent_memory_bytes: config.max_agent_memory_bytes,
        };
        let workspaces_dir = dir.join("workspaces");
        let supervisor = Supervisor::new(
            SupervisorConfig {
                components: None,
                workspaces: None,
                inventory: None,
                archives: None,
                retention: None,
                catalog,
                workspaces_dir,
                upgrades_dir: dir.join("upgrades"),
                keep_ended: 8,
                ended_bytes: 1 << 20,
                usage: Default::default(),
                telemetry: None,
            },
            Arc::clone(&runtime),
            Arc::clone(sink),
            Stores {
                crashes,
                database,
                in_flight,
                journal: journal::open(dir, 8).journal,
                feed: Arc::default(),
            },
            Vec::new(),
            Arc::new(RunContext::new("bench".into(), None)),
            Arc::new(memory),
        );
        Self { supervisor, runtime }
    }

    /// Starts an agent named like its role.
    pub fn start(&self, role: &str) {
        let body = format!(r#"{{"agentId":"{role}","role":"{role}"}}"#);
        let request = StartRequest::parse(body.as_bytes()).expect("a request");
        let started = self.runtime.fast_lane().block_on(self.supervisor.start(request, None));
        started.expect("it starts");
    }

    /// Stops it.
    pub fn stop(&self, role: &str) {
        let id = AgentId::parse(role).expect("an id");
        let stopped = self.runtime.fast_lane().block_on(self.supervisor.stop(&id, "bench"));
        stopped.expect("it stops");
    }

    /// Ends its threads.
    pub fn end(self) {
        drop(self.supervisor);
        if let Some(runtime) = Arc::into_inner(self.runtime) {
            runtime.shut_down();
        }
    }
}

fn role(guest: &str) -> Role {
    Role {
        component: guest.into(),
        source: None,
        args: Arc::default(),
        limits: Limits { idle: None, ..Limits::default() },
        http: HttpPolicy::default(),
        tools: None,
        git: None,
        models: Arc::default(),
        restart: RestartRules::default(),
        config: BTreeMap::new(),
        secret_env: BTreeSet::new(),
        workspace: false,
        fault_injection: false,
        core_dump: false,
        durable_in_fleet: false,
        live_output: true,
        snapshots: SnapshotRules::default(),
        eviction_weight_percent: 100,
    }
}

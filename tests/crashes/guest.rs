//! A guest in this process, without the rest of the host: the runtime as `host/agent` uses it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bulkhead_account::AccountReading;
use bulkhead_log::{SharedSink, Sink};
use bulkhead_runtime::{
    CallEnd, CallLimits, CoreDumpRules, Incarnation, InstanceContext, Loaded, Logs, Nudge, Port,
    PortError, Runtime, RuntimeConfig, StartInfo, Symbolization, TrappedStore,
};
use bulkhead_types::{
    AgentId, AgentSpec, Body, Event, Exit, HttpPolicy, Level, Limits, Message, Outcome,
    RestartRules, Secret, Sender, Settings, SnapshotRules,
};
use serde_json::value::RawValue;

/// A runtime, and a directory that goes with it.
pub struct Rig {
    pub runtime: Runtime,
    pub dir: tempfile::TempDir,
    tokio: tokio::runtime::Runtime,
}

struct Nobody;

impl Sink for Nobody {
    fn record(&self, _event: Event) {}
}

impl Port for Nobody {
    fn emit(&self, _name: &str, _data: Box<RawValue>) -> Result<(), PortError> {
        Ok(())
    }
    fn send(&self, agent_id: &str, _body: Body) -> Result<String, PortError> {
        Err(PortError::NotFound(agent_id.to_owned()))
    }
    fn set_active_tools(&self, _tools: Vec<String>) {}
    fn nudges(&self) -> Vec<Nudge> {
        Vec::new()
    }
    fn log_line(
        &self,
        _level: Level,
        _stream: &'static str,
        _message: String,
        _fields: BTreeMap<String, String>,
        _dropped: u64,
    ) {
    }
    fn memory_soft_limit(&self, _memory: &AccountReading) {}
    fn settings(&self) -> Settings {
        Settings::default()
    }
    fn live_value(&self, _key: &str) -> Option<Secret> {
        None
    }
    fn live_values(&self) -> BTreeMap<String, Secret> {
        BTreeMap::new()
    }
}

impl Rig {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("make a directory");
        let config = RuntimeConfig {
            max_agents: 2,
            lane_threads: 1,
            core_dumps: Some(CoreDumpRules::in_dir(dir.path().join("cores"))),
            ..RuntimeConfig::default()
        };
        let runtime = Runtime::new(&config, Arc::new(Nobody) as SharedSink).expect("a runtime");
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self { runtime, dir, tokio: tokio.expect("start tokio") }
    }

    /// Loads what is in `path`.
    pub fn load(&self, path: &Path) -> Arc<Loaded> {
        self.runtime.load_blocking(&"guest".into(), path).expect("load the component")
    }

    /// A copy of a component that the test may change.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).expect("write a component");
        path
    }

    /// Where core dumps go.
    pub fn cores(&self) -> PathBuf {
        self.dir.path().join("cores")
    }

    /// The exit that a message leads to.
    pub fn ends_by(&self, loaded: &Arc<Loaded>, body: &str) -> Exit {
        match self.handle(loaded, body, false) {
            CallEnd::Ended(exit, _) => exit,
            CallEnd::Returned(..) => panic!("it lives on after {body}"),
        }
    }

    /// The same, with what is left of an agent that wants core dumps.
    pub fn remains(&self, loaded: &Arc<Loaded>, body: &str) -> (Exit, TrappedStore) {
        match self.handle(loaded, body, true) {
            CallEnd::Ended(exit, Some(remains)) => (exit, *remains),
            _ => panic!("{body} leaves nothing"),
        }
    }

    /// What is left of such an agent, if anything is.
    pub fn try_remains(&self, loaded: &Arc<Loaded>, body: &str) -> Option<Box<TrappedStore>> {
        match self.handle(loaded, body, true) {
            CallEnd::Ended(_, remains) => remains,
            CallEnd::Returned(..) => None,
        }
    }

    fn handle(&self, loaded: &Arc<Loaded>, body: &str, core_dump: bool) -> CallEnd<Outcome> {
        let message = Message::new("m-1", Sender::Operator, body);
        let spec = AgentSpec { core_dump, ..spec(64 << 20) };
        self.tokio.block_on(self.started(loaded, spec).handle(&message, limits()))
    }

    fn started(&self, loaded: &Arc<Loaded>, spec: AgentSpec) -> Incarnation {
        let spec = Arc::new(spec);
        let log_budget = Arc::new(Mutex::new(Logs::budget(1000)));
        let birth = Arc::new(InstanceContext::new(
            spec,
            Arc::new(Nobody),
            None,
            log_budget,
            Arc::default(),
            Arc::default(),
        ));
        let info = StartInfo { incarnation: 1, restored: false, town_id: None };
        self.tokio.block_on(async {
            let call = self.runtime.instantiate(loaded, birth, limits());
            let CallEnd::Returned(incarnation, Ok(())) = call.await else { panic!("not born") };
            let CallEnd::Returned(incarnation, Ok(())) = incarnation.start(info, limits()).await
            else {
                panic!("not started")
            };
            incarnation
        })
    }

    /// Files and lines of an exit.
    pub fn symbolize(&self, loaded: &Loaded, exit: &Exit) -> Arc<Symbolization> {
        let Loaded { digest, path, .. } = loaded;
        self.runtime.symbolizer().symbolize(*digest, path, &exit.frames).wait()
    }
}

fn limits() -> CallLimits {
    let minute = Duration::from_secs(60);
    CallLimits { cpu: minute, wall: minute, host_call: minute }
}

fn spec(memory_bytes: u64) -> AgentSpec {
    AgentSpec {
        id: AgentId::parse("a").expect("an id"),
        role: "r".into(),
        component: "guest".into(),
        args: Arc::default(),
        name: "a".into(),
        town_id: None,
        rig_id: None,
        prompt: String::new(),
        system_prompt: None,
        model: None,
        small_model: None,
        config: BTreeMap::new(),
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        limits: Limits { memory_bytes, ..Limits::default() },
        http: HttpPolicy::default(),
        snapshots: SnapshotRules::default(),
        restart: RestartRules::default(),
        fault_injection: false,
        core_dump: false,
        eviction_weight_percent: 100,
    }
}

//! A guest without the rest of the host: the runtime as `host/agent` uses it, for tests and measurements that have it
//! in their own process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bulkhead_account::AccountReading;
use bulkhead_log::Sink;
use bulkhead_runtime::{
    CallEnd, CallLimits, Incarnation, InstanceContext, Loaded, Logs, Nudge, Port, PortError,
    Runtime, StartInfo,
};
use bulkhead_types::{
    AgentId, AgentSpec, Body, Event, HttpPolicy, Level, Limits, RestartRules, Secret, Settings,
    SnapshotRules,
};
use serde_json::value::RawValue;

/// A host that keeps nothing of what its agent says and has nothing for it.
pub struct Nobody;

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

/// What an agent is made of that has 64 MiB and no settings.
///
/// # Panics
///
/// Never: its id is one.
pub fn spec(component: &str) -> AgentSpec {
    AgentSpec {
        id: AgentId::parse("a").expect("an id"),
        role: "r".into(),
        component: component.into(),
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
        limits: Limits { memory_bytes: 64 << 20, ..Limits::default() },
        http: HttpPolicy::default(),
        snapshots: SnapshotRules::default(),
        restart: RestartRules::default(),
        fault_injection: false,
        core_dump: false,
        eviction_weight_percent: 100,
    }
}

/// What it is born with, beside [`Nobody`].
pub fn birth(spec: AgentSpec) -> InstanceContext {
    let log_budget = Arc::new(Mutex::new(Logs::budget(1000)));
    InstanceContext::new(
        Arc::new(spec),
        Arc::new(Nobody),
        None,
        log_budget,
        Arc::default(),
        Arc::default(),
    )
}

/// Limits of a call that nobody reaches.
pub fn limits() -> CallLimits {
    let minute = Duration::from_secs(60);
    CallLimits { cpu: minute, wall: minute, host_call: minute }
}

/// An agent from nothing to the end of its `start`.
///
/// # Panics
///
/// When it does not get there.
pub async fn started(
    runtime: &Runtime,
    loaded: &Arc<Loaded>,
    birth: InstanceContext,
) -> Incarnation {
    let info = StartInfo { incarnation: 1, restored: false, town_id: None };
    let call = runtime.instantiate(loaded, Arc::new(birth), limits());
    let CallEnd::Returned(incarnation, Ok(())) = call.await else { panic!("not born") };
    let CallEnd::Returned(incarnation, Ok(())) = incarnation.start(info, limits()).await else {
        panic!("not started")
    };
    incarnation
}

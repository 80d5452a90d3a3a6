//! A guest without the rest of the host: the runtime as `host/agent` uses it, for tests and measurements that have it
//! in their own process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_log::Sink;
use bulkhead_runtime::{
    CallEnd, CallLimits, Incarnation, InstanceContext, Loaded, Logs, Port, Runtime, StartInfo,
};
use bulkhead_types::{AgentId, AgentSpec, Event, Level, Limits, Secret, Settings};
use parking_lot::Mutex;

/// A host that has nothing for its agent and keeps the lines that it logs or prints.
#[derive(Default)]
pub struct Nobody {
    /// In order.
    pub lines: Mutex<Vec<String>>,
}

impl Sink for Nobody {
    fn record(&self, _event: Event) {}
}

impl Port for Nobody {
    bulkhead_runtime::empty_port!();
    fn log_line(
        &self,
        _level: Level,
        _stream: &'static str,
        message: String,
        _fields: BTreeMap<String, String>,
        _dropped: u64,
    ) {
        self.lines.lock().push(message);
    }
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
    let limits = Limits { memory_bytes: 64 << 20, ..Limits::default() };
    let id = AgentId::parse("a").expect("an id");
    AgentSpec { limits, ..AgentSpec::new(id, "r".into(), component.into()) }
}

/// What it starts with, beside [`Nobody`].
pub fn instance_context(spec: AgentSpec) -> InstanceContext {
    let log_budget = Arc::new(Mutex::new(Logs::budget(1000)));
    InstanceContext::new(
        Arc::new(spec),
        Arc::new(Nobody::default()),
        None,
        log_budget,
        Arc::default(),
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
    instance_context: InstanceContext,
) -> Incarnation {
    let info = StartInfo { incarnation: 1, restored: false, town_id: None };
    let call = runtime.instantiate(loaded, None, Arc::new(instance_context), limits());
    let CallEnd::Returned(incarnation, Ok(())) = call.await else { panic!("not born") };
    let CallEnd::Returned(incarnation, Ok(())) = incarnation.start(info, limits()).await else {
        panic!("not started")
    };
    incarnation
}

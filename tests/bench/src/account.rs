//! What the memory account costs a guest that allocates: the runtime alone, in this process, with its limiter
//! and without one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bulkhead_account::AccountReading;
use bulkhead_log::{SharedSink, Sink};
use bulkhead_runtime::{
    CallEnd, CallLimits, Incarnation, InstanceContext, Loaded, Logs, Nudge, Port, PortError,
    Runtime, RuntimeConfig, StartInfo,
};
use bulkhead_types::{
    AgentId, AgentSpec, Body, Event, HttpPolicy, Level, Limits, Message, RestartRules, Secret,
    Sender, Settings, SnapshotRules,
};
use harness::files;
use serde_json::value::RawValue;

use crate::report::{Report, Row};
use crate::samples::Samples;

/// What the guest piles up in one turn, in pieces of a few KiB.
const PILE: &str = "pile 49152";

/// It may be this many times slower than without a limiter.
const ALLOWED: f64 = 1.03;

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

/// Turn and turn about, so that both meet the same machine.
pub fn measure(rounds: usize, report: &mut Report) {
    let (runtime, tokio) = engine();
    let loaded = runtime.load_blocking(&"hog".into(), &files::component("hog"));
    let loaded = loaded.expect("load the component");
    let (mut limited, mut free) = (Samples::new(), Samples::new());
    for round in 0..rounds + rounds / 10 {
        let one = tokio.block_on(turn(&runtime, &loaded, birth()));
        let other = tokio.block_on(turn(&runtime, &loaded, birth().unlimited()));
        if round >= rounds / 10 {
            limited.add(one);
            free.add(other);
        }
    }
    runtime.shut_down();
    let rate = |samples: &Samples| 1.0 / samples.percentile(50).as_secs_f64();
    let name = "turns that allocate 48 MiB, against no limiter";
    report.add(Row::rate(name, limited.len(), rate(&limited), rate(&free), 1.0 / ALLOWED));
}

/// An engine, and what drives it.
pub fn engine() -> (Runtime, tokio::runtime::Runtime) {
    let config = RuntimeConfig { max_agents: 2, lane_threads: 1, ..RuntimeConfig::default() };
    let runtime = Runtime::new(&config, Arc::new(Nobody) as SharedSink).expect("a runtime");
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build();
    (runtime, tokio.expect("start tokio"))
}

/// One turn in a life of its own.
async fn turn(runtime: &Runtime, loaded: &Arc<Loaded>, birth: InstanceContext) -> Duration {
    let incarnation = started(runtime, loaded, birth).await;
    let message = Message::new("m", Sender::Operator, PILE);
    let began = Instant::now();
    let CallEnd::Returned(incarnation, Ok(_)) = incarnation.handle(&message, limits()).await else {
        panic!("the guest did not survive {PILE}")
    };
    let took = began.elapsed();
    drop(incarnation);
    took
}

/// A life from nothing to the end of the guest's `start`.
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

fn limits() -> CallLimits {
    let minute = Duration::from_secs(60);
    CallLimits { cpu: minute, wall: minute, host_call: minute }
}

/// What an agent is born with.
pub fn birth() -> InstanceContext {
    let spec = AgentSpec {
        id: AgentId::parse("a").expect("an id"),
        role: "r".into(),
        component: "hog".into(),
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
        limits: Limits { memory_bytes: 64 * 1024 * 1024, ..Limits::default() },
        http: HttpPolicy::default(),
        restart: RestartRules::default(),
        fault_injection: false,
        core_dump: false,
        snapshots: SnapshotRules::default(),
        eviction_weight_percent: 100,
    };
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

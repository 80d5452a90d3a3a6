//! A crash from the message that causes it to the place that is free again, with the supervisor in this
//! process: no HTTP, and no log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bulkhead_api::StartRequest;
use bulkhead_events::{RunContext, SharedSink, Sink};
use bulkhead_memory::{Kernel, Memory, MemoryConfig, Now};
use bulkhead_model::{AgentId, Event, HttpPolicy, Limits, RestartRules, Sender};
use bulkhead_runtime::{Runtime, RuntimeConfig};
use bulkhead_store::blackbox::{self, Geometry, Run};
use bulkhead_store::crashes::{self, Crashes};
use bulkhead_supervisor::{Catalog, Role, Supervisor, SupervisorConfig, TurnReport};
use harness::files;

use crate::report::{Report, Row};
use crate::samples::Samples;

/// From the trap to the record and the free place. What is measured begins earlier.
const BUDGET: Duration = Duration::from_micros(150);

const GUESTS: [&str; 2] = ["echo", "trap"];

/// Notes when a crash record was handed over, and keeps nothing.
#[derive(Default)]
struct Stopwatch(Mutex<Option<Instant>>);

impl Sink for Stopwatch {
    fn record(&self, event: Event) {
        if matches!(event, Event::AgentCrash(_)) {
            *self.0.lock().expect("no panic holds it") = Some(Instant::now());
        }
    }
}

impl Stopwatch {
    fn take(&self) -> Instant {
        self.0.lock().expect("no panic holds it").take().expect("a crash was told")
    }
}

/// Nothing is subtracted: each figure begins when the message is handed in, so the wake-up of the agent's
/// thread and the turn up to its trap are in it. The round trip of an echo stands beside them to compare.
pub fn measure(rounds: usize, report: &mut Report) {
    let dir = tempfile::tempdir().expect("a directory");
    let stopwatch = Arc::new(Stopwatch::default());
    let (supervisor, runtime) = host(dir.path(), &(Arc::clone(&stopwatch) as SharedSink));
    let (mut echo, mut record, mut free) = (Samples::new(), Samples::new(), Samples::new());
    start(&supervisor, &runtime, "echo");
    for round in 0..rounds + rounds / 10 {
        start(&supervisor, &runtime, "trap");
        let (sent, answered, _) = turn(&supervisor, "echo", "hello");
        let whole_turn = answered - sent;
        let (sent, ended, end) = turn(&supervisor, "trap", "panic");
        assert!(matches!(end, TurnReport::Ended { crash_id: Some(_), .. }), "it did not crash");
        if round >= rounds / 10 {
            echo.add(whole_turn);
            record.add(stopwatch.take() - sent);
            free.add(ended - sent);
        }
    }
    report.add(Row::floor("in process: message in to echo out", &echo, echo.percentile(50)));
    let name = "in process: message in to crash record";
    report.add(Row::alone(name, &record, BUDGET));
    report.add(Row::alone("in process: message in to free place", &free, BUDGET));
    drop(supervisor);
    if let Some(runtime) = Arc::into_inner(runtime) {
        runtime.shut_down();
    }
}

fn host(dir: &Path, sink: &SharedSink) -> (Supervisor, Arc<Runtime>) {
    let config = RuntimeConfig { max_agents: 8, ..RuntimeConfig::default() };
    let runtime = Arc::new(Runtime::new(&config, Arc::clone(sink)).expect("an engine"));
    let opened = blackbox::open(dir, &Run::default(), Geometry::default());
    let memory = Memory::new(Kernel::here(), MemoryConfig::default(), Now::clock());
    let memory = Arc::new(memory);
    let in_flight = opened.blackbox.expect("a black box").in_flight();
    let (crashes, _) = Crashes::open(&crashes::Config::in_dir(dir));
    let role = |guest: &str| Role {
        component: guest.into(),
        limits: Limits { idle: None, ..Limits::default() },
        http: HttpPolicy::default(),
        restart: RestartRules::default(),
        config: BTreeMap::new(),
        workspace: false,
        fault_injection: false,
        core_dump: false,
        eviction_weight_percent: 100,
    };
    let catalog = Catalog {
        roles: GUESTS.iter().map(|guest| ((*guest).into(), role(guest))).collect(),
        components: GUESTS.iter().map(|guest| ((*guest).into(), files::component(guest))).collect(),
        max_agent_memory_bytes: config.max_agent_memory_bytes,
    };
    let workspaces_dir = dir.join("workspaces");
    let config = SupervisorConfig { catalog, workspaces_dir, keep_ended: 8 };
    let context = Arc::new(RunContext::new("bench".into(), None));
    let (sink, crashes) = (Arc::clone(sink), Arc::new(crashes));
    let supervisor =
        Supervisor::new(config, Arc::clone(&runtime), sink, crashes, in_flight, context, memory);
    (supervisor, runtime)
}

/// Starts an agent named like its role.
fn start(supervisor: &Supervisor, runtime: &Runtime, role: &str) {
    let body = format!(r#"{{"agentId":"{role}","role":"{role}"}}"#);
    let request = StartRequest::parse(body.as_bytes()).expect("a request");
    runtime.fast_lane().block_on(supervisor.start(request)).expect("it starts");
}

/// Sends a message and looks for the end of its turn again and again, so that nobody has to wake this
/// thread.
fn turn(supervisor: &Supervisor, agent: &str, body: &str) -> (Instant, Instant, TurnReport) {
    let id = AgentId::parse(agent).expect("an id");
    let sent = Instant::now();
    let sent_message = supervisor.send(&id, Sender::Operator, body.into());
    let mut delivery = sent_message.expect("the agent runs");
    loop {
        if let Ok(report) = delivery.report.try_recv() {
            return (sent, Instant::now(), report);
        }
        std::hint::spin_loop();
    }
}

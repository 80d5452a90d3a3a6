//! What it costs to keep agents over the process, and how fast they are back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_log::{SharedSink, Sink};
use bulkhead_types::Event;
use harness::Host;
use rustix::process::Signal;

use crate::connection::Connection;
use crate::inside::Inside;
use crate::report::{Report, Row};
use crate::samples::Samples;

/// An acknowledged start with the database, beyond one without.
const START_BUDGET: Duration = Duration::from_micros(100);

/// Agents that are restored.
const AGENTS: usize = 1000;

/// From the exec of the host to the first 200 of `/readyz`.
const BOOT_BUDGET: Duration = Duration::from_millis(500);

/// Boots that are timed.
const BOOTS: usize = 10;

/// Between two questions whether it is ready.
const PAUSE: Duration = Duration::from_millis(1);

struct Nothing;

impl Sink for Nothing {
    fn record(&self, _: Event) {}
}

pub fn measure(rounds: usize, report: &mut Report) {
    starts(rounds, report);
    boots(report);
}

/// Starts with and without a database in turn, in this process.
fn starts(rounds: usize, report: &mut Report) {
    let sink = Arc::new(Nothing) as SharedSink;
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let hosts = [Inside::forgetful(dirs[0].path(), &sink), Inside::durable(dirs[1].path(), &sink)];
    let mut times = [Samples::new(), Samples::new()];
    for round in 0..rounds + rounds / 10 {
        for (host, times) in hosts.iter().zip(&mut times) {
            let began = Instant::now();
            host.start("echo");
            let took = began.elapsed();
            host.stop("echo");
            if round >= rounds / 10 {
                times.add(took);
            }
        }
    }
    let [without, with] = &times;
    let median = without.percentile(50);
    report.add(Row::floor("in process: start without a database", without, median));
    let name = "in process: start that is durable when answered";
    report.add(Row::latency(name, with, median, median + START_BUDGET));
    hosts.into_iter().for_each(Inside::end);
}

/// Kills a host with agents again and again and waits until the next one is ready.
fn boots(report: &mut Report) {
    let settings = format!("[limits]\nmax_agents = {}\n[log]\nlevel = \"info\"", AGENTS + 100);
    let role = "memory_limit_mb = 16\nworkspace = false";
    let mut host =
        Host::builder().open().toml(&settings).role("echo", "echo", role).start().ready();
    let mut http = Connection::open(host.address());
    for n in 0..AGENTS {
        let body = format!(r#"{{"agentId":"kept-{n}","role":"echo"}}"#);
        http.timed("POST", "/agents/start", &body, 201);
    }
    let mut boots = Samples::new();
    for _ in 0..BOOTS {
        host.signal(Signal::KILL);
        host.wait();
        let began = Instant::now();
        host = host.restart();
        while host.client().get("/readyz").status != 200 {
            std::thread::sleep(PAUSE);
        }
        boots.add(began.elapsed());
        let running = host.client().list().iter().filter(|agent| agent.status == "running").count();
        assert_eq!(running, AGENTS, "every agent is back");
    }
    report.add(Row::alone("exec to ready with 1,000 agents of the store", &boots, BOOT_BUDGET));
    host.finish();
}

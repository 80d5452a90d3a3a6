//! Sweeps over the memory of as many live agents as the machine holds, and what other agents feel of them.

use std::time::Duration;

use harness::Host;
use harness::metrics::wait_for_metrics;

use crate::connection::Connection;
use crate::process::Process;
use crate::report::{Report, Row};
use crate::samples::Samples;

/// Live agents. The kernel's default of `vm.max_map_count` may hold a few less.
const CROWD: usize = 10_000;

/// Sweeps that are timed.
const SWEEPS: usize = 60;

/// Messages on either host.
const MESSAGES: usize = 3000;

/// A sweep over 10,000 agents.
const BUDGET: Duration = Duration::from_millis(2);

/// The whole host with that many idle agents.
const RESIDENT_BUDGET: u64 = 640 * 1024 * 1024;

/// Between two sweeps where they should be felt: fifty times as often as by default.
const OFTEN_MS: u64 = 100;

/// As good as never.
const NEVER_MS: u64 = 600_000;

pub fn measure(report: &mut Report) {
    let (host, mut http) = crowded(NEVER_MS);
    let resident = Process::of(host.pid()).resident_bytes();
    report.add(Row::bytes("resident with 10,000 idle agents", resident, RESIDENT_BUDGET));
    let without = messages(&mut http);
    host.finish();
    let (host, mut http) = crowded(OFTEN_MS);
    let with = messages(&mut http);
    let sweeps = sweeps(&host, SWEEPS);
    host.finish();
    report.add(Row::tail("sweep over 10,000 live agents", &sweeps, BUDGET));
    let base = without.percentile(99);
    report.add(Row::tail("message beside 10,000 agents, no sweeps", &without, base));
    report.add(Row::tail("the same with a sweep every 100 ms", &with, base * 2));
}

fn crowded(sample_ms: u64) -> (Host, Connection) {
    let settings = format!(
        "[limits]\nmax_agents = {CROWD}\n[log]\nlevel = \"info\"\n[memory]\nsample_ms = {sample_ms}"
    );
    let role = "memory_limit_mb = 16\nworkspace = false";
    let host = Host::builder().open().toml(&settings).role("echo", "echo", role).start();
    let mut http = Connection::open(host.address());
    let slots = host.client().metrics()["bulkhead_places_max"] as usize;
    for n in 0..slots {
        let body = format!("{{\"agentId\":\"a-{n}\",\"role\":\"echo\"}}");
        http.timed("POST", "/agents/start", &body, 201);
    }
    (host, http)
}

fn messages(http: &mut Connection) -> Samples {
    let mut samples = Samples::new();
    for n in 0..MESSAGES {
        let path = format!("/agents/a-{}/message?wait=10000", n % 100);
        samples.add(http.timed("POST", &path, r#"{"prompt":"hello"}"#, 200));
    }
    samples
}

/// So many, as the host itself times them.
pub fn sweeps(host: &Host, count: usize) -> Samples {
    let (mut samples, mut seen) = (Samples::new(), 0.0);
    for _ in 0..count {
        let metrics = wait_for_metrics(host.client(), "another sweep", |metrics| {
            metrics["bulkhead_memory_sweeps_total"] > seen
        });
        seen = metrics["bulkhead_memory_sweeps_total"];
        samples.add(Duration::from_secs_f64(metrics["bulkhead_memory_last_sweep_seconds"]));
    }
    samples
}

//! A crash, and a storm of them: agents that crash in every turn and come back at once, beside one that works.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::Host;

use crate::connection::Connection;
use crate::report::{Report, Row};
use crate::samples::Samples;

/// Agents that crash.
const AGENTS: usize = 100;

/// Crashes a second.
const RATE_BUDGET: f64 = 5000.0;

/// How much slower the working agent may answer in the storm, at the 99th percentile.
const DISTURBED_BUDGET: u32 = 3;

/// How long it is watched quietly.
const QUIET: Duration = Duration::from_secs(2);

pub fn measure(storm: Duration, report: &mut Report) {
    let host = Host::builder()
        .toml("[limits]\nmax_agents = 200\n[log]\nlevel = \"info\"")
        .guest("trap")
        .role(
            "trap",
            "trap",
            "workspace = false\nrestart = \"transient\"\nrestart_backoff_ms = 1\n\
             restart_backoff_max_ms = 1\nrestart_max = 100\nrestart_window_ms = 1",
        )
        .start();
    let mut http = Connection::open(host.address());
    http.timed("POST", "/agents/start", r#"{"agentId":"well","role":"echo"}"#, 201);
    for n in 0..AGENTS {
        let body = format!(r#"{{"agentId":"trap-{n}","role":"trap"}}"#);
        http.timed("POST", "/agents/start", &body, 201);
    }
    let quiet = watch(&mut http, |began| began.elapsed() < QUIET);
    let (over, crashes) = (AtomicBool::new(false), AtomicU64::new(0));
    let began = Instant::now();
    let stormy = std::thread::scope(|scope| {
        for n in 0..AGENTS {
            let (host, over, crashes) = (&host, &over, &crashes);
            scope.spawn(move || {
                let mut http = Connection::open(host.address());
                let path = format!("/agents/trap-{n}/message?wait=60000");
                while !over.load(Ordering::Relaxed) {
                    http.timed("POST", &path, r#"{"prompt":"panic"}"#, 502);
                    crashes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let stormy = watch(&mut http, |began| began.elapsed() < storm);
        over.store(true, Ordering::Relaxed);
        stormy
    });
    let seconds = began.elapsed().as_secs_f64();
    let crashes = crashes.load(Ordering::Relaxed);
    let counted = host.client().metrics()["bulkhead_agent_exits_total{reason=\"panic\"}"];
    let lost = (crashes as f64 - counted).abs();
    let number = usize::try_from(crashes).unwrap_or(usize::MAX);
    let rate = crashes as f64 / seconds;
    report.add(Row::rate("crashes of 100 agents that come back", number, rate, RATE_BUDGET, 1.0));
    report.add(Row::percent("of them, not in the counts", lost / crashes as f64 * 100.0, 0.0));
    let budget = quiet.percentile(99) * DISTURBED_BUDGET;
    report.add(Row::tail("message to an agent that is well", &quiet, quiet.percentile(99)));
    report.add(Row::tail("the same in the storm", &stormy, budget));
    // Not `finish`: so many lines may be more than a reader of them keeps up with, which is no loss here.
    drop(host);
}

fn watch(http: &mut Connection, goes_on: impl Fn(Instant) -> bool) -> Samples {
    let (began, mut samples) = (Instant::now(), Samples::new());
    while goes_on(began) {
        samples.add(http.timed(
            "POST",
            "/agents/well/message?wait=60000",
            r#"{"prompt":"x"}"#,
            200,
        ));
    }
    samples
}

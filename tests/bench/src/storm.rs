//! A storm of crashes: agents that send themselves the message that makes them crash and are restarted at once,
//! beside one that works. Nobody outside the host drives it, so what is measured is the host.

use std::time::{Duration, Instant};

use harness::Host;

use crate::connection::Connection;
use crate::process::Process;
use crate::report::{Report, Row};
use crate::samples::Samples;

/// Agents that crash.
const AGENTS: usize = 100;

/// Crashes a second.
const RATE_BUDGET: f64 = 5000.0;

/// How much slower the working agent may answer in the storm, at the 99th percentile.
const DISTURBED_BUDGET: u32 = 3;

/// How long it is watched quietly.
const QUIET: Duration = Duration::from_secs(4);

/// Between two messages to it: it is not to take the cores from those that crash.
const PAUSE: Duration = Duration::from_millis(2);

/// CPU time of the host for each crash: what two cores have for 5,000 a second. The reader of the log and the
/// agent that is well need their part of it.
const CPU_BUDGET: Duration = Duration::from_micros(400);

pub fn measure(storm: Duration, report: &mut Report) {
    let host = Host::builder()
        .open()
        .toml("[limits]\nmax_agents = 200\n[log]\nlevel = \"info\"")
        .guest("puppet")
        .role(
            "looper",
            "puppet",
            "workspace = false\nrestart = \"transient\"\nmax_attempts = 1\nrestart_backoff_ms = 1\n\
             restart_backoff_max_ms = 1\nrestart_max = 100\nrestart_window_ms = 1",
        )
        .terse()
        .start();
    let mut http = Connection::open(host.address());
    http.timed("POST", "/agents/start", r#"{"agentId":"well","role":"echo"}"#, 201);
    let quiet = watch(&mut http, QUIET);
    for n in 0..AGENTS {
        let body = format!(r#"{{"agentId":"loop-{n}","role":"looper","prompt":"forever panic"}}"#);
        http.timed("POST", "/agents/start", &body, 201);
    }
    let process = Process::of(host.pid());
    let (began, before, cpu) = (Instant::now(), crashes(&host), process.cpu());
    let stormy = watch(&mut http, storm);
    let counted = crashes(&host) - before;
    let unkept = unkept(&host) / crashes(&host) * 100.0;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), process.cpu() - cpu);
    let lost = calm(&host);
    let rate = counted / seconds;
    let number = counted as usize;
    report.add(Row::rate("crashes of 100 agents that come back", number, rate, RATE_BUDGET, 1.0));
    let each = cpu.div_f64(counted.max(1.0));
    report.add(Row::cost("CPU of the host for each", number, each, CPU_BUDGET));
    report.add(Row::percent("of them, not in the counts", lost, 0.0));
    report.add(Row::percent("of them, not in the database", unkept, 0.0));
    let budget = quiet.percentile(99) * DISTURBED_BUDGET;
    report.add(Row::tail("message to an agent that is well", &quiet, quiet.percentile(99)));
    report.add(Row::tail("the same in the storm", &stormy, budget));
    // Not `finish`: so many lines may be more than a reader of them keeps up with, which is no loss here.
    drop(host);
}

/// Crashes so far, as the host counts them.
fn crashes(host: &Host) -> f64 {
    host.client().metrics()["bulkhead_agent_exits_total{reason=\"panic\"}"]
}

/// Crash records that the database did not take so far.
fn unkept(host: &Host) -> f64 {
    let metrics = host.client().metrics();
    let count = |what: &str| metrics[&format!("bulkhead_crash_{what}_total")];
    count("record_errors") + count("records_dropped")
}

/// Ends the storm. Yields the percentage by which the host's count and its log differ from the agents'
/// own numbers: every incarnation but one that was stopped ended in a crash.
fn calm(host: &Host) -> f64 {
    let mut incarnations = 0.0;
    for n in 0..AGENTS {
        let agent = format!("loop-{n}");
        host.client().stop(&agent).expect(200);
        let last = host.client().ended(&agent);
        let stopped = u64::from(last.exit_reason.as_deref() != Some("panic"));
        incarnations += (last.incarnation.0 - stopped) as f64;
    }
    let counted = crashes(host);
    let dropped = host.client().metrics()["bulkhead_log_lines_dropped_total{level=\"error\"}"];
    let logged = || host.counted("agent.crash") as f64;
    // Its lines come a moment later.
    let until = Instant::now() + Duration::from_secs(5);
    while logged() + dropped < counted && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    let lost = (incarnations - counted).abs() + (logged() + dropped - counted).abs();
    lost / incarnations * 100.0
}

fn watch(http: &mut Connection, time: Duration) -> Samples {
    let (began, mut samples) = (Instant::now(), Samples::new());
    while began.elapsed() < time {
        samples.add(http.timed(
            "POST",
            "/agents/well/message?wait=60000",
            r#"{"prompt":"x"}"#,
            200,
        ));
        std::thread::sleep(PAUSE);
    }
    samples
}

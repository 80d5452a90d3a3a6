//! How the cost of each thing grows with the number of agents that are there.

use std::time::{Duration, Instant};

use harness::Host;
use rustix::process::{Pid, Signal};

use crate::connection::Connection;
use crate::memory;
use crate::peers::memory_of;
use crate::plot::{Line, Plot};
use crate::report::{Report, Row};
use crate::samples::Samples;

const CROWDS: [usize; 5] = [1, 10, 100, 1000, 10_000];

/// Agents beside the crowd that come and go.
const GUESTS: usize = 4;

/// Starts and messages in each crowd.
const ROUNDS: usize = 1000;

/// Sweeps, boots and drains: how often.
const FEW: usize = 5;

/// A drain of 1,000 idle agents.
const DRAIN_BUDGET: Duration = Duration::from_secs(1);

/// Between two sweeps.
const SWEEP_MS: u64 = 100;

/// Between two questions whether it is ready.
const PAUSE: Duration = Duration::from_millis(1);

/// What is measured in each crowd.
const CURVES: [&str; 6] = ["health", "start", "message", "sweep", "boot", "drain"];

struct Crowd {
    /// Those that are really there: the machine may not hold all.
    agents: usize,
    times: [Samples; 6],
    resident_bytes: u64,
}

pub fn measure(report: &mut Report) {
    let crowds: Vec<_> = CROWDS.into_iter().map(crowd).collect();
    for (index, curve) in CURVES.into_iter().enumerate() {
        for crowd in &crowds {
            let name = format!("{curve} with {} agents", crowd.agents);
            let samples = &crowd.times[index];
            report.add(match (curve, crowd.agents) {
                ("drain", 1000) => Row::alone(name, samples, DRAIN_BUDGET),
                _ => Row::plain(name, samples),
            });
        }
        let points = |crowd: &Crowd| (crowd.agents as f64, crowd.times[index].middle_us());
        report_slope(curve, &crowds.iter().map(points).collect::<Vec<_>>(), report);
    }
    for crowd in &crowds {
        let name = format!("resident, the whole host, with {} agents", crowd.agents);
        let mib = crowd.resident_bytes as f64 / f64::from(1 << 20);
        report.add(Row::said(name, 1, format!("{mib:.1} MiB")));
    }
    let points = |crowd: &Crowd| (crowd.agents as f64, crowd.resident_bytes as f64 / 1024.0);
    report_slope("resident", &crowds.iter().map(points).collect::<Vec<_>>(), report);
    plots(&crowds, report);
}

/// Between each two crowds, what ten times as many agents cost in powers of ten: 0 is flat, 1 is in
/// proportion.
fn report_slope(curve: &str, points: &[(f64, f64)], report: &mut Report) {
    let slopes = points.windows(2).map(|two| {
        let slope = (two[1].1 / two[0].1).log10() / (two[1].0 / two[0].0).log10();
        format!("{slope:+.2}")
    });
    let name = format!("slope of {curve}, log over log, decade by decade");
    report.add(Row::said(name, points.len(), slopes.collect::<Vec<_>>().join(" ")));
}

fn plots(crowds: &[Crowd], report: &mut Report) {
    let line = |name: &str, value: &dyn Fn(&Crowd) -> f64| Line {
        name: name.to_owned(),
        points: crowds.iter().map(|crowd| (crowd.agents as f64, value(crowd))).collect(),
    };
    let lines = CURVES.iter().enumerate();
    report.plot(Plot::Curves {
        title: "What it takes with so many agents (p50)".into(),
        x: "agents",
        unit: "µs",
        lines: lines.map(|(at, name)| line(name, &|crowd| crowd.times[at].middle_us())).collect(),
    });
    report.plot(Plot::Curves {
        title: "Resident memory of the whole host".into(),
        x: "agents",
        unit: "MiB",
        lines: vec![line("resident", &|crowd| crowd.resident_bytes as f64 / f64::from(1 << 20))],
    });
}

fn crowd(wanted: usize) -> Crowd {
    let mut host = begin(wanted + GUESTS);
    let slots = host.client().metrics()["bulkhead_places_max"] as usize;
    let agents = wanted.min(slots - GUESTS);
    let mut http = Connection::open(host.address());
    populate(&mut http, agents);
    let [health, start, message] = requests(&mut http, agents);
    let sweep = memory::sweeps(&host, FEW);
    let pid = Pid::from_raw(host.pid() as i32).expect("a pid");
    let resident_bytes = memory_of(&[pid]).resident;
    let (mut boot, mut drain) = (Samples::new(), Samples::new());
    for _ in 0..FEW {
        host.signal(Signal::KILL);
        host.wait();
        let began = Instant::now();
        host = host.restart();
        until_ready(&host);
        boot.add(began.elapsed());
    }
    drain.add(drained(&mut host));
    for _ in 1..FEW {
        let mut host = begin(wanted + GUESTS);
        populate(&mut Connection::open(host.address()), agents);
        drain.add(drained(&mut host));
    }
    Crowd { agents, times: [health, start, message, sweep, boot, drain], resident_bytes }
}

fn begin(max_agents: usize) -> Host {
    let settings = format!(
        "[limits]\nmax_agents = {max_agents}\n[log]\nlevel = \"info\"\n[memory]\nsample_ms = {SWEEP_MS}"
    );
    let role = "memory_limit_mb = 16\nworkspace = false";
    Host::builder().open().toml(&settings).role("echo", "echo", role).terse().start().ready()
}

fn populate(http: &mut Connection, agents: usize) {
    for n in 0..agents {
        let body = format!("{{\"agentId\":\"a-{n}\",\"role\":\"echo\"}}");
        http.timed("POST", "/agents/start", &body, 201);
    }
}

/// In turn; the first tenth warms up.
fn requests(http: &mut Connection, agents: usize) -> [Samples; 3] {
    let mut all: [Samples; 3] = Default::default();
    for round in 0..ROUNDS + ROUNDS / 10 {
        // Each time another of the crowd, so that none is warmer than it would be.
        let asked = round * 7919 % agents;
        let path = format!("/agents/a-{asked}/message?wait=10000");
        let took = [
            http.timed("GET", "/health", "", 200),
            http.timed("POST", "/agents/start", r#"{"agentId":"guest","role":"echo"}"#, 201),
            http.timed("POST", &path, r#"{"prompt":"hello"}"#, 200),
        ];
        http.timed("POST", "/agents/guest/stop", "", 200);
        if round >= ROUNDS / 10 {
            all.iter_mut().zip(took).for_each(|(samples, took)| samples.add(took));
        }
    }
    all
}

fn until_ready(host: &Host) {
    while host.client().get("/readyz").status != 200 {
        std::thread::sleep(PAUSE);
    }
}

/// From SIGTERM to the end of the process.
fn drained(host: &mut Host) -> Duration {
    let began = Instant::now();
    host.signal(Signal::TERM);
    host.wait();
    began.elapsed()
}

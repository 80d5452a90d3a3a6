//! Native programs: what one takes from its agent's call to the end of the turn, with and without many agents beside it.

use std::time::Duration;

use harness::Host;
use rustix::process::Signal;

use crate::connection::Connection;
use crate::report::{Report, Row};
use crate::samples::Samples;

/// As many as the machine can hold, at most.
const CROWD: usize = 10_000;

/// In the full sandbox.
const BUDGET: Duration = Duration::from_millis(5);

/// What the crowd may add. It costs nothing, and two medians of this differ by some per cent.
const BESIDE: f64 = 1.2;

const LAYERS: &str = r#"["cgroup", "pid_namespace", "mount_namespace", "network_namespace", "identity", "landlock", "seccomp"]"#;

/// Between two programs: none pays for what the one before leaves.
const PAUSE: Duration = Duration::from_millis(10);

pub fn measure(rounds: usize, report: &mut Report) {
    let settings = format!(
        "[limits]\nmax_agents = {}\n[log]\nlevel = \"info\"\n[tools]\nrequire = {LAYERS}",
        CROWD + 1
    );
    let mut host = Host::builder()
        .open()
        .toml(&settings)
        .guest("toolbox")
        .role("echo", "echo", "memory_limit_mb = 16\nworkspace = false")
        .role("toolbox", "toolbox", "tools = [\"true\"]")
        .terse()
        .start()
        .ready();
    let mut http = Connection::open(host.address());
    http.timed("POST", "/agents/start", r#"{"agentId":"toolbox","role":"toolbox"}"#, 201);
    // The first ones warm up.
    programs(&mut http, rounds / 10);
    let alone = programs(&mut http, rounds);
    report.add(Row::alone("an agent runs `true` in the full sandbox", &alone, BUDGET));

    let agents = CROWD.min(host.client().metrics()["bulkhead_places_max"] as usize - 1);
    for n in 0..agents {
        let body = format!("{{\"agentId\":\"a-{n}\",\"role\":\"echo\"}}");
        http.timed("POST", "/agents/start", &body, 201);
    }
    let beside = programs(&mut http, rounds);
    let budget = alone.percentile(50).mul_f64(BESIDE);
    let name = format!("the same beside {agents} agents");
    report.add(Row::latency(name, &beside, alone.percentile(50), budget));
    host.signal(Signal::TERM);
    host.wait();
}

fn programs(http: &mut Connection, rounds: usize) -> Samples {
    let mut samples = Samples::new();
    for _ in 0..rounds {
        std::thread::sleep(PAUSE);
        let path = "/agents/toolbox/message?wait=10000";
        samples.add(http.timed("POST", path, r#"{"prompt":"true"}"#, 200));
        let reply = http.body();
        assert!(reply.contains(r#"\"end\":\"exited\""#), "`true` did not run: {reply}");
    }
    samples
}

//! The kernel kills the host for want of memory, for real, and the next run can prove it.

use bulkhead_blackbox as blackbox;
use harness::memory_group::{MemoryGroup, kills_are_mine};
use harness::{Host, HostBuilder, Need, Value, wait_until};
use rustix::process::Signal;

const MIB: u64 = 1024 * 1024;

/// Of the group that the host runs in.
const LIMIT: u64 = 256 * MIB;

/// Share of the limit that the host has when the test lets a sample be taken: above what the judge calls
/// near, below where the kernel has to kill.
const NEAR: f64 = 0.92;

/// Leaks at most this much for one message. A guest's memory has a bound as well.
const STEP_KIB: u64 = 2048;

/// A group, unless this machine can have none, which is printed.
fn group() -> Option<MemoryGroup> {
    match MemoryGroup::with_limit(LIMIT) {
        Ok(group) => Some(group),
        Err(reason) => {
            harness::skip(Need::Cgroup, &reason);
            None
        }
    }
}

fn leaky(group: &MemoryGroup) -> HostBuilder {
    let entrance = group.entrance();
    let entrance: Vec<&str> = entrance.iter().map(String::as_str).collect();
    let builder = Host::builder().run_by(&entrance).guest("leak");
    // Otherwise the agent would be ended before the kernel has to kill.
    builder.role("leak", "leak", "memory_limit_mb = 1024").toml("[memory]\nshed = false")
}

/// Share of the limit in the last memory sample of the running host.
fn sampled_share(host: &Host) -> Option<f64> {
    let found = blackbox::read(&host.state_dir());
    let (_, figures) = found.run()?.samples().next_back()?;
    Some(figures.anon_bytes? as f64 / figures.limit_bytes? as f64)
}

/// Leaks until the kernel kills.
fn leak_until_killed(host: &Host, group: &MemoryGroup) {
    host.client().start("leak", "leak");
    let message = format!("leak {STEP_KIB}");
    while group.share() < NEAR {
        host.client().ask("leak", &message);
    }
    wait_until("a sample near the limit", || sampled_share(host).is_some_and(|share| share > 0.9));
    let kills = group.oom_kills();
    while group.oom_kills() == kills {
        let _ = host.client().try_send_wait("leak", &message);
    }
}

#[track_caller]
fn says_oom_kill(line: &Value, confidence: &str) {
    assert_eq!((&line["cause"], &line["level"]), (&"oom_kill".into(), &"error".into()), "{line:#}");
    assert_eq!(line["confidence"], confidence, "{line:#}");
    let evidence = line["evidence"].to_string();
    assert!(evidence.contains("the kernel's count of out-of-memory kills went from"), "{line:#}");
    assert!(evidence.contains("% of its limit"), "{line:#}");
    let memory = &line["lastMemory"];
    assert_eq!(memory["limitBytes"], LIMIT, "{line:#}");
    assert!(memory["anonBytes"].as_u64() > Some(LIMIT * 9 / 10), "{line:#}");
}

#[test]
fn an_out_of_memory_kill_is_proved_by_the_init_process() {
    let _lock = kills_are_mine();
    let Some(group) = group() else { return };
    let host = leaky(&group).supervise().start().ready();
    leak_until_killed(&host, &group);
    let line = host.wait_for_number(&["container.previous_run"], 2);
    says_oom_kill(&line, "high");
    assert_eq!(line["signal"], 9, "{line:#}");
    host.ready().finish();
}

#[test]
fn an_out_of_memory_kill_that_nobody_saw_is_inferred_by_the_next_run() {
    let _lock = kills_are_mine();
    let Some(group) = group() else { return };
    let mut first = leaky(&group).start().ready();
    leak_until_killed(&first, &group);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&first.wait()), Some(9));
    let second = first.restart();
    let line = second.wait_for_number(&["container.previous_run"], 1);
    says_oom_kill(&line, "medium");
    second.ready().finish_with(Signal::TERM, harness::host::CLEAN);
}

//! The disk of the state directory is full, with agents at work.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use bulkhead_api::{CrashesPage, Readiness};
use bulkhead_types::ExitReason;
use harness::memory_group::no_kills;
use harness::{Host, HostBuilder, Need, wait_until};
use rustix::process::{Signal, kill_process};

/// Crashes on the full disk: enough facts for pages of the black box that were never written to.
const CRASHES: usize = 30;

/// Becomes its arguments, in a view of the file system in which a small disk lies over `state` in the working
/// directory. It goes with the last process that sees it.
const ENTRANCE: [&str; 6] = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    "mount -t tmpfs -o size=64m,mode=700 disk \"$PWD/state\" && exec \"$@\"",
    "sh",
];

/// Why this machine or user cannot have such a disk.
pub fn missing() -> Option<String> {
    let dir = tempfile::tempdir().expect("make a directory");
    fs::create_dir(dir.path().join("state")).expect("make a directory");
    let mut command = Command::new(ENTRANCE[0]);
    match command.args(&ENTRANCE[1..]).arg("true").current_dir(dir.path()).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("run unshare: {error}")),
    }
}

/// A host whose state directory is a disk of its own, with room for two black boxes and a few compiled
/// components.
fn start(builder: HostBuilder) -> Host {
    Host::start_with(builder.launch().run_by(&ENTRANCE), |state| {
        fs::create_dir(state).expect("make the state directory");
        builder.render(state)
    })
}

/// The state directory as the host sees it.
fn state_dir(host: &Host) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", host.pid()));
    root.join(host.state_dir().strip_prefix("/").expect("an absolute path"))
}

/// Takes all that is left of the disk.
fn fill(host: &Host) -> PathBuf {
    let path = state_dir(host).join("filler");
    let mut filler = File::create(&path).expect("make a file");
    for bytes in [1 << 20, 4096, 1] {
        let block = vec![b'x'; bytes];
        while filler.write_all(&block).is_ok() {}
    }
    path
}

/// Crashes in a row, each of which is reported in the log and found in memory.
#[track_caller]
fn crash(host: &Host, name: &str, count: usize) {
    for n in 0..count {
        let agent = format!("{name}-{n}");
        host.client().start(&agent, "frail");
        host.client().send_wait(&agent, "panic").expect_error(502, &["told to panic"]);
        let crash = host.wait_for_event(&agent, "agent.crash");
        let kept = host.client().crash(crash["crashId"].as_str().expect("an id"));
        assert_eq!(kept.reason, ExitReason::Panic);
    }
}

#[test]
fn a_full_disk_costs_what_is_on_it_and_nothing_else() {
    if let Some(reason) = missing() {
        return harness::skip(Need::Mount, &reason);
    }
    let _quiet = no_kills();
    let builder = Host::builder().guest("puppet").guest("trap");
    let builder = builder.role("frail", "trap", "workspace = false").supervise();
    let host = start(builder).ready();
    crash(&host, "before", 1);
    host.client().start("busy", "puppet");
    host.client().send("busy", "wait").expect(200);
    wait_until("it is in its turn", || host.client().status("busy").busy);
    host.client().start("one", "echo");

    let filler = fill(&host);
    crash(&host, "full", CRASHES);
    assert_eq!(host.client().ask("one", "hi"), "hi");
    assert_eq!(host.client().metrics()["bulkhead_crash_records_kept"], (CRASHES + 1) as f64);
    wait_until("what was not written is counted", || {
        host.client().metrics()["bulkhead_crash_records_waiting"] > 0.0
    });

    // The black box has its blocks: what was written to it after the disk was full is there.
    kill_process(host.supervisor_pid(), Signal::KILL).expect("send a signal");
    let line = host.wait_for_number(&["container.previous_run"], 2);
    assert_eq!(line["cause"], "external_sigkill", "{line:#}");
    assert_eq!(line["inFlight"][0]["agentId"], "busy", "{line:#}");
    let second = line["runId"].clone();
    let last = host.events_of(&format!("full-{}", CRASHES - 1), "agent.exit");
    assert!(line["lastSeq"].as_u64() >= last[0]["seq"].as_u64(), "{line:#}");

    // There is no room for another one. The run says so, and works.
    let host = host.ready();
    host.wait_for_line("a warning", |line| {
        line["level"] == "warn" && line["message"].to_string().contains("no black box")
    });
    crash(&host, "again", 20);
    assert_eq!(host.client().metrics()["bulkhead_durable"], 0.0, "it was full at boot");
    let ready: Readiness = host.client().get("/readyz").read(200);
    assert!(ready.store_error.as_ref().is_some_and(|why| why.contains("full")), "{ready:?}");
    let unavailable = host.events_named("container.store_unavailable").len();
    assert!(unavailable > 0, "a disk without room is logged");
    let before = host.events_named("container.store_available").len();
    fs::remove_file(filler).expect("remove the file");
    // What waited is there as soon as the host says so.
    let line = host.wait_for_number(&["container.store_available"], before + 1);
    assert_eq!(line["crashRecordsDropped"], 0, "{line:#}");
    assert_eq!(host.client().metrics()["bulkhead_durable"], 1.0);
    let written = host.client().metrics()["bulkhead_crash_records_written_total"];
    assert!(written >= 20.0, "{written} of the records of this run are written");
    assert_eq!(host.client().metrics()["bulkhead_crash_records_waiting"], 0.0);
    kill_process(host.supervisor_pid(), Signal::KILL).expect("send a signal");
    let line = host.wait_for_number(&["container.previous_run"], 3);
    let evidence = line["evidence"].to_string();
    assert!(evidence.contains("left no black box") && evidence.contains("signal 9"), "{line:#}");
    assert_eq!(line["previousRunId"], second, "{line:#}");
    let earlier = line["earlier"].as_array().map_or(0, Vec::len);
    assert_eq!(earlier, 0, "the run before was reported on the full disk: {line:#}");
    let host = host.ready();
    crash(&host, "after", 1);
    wait_until("records are written again", || {
        host.client().metrics()["bulkhead_crash_records_written_total"] > 0.0
    });
    kill_process(host.supervisor_pid(), Signal::KILL).expect("send a signal");
    host.wait_for_number(&["container.previous_run"], 4);
    let host = host.ready();
    let crashes = host.client().get("/crashes?limit=100").read::<CrashesPage>(200).crashes;
    assert_eq!(crashes[0].agent_id.as_str(), "after-0");
    let again = crashes.iter().filter(|crash| crash.agent_id.as_str().contains("again-"));
    assert_eq!(again.count(), 20, "not one is lost");
    host.finish();
}

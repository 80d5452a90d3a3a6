//! A boot on a disk that is full, and one with a database that cannot be read.

use std::path::{Path, PathBuf};
use std::process::Command;

use bulkhead_api::Health;
use bulkhead_store::database::{Newest, read_snapshot};
use bulkhead_types::AgentId;
use harness::host::Launch;
use harness::{Host, HostBuilder, Need, json, skip, wait_until};
use rustix::process::Signal;

/// Mounts a copy of the state directory where nothing is free, runs the host in it, and leaves nothing.
const ON_A_FULL_DISK: [&str; 6] = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    "mkdir -p full && mount -t tmpfs -o size=64m disk full && cp -a state/. full && \
     { cat /dev/zero > full/filler 2> filling || true; } && mount --bind full state && exec \"$@\"",
    "sh",
];

/// Keeps its state after each turn.
const REMEMBERS: &str = "snapshot = \"turn\"\nsnapshot_ms = 1\nworkspace = false";

fn builder() -> HostBuilder {
    Host::builder().role("remembers", "echo", REMEMBERS).role("plain", "echo", "")
}

/// A host that was killed, with agents that remember two messages: two that the API started, one that it stopped.
fn killed() -> Host {
    let mut host = builder().start().ready();
    for agent in ["one", "two", "stopped"] {
        host.client().start(agent, "remembers");
        assert_eq!(host.client().ask(agent, "1"), "1");
        assert_eq!(host.client().ask(agent, "2"), "2");
        wait_until("it is kept", || remembered(&host.state_dir(), agent) == Some(2));
    }
    host.client().stop("stopped").expect(200);
    host.signal(Signal::KILL);
    host.wait();
    host
}

/// How many messages an agent's newest snapshot in a state directory knows of.
fn remembered(state: &Path, agent: &str) -> Option<u64> {
    let found = read_snapshot(&state.join("store"), &AgentId::parse(agent).ok()?);
    let Ok(Newest::Kept(kept)) = found else { return None };
    String::from_utf8_lossy(&kept.snapshot.bytes).parse().ok()
}

/// The same in one of another mount namespace. SQLite would follow the link of `/proc` to its own root.
fn remembered_there(state: &Path, agent: &str) -> Option<u64> {
    let copy = tempfile::tempdir().expect("make a directory");
    let store = copy.path().join("store");
    std::fs::create_dir(&store).expect("make a directory");
    for name in ["bulkhead.db", "bulkhead.db-wal"] {
        // It may be moved at this moment.
        std::fs::copy(state.join("store").join(name), store.join(name)).ok()?;
    }
    remembered(copy.path(), agent)
}

#[test]
fn a_boot_on_a_full_disk_brings_all_back_with_their_state() {
    let probe = tempfile::tempdir().expect("make a directory");
    for name in ["state", "full"] {
        std::fs::create_dir(probe.path().join(name)).expect("make a directory");
    }
    let mut try_it = Command::new(ON_A_FULL_DISK[0]);
    let try_it = try_it.args(&ON_A_FULL_DISK[1..]).arg("true").current_dir(probe.path()).output();
    if !try_it.is_ok_and(|output| output.status.success()) {
        return skip(Need::Mount, "it takes the right to mount a disk");
    }
    let mut host = killed();
    let second = host.restart_with(Launch::default().run_by(&ON_A_FULL_DISK)).ready();
    let line = second.wait_for_line("that nothing is durable", |line| {
        line["event"] == "container.store_unavailable"
    });
    assert!(line["reason"].to_string().contains("full") && line["retries"] == true, "{line}");
    assert!(second.events_named("container.boot_hydration_failed").is_empty());
    assert_eq!(second.client().get("/health").read::<Health>(200).store.as_deref(), Some("lost"));
    assert!(second.client().find("stopped").is_none_or(|known| known.status != "running"));
    assert_eq!(second.client().ask("one", "3"), "3", "it has its state");
    // Somebody makes room.
    let root = PathBuf::from(format!("/proc/{}/root", second.pid()));
    let state = root.join(second.state_dir().strip_prefix("/").expect("a path"));
    assert_eq!(remembered_there(&state, "one"), Some(2), "there was no room for more");
    std::fs::remove_file(state.join("filler")).expect("make room");
    second
        .wait_for_line("that it stores again", |line| line["event"] == "container.store_available");
    assert_eq!(second.client().ask("one", "4"), "4");
    wait_until("it is kept", || remembered_there(&state, "one") == Some(4));
    assert_eq!(second.client().health().store, None);
    second.finish();
}

#[test]
fn a_database_that_cannot_be_read_is_neither_empty_nor_overwritten() {
    let mut host = killed();
    let (file, aside) = (host.state_dir().join("store/bulkhead.db"), host.dir().join("aside"));
    std::fs::rename(&file, &aside).expect("move it away");
    std::fs::create_dir(&file).expect("make a directory");
    let mut second = host.restart().ready();
    let line = second.wait_for_line("that the agents are not known", |line| {
        line["event"] == "container.boot_hydration_failed"
    });
    assert_eq!(line["level"], json!("error"), "{line}");
    assert!(second.client().find("one").is_none());
    second.client().start("new", "plain");
    assert_eq!(second.client().ask("new", "1"), "1");
    // Without its state it would begin again, and forget.
    let refused = second.client().start_with("one", "remembers", json!({}));
    refused.expect_error(500, &["cannot be read yet", "bulkhead.db"]);
    // The file system is repaired.
    std::fs::remove_dir(&file).expect("make room");
    std::fs::rename(&aside, &file).expect("put it back");
    second
        .wait_for_line("that it stores again", |line| line["event"] == "container.store_available");
    assert_eq!(remembered(&second.state_dir(), "one"), Some(2), "nothing of it is lost");
    let health: Health = second.client().get("/health").read(200);
    assert_eq!(health.missing, 2, "it does not start whom it found late");
    second.client().stop("two").expect(200);
    second.signal(Signal::KILL);
    second.wait();
    let third = second.restart().ready();
    assert_eq!(third.client().ask("one", "3"), "3");
    assert_eq!(third.client().status("new").status, "running");
    assert!(third.client().find("two").is_none(), "it was stopped");
    third.finish();
}

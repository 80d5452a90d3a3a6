//! Snapshots that are refused, and a disk that does not answer.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use bulkhead_store::database::{Newest, read_snapshot};
use bulkhead_types::AgentId;
use harness::{Host, HostBuilder, json, wait_for, wait_until};
use rustix::process::Signal;

/// Far below the ten seconds that a reader of the database tries for a lock that somebody else has, and above the two
/// that an answer waits for the database.
const SOON: Duration = Duration::from_secs(5);

fn builder(settings: &str) -> HostBuilder {
    Host::builder().guest("puppet").role("keeps", "puppet", settings)
}

/// Whether the database has any snapshot of an agent.
fn has_snapshot(host: &Host, agent: &str) -> bool {
    let id = AgentId::parse(agent).expect("an id");
    let newest = read_snapshot(&host.state_dir().join("store"), &id);
    matches!(newest, Ok(Newest::Kept(_)))
}

/// Lines that say that the agent gave none: one, however often it is asked.
fn refusals(host: &Host) -> usize {
    host.events_named("agent.snapshot_not_kept").len()
}

#[test]
fn a_snapshot_that_the_agent_did_not_give_is_asked_for_again() {
    let host = builder("snapshot = \"turn\"\nsnapshot_ms = 1").start();
    host.client().start("one", "keeps");
    assert_eq!(host.client().ask("one", "refuse 2"), "2");
    // No turn comes after it.
    wait_until("the snapshot is there", || has_snapshot(&host, "one"));
    assert_eq!(refusals(&host), 1, "it is said once");
    let seen = host.client().events_named("one", "agent.snapshot_not_kept");
    assert_eq!(seen.len(), 1, "an author sees it");
    host.finish();
}

#[test]
fn a_snapshot_that_the_agent_did_not_give_is_asked_for_again_at_the_stop() {
    let host = builder("snapshot = \"turn\"\nsnapshot_ms = 1").start();
    host.client().start("one", "keeps");
    // The first comes a millisecond after the turn. The next would come a second later.
    assert_eq!(host.client().ask("one", "refuse 1"), "1");
    wait_until("the first is refused", || refusals(&host) == 1);
    host.client().stop("one").expect(200);
    assert!(has_snapshot(&host, "one"));
    host.finish();
}

/// A lock that keeps everybody from reading and writing a database, as a disk does that does not answer.
struct Locked(#[expect(dead_code, reason = "the lock goes with it")] File);

impl Locked {
    fn new(host: &Host) -> Self {
        let index = host.state_dir().join("store/bulkhead.db-shm");
        let index = OpenOptions::new().read(true).write(true).open(index);
        let index = index.expect("open the index of the database's log");
        // SQLite's five locks of readers of a log. A reader or writer has one of them for that time.
        let lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 123,
            l_len: 5,
            l_pid: 0,
        };
        #[expect(unsafe_code, reason = "the standard library has no locks of a part of a file")]
        // SAFETY: the descriptor is open, and the lock is a whole `flock` that outlives the call.
        let taken = unsafe { libc::fcntl(index.as_raw_fd(), libc::F_SETLKW, &raw const lock) };
        assert_eq!(taken, 0, "lock the database: {}", std::io::Error::last_os_error());
        Self(index)
    }
}

/// A host with a role that keeps its state, whose component is loaded.
fn warm() -> Host {
    let host = Host::builder()
        .role("remembers", "echo", "snapshot = \"turn\"\nsnapshot_ms = 1")
        .start()
        .ready();
    host.client().start("other", "echo");
    host
}

#[test]
fn a_disk_that_does_not_answer_holds_up_no_start_beyond_its_deadline() {
    let host = warm();
    let lock = Locked::new(&host);
    let began = Instant::now();
    let answer = host.client().start_with("one", "remembers", json!({"deadlineMs": 700}));
    let took = began.elapsed();
    let answer = answer.expect_error(504, &["snapshot", "disk"]);
    assert_eq!(answer.phase.as_deref(), Some("deadline"));
    assert_eq!(answer.error_type.as_deref(), Some("deadline"));
    assert!(took < SOON, "the start was answered after {took:?}");
    drop(lock);
    host.client().start("one", "remembers");
    assert_eq!(host.client().ask("one", "hi"), "hi");
    host.finish();
}

#[test]
fn a_start_without_time_is_not_blamed_on_the_disk() {
    let host = warm();
    // One may be that fast.
    wait_until("a start is too late", || {
        let started = host.client().start_with("one", "remembers", json!({"deadlineMs": 1}));
        match started.status {
            201 => drop(host.client().stop("one").expect(200)),
            status => assert_eq!(status, 504, "{started:?}"),
        }
        started.status == 504
    });
    let exit = wait_for("its end", || {
        let status = host.client().get("/agents/one/status").body;
        let exit = &status["exit"];
        (!exit.is_null()).then(|| exit.clone()).ok_or("it is still there")
    });
    assert_eq!(exit["reason"], "start_failed", "{exit}");
    assert!(exit["message"].to_string().contains("did not start within 1 ms"), "{exit}");
    host.finish();
}

#[test]
fn a_start_that_waits_for_the_disk_hears_a_stop() {
    let host = warm();
    let lock = Locked::new(&host);
    std::thread::scope(|scope| {
        let start = scope.spawn(|| host.client().start_with("one", "remembers", json!({})));
        host.client().reaches("one", "starting");
        let began = Instant::now();
        host.client().stop("one").expect(200);
        let took = began.elapsed();
        assert!(took < SOON, "the stop took {took:?}");
        start.join().expect("the caller").expect_error(409, &["stopped before"]);
    });
    drop(lock);
    host.finish();
}

#[test]
fn a_start_that_waits_for_the_disk_does_not_hold_up_the_drain() {
    let mut host = warm();
    let _lock = Locked::new(&host);
    std::thread::scope(|scope| {
        let client = host.client().clone();
        let start = scope.spawn(move || {
            let body = json!({"agentId": "one", "role": "remembers"}).to_string();
            client.try_request(hyper::Method::POST, "/agents/start", body)
        });
        host.client().reaches("one", "starting");
        // At once, with no time to settle.
        host.signal(Signal::INT);
        let drained = host.wait_for_line("the drain", |line| line["event"] == "container.drained");
        let took = drained["durationMs"].as_u64().expect("a time");
        assert!(took < SOON.as_millis() as u64, "{drained}");
        let _ = start.join().expect("the caller");
    });
    host.wait();
}

//! One agent that crashes as fast as it is restarted, beside a hundred that work.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use bulkhead_types::restart::QuarantineReason;
use harness::client::Client;
use harness::incarnations::{check_one_at_a_time, check_one_end_each, events_of, only};
use harness::{Host, Value, files, json, wait_until};

/// Agents that work.
const HEALTHY: usize = 100;

/// Threads that talk to them, each to its share.
const SENDERS: usize = 4;

/// Between two messages of a thread: a stream, and still room for other tests.
const PAUSE: Duration = Duration::from_millis(1);

/// Restarts that the looper has in its window.
const RESTARTS: u64 = 100;

/// Is restarted at once, for as long as its window lets it.
const LOOPER: &str = "restart = \"transient\"\nmax_attempts = 1\nrestart_backoff_ms = 1\nrestart_backoff_max_ms = 1\n\
    restart_max = 100\nrestart_window_ms = 3600000\nrestart_same_fault = 100";

fn host(component: &str) -> Host {
    // Of these only `polecat` reads it.
    let role = format!("{LOOPER}\nconfig = {{ max-rounds = \"many\" }}");
    let builder = Host::builder().component(component, &files::component(component));
    builder.toml("[limits]\nmax_agents = 128").role("looper", component, &role).start()
}

/// The healthy ones and the stream of messages to them.
struct Town<'scope> {
    over: &'scope AtomicBool,
    senders: Vec<ScopedJoinHandle<'scope, u64>>,
}

impl<'scope> Town<'scope> {
    fn begin(
        scope: &'scope std::thread::Scope<'scope, '_>,
        client: &'scope Client,
        over: &'scope AtomicBool,
        answered: &'scope AtomicU64,
    ) -> Self {
        for n in 0..HEALTHY {
            client.start(&name(n), "echo");
        }
        let senders = (0..SENDERS)
            .map(|share| {
                scope.spawn(move || {
                    // Also when an assertion fails: the others must not go on for ever.
                    let _over = OverOnDrop(over);
                    talk(client, share, over, answered)
                })
            })
            .collect();
        let town = Self { over, senders };
        wait_until("everyone was spoken to", || {
            answered.load(Ordering::Acquire) >= HEALTHY as u64 || over.load(Ordering::Acquire)
        });
        town
    }

    /// Ends the stream. Panics when a message was not answered.
    fn end(self) -> u64 {
        self.over.store(true, Ordering::Release);
        self.senders.into_iter().map(|sender| sender.join().expect("everyone answers")).sum()
    }
}

struct OverOnDrop<'a>(&'a AtomicBool);

impl Drop for OverOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn name(n: usize) -> String {
    format!("healthy-{n}")
}

/// Sends to every agent of a share in turn until it is over. Returns how many answers came.
fn talk(client: &Client, share: usize, over: &AtomicBool, answered: &AtomicU64) -> u64 {
    let mut count = 0;
    while !over.load(Ordering::Acquire) {
        for n in (share..HEALTHY).step_by(SENDERS) {
            let body = format!("message {count}");
            assert_eq!(client.ask(&name(n), &body), body, "agent {n}");
            count += 1;
            answered.fetch_add(1, Ordering::Release);
            // A rate: nothing waits for this time.
            std::thread::sleep(PAUSE);
        }
    }
    count
}

/// What must hold when the looper was quarantined beside the town.
fn check_quarantine(client: &Client, start: &Value, why: QuarantineReason, ends: u64) {
    wait_until("it is quarantined", || client.status("looper").status == "quarantined");
    let status = client.status("looper");
    assert_eq!(status.incarnation.0, ends, "{status:?}");
    assert_eq!(u64::from(status.restart.attempts_in_window), ends, "{status:?}");
    assert_eq!(status.restart.quarantine.map(|quarantine| quarantine.why), Some(why));
    let refused = client.post("/agents/start", start).expect_error(409, &[]);
    assert_eq!(refused.error_type.as_deref(), Some("quarantined"), "{refused:?}");
    assert_eq!(refused.history.len(), ends as usize);
    assert_eq!(client.status("looper").incarnation.0, ends, "it was not started");
}

/// Lets everyone be spoken to once more, and ends the town.
fn end(town: Town<'_>, answered: &AtomicU64) {
    let before = answered.load(Ordering::Acquire);
    let more = 2 * HEALTHY as u64;
    wait_until("the others go on", || {
        answered.load(Ordering::Acquire) > before + more || town.over.load(Ordering::Acquire)
    });
    assert!(town.end() > more);
}

fn check_log(lines: &[Value], ends: u64) {
    for n in 0..HEALTHY {
        only(lines, &name(n), "agent.start");
        assert_eq!(only(lines, &name(n), "agent.exit")["reason"], "drained");
        assert_eq!(events_of(lines, &name(n), "agent.crash").count(), 0);
    }
    check_one_at_a_time(lines, "looper");
    check_one_end_each(lines, "looper", ends);
    only(lines, "looper", "agent.quarantined");
    let count = |event| events_of(lines, "looper", event).count() as u64;
    assert_eq!(count("agent.restart_scheduled"), ends - 1);
    assert_eq!(count("agent.crash"), ends);
}

#[test]
fn one_that_crashes_in_every_turn_disturbs_nobody_and_is_quarantined() {
    let host = host("trap");
    let client = host.client();
    let (over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let start = json!({"agentId": "looper", "role": "looper"});
    std::thread::scope(|scope| {
        let town = Town::begin(scope, client, &over, &answered);
        client.post("/agents/start", &start).expect(201);
        // Mail survives a crash: each message is the turn of one incarnation.
        for _ in 0..=RESTARTS {
            wait_until("it takes messages", || client.send("looper", "unreachable").status == 200);
        }
        check_quarantine(client, &start, QuarantineReason::Intensity, RESTARTS + 1);
        end(town, &answered);
    });
    let lines = host.finish();
    check_log(&lines, RESTARTS + 1);
    assert_eq!(events_of(&lines, "looper", "agent.start").count() as u64, RESTARTS + 1);
}

#[test]
fn one_that_cannot_start_disturbs_nobody_and_is_quarantined() {
    // What its role configures makes no sense, so it says no to every start.
    let host = host("polecat");
    let client = host.client();
    let (over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let start = json!({"agentId": "looper", "role": "looper"});
    std::thread::scope(|scope| {
        let town = Town::begin(scope, client, &over, &answered);
        client.post("/agents/start", &start).expect_error(502, &["guest-error"]);
        check_quarantine(client, &start, QuarantineReason::SameFault, RESTARTS);
        end(town, &answered);
    });
    let lines = host.finish();
    check_log(&lines, RESTARTS);
    assert_eq!(events_of(&lines, "looper", "agent.start").count(), 0);
}

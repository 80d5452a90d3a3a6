//! Ends that come in the middle of something: a turn, a start, a compilation.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bulkhead_api::{StartAnswer, StopAnswer};
use harness::incarnations::only;
use harness::{Host, json, wait_until};

/// What a busy machine may add to a grace.
const SLACK: Duration = Duration::from_secs(10);

/// The grace of the roles that have to be killed.
const GRACE: Duration = Duration::from_millis(700);

/// Stops the agent. Returns the answer and how long it took.
fn stop(host: &Host, agent: &str) -> (StopAnswer, Duration) {
    let asked = Instant::now();
    let answer = host.client().stop(agent).read(200);
    (answer, asked.elapsed())
}

#[test]
fn a_turn_that_heeds_its_deadline_ends_in_its_grace() {
    /// Between the wall time of a turn and the grace of a stop.
    const BETWEEN_MS: u64 = 30_000;
    let settings = "wall_ms = 80000\nshutdown_ms = 20000";
    let host = Host::builder().guest("puppet").role("puppet", "puppet", settings).start();
    host.client().start("one", "puppet");
    let heed = format!("heed {BETWEEN_MS}");
    std::thread::scope(|scope| {
        let turn = scope.spawn(|| host.client().send_wait("one", &heed));
        wait_until("it is in its turn", || host.client().status("one").busy);
        let (answer, took) = stop(&host, "one");
        assert_eq!(answer.exit_reason, "stopped", "{answer:?}");
        assert!(took < SLACK, "the stop took {took:?}");
        let left = turn.join().expect("an answer").reply();
        let left: u64 = left.parse().expect("a number");
        assert!((1..=20_000).contains(&left), "it saw a deadline in {left} ms");
        println!("stopped in {took:?}, the turn had {left} ms left");
    });
    let lines = host.finish();
    assert_eq!(only(&lines, "one", "agent.exit")["reason"], "stopped");
    assert!(!lines.iter().any(|line| line["event"] == "agent.crash"));
}

#[test]
fn what_does_not_end_is_killed_after_its_grace() {
    let grace = format!("shutdown_ms = {}\ncpu_ms = 80000", GRACE.as_millis());
    let guests = ["spin", "hang", "ignores-stop"];
    let with_guest = |builder: harness::HostBuilder, guest: &&str| {
        builder.guest(guest).role(guest, guest, &grace)
    };
    let host = guests.iter().fold(Host::builder(), with_guest).start();
    let mut figures = String::new();
    for (agent, role, body, phase) in [
        ("spins", "spin", Some("spin"), "handle"),
        ("waits", "hang", Some("60000"), "handle"),
        ("deaf", "ignores-stop", Some("deaf 60000"), "handle"),
        ("idle", "ignores-stop", None, "shutdown"),
    ] {
        host.client().start(agent, role);
        std::thread::scope(|scope| {
            let turn = body.map(|body| {
                let turn = scope.spawn(|| host.client().send_wait(agent, body));
                wait_until("it is in its turn", || host.client().status(agent).busy);
                turn
            });
            let (answer, took) = stop(&host, agent);
            let _ = writeln!(figures, "{agent}: {} ms over", took.as_millis() as i128 - 700);
            assert_eq!(answer.exit_reason, "killed", "{agent}: {answer:?}");
            assert!(took >= GRACE, "{agent} had {took:?} of its grace");
            assert!(took < GRACE + SLACK, "{agent} took {took:?}");
            if let Some(turn) = turn {
                let answer = turn.join().expect("an answer").expect_error(502, &[]);
                assert_eq!(answer.exit_reason.as_deref(), Some("killed"), "{answer:?}");
            }
        });
        let crash = host.wait_for_event(agent, "agent.crash");
        assert_eq!((&crash["reason"], &crash["phase"]), (&json!("killed"), &json!(phase)));
        assert_eq!(host.client().status(agent).status, "failed");
    }
    println!("{figures}");
    let lines = host.finish();
    for agent in ["spins", "waits", "deaf", "idle"] {
        assert_eq!(only(&lines, agent, "agent.exit")["by"], "control-api");
    }
}

#[test]
fn a_second_stop_waits_for_the_same_end() {
    let grace = format!("shutdown_ms = {}", GRACE.as_millis());
    let builder = Host::builder().guest("ignores-stop").role("deaf", "ignores-stop", &grace);
    let host = builder.start();
    host.client().start("one", "deaf");
    std::thread::scope(|scope| {
        let stops = [(); 3].map(|()| scope.spawn(|| stop(&host, "one")));
        for stop in stops {
            let (answer, took) = stop.join().expect("an answer");
            assert_eq!(answer.exit_reason, "killed", "{answer:?}");
            assert!(took < GRACE + SLACK, "it took {took:?}");
        }
    });
    only(&host.finish(), "one", "agent.exit");
}

#[test]
fn a_killed_transient_agent_that_was_to_stop_stays_down() {
    let settings = "restart = \"permanent\"\nrestart_backoff_ms = 1\nshutdown_ms = 300";
    let builder = Host::builder().guest("ignores-stop").role("deaf", "ignores-stop", settings);
    let host = builder.start();
    host.client().start("one", "deaf");
    assert_eq!(stop(&host, "one").0.exit_reason, "killed");
    assert_eq!(host.client().status("one").status, "failed");
    let lines = host.finish();
    assert!(!lines.iter().any(|line| line["event"] == "agent.restart_scheduled"));
}

/// Starts an agent, waits until the start is under way, and stops it: both must be answered at once.
#[track_caller]
fn cancels_start(host: &Host, role: &str, prompt: &str, under_way: impl Fn() -> bool) {
    std::thread::scope(|scope| {
        let body = json!({"prompt": prompt});
        let start = scope.spawn(|| host.client().start_with("one", role, body));
        wait_until("the start is under way", || {
            let known = host.client().find("one");
            known.is_some_and(|known| known.status == "starting") && under_way()
        });
        let (answer, took) = stop(host, "one");
        assert!(answer.stopped, "{answer:?}");
        assert!(took < SLACK, "the stop took {took:?}");
        let answer = start.join().expect("an answer").expect_error(409, &["stopped before"]);
        assert_eq!(answer.error_type.as_deref(), Some("superseded"), "{answer:?}");
        assert_eq!(answer.phase.as_deref(), Some("superseded"), "{answer:?}");
        println!("{role}: stopped in {took:?}");
    });
}

/// A program of this many functions, each some work for the compiler.
fn large_program(functions: usize) -> Vec<u8> {
    let body = "(i32.add (i32.mul (local.get 0) (i32.const 7)) (i32.const 3)) (local.set 0)\n";
    let function = format!("(func (param i32) (result i32) {} (local.get 0))", body.repeat(200));
    let core = function.repeat(functions);
    let text = format!(
        r#"(component
            (core module $m (func (export "run") (result i32) (i32.const 0)) {core})
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $run-instance (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $run-instance))
        )"#
    );
    wat::parse_str(&text).expect("a component")
}

#[test]
fn a_start_is_stopped_while_its_component_is_compiled() {
    let dir = tempfile::tempdir().expect("make a directory");
    let path = dir.path().join("large.wasm");
    std::fs::write(&path, large_program(1000)).expect("write a component");
    let host = Host::builder().component("large", &path).role("large", "large", "").start();
    let loaded = || host.events_named("container.component_loaded").len();
    cancels_start(&host, "large", "", || true);
    assert_eq!(loaded(), 0, "the stop was answered when the compiler was through");
    // The compiler goes on, and what it made is there for the next start.
    let started: StartAnswer = host.client().start_with("one", "large", json!({})).read(201);
    host.wait_for_line("the component", |line| line["event"] == "container.component_loaded");
    assert!(started.agent.incarnation.0 > 1, "{started:?}");
    assert_eq!(host.client().ended("one").exit_reason.as_deref(), Some("completed"));
    host.wait_for_line("the start that was stopped", |line| {
        line["event"] == "agent.start_superseded" && line["incarnation"] == 1
    });
    host.finish();
}

#[test]
fn a_start_is_stopped_in_the_guests_own_start() {
    for prompt in ["60000", "spin 60000"] {
        let host = Host::builder().guest("slow-start").start();
        let has_a_store = || host.client().metrics()["bulkhead_stores"] == 1.0;
        cancels_start(&host, "slow-start", prompt, has_a_store);
        let status = host.client().status("one");
        assert_eq!(status.status, "exited", "{status:?}");
        let lines = host.finish();
        let superseded: Vec<_> =
            lines.iter().filter(|line| line["event"] == "agent.start_superseded").collect();
        assert_eq!(superseded.len(), 1, "{superseded:?}");
        assert_eq!(superseded[0]["by"], "control-api", "{superseded:?}");
    }
}

//! The start slot of an agent id, over HTTP: at most one incarnation, and every start gets an answer.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use bulkhead_api::{StartAnswer, StopAnswer};
use harness::incarnations::{check_one_at_a_time, check_one_end_each};
use harness::metrics::{given_back, is_empty, wait_for_metrics};
use harness::trial::incarnation;
use harness::{Answer, Host, files};
use serde_json::{Value, json};

/// Callers at one time.
const CALLERS: usize = 64;

/// Starts `agent` from many threads at once; the body of caller `n` is `more(n)`.
fn stampede(host: &Host, role: &str, more: impl Fn(usize) -> Value + Sync) -> Vec<Answer> {
    let barrier = Barrier::new(CALLERS);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|n| {
                let (barrier, more) = (&barrier, &more);
                scope.spawn(move || {
                    let body = more(n);
                    barrier.wait();
                    host.client().start_with("one", role, body)
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().expect("a caller")).collect()
    })
}

/// How many of them have this status. Each of these is of this incarnation, and joined one unless it is new.
#[track_caller]
fn started(answers: &[Answer], status: u16, incarnation: u64) -> usize {
    let answers = answers.iter().filter(|answer| answer.status == status);
    let check = |answer: &Answer| {
        let started: StartAnswer = answer.read(status);
        let found = (started.agent.incarnation.0, started.joined);
        assert_eq!(found, (incarnation, status == 200), "{started:?}");
    };
    answers.inspect(|answer| check(answer)).count()
}

#[test]
fn identical_starts_share_one_incarnation() {
    let host = Host::builder().guest("slow-start").start();
    let answers = std::thread::scope(|scope| {
        let answers = scope.spawn(|| stampede(&host, "slow-start", |_| json!({"prompt": "wait"})));
        // While their start is under way each has a connection, beside the one of this request; its request is there or on its way.
        wait_for_metrics(host.client(), "every caller is there", |now| {
            now["bulkhead_control_connections"] > CALLERS as f64
        });
        host.release("one");
        answers.join().expect("the callers")
    });
    assert_eq!(started(&answers, 200, 1), CALLERS - 1);
    assert_eq!(started(&answers, 201, 1), 1);
    host.client().stop("one").expect(200);
    let lines = host.finish();
    check_one_at_a_time(&lines, "one");
    check_one_end_each(&lines, "one", 1);
}

/// A start takes a fraction of a millisecond, and callers come for longer than that.
#[test]
fn identical_starts_join_however_late_they_come() {
    let host = Host::builder().start();
    let mut answers = stampede(&host, "echo", |_| json!({"prompt": "hi"}));
    // Clients that come one by one, long after the agent runs.
    let late = || host.client().start_with("one", "echo", json!({"prompt": "hi"}));
    answers.extend((0..3).map(|_| late()));
    assert_eq!(started(&answers, 201, 1), 1, "{answers:?}");
    assert_eq!(started(&answers, 200, 1), answers.len() - 1);
    let fresh = json!({"prompt": "hi", "ifRunning": "restart"});
    let fresh: StartAnswer = host.client().start_with("one", "echo", fresh).read(201);
    assert_eq!((fresh.agent.incarnation.0, fresh.joined), (2, false));
    host.client().stop("one").expect(200);
    let lines = host.finish();
    check_one_at_a_time(&lines, "one");
    check_one_end_each(&lines, "one", 2);
}

#[test]
fn of_different_starts_exactly_one_runs() {
    let host = Host::builder().start();
    let answers = stampede(&host, "echo", |n| json!({"model": format!("model-{n}")}));
    let running = host.client().status("one");
    assert_eq!(running.status, "running");
    let last = running.incarnation.0;
    let mut won = Vec::new();
    for answer in &answers {
        match answer.status {
            201 => won.push(answer.read::<StartAnswer>(201).agent.incarnation.0),
            _ => {
                let refused = answer.expect_error(409, &[]);
                assert_eq!(refused.error_type.as_deref(), Some("superseded"), "{refused:?}");
            }
        }
    }
    assert!(won.contains(&last), "the one that runs was answered 201");
    host.client().stop("one").expect(200);
    let lines = host.finish();
    check_one_at_a_time(&lines, "one");
    check_one_end_each(&lines, "one", last);
    for number in won.into_iter().filter(|number| *number != last) {
        let exit = lines.iter().find(|line| {
            line["event"] == "agent.exit" && line["agentId"] == "one" && incarnation(line) == number
        });
        assert_eq!(exit.expect("an exit record")["reason"], "superseded");
    }
}

#[test]
fn many_starts_at_once_leave_nothing_behind() {
    let host = Host::builder().start();
    // What compiling and the first agent open stays open, and every caller has a connection.
    stampede(&host, "echo", |_| json!({}));
    host.client().stop("one").expect(200);
    let before = wait_for_metrics(host.client(), "nothing of the first round is left", is_empty);
    for round in 0..3 {
        stampede(&host, "echo", |n| json!({"model": format!("model-{round}-{n}")}));
        host.client().stop("one").expect(200);
        wait_for_metrics(host.client(), "counts return to their start", |now| {
            given_back(now) == given_back(&before)
        });
    }
    let lines = host.finish();
    check_one_at_a_time(&lines, "one");
}

#[test]
fn a_start_that_hangs_is_superseded_by_another_spec() {
    let host = Host::builder().guest("slow-start").start();
    std::thread::scope(|scope| {
        let body = json!({"prompt": "60000"});
        let first = scope.spawn(|| host.client().start_with("one", "slow-start", body));
        harness::wait_until("the first start is under way", || host.client().find("one").is_some());
        let began = Instant::now();
        let second = host.client().start_with("one", "slow-start", json!({"prompt": "0"}));
        assert_eq!(second.read::<StartAnswer>(201).agent.incarnation.0, 2);
        // Far below the minute that the first one wanted to hang.
        assert!(began.elapsed() < Duration::from_secs(20));
        first.join().expect("the first caller").expect_error(409, &["stopped before"]);
    });
    host.client().stop("one").expect(200);
    let lines = host.finish();
    check_one_at_a_time(&lines, "one");
    check_one_end_each(&lines, "one", 2);
}

#[test]
fn a_start_that_hangs_can_be_stopped() {
    let host = Host::builder().guest("slow-start").start();
    std::thread::scope(|scope| {
        let body = json!({"prompt": "60000"});
        let start = scope.spawn(|| host.client().start_with("one", "slow-start", body));
        harness::wait_until("the start is under way", || host.client().find("one").is_some());
        assert_eq!(host.client().stop("one").read::<StopAnswer>(200).exit_reason, "stopped");
        start.join().expect("the caller").expect_error(409, &["stopped before"]);
    });
    check_one_end_each(&host.finish(), "one", 1);
}

#[test]
fn a_replacement_keeps_its_place_in_a_full_container() {
    let host = Host::builder().toml("[limits]\nmax_agents = 2").start();
    host.client().start("one", "echo");
    host.client().start("two", "echo");
    for round in 0..20 {
        host.client().start_with("three", "echo", json!({})).expect_error(503, &["2 agents run"]);
        let body = json!({"model": format!("model-{round}")});
        host.client().start_with("one", "echo", body).expect(201);
    }
    assert_eq!(host.client().ask("two", "hi"), "hi");
    let lines = host.finish();
    check_one_at_a_time(&lines, "one");
}

#[test]
fn a_deaf_incarnation_delays_only_its_own_successor() {
    let host = Host::builder().guest("ignores-stop").start();
    host.client().start("one", "ignores-stop");
    host.client().start("bystander", "echo");
    std::thread::scope(|scope| {
        let body = json!({"model": "another"});
        let next = scope.spawn(|| host.client().start_with("one", "ignores-stop", body));
        assert_eq!(host.client().ask("bystander", "hi"), "hi");
        assert_eq!(
            next.join().expect("the caller").read::<StartAnswer>(201).agent.incarnation.0,
            2
        );
    });
    host.client().stop("one").expect(200);
    let lines = host.finish();
    check_one_at_a_time(&lines, "one");
    check_one_end_each(&lines, "one", 2);
}

#[test]
fn a_live_agent_is_kept_when_the_caller_wants_it() {
    let host = Host::builder().start();
    host.client().start("one", "echo");
    for model in ["this", "another"] {
        let keep = json!({"ifRunning": "keep", "model": model});
        let kept: StartAnswer = host.client().start_with("one", "echo", keep).read(200);
        assert_eq!((kept.agent.incarnation.0, kept.joined), (1, false));
    }
    let equal = json!({"ifRunning": "keep"});
    let kept: StartAnswer = host.client().start_with("one", "echo", equal).read(200);
    assert!(!kept.joined, "its credentials were not taken");
    let fresh = host.client().start_afresh("one", "echo");
    assert_eq!(fresh.agent.incarnation.0, 2);
    host.finish();
}

#[test]
fn an_equal_start_of_an_agent_in_a_turn_leaves_the_turn_alone() {
    let host = Host::builder().guest("hang").start();
    host.client().start("one", "hang");
    std::thread::scope(|scope| {
        let turn = scope.spawn(|| host.client().send_wait("one", "500"));
        harness::wait_until("it is in its turn", || host.client().status("one").busy);
        let again: StartAnswer = host.client().start_with("one", "hang", json!({})).read(200);
        assert_eq!((again.agent.incarnation.0, again.joined), (1, true));
        turn.join().expect("the sender").expect(200);
    });
    host.finish();
}

#[test]
fn equal_starts_of_an_agent_that_stops_wait_and_share_the_next_one() {
    let host = Host::builder().guest("ignores-stop").start();
    host.client().start("one", "ignores-stop");
    let answers = std::thread::scope(|scope| {
        let stop = scope.spawn(|| host.client().stop("one"));
        harness::wait_until("it stops", || host.client().status("one").status == "stopping");
        let answers = stampede(&host, "ignores-stop", |_| json!({}));
        stop.join().expect("the stop").expect(200);
        answers
    });
    assert_eq!(started(&answers, 200, 2), CALLERS - 1);
    assert_eq!(started(&answers, 201, 2), 1);
    host.client().stop("one").expect(200);
    let lines = host.finish();
    check_one_at_a_time(&lines, "one");
}

#[test]
fn a_start_that_follows_the_last_answer_of_an_agent_begins_the_next_one() {
    let host = Host::builder().guest("puppet").start();
    for round in 1..=100 {
        assert_eq!(host.client().start("one", "puppet").agent.incarnation.0, round);
        let answer = host.client().send_wait("one", "done").turn();
        assert_eq!(answer.outcome, "done", "{answer:?}");
    }
    host.finish();
}

/// A component of another guest under the same path.
#[test]
fn a_start_of_a_changed_component_replaces_what_was_made_from_the_old_one() {
    let dir = tempfile::tempdir().expect("make a directory");
    let path = dir.path().join("agent.wasm");
    std::fs::copy(files::component("echo"), &path).expect("copy a component");
    let host = Host::builder().component("agent", &path).role("agent", "agent", "").start();
    let start = || host.client().start_with("one", "agent", json!({}));
    start().expect(201);
    // The same bytes in another file are the same component.
    replace(&path, &std::fs::read(&path).expect("read it"));
    assert_eq!(start().read::<StartAnswer>(200).agent.incarnation.0, 1);
    replace(&path, &std::fs::read(files::component("puppet")).expect("read a component"));
    assert_eq!(start().read::<StartAnswer>(201).agent.incarnation.0, 2);
    assert_eq!(start().read::<StartAnswer>(200).agent.incarnation.0, 2);
    host.finish();
}

fn replace(path: &std::path::Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, bytes).expect("write a component");
    std::fs::rename(&beside, path).expect("put it in place");
}

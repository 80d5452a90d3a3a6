//! A guest that does not end when it is asked to.

use std::time::{Duration, Instant};

use bulkhead_api::StopAnswer;
use harness::host::{SIGNAL_DEBOUNCE, UNCLEAN};
use harness::{Host, Trial, wait_until};
use rustix::process::Signal;

/// Far above the role's grace of 500 ms, far below the role's other limits.
const SOON: Duration = Duration::from_secs(15);

#[test]
fn a_shutdown_that_never_returns_is_killed_after_its_grace() {
    let trial = Trial::of(&["ignores-stop"]);
    trial.client().start("ignores-stop", "ignores-stop");
    let (asked, before) = (Instant::now(), trial.bystander().answered());
    let answer: StopAnswer = trial.client().stop("ignores-stop").read(200);
    assert!(asked.elapsed() < SOON, "the stop took {:?}", asked.elapsed());
    assert!(trial.bystander().answered() >= before + 5, "the bystander was held up");
    assert!(answer.stopped, "{answer:?}");
    assert_eq!(answer.exit_reason, "killed", "{answer:?}");
    let crash = trial.reported("ignores-stop", 1, "killed");
    assert_eq!(crash["phase"], "shutdown", "{crash}");
    trial.starts_again("ignores-stop", 1);
    trial.finish_with(UNCLEAN);
}

#[test]
fn a_turn_that_does_not_listen_is_killed_and_its_sender_gets_an_error() {
    let trial = Trial::of(&["ignores-stop"]);
    trial.client().start("ignores-stop", "ignores-stop");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| trial.client().send_wait("ignores-stop", "deaf 60000"));
        wait_until("it is in its turn", || trial.client().status("ignores-stop").busy);
        let asked = Instant::now();
        let answer: StopAnswer = trial.client().stop("ignores-stop").read(200);
        assert!(asked.elapsed() < SOON, "the stop took {:?}", asked.elapsed());
        assert_eq!(answer.exit_reason, "killed", "{answer:?}");
        let answer = waiting.join().expect("an answer").expect_error(502, &[]);
        assert_eq!(answer.exit_reason.as_deref(), Some("killed"), "{answer:?}");
    });
    trial.starts_again("ignores-stop", 1);
    trial.finish_with(UNCLEAN);
}

#[test]
fn the_end_of_the_host_does_not_wait_for_it_either() {
    let host = Host::builder().guest("ignores-stop").start();
    host.client().start("ignores-stop", "ignores-stop");
    let asked = Instant::now();
    let lines = host.finish_with(Signal::TERM, UNCLEAN);
    assert!(asked.elapsed() < SOON, "the end took {:?}", asked.elapsed());
    let exit = lines.iter().find(|line| line["event"] == "agent.exit").expect("an exit");
    assert_eq!(exit["reason"], "killed", "{exit}");
}

#[test]
fn a_second_signal_leaves_no_grace_and_still_every_record() {
    let settings = "shutdown_ms = 60000";
    let builder = Host::builder().guest("ignores-stop").guest("hang");
    let builder = builder.role("ignores-stop", "ignores-stop", settings);
    let host = builder.role("hang", "hang", settings).start();
    for agent in ["deaf", "busy"] {
        host.client().start(agent, "ignores-stop");
    }
    host.client().send("busy", "deaf 60000").expect(200);
    host.client().start("waiting", "hang");
    host.client().send("waiting", "60000").expect(200);
    for agent in ["busy", "waiting"] {
        wait_until("it is in its turn", || host.client().status(agent).busy);
    }
    host.signal(Signal::TERM);
    host.wait_for_line("the first signal", |line| line["event"] == "container.stop_intent");
    // The time is the fact: one that comes sooner is the first one once more.
    std::thread::sleep(SIGNAL_DEBOUNCE);
    let asked = Instant::now();
    let lines = host.finish_with(Signal::INT, UNCLEAN);
    assert!(asked.elapsed() < SOON, "the end took {:?}", asked.elapsed());
    for agent in ["deaf", "busy", "waiting"] {
        let ends =
            |line: &&harness::Value| line["event"] == "agent.exit" && line["agentId"] == agent;
        let exits: Vec<_> = lines.iter().filter(ends).collect();
        assert_eq!(exits.len(), 1, "{agent}: {exits:?}");
        assert_eq!(exits[0]["reason"], "killed", "{exits:?}");
    }
}

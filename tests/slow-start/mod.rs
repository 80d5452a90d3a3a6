//! A guest that is slow to start.

use bulkhead_api::StartAnswer;
use harness::{Host, HostBuilder, Trial, json};

/// The role `slow-start` has time, `tight` has little of it. Both share a compiled component.
fn builder() -> HostBuilder {
    Host::builder().guest("slow-start").role("tight", "slow-start", "start_ms = 1000")
}

/// Compiling must not count: the tight deadline is for the guest alone.
fn warm() -> Trial {
    let trial = Trial::begin(builder());
    trial.client().start("warm", "slow-start");
    trial
}

#[track_caller]
fn check_deadline(trial: &Trial, answer: harness::Answer, agent: &str) {
    let answer = answer.expect_error(504, &[]);
    assert_eq!(answer.phase.as_deref(), Some("deadline"), "{answer:?}");
    assert_eq!(answer.error_type.as_deref(), Some("deadline"), "{answer:?}");
    assert_eq!(answer.status, Some(504), "{answer:?}");
    assert!(!answer.action.as_deref().unwrap_or_default().is_empty(), "{answer:?}");
    let failed = trial.host().wait_for_event(agent, "agent.start_failed");
    assert_eq!(failed["phase"], "deadline", "{failed}");
    assert!(!failed["error"].as_str().unwrap_or_default().is_empty(), "{failed}");
    let exit = trial.host().wait_for_event(agent, "agent.exit");
    assert_eq!(exit["reason"], "start_failed", "{exit}");
    let status = trial.client().ended(agent);
    assert_eq!(status.status, "failed", "{status:?}");
    assert_eq!(status.exit_reason.as_deref(), Some("start_failed"), "{status:?}");
    trial.client().health();
}

#[test]
fn a_start_that_waits_for_too_long_fails_at_its_deadline() {
    let trial = warm();
    let answer = trial.client().start_with("slow", "tight", json!({"prompt": "60000"}));
    check_deadline(&trial, answer, "slow");
    let quick = json!({"prompt": "0"});
    let again: StartAnswer = trial.client().start_with("slow", "tight", quick).read(201);
    assert_eq!(again.agent.incarnation.0, 2, "{again:?}");
    assert_eq!(trial.client().ask("slow", "up?"), "up?");
    trial.finish();
}

#[test]
fn a_start_that_spins_fails_at_its_deadline_while_others_answer() {
    let trial = warm();
    let before = trial.bystander().answered();
    let answer = trial.client().start_with("slow", "tight", json!({"prompt": "spin 60000"}));
    assert!(trial.bystander().answered() >= before + 5, "the bystander was held up");
    check_deadline(&trial, answer, "slow");
    trial.finish();
}

#[test]
fn the_request_may_set_the_deadline() {
    let trial = warm();
    let body = json!({"prompt": "60000", "deadlineMs": 700});
    check_deadline(&trial, trial.client().start_with("slow", "slow-start", body), "slow");
    trial.finish();
}

#[test]
fn a_slow_start_within_its_deadline_is_a_start_and_its_prompt_the_first_message() {
    let trial = warm();
    let begun =
        trial.client().start_with("slow", "slow-start", json!({"prompt": "50"})).expect(201);
    assert_eq!(begun["status"], "running", "{begun}");
    let start = trial.host().wait_for_event("slow", "agent.start");
    assert!(start["timings"]["guestStartUs"].as_u64() >= Some(50_000), "{start}");
    let message = trial.host().wait_for_event("slow", "agent.message");
    assert_eq!(message["sender"], "prompt", "{message}");
    trial.finish();
}

#[test]
fn one_slow_start_does_not_hold_up_another_agents_start() {
    let trial = warm();
    std::thread::scope(|scope| {
        let body = json!({"prompt": "60000", "deadlineMs": 5000});
        let slow = scope.spawn(|| trial.client().start_with("slow", "slow-start", body));
        trial.client().reaches("slow", "starting");
        for agent in ["a", "b", "c"] {
            trial.client().start(agent, "slow-start");
        }
        let status = trial.client().status("slow");
        let failed = status.exit_reason.as_deref() == Some("start_failed");
        let still = status.status == "starting" || failed;
        assert!(still, "{status:?}");
        slow.join().expect("an answer").expect_error(504, &[]);
    });
    trial.host().wait_for_number(&["agent.start"], 5);
    trial.finish();
}

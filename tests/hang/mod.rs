//! A guest that waits in a host call.

use bulkhead_api::MessageAnswer;
use harness::{Host, Trial, json};

#[test]
fn a_stuck_host_call_is_distinguished_from_a_busy_guest() {
    let trial = Trial::of(&["hang"]);
    let crash = trial.ends_by("hang", "60000", "host_call_timeout");
    assert!(crash["message"].as_str().unwrap().contains("host call"), "{crash}");
    assert!(crash["resources"]["cpuUs"].as_u64() < Some(400_000), "it burned nothing: {crash}");
    trial.finish();
}

#[test]
fn a_turn_that_takes_too_long_ends_at_its_wall_deadline() {
    let settings = "wall_ms = 500\nhost_call_ms = 60000";
    let trial = Trial::begin(Host::builder().guest("hang").role("hang", "hang", settings));
    let crash = trial.ends_by("hang", "60000", "wall_deadline");
    assert!(crash["uptimeMs"].as_u64() >= Some(400), "{crash}");
    trial.finish();
}

#[test]
fn a_wait_within_the_limits_is_none_of_the_hosts_business() {
    let trial = Trial::of(&["hang"]);
    trial.client().start("hang", "hang");
    assert_eq!(trial.client().ask("hang", "20"), "20");
    trial.finish();
}

#[test]
fn a_wait_for_the_answer_can_be_shorter_than_the_turn() {
    let settings = "host_call_ms = 60000";
    let trial = Trial::begin(Host::builder().guest("hang").role("hang", "hang", settings));
    trial.client().start("hang", "hang");
    let answer = trial.client().post("/agents/hang/message?wait=10", &json!({"prompt": "300"}));
    let answer: MessageAnswer = answer.read(202);
    assert!(answer.sent, "{answer:?}");
    assert_eq!(answer.turn.expect("how far it is").outcome, "pending");
    let turn = trial.host().wait_for_line("the turn's end", |line| {
        line["event"] == "agent.turn" && line["messageId"] == answer.message_id
    });
    assert_eq!(turn["outcome"], "idle", "{turn}");
    trial.finish();
}

#[test]
fn a_full_mailbox_refuses_and_loses_nothing() {
    let settings = "host_call_ms = 60000\nshutdown_ms = 300";
    let trial = Trial::begin(Host::builder().guest("hang").role("hang", "hang", settings));
    trial.client().start("hang", "hang");
    trial.client().send("hang", "60000").expect(200);
    // The mailbox holds 256 by default.
    let mut taken = 0;
    let refused = loop {
        let answer = trial.client().send("hang", "x");
        if answer.status != 200 {
            break answer;
        }
        taken += 1;
        assert!(taken < 10_000, "the mailbox has no bound");
    };
    refused.expect_error(429, &["hang"]);
    let status = trial.client().status("hang");
    // One more than waits may have been taken into its turn.
    assert!(status.mailbox_depth >= taken - 1, "{taken} taken: {status:?}");
    assert!(status.busy, "{status:?}");
    trial.bystander().wait_for_more();
    trial.client().stop("hang").expect(200);
    trial.finish();
}

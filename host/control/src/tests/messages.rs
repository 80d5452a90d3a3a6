//! Messages, waited for and not.

use serde_json::json;

use super::client::Answer;
use super::fake::Rig;

fn message(rig: &Rig, id: &str, query: &str, prompt: &str) -> Answer {
    let body = json!({ "prompt": prompt }).to_string();
    rig.client().post(&format!("/agents/{id}/message{query}"), &body)
}

#[test]
fn a_message_that_is_not_waited_for_is_only_sent() {
    let rig = Rig::start();
    let answer = message(&rig, "a", "", "hang");
    assert_eq!((answer.status, answer.json()), (200, json!({"sent": true, "messageId": "m1"})));
}

#[test]
fn a_turn_that_ends_in_time_is_reported() {
    let rig = Rig::start();
    for (prompt, outcome) in [("hi", "idle"), ("done", "done")] {
        let answer = message(&rig, "a", "?wait=600000", prompt);
        let reply = format!("you said {prompt}");
        let whole = json!({"sent": true, "messageId": "m1", "outcome": outcome, "reply": reply});
        assert_eq!((answer.status, answer.json()), (200, whole));
    }
}

#[test]
fn a_wait_that_is_over_first_is_202() {
    let rig = Rig::start();
    for query in ["?wait=0", "?wait=20"] {
        let answer = message(&rig, "a", query, "hang");
        let pending = json!({"sent": true, "messageId": "m1", "outcome": "pending"});
        assert_eq!((answer.status, answer.json()), (202, pending));
    }
}

#[test]
fn a_turn_that_went_wrong_is_the_agents_fault() {
    let rig = Rig::start();
    let failed = message(&rig, "a", "?wait=1000", "fail");
    assert_eq!(failed.status, 502);
    assert_eq!(
        failed.json(),
        json!({"error": "bad day", "error_type": "no-luck", "status": 502, "messageId": "m1"})
    );
    let ended = message(&rig, "a", "?wait=1000", "crash");
    assert_eq!(ended.status, 502);
    assert_eq!(
        ended.json(),
        json!({"error": "unreachable", "error_type": "agent-ended", "status": 502,
            "messageId": "m1", "exitReason": "trap", "crashId": "c1"})
    );
    assert_eq!(message(&rig, "a", "?wait=1000", "lose").status, 500);
    // The agent's own lines report the first two.
    assert_eq!(rig.refusals().len(), 1);
}

#[test]
fn a_message_that_is_not_taken_says_why() {
    let rig = Rig::start();
    let asleep = message(&rig, "asleep", "", "x");
    assert_eq!(
        (asleep.status, asleep.error().as_str()),
        (409, "agent asleep is exited, not running")
    );
    let full = message(&rig, "full", "", "x");
    assert_eq!((full.status, full.header("retry-after")), (429, Some("1")));
    let empty = message(&rig, "a", "", "");
    assert_eq!((empty.status, &empty.json()["issues"][0]["path"]), (400, &"prompt".into()));
}

#[test]
fn the_trace_of_a_request_goes_with_its_message() {
    let body = json!({ "prompt": "hi" }).to_string();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (header, passed_on) in [(trace, Some(trace)), ("00-nonsense", None)] {
        let rig = Rig::start();
        let header = format!("traceparent: {header}\r\n");
        let answer = rig.client().ask("POST", "/agents/a/message", &header, &body);
        assert_eq!(answer.status, 200);
        let expected = Vec::from_iter(passed_on.map(|trace| format!("trace {trace}")));
        assert_eq!(rig.backend.changes(), expected);
    }
}

//! Nudges.

use serde_json::json;

use super::client::Answer;
use super::fake::Rig;

fn nudge(rig: &Rig, id: &str, body: &str) -> Answer {
    rig.client().post(&format!("/agents/{id}/nudge"), body)
}

#[test]
fn a_nudge_is_queued_under_its_name_or_one_of_the_host() {
    let rig = Rig::start();
    let named = nudge(&rig, "a", r#"{"message":"look","source":"witness","nudgeId":"n7"}"#);
    assert_eq!((named.status, named.json()), (200, json!({"queued": true, "nudgeId": "n7"})));
    let unnamed = nudge(&rig, "a", r#"{"message":"look"}"#);
    assert_eq!((unnamed.status, unnamed.json()), (200, json!({"queued": true, "nudgeId": "n1"})));
    let expected = ["nudge look from witness", "nudge look from operator"];
    assert_eq!(rig.backend.changes(), expected);
    assert!(rig.refusals().is_empty());
}

#[test]
fn a_body_that_is_no_nudge_is_refused_field_by_field() {
    let rig = Rig::start();
    let long = "x".repeat(16 * 1024 + 1);
    let too_long = json!({"message": long, "source": long, "nudgeId": long}).to_string();
    for (body, fields) in [
        ("", &["."][..]),
        ("hunter2", &["."]),
        ("[]", &["."]),
        ("{}", &["message"]),
        (r#"{"message":""}"#, &["message"]),
        (r#"{"message":["hunter2"]}"#, &["message"]),
        (r#"{"message":"m","nudgeId":""}"#, &["nudgeId"]),
        (too_long.as_str(), &["message", "source", "nudgeId"]),
    ] {
        let answer = nudge(&rig, "a", body);
        assert_eq!((answer.status, answer.error().as_str()), (400, "invalid request body"));
        let issues = answer.json()["issues"].as_array().cloned().unwrap_or_default();
        let named: Vec<_> = issues.iter().filter_map(|issue| issue["path"].as_str()).collect();
        assert_eq!(named, fields, "{body:.60}");
        assert!(!answer.body.contains("hunter2"), "{}", answer.body);
    }
    assert!(rig.backend.changes().is_empty());
    assert!(!format!("{:?}", rig.refusals()).contains("hunter2"));
}

#[test]
fn a_nudge_that_is_not_taken_says_why() {
    let rig = Rig::start();
    let body = r#"{"message":"look"}"#;
    let ghost = nudge(&rig, "ghost", body);
    assert_eq!((ghost.status, ghost.error().as_str()), (404, "no such agent: ghost"));
    assert_eq!(ghost.json()["error_type"], "no-such-agent");
    let full = nudge(&rig, "full", body);
    assert_eq!((full.status, full.header("retry-after")), (429, Some("1")));
    assert_eq!(full.json()["error_type"], "mailbox-full");
    let bad_id = nudge(&rig, "a%20b", body);
    assert_eq!(bad_id.status, 400);
    let get = rig.client().get("/agents/a/nudge");
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    assert!(rig.backend.changes().is_empty());
}

//! What the town sends to its container.

use serde_json::json;

use super::fake::Rig;
use crate::ControlLimits;

#[test]
fn a_token_is_swapped_and_a_bad_one_is_refused_without_being_quoted() {
    let rig = Rig::start();
    let mut client = rig.client();
    let answer = client.post("/refresh-token", r#"{"token":"hunter2"}"#);
    assert_eq!((answer.status, answer.json()), (200, json!({"refreshed": true})));
    for body in ["", "{}", r#"{"token":""}"#, r#"{"token":{"a":"hunter2"}}"#, r#"{"token":"bad"}"#]
    {
        let answer = client.post("/refresh-token", body);
        assert_eq!(answer.status, 400, "{body}");
        assert!(!answer.body.contains("hunter2"), "{}", answer.body);
    }
    assert_eq!(rig.backend.changes(), ["token hunter2"]);
}

#[test]
fn a_nonce_is_taken_from_those_who_may_change_things() {
    let rig = Rig::with(ControlLimits::default(), Some("secret"));
    let mut client = rig.client();
    let nonce = "x-drain-nonce: n1\r\nx-town-id: t\r\n";
    assert_eq!(client.ask("GET", "/health", nonce, "").status, 200);
    assert!(rig.backend.changes().is_empty());
    let trusted = format!("authorization: Bearer secret\r\n{nonce}");
    assert_eq!(client.ask("GET", "/health", &trusted, "").status, 200);
    assert_eq!(rig.backend.changes(), ["nonce n1 of Some(\"t\")"]);
}

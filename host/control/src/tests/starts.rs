//! Starts and stops.

use super::fake::Rig;

#[test]
fn a_start_is_201_and_a_kept_agent_200() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (role, status) in [("polecat", 201), ("kept", 200)] {
        let answer =
            client.post("/agents/start", &format!(r#"{{"agentId":"a1","role":"{role}"}}"#));
        assert_eq!((answer.status, &answer.json()["agentId"]), (status, &"a1".into()));
    }
    assert!(rig.refusals().is_empty());
}

#[test]
fn the_content_type_does_not_matter() {
    let rig = Rig::start();
    let body = r#"{"agentId":"a1","role":"polecat"}"#;
    let answer = rig.client().ask("POST", "/agents/start", "content-type: text/plain\r\n", body);
    assert_eq!(answer.status, 201);
}

#[test]
fn a_body_that_is_no_request_is_refused_field_by_field() {
    let rig = Rig::start();
    let mut client = rig.client();
    let long = format!(r#"{{"agentId":"{}","role":"r"}}"#, "a".repeat(10_000));
    for (body, path) in [
        ("", "."),
        ("no json", "."),
        ("[]", "."),
        ("\u{0}", "."),
        ("{}", "agentId"),
        (r#"{"agentId":"a"}"#, "role"),
        (r#"{"agentId":"a/b","role":"r"}"#, "agentId"),
        (r#"{"agentId":"a\u0000","role":"r"}"#, "agentId"),
        (r#"{"agentId":"a","role":"r","envVars":{"K":1}}"#, "envVars.K"),
        (long.as_str(), "agentId"),
    ] {
        let answer = client.post("/agents/start", body);
        let json = answer.json();
        assert_eq!((answer.status, answer.error().as_str()), (400, "invalid request body"));
        if path != "." {
            assert_eq!(json["issues"][0]["path"], path, "{body:.60}");
        }
    }
    let refusals = rig.refusals();
    assert_eq!(refusals.len(), 10);
    assert_eq!(refusals[4], "400 POST /agents/start invalid request body (agentId, role)");
}

#[test]
fn a_typed_failure_comes_out_whole() {
    let rig = Rig::start();
    let mut client = rig.client();
    let answer = client.post("/agents/start", r#"{"agentId":"a1","role":"baker"}"#);
    let json = answer.json();
    assert_eq!((answer.status, answer.error().as_str()), (400, "no such role: baker"));
    assert_eq!(json["error_type"], "unknown-role");
    assert_eq!(json["phase"], "admission");
    assert_eq!(json["issues"][0]["path"], "role");
    assert!(json["action"].is_string());
    let answer = client.post("/agents/start", r#"{"agentId":"a1","role":"full"}"#);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
}

#[test]
fn a_stop_says_who_asked() {
    let rig = Rig::start();
    let answer = rig.client().post("/agents/a1/stop", "");
    assert_eq!(answer.json()["stopped"], true);
    assert_eq!(answer.json()["exitReason"], "stopped by control-api");
}

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
fn a_body_says_that_it_is_json() {
    let rig = Rig::start();
    let mut client = rig.client();
    let body = r#"{"agentId":"a1","role":"polecat"}"#;
    for kind in
        ["application/json", "Application/JSON; charset=utf-8", "text/json", "application/x.y+json"]
    {
        let header = format!("content-type: {kind}\r\n");
        assert_eq!(client.ask("POST", "/agents/start", &header, body).status, 201, "{kind}");
    }
    let json = "content-type: application/json\r\n";
    let plain = format!("{json}content-encoding: identity\r\n");
    assert_eq!(client.ask("POST", "/agents/start", &plain, body).status, 201);
    let packed = format!("{json}content-encoding: gzip\r\n");
    let answer = client.ask("POST", "/agents/start", &packed, body);
    assert_eq!((answer.status, &answer.json()["error_type"]), (415, &"encoded".into()));
    // What a page may send without asking first.
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "json",
    ] {
        let header = format!("content-type: {kind}\r\n");
        let answer = client.ask("POST", "/agents/start", &header, body);
        assert_eq!(
            (answer.status, &answer.json()["error_type"]),
            (415, &"not-json".into()),
            "{kind}"
        );
        assert!(answer.body.contains("--json"), "{}", answer.body);
    }
    assert_eq!(
        client.ask_plainly("POST", "/agents/start", "host: localhost\r\n", body).status,
        415
    );
    assert_eq!(
        client.ask_plainly("POST", "/agents/a1/stop", "host: localhost\r\n", "").status,
        200
    );
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

#[test]
fn a_field_that_is_not_known_is_refused_when_it_is_a_slip_and_named_when_it_is_not() {
    let rig = Rig::start();
    let mut client = rig.client();
    let slip =
        client.post("/agents/start", r#"{"agentId":"a1","role":"polecat","memoryLimitMB":64}"#);
    assert_eq!((slip.status, slip.error().as_str()), (400, "invalid request body"));
    let issue = &slip.json()["issues"][0];
    assert_eq!(issue["path"], "memoryLimitMB");
    assert_eq!(issue["message"], "is not known here; did you mean memoryLimitMb?");
    let newer = r#"{"agentId":"a1","role":"polecat","gitUrl":"u","futureField":{"x":1}}"#;
    let answer = client.post("/agents/start", newer);
    assert_eq!(
        (answer.status, &answer.json()["ignored"]),
        (201, &serde_json::json!(["futureField"]))
    );
    let answer = client.post("/agents/start", r#"{"agentId":"a1","role":"polecat","gitUrl":"u"}"#);
    assert_eq!((answer.status, answer.json().get("ignored")), (201, None));
    let own = client.post("/agents/a1/nudge", r#"{"message":"hi","priority":1}"#);
    assert_eq!((own.status, &own.json()["issues"][0]["path"]), (400, &"priority".into()));
    for (method, path, body) in [
        ("POST", "/agents/a1/message", r#"{"prompt":"hi","x":1}"#),
        ("POST", "/agents/a1/message?wait=5000", r#"{"prompt":"hi","x":1}"#),
        ("PATCH", "/agents/a1/model", r#"{"model":"m","x":1}"#),
        ("PUT", "/agents/a1/system-prompt", r#"{"systemPrompt":"p","x":1}"#),
        ("POST", "/dashboard-context", r#"{"context":"c","x":1}"#),
        ("POST", "/sync-config", r#"{"env_vars":{},"x":1}"#),
        ("POST", "/refresh-token", r#"{"token":"t","x":1}"#),
    ] {
        let answer = client.ask(method, path, "", body);
        let ignored = answer.json()["ignored"].clone();
        assert_eq!((answer.status, ignored), (200, serde_json::json!(["x"])), "{path}");
    }
}

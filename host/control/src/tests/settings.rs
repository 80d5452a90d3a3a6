//! Changes that reach agents while they are active.

use bulkhead_types::Event;
use bulkhead_types::event::TownConfigIgnored;
use serde_json::json;

use super::fake::Rig;

#[test]
fn a_model_is_changed_and_what_the_original_brings_beside_it_is_accepted() {
    let rig = Rig::start();
    let body = json!({"model": "large", "smallModel": "tiny", "conversationHistory": [{"role": "user"}],
        "organizationId": "o"});
    let answer = rig.client().ask("PATCH", "/agents/a1/model", "", &body.to_string());
    assert_eq!((answer.status, answer.json()), (200, json!({"updated": true})));
    assert_eq!(rig.backend.changes(), ["a1 model large, small Some(Some(\"tiny\"))"]);
}

#[test]
fn a_system_prompt_and_a_dashboard_context_are_changed() {
    let rig = Rig::start();
    let mut client = rig.client();
    let answer =
        client.ask("PUT", "/agents/a1/system-prompt", "", r#"{"systemPrompt":"be brief"}"#);
    assert_eq!((answer.status, answer.json()), (200, json!({"updated": true})));
    for context in ["open beads", ""] {
        let body = json!({ "context": context }).to_string();
        let answer = client.post("/dashboard-context", &body);
        assert_eq!((answer.status, answer.json()), (200, json!({"updated": true})));
    }
    let expected =
        ["a1 system prompt be brief", "dashboard Some(\"open beads\")", "dashboard None"];
    assert_eq!(rig.backend.changes(), expected);
}

#[test]
fn a_change_that_breaks_a_rule_is_refused_by_its_fields() {
    let rig = Rig::start();
    let mut client = rig.client();
    let long = "x".repeat(64 * 1024 + 1);
    let long = json!({ "context": long }).to_string();
    for (method, path, body, fields) in [
        ("PATCH", "/agents/a1/model", r#"{"smallModel":""}"#, &["model", "smallModel"][..]),
        ("PATCH", "/agents/a1/model", r#"{"model":["hunter2"]}"#, &["model"]),
        ("PATCH", "/agents/a1/model", "", &["."]),
        ("PUT", "/agents/a1/system-prompt", "{}", &["systemPrompt"]),
        (
            "PUT",
            "/agents/a1/system-prompt",
            r#"{"systemPrompt":{"x":"hunter2"}}"#,
            &["systemPrompt"],
        ),
        ("POST", "/dashboard-context", "{}", &["context"]),
        ("POST", "/dashboard-context", &long, &["context"]),
        ("POST", "/sync-config", "", &["."]),
        ("POST", "/sync-config", "hunter2", &["."]),
        ("POST", "/sync-config", "[]", &["."]),
        ("POST", "/sync-config", r#"{"env_vars":["hunter2"]}"#, &["env_vars"]),
        (
            "POST",
            "/sync-config",
            r#"{"envVars":{"OK":"1","A":["hunter2"],"B":{}}}"#,
            &["envVars.A", "envVars.B"],
        ),
    ] {
        let answer = client.ask(method, path, "", body);
        assert_eq!((answer.status, answer.error().as_str()), (400, "invalid request body"));
        let issues = answer.json()["issues"].as_array().cloned().unwrap_or_default();
        let named: Vec<_> = issues.iter().filter_map(|issue| issue["path"].as_str()).collect();
        assert_eq!(named, fields, "{method} {path} {body:.60}");
        assert!(!answer.body.contains("hunter2"), "{}", answer.body);
    }
    assert!(rig.backend.changes().is_empty());
    assert!(!format!("{:?}", rig.refusals()).contains("hunter2"));
}

#[test]
fn an_agent_that_is_unknown_or_has_ended_is_not_changed() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (method, verb, body) in [
        ("PATCH", "model", r#"{"model":"m"}"#),
        ("PUT", "system-prompt", r#"{"systemPrompt":"p"}"#),
    ] {
        let ghost = client.ask(method, &format!("/agents/ghost/{verb}"), "", body);
        assert_eq!((ghost.status, ghost.error().as_str()), (404, "no such agent: ghost"));
        assert_eq!(ghost.json()["error_type"], "no-such-agent");
        let asleep = client.ask(method, &format!("/agents/asleep/{verb}"), "", body);
        let error = "agent asleep is exited, not running";
        assert_eq!((asleep.status, asleep.error().as_str()), (409, error));
        assert_eq!(asleep.json()["error_type"], "not-running");
    }
    assert!(rig.backend.changes().is_empty());
}

#[test]
fn a_config_is_synced_from_a_body_or_from_a_header() {
    let rig = Rig::start();
    let mut client = rig.client();
    let config = r#"{"env_vars":{"KEY":"value","GONE":null},"git_auth":{"token":"t"}}"#;
    let header = format!("x-town-config: {config}\r\n");
    for (header, body) in
        [("", config), (header.as_str(), ""), (header.as_str(), "what is no config")]
    {
        let answer = client.ask("POST", "/sync-config", header, body);
        assert_eq!((answer.status, &answer.json()["synced"]), (200, &true.into()));
    }
    assert_eq!(rig.backend.changes(), ["sync GONE KEY=value"; 3]);
}

#[test]
fn a_config_in_the_header_of_any_call_comes_before_the_call() {
    let rig = Rig::start();
    let mut client = rig.client();
    let header = "X-Town-Config: {\"envVars\":{\"K\":1}}\r\n";
    assert_eq!(client.ask("GET", "/agents/a1/status", header, "").status, 200);
    assert_eq!(client.ask("GET", "/nope", header, "").status, 404);
    assert_eq!(
        client.ask("PUT", "/agents/a1/system-prompt", header, r#"{"systemPrompt":"p"}"#).status,
        200
    );
    let expected = ["sync K=1", "sync K=1", "sync K=1", "a1 system prompt p"];
    assert_eq!(rig.backend.changes(), expected);
}

#[test]
fn a_header_that_is_no_config_fails_no_call_and_each_problem_is_logged_once() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (value, _) in BAD {
        let header = format!("x-town-config: {value}\r\n");
        for (method, path, body) in [
            ("GET", "/health", ""),
            ("GET", "/livez", ""),
            ("PUT", "/agents/a1/system-prompt", r#"{"systemPrompt":"p"}"#),
            ("POST", "/sync-config", ""),
        ] {
            let answer = client.ask(method, path, &header, body);
            assert_eq!(answer.status, 200, "{value}: {method} {path}");
            assert!(!answer.body.contains("hunter2"), "{}", answer.body);
        }
    }
    let good = rig.backend.changes().into_iter().filter(|change| change.contains("OK=1"));
    assert_eq!(good.count(), 4, "what is good is taken");
    let lines = rig.lines();
    assert!(!format!("{lines:?}").contains("hunter2"));
    let logged = lines.iter().filter_map(|line| match line {
        Event::TownConfigIgnored(TownConfigIgnored { path, .. }) => Some(path.as_str()),
        _ => None,
    });
    assert_eq!(logged.collect::<Vec<_>>(), BAD.map(|(_, path)| path));
}

/// Headers, and where what is wrong with them is said to stand.
const BAD: [(&str, &str); 6] = [
    ("hunter2", "."),
    ("{}\r\nx-town-config: {}", "."),
    (r#"{"env_vars":{"A":["hunter2"]}}"#, "env_vars.A"),
    (r#"{"env_vars":{"A=":"hunter2","OK":"1"}}"#, "env_vars.A="),
    (r#"{"env_vars":{"FULL":"hunter2"}}"#, "env_vars"),
    (r#"{"envVars":"hunter2"}"#, "envVars"),
];

#[test]
fn who_shows_no_token_changes_nothing() {
    let rig = Rig::with(crate::ControlLimits::default(), Some("token"));
    let mut client = rig.client();
    let config = "x-town-config: {\"env_vars\":{\"K\":1}}\r\n";
    for path in ["/livez", "/health"] {
        assert_eq!(client.ask("GET", path, config, "").status, 200);
    }
    assert_eq!(client.ask("GET", "/health", "x-town-config: nonsense\r\n", "").status, 200);
    assert_eq!(client.ask("POST", "/sync-config", config, "").status, 401);
    assert!(rig.backend.changes().is_empty());
    let with_token = format!("authorization: Bearer token\r\n{config}");
    assert_eq!(client.ask("GET", "/health", &with_token, "").status, 200);
    assert_eq!(rig.backend.changes(), ["sync K=1"]);
}

//! Credentials of a start: no part of what the agent is, and swapped in place.

use bulkhead_api::StartAnswer;
use harness::{Answer, Host, HostBuilder, Value, json, wait_until};
use rustix::process::Signal;

fn builder() -> HostBuilder {
    let role = "restart = \"transient\"\nrestart_max = 1\nrestart_window_ms = 3600000\n\
                restart_backoff_ms = 1\nrestart_backoff_max_ms = 1\nmax_attempts = 1\nsecret_env = [\"SENTRY_DSN\"]";
    Host::builder().guest("puppet").role("puppet", "puppet", role)
}

fn start(host: &Host, more: Value) -> Answer {
    host.client().start_with("one", "puppet", more)
}

fn env(name: &str, value: &str) -> Value {
    json!({"envVars": {"MODE": "fast", name: value}})
}

#[track_caller]
fn joins(host: &Host, more: Value) {
    let answer: StartAnswer = start(host, more).read(200);
    assert_eq!((answer.agent.incarnation.0, answer.joined), (1, true), "{answer:?}");
}

fn config(host: &Host, name: &str) -> String {
    host.client().ask("one", &format!("config {name}"))
}

#[test]
fn a_fresh_credential_reaches_the_active_agent() {
    for name in ["GITHUB_TOKEN", "api_key", "GITHUB_PAT", "SENTRY_DSN"] {
        let host = builder().start();
        start(&host, env(name, "old-hunter2")).expect(201);
        assert_eq!(config(&host, name), "old-hunter2");
        joins(&host, env(name, "new-hunter2"));
        assert_eq!(
            (config(&host, name).as_str(), config(&host, "MODE").as_str()),
            ("new-hunter2", "fast")
        );
        // One that brings none takes none away.
        joins(&host, json!({"envVars": {"MODE": "fast"}}));
        assert_eq!(config(&host, name), "new-hunter2");
        // Under `secrets` any name is one.
        joins(&host, json!({"envVars": {"MODE": "fast"}, "secrets": {"ANY": "more-hunter2"}}));
        assert_eq!(
            (config(&host, "ANY").as_str(), config(&host, name).as_str()),
            ("more-hunter2", "none")
        );
        let status = host.client().get("/agents").text;
        let said: Vec<_> = host.finish().iter().map(Value::to_string).collect();
        assert!(!status.contains("hunter2") && !said.concat().contains("hunter2"));
    }
}

#[test]
fn no_value_is_in_the_log_at_its_lowest_level() {
    let host = builder().toml("[log]\nlevel = \"trace\"").start();
    start(&host, env("A_TOKEN", "hunter2")).expect(201);
    assert_eq!(config(&host, "A_TOKEN"), "hunter2");
    let said: Vec<_> = host.finish().iter().map(Value::to_string).collect();
    let leaked: Vec<_> = said.iter().filter(|line| line.contains("hunter2")).collect();
    assert!(leaked.is_empty(), "{leaked:?}");
}

#[test]
fn what_was_swapped_outlives_a_crash_and_the_host() {
    let mut host = builder().start().ready();
    start(&host, env("A_TOKEN", "old")).expect(201);
    joins(&host, env("A_TOKEN", "new"));
    host.client().send_wait("one", "panic").expect_error(502, &[]);
    host.client().runs("one", 2);
    assert_eq!(config(&host, "A_TOKEN"), "new");
    // Also when it is swapped in a later incarnation.
    let answer: StartAnswer = start(&host, env("A_TOKEN", "newer")).read(200);
    assert_eq!((answer.agent.incarnation.0, answer.joined), (2, true));
    host.signal(Signal::KILL);
    host.wait();
    let next = host.restart().ready();
    assert_eq!(config(&next, "A_TOKEN"), "newer");
    next.finish();
}

#[test]
fn a_fresh_credential_frees_nobody_from_quarantine() {
    let mut host = builder().start().ready();
    start(&host, env("A_TOKEN", "old")).expect(201);
    for _ in 0..2 {
        wait_until("it takes messages", || host.client().send("one", "panic").status == 200);
    }
    host.client().reaches("one", "quarantined");
    let refused = |host: &Host| {
        let refused = start(host, env("A_TOKEN", "new")).expect_error(409, &[]);
        assert_eq!(refused.error_type.as_deref(), Some("quarantined"), "{refused:?}");
        assert_eq!(host.client().status("one").incarnation.0, 2);
    };
    refused(&host);
    host.signal(Signal::KILL);
    host.wait();
    let next = host.restart().ready();
    refused(&next);
    start(&next, json!({"envVars": {"MODE": "slow", "A_TOKEN": "new"}})).expect(201);
    assert_eq!(config(&next, "A_TOKEN"), "new");
    next.finish();
}

#[test]
fn another_value_that_is_no_credential_is_another_agent() {
    let host = builder().start();
    start(&host, env("COMPAT", "1")).expect(201);
    assert_eq!(start(&host, env("COMPAT", "2")).read::<StartAnswer>(201).agent.incarnation.0, 2);
    host.finish();
}

/// Sends a form of the agent's page in the console, and returns the status of the answer.
fn send_form(host: &Host, form: &str) -> u16 {
    let page = host.client().get("/console/agents/one").text;
    let field = page.split("name=\"form_token\" value=\"").nth(1).expect("a form");
    let body = format!("form_token={}", field.split('"').next().expect("its token"));
    let (address, length) = (host.address(), body.len());
    let token = host.client().token().expect("a token");
    let request = format!(
        "POST /console/agents/one/{form} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    host.client().raw(request.as_bytes()).expect("an answer").status
}

#[test]
fn an_agent_that_the_console_starts_again_has_what_it_was_started_with() {
    let host = builder().start();
    start(&host, env("A_TOKEN", "old-hunter2")).expect(201);
    joins(&host, env("A_TOKEN", "new-hunter2"));
    assert_eq!(send_form(&host, "stop"), 303);
    assert_eq!(host.client().status("one").status, "exited");
    assert!(!host.client().get("/console/agents/one").text.contains("hunter2"));
    assert_eq!(send_form(&host, "start"), 303);
    assert_eq!(
        (config(&host, "A_TOKEN").as_str(), config(&host, "MODE").as_str()),
        ("new-hunter2", "fast")
    );
    host.finish();
}

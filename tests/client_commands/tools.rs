//! `bulkhead mcp`: stdout has the protocol and nothing else.

use harness::{Host, Value};

use super::Person;

/// What a client says that calls these tools, line by line.
fn session(calls: &[(&str, &str)]) -> String {
    let about = r#"{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}"#;
    let mut lines = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{about}}}\n\
         {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}}\nno JSON\n"
    );
    for (at, (tool, arguments)) in calls.iter().enumerate() {
        let id = at + 1;
        lines += &format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\"params\":{{\"name\":\"{tool}\",\
             \"arguments\":{arguments}}}}}\n"
        );
    }
    lines
}

/// The answers by their ids: whether the tool failed, and its texts.
fn answers(stdout: &str) -> Vec<(bool, String)> {
    let mut answers: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    answers.sort_by_key(|answer| answer["id"].as_u64());
    let welcome = answers.remove(0);
    assert_eq!(welcome["result"]["serverInfo"]["name"], "bulkhead", "{welcome}");
    let read = |answer: &Value| {
        let result = &answer["result"];
        (result["isError"] == true, result["content"].to_string())
    };
    answers.iter().map(read).collect()
}

#[test]
fn tools_answer_until_stdin_is_closed_and_change_only_what_is_allowed() {
    let host = Host::builder().guest("echo").start().ready();
    host.client().start("one", "echo");
    let calls = session(&[
        ("list_agents", "{}"),
        ("send_message", r#"{"agent":"one","message":"hello"}"#),
        ("agent_status", r#"{"agent":"nobody"}"#),
    ]);
    let person = Person::of(&host);
    let read = answers(&person.types(&["mcp"], &calls).ok());
    assert!(!read[0].0 && read[0].1.contains(r#"\"agent\":\"one\""#), "{read:?}");
    assert!(read[1].0 && read[1].1.contains("--allow-changes"), "{read:?}");
    assert!(read[2].0 && read[2].1.contains("no such agent: nobody"), "{read:?}");
    let changed = answers(&person.types(&["mcp", "--allow-changes"], &calls).ok());
    assert!(!changed[1].0 && changed[1].1.contains("hello"), "{changed:?}");
    host.finish();
}

#[test]
fn a_host_that_is_down_or_has_another_token_fails_the_tool_and_not_the_program() {
    let calls = session(&[("list_agents", "{}"), ("why_did_it_die", r#"{"agent":"one"}"#)]);
    for (failed, text) in answers(&Person::at("http://127.0.0.1:1").types(&["mcp"], &calls).ok()) {
        assert!(failed && text.contains("start the host with `bulkhead run`"), "{text}");
    }
    let host = Host::builder().guest("echo").start().ready();
    let person =
        Person::at(&format!("http://{}", host.address())).with("BULKHEAD_CONTROL_TOKEN", "no");
    for (failed, text) in answers(&person.types(&["mcp"], &calls).ok()) {
        assert!(failed && text.contains("no valid token"), "{text}");
    }
    host.finish();
}

#[test]
fn one_that_says_nothing_is_no_failure() {
    assert_eq!(Person::at("http://127.0.0.1:1").types(&["mcp"], "").ok(), "");
}

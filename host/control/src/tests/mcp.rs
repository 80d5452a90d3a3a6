//! The tools for models, over a socket.

use serde_json::{Value, json};

use super::client::Answer;
use super::fake::Rig;
use crate::{ControlLimits, Mcp};

const ACCEPT: &str = "accept: application/json, text/event-stream\r\n";

fn allowing(mcp: Mcp) -> Rig {
    Rig::with_mcp(ControlLimits::default(), Some("hunter2"), mcp)
}

fn post(rig: &Rig, headers: &str, method: &str, params: Value) -> Answer {
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    rig.client().ask("POST", "/mcp", headers, &body.to_string())
}

fn ask(rig: &Rig, method: &str, params: Value) -> Value {
    let headers =
        format!("{ACCEPT}authorization: Bearer hunter2\r\nmcp-protocol-version: 2025-06-18\r\n");
    let answer = post(rig, &headers, method, params);
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/json")),
        "{}",
        answer.body
    );
    let answer = answer.json();
    assert_eq!(answer["id"], 7);
    answer
}

/// Whether the tool failed, and the last of its texts.
fn call(rig: &Rig, tool: &str, arguments: Value) -> (bool, String) {
    let answer = ask(rig, "tools/call", json!({"name": tool, "arguments": arguments}));
    let result = &answer["result"];
    let texts = result["content"].as_array().unwrap_or_else(|| panic!("{answer}"));
    (result["isError"] == true, texts.last().unwrap()["text"].as_str().unwrap().to_owned())
}

fn names(rig: &Rig) -> Vec<String> {
    let answer = ask(rig, "tools/list", json!({}));
    let tools = answer["result"]["tools"].as_array().unwrap();
    tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_client_is_welcomed_and_told_what_there_is() {
    let rig = allowing(Mcp::Read);
    let about = json!({
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}
    });
    let welcome = ask(&rig, "initialize", about);
    let result = &welcome["result"];
    assert_eq!(
        (&result["protocolVersion"], &result["serverInfo"]["name"]),
        (&"2025-06-18".into(), &"bulkhead".into())
    );
    assert!(result["instructions"].as_str().unwrap().contains("change nothing"));
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string();
    let headers = format!("{ACCEPT}authorization: Bearer hunter2\r\n");
    assert_eq!(rig.client().ask("POST", "/mcp", &headers, &ready).status, 202);
    let names = names(&rig);
    assert_eq!(names.len(), 9, "{names:?}");
    assert!(!names.iter().any(|name| name == "diagnose_files"));
}

#[test]
fn tools_read_what_the_other_routes_answer() {
    let rig = allowing(Mcp::Read);
    let (failed, text) = call(&rig, "list_agents", json!({}));
    assert!(!failed && text.contains("\"agent\":\"a1\""), "{text}");
    let (failed, text) = call(&rig, "agent_status", json!({"agent": "a"}));
    assert!(!failed && text.contains("\"agentId\":\"a\""), "{text}");
    let (failed, text) = call(&rig, "agent_status", json!({"agent": "ghost"}));
    assert!(failed && text.contains("no such agent: ghost"), "{text}");
    for tool in ["memory", "usage", "list_crashes"] {
        let (failed, text) = call(&rig, tool, json!({}));
        assert!(!failed && text.starts_with('{'), "{tool}: {text}");
    }
    let (failed, text) = call(&rig, "diagnose_log", json!({"log": "nothing"}));
    assert!(failed && text.contains("none of 1 lines"), "{text}");
}

#[test]
fn changes_need_to_be_allowed() {
    let rig = allowing(Mcp::Read);
    for (tool, arguments) in [
        ("send_message", json!({"agent": "a", "message": "hi"})),
        ("start_agent", json!({"agent": "b", "role": "polecat"})),
        ("stop_agent", json!({"agent": "a"})),
    ] {
        let (failed, text) = call(&rig, tool, arguments);
        assert!(failed && text.contains("server.mcp = \"change\""), "{text}");
    }
    let rig = allowing(Mcp::Change);
    assert_eq!(names(&rig).len(), 12);
    let (failed, text) = call(&rig, "send_message", json!({"agent": "a", "message": "say hi"}));
    assert!(!failed && text.contains("\"you said say hi\""), "{text}");
    let (failed, text) = call(&rig, "start_agent", json!({"agent": "b", "role": "polecat"}));
    assert!(!failed && text.contains("\"agentId\":\"b\""), "{text}");
    let (failed, text) = call(&rig, "stop_agent", json!({"agent": "a"}));
    assert!(!failed && text.contains("\"stopped\":true"), "{text}");
}

#[test]
fn without_the_token_or_from_a_page_of_others_nothing_is_answered() {
    let rig = allowing(Mcp::Change);
    for (headers, status) in [
        (ACCEPT.to_owned(), 401),
        (format!("{ACCEPT}authorization: Bearer wrong\r\n"), 401),
        (format!("{ACCEPT}authorization: Bearer hunter2\r\norigin: https://evil.example\r\n"), 403),
    ] {
        let answer = post(&rig, &headers, "tools/list", json!({}));
        assert_eq!((answer.status, &answer.json()["status"]), (status, &status.into()));
    }
    assert_eq!(rig.probe().post("/mcp", "{}").status, 404);
}

#[test]
fn what_is_no_request_of_the_protocol_is_refused_in_the_form_of_all_refusals() {
    let rig = allowing(Mcp::Read);
    let token = "authorization: Bearer hunter2\r\n";
    let mut client = rig.client();
    for (method, path, headers, body, status) in [
        ("GET", "/mcp", token.to_owned(), "", 405),
        ("DELETE", "/mcp", token.to_owned(), "", 405),
        ("POST", "/mcp", token.to_owned(), "{}", 406),
        ("POST", "/mcp", format!("{token}{ACCEPT}content-type: text/plain\r\n"), "{}", 415),
        ("POST", "/mcp?x=1", format!("{token}{ACCEPT}"), "{}", 400),
        (
            "POST",
            "/mcp",
            format!("{token}{ACCEPT}mcp-protocol-version: 1999-01-01\r\n"),
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
            400,
        ),
    ] {
        let answer = client.ask(method, path, &headers, body);
        assert_eq!(answer.status, status, "{method} {path} {headers}: {}", answer.body);
        assert!(!answer.error().is_empty());
    }
    // What can be read far enough is answered in the form of the protocol.
    let rig = allowing(Mcp::Read);
    for (body, code) in [("{", -32700), ("[]", -32600), (r#"{"jsonrpc":"2.0"}"#, -32600)] {
        let answer = rig.client().ask("POST", "/mcp", &format!("{token}{ACCEPT}"), body);
        let said = answer.json();
        assert_eq!((answer.status, answer.header("content-type")), (400, Some("application/json")));
        let about = (&said["jsonrpc"], &said["id"], &said["error"]["code"]);
        assert_eq!(about, (&"2.0".into(), &Value::Null, &code.into()), "{body}: {said}");
        assert!(said["error"]["message"].as_str().is_some_and(|text| text.starts_with("the body")));
    }
    let rig = allowing(Mcp::Off);
    let answer = post(&rig, &format!("{ACCEPT}{token}"), "tools/list", json!({}));
    assert_eq!((answer.status, &answer.json()["error_type"]), (404, &"mcp-off".into()));
}

#[test]
fn a_panic_of_a_route_is_a_result_and_a_line() {
    let rig = allowing(Mcp::Read);
    let (failed, text) = call(&rig, "agent_status", json!({"agent": "bomb"}));
    assert!(failed && text.contains("its log has the details"), "{text}");
    assert!(!call(&rig, "agent_status", json!({"agent": "a"})).0);
    let lines = format!("{:?}", rig.lines());
    assert!(lines.contains("mcp GET /agents/bomb/status") && !lines.contains("hunter2"), "{lines}");
}

#[test]
fn a_client_that_goes_away_ends_its_tool() {
    let rig = allowing(Mcp::Change);
    let arguments = json!({"agent": "b", "role": "gated"});
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "start_agent", "arguments": arguments}
    })
    .to_string();
    let mut client = rig.client();
    client.say(format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\n{ACCEPT}authorization: Bearer hunter2\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ));
    rig.backend.await_gated_start();
    drop(client);
    rig.backend.await_abandoned_start();
    assert!(!call(&rig, "agent_status", json!({"agent": "a"})).0);
}

//! Tool calls as servers send them: each mode, and what becomes of it.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a panic is their failure")]

mod common;

use bulkhead_llm::{Message, Request, Role, Tool, ToolCall};
use common::frames::{DONE, call, calls, event, function, says, stop, streamed};
use common::modes::{Mode, check, mode};
use common::{Asked, Server, Step, WIDE, ask, document, endpoint, message, outcome, question};
use serde_json::{Value, json};

fn tool_calls() -> Vec<Mode> {
    let one = json!("{\"text\":\"one\"}");
    vec![
        mode(
            "nullcontent",
            streamed(&[
                event(json!({"role": "assistant", "content": null}), Value::Null),
                event(
                    json!({"content": null, "tool_calls": [
                        {"index": 0, "id": "a1", "function": function("status", json!(""))}]}),
                    Value::Null,
                ),
                call(&json!({"index": 0, "function": {"arguments": "{\"te"}})),
                call(&json!({"index": 0, "function": {"arguments": "xt\": \"a\"}"}})),
                event(json!({}), json!("tool_calls")) + DONE,
            ]),
            "a1 status({\"text\": \"a\"}), toolcalls",
        ),
        mode(
            "emptyids",
            calls(&[
                json!({"id": "", "function": function("status", one.clone())}),
                json!({"id": "", "function": function("status", json!("{}"))}),
            ]),
            "made-up status({\"text\":\"one\"}), made-up status({}), toolcalls",
        ),
        mode(
            "noids_noindex",
            calls(&[
                json!({"function": function("status", one.clone())}),
                json!({"function": function("status", json!("{}"))}),
            ]),
            "made-up status({\"text\":\"one\"}), made-up status({}), toolcalls",
        ),
        {
            let both = |arguments: &str| {
                let function = function("status", json!(arguments));
                let call = json!({"index": 0, "id": "a", "function": function});
                event(json!({"function_call": function, "tool_calls": [call]}), Value::Null)
            };
            let end = event(json!({}), json!("tool_calls")) + DONE;
            mode(
                "by both names",
                streamed(&[both("{\"text\":"), both(" \"one\""), both("}"), end]),
                "a status({\"text\": \"one\"}), toolcalls",
            )
        },
        mode("by both names, whole", whole_by_both_names(), "a status({}), toolcalls"),
        mode(
            "args_object",
            calls(&[
                json!({"index": 0, "id": "a", "function": function("status", json!({"a": 1}))}),
            ]),
            "a status({\"a\":1}), toolcalls",
        ),
        mode(
            "name_null",
            calls(&[
                json!({"index": 0, "id": "a", "function": function("status", json!("{\"a\":"))}),
                json!({"index": 0, "id": null, "function": {"name": null, "arguments": "1}"}}),
            ]),
            "a status({\"a\":1}), toolcalls",
        ),
        mode(
            "name_dup",
            calls(&[
                json!({"index": 0, "id": "a", "function": function("status", json!("{\"a\":"))}),
                json!({"index": 0, "id": "a", "function": function("status", json!("1}"))}),
            ]),
            "a status({\"a\":1}), toolcalls",
        ),
        mode(
            "length_tool",
            streamed(&[
                says("so"),
                call(
                    &json!({"index": 0, "id": "a", "function": function("status", json!("{\"on"))}),
                ),
                event(json!({}), json!("length")) + DONE,
            ]),
            "text so, length",
        ),
        mode(
            "cut in a call",
            streamed(&[call(&json!({"index": 0, "function": function("status", json!("{}"))}))]),
            "cut off main: the answer ends in the middle",
        ),
        mode(
            "too many calls",
            calls(
                &(0..65)
                    .map(|n| json!({"index": n, "function": {"name": "x"}}))
                    .collect::<Vec<_>>(),
            ),
            "bad answer main: more than 64 tool calls",
        ),
    ]
}

/// As llama-cpp-python has it.
fn whole_by_both_names() -> Vec<Step> {
    let function = function("status", json!("{}"));
    let message = json!({"content": null, "function_call": function,
                         "tool_calls": [{"id": "a", "type": "function", "function": function}]});
    let choice = json!({"index": 0, "message": message, "finish_reason": "tool_calls"});
    document("200 OK", "", &json!({"choices": [choice]}).to_string())
}

#[tokio::test]
async fn tool_calls_are_whole() {
    check(tool_calls()).await;
}

#[tokio::test]
async fn after_a_result_there_may_be_nothing_to_say() {
    let server = Server::start(|asked: &Asked| {
        let empty = event(json!({"role": "assistant", "content": ""}), Value::Null);
        match asked.has_result() {
            true => streamed(&[empty, stop() + DONE]),
            false => calls(&[
                json!({"index": 0, "id": "a", "function": function("status", json!("{}"))}),
            ]),
        }
    });
    let endpoint = endpoint(server.address, WIDE);
    let mut request = Request {
        tools: vec![Tool {
            name: "status".into(),
            description: String::new(),
            parameters: json!({}),
        }],
        ..question()
    };
    let found = outcome(&mut ask(&endpoint, request.clone())).await;
    assert_eq!(found, "a status({}), toolcalls");
    let call = ToolCall { id: "a".into(), name: "status".into(), arguments: "{}".into() };
    let asks = Message { tool_calls: vec![call], ..message(Role::Assistant, "") };
    let result = Message { tool_call_id: Some("a".into()), ..message(Role::Tool, "done") };
    request.messages.extend([asks, result]);
    assert_eq!(outcome(&mut ask(&endpoint, request)).await, "stop");
    // The same without a result is no answer.
    let server = Server::start(|_: &Asked| streamed(&[stop() + DONE]));
    let endpoint = common::endpoint(server.address, WIDE);
    let found = outcome(&mut ask(&endpoint, question())).await;
    assert_eq!(found, "bad answer main: empty answer, finish reason: stop");
}

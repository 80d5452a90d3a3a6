//! The dialect of Anthropic over a real socket.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a panic is their failure")]

mod common;

use std::sync::Arc;

use bulkhead_llm::{Bounds, Dialect, Endpoint, Request, Settings, Usage};
use bulkhead_net::{BaseUrl, Credential};
use common::{Asked, Server, WIDE, ask, document, outcome, question, settings, stream};
use serde_json::json;

fn anthropic(server: &Server, bounds: Bounds) -> Arc<Endpoint> {
    let settings = Settings {
        base: BaseUrl::parse(&format!("http://{}", server.address)).unwrap(),
        dialect: Dialect::Anthropic,
        ..settings(server.address, bounds)
    };
    Arc::new(Endpoint::new(settings, Credential::fixed("sk-ant".to_owned().into())))
}

fn sse(events: &[serde_json::Value]) -> String {
    let event = |event: &serde_json::Value| {
        format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())
    };
    events.iter().map(event).collect()
}

#[tokio::test]
async fn a_message_of_anthropic_is_understood() {
    let answer = sse(&[
        json!({"type": "message_start", "message": {"type": "message", "content": [],
               "usage": {"input_tokens": 2, "cache_creation_input_tokens": 3,
                         "cache_read_input_tokens": 5, "output_tokens": 1}}}),
        json!({"type": "ping"}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "so"}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "content_block_start", "index": 2,
               "content_block": {"type": "tool_use", "id": "t1", "name": "read", "input": {}}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{\"a\":"}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "1}"}}),
        json!({"type": "content_block_stop", "index": 2}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}),
        json!({"type": "message_stop"}),
    ]);
    let server = Server::start(move |_: &Asked| stream(&[&answer]));
    let endpoint = anthropic(&server, WIDE);
    assert_eq!(endpoint.url(), format!("http://{}/v1/messages", server.address));
    let mut chat = ask(&endpoint, question());
    let found = outcome(&mut chat).await;
    assert_eq!(found, "reasoning hm, text so, t1 read({\"a\":1}), toolcalls 10/9");
    assert_eq!(chat.usage(), Some(Usage { input: 10, cached: 5, output: 9, reasoning: 0 }));
    let asked = server.asked().remove(0);
    assert!(asked.head.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{}", asked.head);
    assert_eq!(asked.header("x-api-key"), Some("sk-ant"));
    assert_eq!(asked.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(asked.header("authorization"), None);
    assert_eq!(asked.body["max_tokens"], 8192);
}

#[tokio::test]
async fn an_error_of_anthropic_is_understood() {
    let overloaded = sse(&[
        json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    ]);
    let text = sse(&[
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "so"}}),
    ]);
    let late = format!("{text}{overloaded}");
    let limit = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}});
    for (answer, expected) in [
        (stream(&[&overloaded]), "unavailable main: status 529: Overloaded"),
        (stream(&[&late]), "text so, unavailable main: status 529: Overloaded"),
        (stream(&[&text]), "text so, cut off main: the answer ends in the middle"),
        (
            document("429 Too Many Requests", "retry-after: 2\r\n", &limit.to_string()),
            "rate limited Some(2000) main: slow",
        ),
    ] {
        let server = Server::start(move |_: &Asked| answer.clone());
        let endpoint = anthropic(&server, Bounds { retries: 0, ..WIDE });
        assert_eq!(outcome(&mut ask(&endpoint, question())).await, expected);
    }
}

#[tokio::test]
async fn an_answer_has_room_beside_its_thinking() {
    let whole = json!({"type": "message", "content": [{"type": "text", "text": "so"}],
                       "stop_reason": "end_turn"});
    let server = Server::start(move |_: &Asked| document("200 OK", "", &whole.to_string()));
    let endpoint = anthropic(&server, WIDE);
    let thinks = |budget: u64| json!({"thinking": {"type": "enabled", "budget_tokens": budget}});
    let with_limit = json!({"thinking": thinks(9000)["thinking"], "max_tokens": 100});
    for (extra, max_tokens, sent) in [
        (thinks(1024), None, 8192),
        (thinks(8192), None, 16384),
        (thinks(32_000), None, 40_192),
        (thinks(9000), Some(100), 100),
        (with_limit, None, 100),
    ] {
        let extra = extra.as_object().cloned().unwrap();
        let request = Request { extra, max_tokens, ..question() };
        assert_eq!(outcome(&mut ask(&endpoint, request)).await, "text so, stop");
        assert_eq!(server.asked().pop().unwrap().body["max_tokens"], sent);
    }
}

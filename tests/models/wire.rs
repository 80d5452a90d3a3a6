//! What an agent asks for as the server of its model gets it, and errors as the agent gets them.

use super::{KEY, builder, reply};
use harness::{ModelServer, Value, json, model_server};

/// A request that says all that the interface can say.
fn all(endpoint: &str) -> Value {
    let call = json!({"id": "c1", "type": "function",
                      "function": {"name": "look", "arguments": "{\"at\":1}"}});
    let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    json!({
        "do": "complete", "endpoint": endpoint, "model": "m1", "temperature": 0.25, "maxTokens": 77,
        "toolChoice": "look", "extra": {"top_p": 0.5},
        "tools": [{"name": "look", "description": "looks", "parameters": {"type": "object"}}],
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [
                {"type": "text", "text": "see"}, image("data:image/png;base64,AQID"),
                image("https://example.com/a.png")]},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "content": "done", "tool_call_id": "c1"},
        ],
    })
}

/// The last request has the members that both dialects have at the same place, and these.
fn check_last_request(model: &ModelServer, expected: &[(&str, Value)]) -> Value {
    let body = model.requests().pop().expect("a request").body;
    let of_both = [
        ("/model", json!("m1")),
        ("/temperature", json!(0.25)),
        ("/max_tokens", json!(77)),
        ("/top_p", json!(0.5)),
    ];
    for (pointer, expected) in of_both.iter().chain(expected) {
        assert_eq!(body.pointer(pointer), Some(expected), "{pointer} of {body:#}");
    }
    body
}

#[test]
fn a_request_says_to_openai_all_that_its_agent_said() {
    let model = model_server();
    let host = builder("models = [\"default\"]").model(&model, KEY).start();
    host.client().start("models", "models");
    let mut order = all("default");
    order["format"] = json!({"type": "object", "title": "T"});
    reply(&host, &order);
    check_last_request(
        &model,
        &[
            ("/tool_choice/function/name", json!("look")),
            ("/tools/0/function/name", json!("look")),
            ("/tools/0/function/description", json!("looks")),
            ("/tools/0/function/parameters/type", json!("object")),
            ("/response_format/json_schema/schema/title", json!("T")),
            ("/messages/0/content", json!("be brief")),
            ("/messages/1/content/0/text", json!("see")),
            ("/messages/1/content/1/image_url/url", json!("data:image/png;base64,AQID")),
            ("/messages/1/content/2/image_url/url", json!("https://example.com/a.png")),
            ("/messages/2/tool_calls/0/id", json!("c1")),
            ("/messages/2/tool_calls/0/function/arguments", json!("{\"at\":1}")),
            ("/messages/3/tool_call_id", json!("c1")),
            ("/messages/3/content", json!("done")),
        ],
    );
    for (choice, format, wanted) in [
        ("none", json!("json"), (json!("none"), json!("json_object"))),
        // Text is what a server answers with unless it is told otherwise.
        ("required", json!("text"), (json!("required"), Value::Null)),
    ] {
        let mut order = all("default");
        (order["toolChoice"], order["format"]) = (choice.into(), format);
        reply(&host, &order);
        let body = model.requests().pop().expect("a request").body;
        assert_eq!(
            (&body["tool_choice"], &body["response_format"]["type"]),
            (&wanted.0, &wanted.1),
            "{body:#}"
        );
    }
    host.finish();
}

#[test]
fn a_request_says_to_anthropic_all_that_its_agent_said() {
    let model = model_server();
    let url = model.anthropic_url();
    let claude = format!(
        "[models.claude]\nbase_url = {:?}\ndialect = \"anthropic\"\n",
        url.trim_end_matches("/v1")
    );
    let host = builder("models = [\"claude\"]").toml(&claude).start();
    host.client().start("models", "models");
    reply(&host, &all("claude"));
    let body = check_last_request(
        &model,
        &[
            ("/tool_choice/name", json!("look")),
            ("/tools/0/name", json!("look")),
            ("/tools/0/description", json!("looks")),
            ("/tools/0/input_schema/type", json!("object")),
            ("/messages/0/content/0/text", json!("see")),
            ("/messages/0/content/1/source/data", json!("AQID")),
            ("/messages/0/content/1/source/media_type", json!("image/png")),
            ("/messages/0/content/2/source/url", json!("https://example.com/a.png")),
            ("/messages/1/content/0/id", json!("c1")),
            ("/messages/1/content/0/input/at", json!(1)),
            ("/messages/2/content/0/tool_use_id", json!("c1")),
        ],
    );
    assert!(body["system"].to_string().contains("be brief"), "{body:#}");
    // Left out, it would be another request.
    let asked = model.requests().len();
    let mut order = all("claude");
    order["messages"] = json!([{"role": "user", "content": " "}]);
    let refused = reply(&host, &order);
    assert_eq!(refused["error"], "invalid", "{refused}");
    assert_eq!(model.requests().len(), asked);
    host.finish();
}

#[test]
fn a_server_that_asks_for_patience_says_to_the_agent_for_how_long() {
    let model = model_server();
    let more = format!(
        "[models.busy]\nbase_url = {:?}\nretries = 0\n[models.long]\nbase_url = {:?}\nmax_wait_ms = 1000\n",
        model.oddity_url("fail-429-9"),
        model.oddity_url("retry-after-99"),
    );
    let host = builder("models = [\"busy\", \"long\"]").toml(&more).start();
    host.client().start("models", "models");
    for (endpoint, ms) in [("busy", Value::Null), ("long", json!(99_000))] {
        let limited = reply(&host, &json!({"do": "complete", "endpoint": endpoint}));
        assert_eq!(
            (&limited["error"], &limited["retryMs"]),
            (&json!("rate-limited"), &ms),
            "{limited}"
        );
    }
    host.finish();
}

#[test]
fn arguments_without_end_are_an_answer_that_is_too_large() {
    let model = model_server();
    let long = format!("[models.long]\nbase_url = {:?}\n", model.oddity_url("long-call"));
    let host = builder("models = [\"long\"]").toml(&long).start();
    host.client().start("models", "models");
    for order in ["complete", "stream"] {
        let answer = reply(&host, &json!({"do": order}));
        let failed = if order == "stream" { &answer["end"] } else { &answer };
        assert_eq!(failed["error"], "bad-answer", "{answer}");
        let message = failed["message"].as_str().unwrap_or_default();
        assert!(message.ends_with("long: the answer has more than 4194304 bytes"), "{message}");
    }
    host.finish();
}

/// Every oddity of the model server, and what its agent gets.
const ODDITIES: &[(&str, &str)] = &[
    ("ok", "fine"),
    ("no-done", "fine"),
    ("usage-last", "fine"),
    ("choices-null", "fine"),
    ("usage-null", "fine"),
    ("usage-text", "fine"),
    ("null-content", "status one"),
    ("empty-ids", "status one two"),
    ("no-ids", "status one two"),
    ("one-index", "status one two"),
    ("args-object", "status one"),
    ("name-null", "status one"),
    ("repeated-name", "status one"),
    ("empty-after-tool", "status one"),
    ("length-tool", "bad-answer"),
    ("crlf", "fine"),
    ("cr", "fine"),
    ("comments", "fine"),
    ("hold", "fine"),
    ("hold-quiet", "fine"),
    ("done-no-space", "fine"),
    ("double-json", "fine"),
    ("junk-first", "fine"),
    ("filter", "fine"),
    ("delta-null", "fine"),
    ("parts", "fine"),
    ("utf8-split", "gr\u{fc}n \u{2713} \u{1f6a7}"),
    ("gzip", "bad-answer"),
    ("no-type", "fine"),
    ("plain-type", "fine"),
    ("json-type", "fine"),
    ("document", "fine"),
    ("until-close", "fine"),
    ("100-continue", "fine"),
    ("early-hints", "fine"),
    ("big-header", "fine"),
    ("many-headers", "fine"),
    ("fail-503-1", "unavailable"),
    ("length", "half an ans"),
    ("content-filter", "half an ans"),
    ("reasoning-only", "bad-answer"),
    ("cut", "bad-answer"),
    ("empty-reason", "bad-answer"),
    ("reset", "bad-answer"),
    ("error-midway", "unavailable"),
    ("error-first", "rejected"),
    ("error-vllm", "unavailable"),
    ("error-detail", "rejected"),
    ("html", "bad-answer"),
    ("redirect", "rejected"),
    ("silent-head", "timeout"),
    ("silent-body", "timeout"),
    ("stall", "timeout"),
];

#[test]
fn every_oddity_of_a_server_is_an_answer_or_an_error_that_names_its_endpoint() {
    let model = model_server();
    let mut names = Vec::new();
    let mut more = String::new();
    for (name, _) in ODDITIES {
        // Half a second is silence only where nothing is what the server does.
        let idle =
            if matches!(*name, "silent-head" | "silent-body" | "stall") { 500 } else { 20_000 };
        let url = model.oddity_url(name);
        more += &format!(
            "[models.{name}]\nbase_url = {url:?}\nretries = 0\nfirst_byte_ms = {idle}\nidle_ms = {idle}\n"
        );
        names.push(*name);
    }
    let host = builder(&format!("models = {names:?}")).toml(&more).start();
    host.client().start("models", "models");
    let mut wrong = Vec::new();
    for (name, expected) in ODDITIES {
        let whole = reply(&host, &json!({"do": "complete", "endpoint": name}));
        let streamed = reply(&host, &json!({"do": "stream", "endpoint": name}));
        // `fail-503-1` fails once.
        let (whole, end) = match *name {
            "fail-503-1" => (whole, Value::Null),
            _ => (whole, streamed["end"].clone()),
        };
        let found = match whole["error"].as_str() {
            Some(error) => {
                let message = whole["message"].as_str().unwrap_or_default();
                if !message.contains(&format!("{name}: ")) {
                    wrong.push(format!("{name} is not named: {whole}"));
                }
                if !end.is_null() && end["error"] != error {
                    wrong.push(format!("{name}: {whole}, and streamed {streamed}"));
                }
                error.to_owned()
            }
            None => {
                if end["end"] != whole["finish"] || streamed["text"] != whole["text"] {
                    wrong.push(format!("{name}: {whole}, and streamed {streamed}"));
                }
                said(&whole)
            }
        };
        if found != *expected {
            wrong.push(format!("{name}: {expected} is expected, found {found}: {whole}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    host.finish();
}

/// The text of an answer, or its calls.
fn said(whole: &Value) -> String {
    let calls = whole["calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(first) = calls.first() else {
        return whole["text"].as_str().unwrap_or_default().to_owned();
    };
    let text = |call: &Value| {
        let arguments: Value = serde_json::from_str(call["arguments"].as_str()?).ok()?;
        Some(arguments["text"].as_str()?.to_owned())
    };
    let texts: Vec<_> =
        calls.iter().map(|call| text(call).unwrap_or_else(|| call.to_string())).collect();
    format!("{} {}", first["name"].as_str().unwrap_or_default(), texts.join(" "))
}

//! Agents for chat clients.

use super::fake::Rig;
use crate::ControlLimits;

fn ask(rig: &Rig, model: &str, prompt: &str, stream: bool) -> super::client::Answer {
    let body = format!(
        r#"{{"model":"{model}","temperature":0.2,"stream":{stream},"messages":[{{"role":"user","content":"{prompt}"}}]}}"#
    );
    rig.client().post("/v1/chat/completions", &body)
}

#[test]
fn an_answer_is_the_reply_of_the_agent() {
    let rig = Rig::start();
    let answer = ask(&rig, "a", "say hi", false);
    let json = answer.json();
    assert_eq!(
        (answer.status, &json["object"], &json["model"]),
        (200, &"chat.completion".into(), &"a".into())
    );
    let choice = &json["choices"][0];
    assert_eq!(choice["message"]["content"], "you said say hi");
    assert_eq!(
        (&choice["message"]["role"], &choice["finish_reason"]),
        (&"assistant".into(), &"stop".into())
    );
}

#[test]
fn an_answer_that_was_cut_says_so() {
    let rig = Rig::start();
    let answer = ask(&rig, "a", "say much", false).json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    let stream = ask(&rig, "a", "say much", true).body;
    assert_eq!(stream.matches(r#""finish_reason":"length""#).count(), 1, "{stream}");
    assert!(!stream.contains(r#""finish_reason":"stop""#), "{stream}");
}

#[test]
fn what_the_models_of_the_agent_used_is_in_the_answer() {
    let rig = Rig::start();
    let used = serde_json::json!({
        "prompt_tokens": 90, "completion_tokens": 9, "total_tokens": 99,
        "prompt_tokens_details": {"cached_tokens": 40}, "completion_tokens_details": {"reasoning_tokens": 4},
    });
    assert_eq!(ask(&rig, "a", "say hi", false).json()["usage"], used);
    let stream = |options: &str| {
        let message = r#"{"role":"user","content":"say hi"}"#;
        let body = format!(r#"{{"model":"a","stream":true,{options}"messages":[{message}]}}"#);
        let answer = rig.client().post("/v1/chat/completions", &body);
        let lines = answer.body.lines().filter_map(|line| line.strip_prefix("data: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let lines = stream(r#""stream_options":{"include_usage":true},"#);
    let [.., last, end] = &lines[..] else { panic!("{lines:?}") };
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(
        (&last["usage"], &last["choices"], &**end),
        (&used, &serde_json::json!([]), "[DONE]")
    );
    assert_eq!(lines.iter().filter(|line| line.contains("\"usage\"")).count(), 1);
    for options in ["", r#""stream_options":null,"#, r#""stream_options":{"include_usage":false},"#]
    {
        assert!(!stream(options).concat().contains("\"usage\""), "{options}");
    }
}

#[test]
fn a_stream_is_in_pieces_and_has_an_end() {
    let rig = Rig::start();
    let answer = ask(&rig, "a", "say hi", true);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let lines: Vec<_> =
        answer.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(lines.last(), Some(&"[DONE]"));
    let chunks: Vec<serde_json::Value> =
        lines[..lines.len() - 1].iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let text: String =
        chunks.iter().filter_map(|it| it["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "you said say hi");
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let reasons: Vec<_> =
        chunks.iter().map(|it| it["choices"][0]["finish_reason"].as_str()).collect();
    assert_eq!(reasons.last(), Some(&Some("stop")));
    assert!(reasons[..reasons.len() - 1].iter().all(Option::is_none));
    let answer = ask(&rig, "a", "fail", true);
    let last = answer.body.trim_end().rsplit("data: ").next().unwrap();
    let error: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(
        (&error["error"]["message"], &error["error"]["code"]),
        (&"bad day".into(), &"no-luck".into())
    );
}

#[test]
fn refusals_have_the_form_that_such_clients_read() {
    let rig = Rig::start();
    for (model, prompt, status, kind, code) in [
        ("ghost", "hi", 404, "invalid_request_error", "no-such-agent"),
        ("no/id", "hi", 404, "invalid_request_error", "no-such-agent"),
        ("asleep", "hi", 409, "invalid_request_error", "not-running"),
        ("full", "hi", 429, "rate_limit_error", "mailbox-full"),
        ("a", "crash", 502, "server_error", "agent-ended"),
    ] {
        for stream in [false, prompt == "hi"] {
            let answer = ask(&rig, model, prompt, stream);
            let error = &answer.json()["error"];
            let said = (answer.status, error["type"].as_str(), error["code"].as_str());
            assert_eq!(said, (status, Some(kind), Some(code)), "{model}");
            assert!(!error["message"].as_str().unwrap().is_empty());
        }
    }
    let mut client = rig.client();
    let answer = client.post("/v1/chat/completions", "{}");
    assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &"model".into()));
    let answer = client.ask("POST", "/v1/chat/completions", "content-type: text/plain\r\n", "{}");
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (415, &"not-json".into()));
}

#[test]
fn what_no_route_has_seen_is_refused_in_that_form_too() {
    let limits = ControlLimits { body_bytes: 64, ..ControlLimits::default() };
    let rig = Rig::with(limits, Some("hunter2"));
    let mut client = rig.client();
    let token = "authorization: Bearer hunter2\r\n";
    let foreign = format!("{token}origin: https://evil.example\r\n");
    let long = "x".repeat(65);
    for (method, path, headers, body, status, code) in [
        ("GET", "/v1/models", "", "", 401, "unauthorized"),
        ("POST", "/v1/chat/completions", token, &*long, 413, "body-too-large"),
        ("GET", "/v1/models", &foreign, "", 403, "origin-not-allowed"),
        ("GET", "/v1/nothing", token, "", 404, "no-such-path"),
        ("DELETE", "/v1/models", token, "", 405, "method-not-allowed"),
    ] {
        let answer = client.ask(method, path, headers, body);
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["code"]), (status, &code.into()), "{path}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()));
    }
    // Others have the form of all.
    assert_eq!(client.get("/agents").json()["error_type"], "unauthorized");
}

#[test]
fn agents_are_models() {
    let rig = Rig::start();
    let mut client = rig.client();
    let list = client.get("/v1/models").json();
    assert_eq!(list["object"], "list");
    let first = list["data"][0].clone();
    assert_eq!((&first["object"], &first["owned_by"]), (&"model".into(), &"polecat".into()));
    let id = first["id"].as_str().unwrap();
    assert_eq!(client.get(&format!("/v1/models/{id}")).json(), first);
    let answer = client.get("/v1/models/ghost");
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &"no-such-agent".into()));
    let answer = client.get("/v1/models/late");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(answer.json()["error"]["code"], "not-back-yet");
    assert_eq!(client.get("/v1/models?limit=3").json()["error"]["param"], "limit");
}

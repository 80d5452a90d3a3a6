//! What nobody should send: text that is no UTF-8, silence after any byte, arguments without end.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a panic is their failure")]

mod common;

use std::time::{Duration, Instant};

use bulkhead_llm::{Bounds, Part};
use common::{
    Asked, Server, Step, WIDE, ask, chunk, document, end, endpoint, head, ok, outcome, question,
    stream,
};
use serde_json::{Value, json};

const ONCE: Bounds = Bounds { retries: 0, ..WIDE };

const STOP: &str =
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

/// What a chat comes to when the server answers so.
async fn of(steps: Vec<Step>, bounds: Bounds) -> String {
    let server = Server::start(move |_: &Asked| steps.clone());
    outcome(&mut ask(&endpoint(server.address, bounds), question())).await
}

fn data(json: &Value) -> String {
    format!("data: {json}\n\n")
}

/// A delta as an event, with its JSON as it is given.
fn delta(json: &str) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{json}}}]}}\n\n")
}

fn arguments(json: &str) -> String {
    delta(&format!(
        r#"{{"tool_calls":[{{"index":0,"id":"a","function":{{"name":"read","arguments":"{json}"}}}}]}}"#
    ))
}

const CALLS: &str =
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n";

#[tokio::test]
async fn what_is_no_utf8_is_an_error_that_says_so() {
    let broken = |text: &str| -> Vec<u8> {
        text.bytes().map(|byte| if byte == b'?' { 0xff } else { byte }).collect()
    };
    let text = delta(r#"{"content":"gr?n"}"#);
    let call = arguments(r#"{\"path\":\"gr?n\"}"#);
    let whole = r#"{"choices":[{"message":{"content":"gr?n"},"finish_reason":"stop"}]}"#;
    for answer in [
        vec![ok(), chunk(broken(&text)), chunk(STOP), end()],
        vec![ok(), chunk(broken(&call)), chunk(CALLS), end()],
        vec![ok(), chunk(broken(&text)), Step::Close],
        vec![head("200 OK", "content-type: application/json\r\n"), chunk(broken(whole)), end()],
        // A line that is JSON by itself, and the last one without its end.
        vec![ok(), chunk(": hi\n"), chunk(broken(whole)), end()],
    ] {
        let found = of(answer.clone(), ONCE).await;
        assert_eq!(found, "bad answer main: the answer is not in UTF-8", "{answer:?}");
    }
    // What belongs to no answer may be anything.
    let comment =
        vec![ok(), chunk(b": \xff\n\n"), chunk(delta(r#"{"content":"fine"}"#)), chunk(STOP), end()];
    assert_eq!(of(comment, ONCE).await, "text fine, stop");
    let behind =
        vec![ok(), chunk(delta(r#"{"content":"fine"}"#)), chunk(STOP), chunk(b"data: \xff\n\n")];
    assert_eq!(of(behind, ONCE).await, "text fine, stop");
    let page = of(stream(&["upstream is aw\u{e4}y"]), ONCE).await;
    assert!(page.starts_with("bad answer main: neither events nor JSON"), "{page}");
}

#[tokio::test]
async fn a_character_may_come_in_halves() {
    let crane = "\u{1f6a7}";
    for (answer, expected) in [
        (
            vec![
                delta(r#"{"content":"a \ud83d"}"#),
                delta(r#"{"content":"\uDEA7 b"}"#),
                STOP.to_owned(),
            ],
            format!("text a {crane} b, stop"),
        ),
        // Something else in between.
        (
            vec![
                delta(r#"{"reasoning_content":"\ud83d"}"#),
                ": hb\n\n".to_owned(),
                delta(r#"{"role":"assistant"}"#),
                delta(r#"{"reasoning_content":"\udea7"}"#),
                delta(r#"{"content":"\\ud83d"}"#),
                STOP.to_owned(),
            ],
            format!("reasoning {crane}, text \\ud83d, stop"),
        ),
        (
            vec![arguments(r#"{\"a\":\"\ud83d"#), arguments(r#"\udea7\"}"#), CALLS.to_owned()],
            format!("a read({{\"a\":\"{crane}\"}}), toolcalls"),
        ),
        // Whole ones are as they were.
        (
            vec![delta(r#"{"content":"\ud83d\udea7\\"}"#), STOP.to_owned()],
            format!("text {crane}\\, stop"),
        ),
    ] {
        let frames: Vec<_> = answer.iter().map(String::as_str).collect();
        assert_eq!(of(stream(&frames), ONCE).await, expected, "{answer:?}");
    }
    // Half a character is none.
    for answer in [
        vec![delta(r#"{"content":"a \ud83d"}"#), STOP.to_owned()],
        vec![delta(r#"{"content":"\udea7"}"#), STOP.to_owned()],
        vec![delta(r#"{"content":"a\ud83db"}"#), STOP.to_owned()],
        vec![delta(r#"{"content":"\ud83d"}"#), delta(r#"{"content":"\ud83d"}"#), STOP.to_owned()],
        vec![arguments(r#"{\"a\":\"\ud83d"#), arguments(r#"\"}"#), CALLS.to_owned()],
    ] {
        let frames: Vec<_> = answer.iter().map(String::as_str).collect();
        let found = of(stream(&frames), ONCE).await;
        assert!(found.contains("bad answer main: half of a surrogate pair"), "{answer:?}: {found}");
    }
    // What a limit cut in the middle of one is the rest.
    let cut = [delta(r#"{"content":"a\ud83d"}"#), STOP.replace("stop", "length")];
    let found = of(stream(&[&cut[0], &cut[1]]), ONCE).await;
    assert_eq!(found, "text a, length");
}

#[tokio::test]
async fn silence_after_any_byte_ends_the_call() {
    let bytes = |steps: Vec<Step>| -> Vec<u8> {
        steps
            .into_iter()
            .flat_map(|step| match step {
                Step::Send(bytes) => bytes,
                other => panic!("{other:?}"),
            })
            .collect()
    };
    let text = delta(r#"{"content":"fine"}"#);
    let json = r#"{"choices":[{"message":{"content":"fine"},"finish_reason":"stop"}]}"#;
    let bounds =
        Bounds { first_byte: Duration::from_millis(700), idle: Duration::from_millis(500), ..ONCE };
    for (answer, whole) in [
        (bytes(stream(&[&text, STOP])), "text fine, stop"),
        (bytes(document("200 OK", "", json)), "text fine, stop"),
        (
            bytes(document("503 Service Unavailable", "", r#"{"error":"busy"}"#)),
            "unavailable main: status 503",
        ),
    ] {
        let mut calls = tokio::task::JoinSet::new();
        for length in 0..=answer.len() {
            let part = answer[..length].to_vec();
            calls.spawn(async move {
                let found = of(vec![Step::Send(part), Step::Hang], bounds).await;
                (length, found)
            });
        }
        for (length, found) in calls.join_all().await {
            let is_timeout = found.starts_with("timeout main: ")
                || found.starts_with("text fine, timeout main: ");
            assert!(found.starts_with(whole) || is_timeout, "{length} bytes: {found}");
            if length == answer.len() {
                assert!(found.starts_with(whole), "{found}");
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_only_keeps_its_connection_busy_is_not_waited_for() {
    let beats = std::iter::repeat_n([chunk(": hb\n\n"), Step::Pause(5)], 2000).flatten();
    let busy: Vec<_> = [ok()].into_iter().chain(beats).collect();
    let bounds = Bounds { attempt: Duration::from_millis(300), retries: 0, ..WIDE };
    assert_eq!(of(busy.clone(), bounds).await, "timeout main: no part of an answer within 300 ms");
    // The next try has the same time.
    let fine = stream(&[&delta(r#"{"content":"fine"}"#), STOP]);
    let server = Server::start(move |asked: &Asked| match asked.number {
        0 => busy.clone(),
        _ => fine.clone(),
    });
    let endpoint = endpoint(server.address, Bounds { retries: 1, ..bounds });
    let mut chat = ask(&endpoint, question());
    assert_eq!((outcome(&mut chat).await.as_str(), chat.tries()), ("text fine, stop", 2));
    // An answer that has begun may take longer, also one of which no part is whole.
    let slow = |frame: &str| -> Vec<_> {
        let beats = std::iter::repeat_n([chunk(": hb\n\n"), Step::Pause(20)], 30).flatten();
        let begun = [ok(), chunk(frame)].into_iter().chain(beats);
        begun.chain([chunk(CALLS), end()]).collect()
    };
    let text = of(slow(&delta(r#"{"content":"fine"}"#)), bounds).await;
    assert_eq!(text, "text fine, stop");
    assert_eq!(of(slow(&arguments("{}")), bounds).await, "a read({}), toolcalls");
}

#[tokio::test]
async fn a_key_that_is_revoked_in_mid_stream_is_a_refusal() {
    let revoked = data(&json!({"error": {"message": "key revoked", "code": 401}}));
    let text = delta(r#"{"content":"par"}"#);
    let found = of(stream(&[&text, &revoked]), WIDE).await;
    assert_eq!(found, "text par, rejected 401 main: key revoked");
    let named = data(&json!({"error": {"message": "no", "type": "authentication_error"}}));
    assert_eq!(of(stream(&[&named]), WIDE).await, "rejected 401 main: no");
}

#[tokio::test]
async fn ten_megabytes_of_arguments_are_a_call_or_an_error() {
    const SIZE: usize = 10 * 1024 * 1024;
    let piece = |text: &str| {
        data(&json!({"choices": [{"delta": {"tool_calls": [
            {"index": 0, "id": "a", "function": {"name": "read", "arguments": text}}]}}]}))
    };
    let long = "x".repeat(16 * 1024);
    let mut answer = vec![ok(), chunk(piece("{\"text\":\""))];
    answer.extend((0..SIZE / long.len()).map(|_| chunk(piece(&long))));
    answer.extend([chunk(piece("\"}")), chunk(CALLS), end()]);
    let found = of(answer.clone(), Bounds { max_answer_bytes: 4 << 20, ..ONCE }).await;
    assert_eq!(found, "bad answer main: the answer has more than 4194304 bytes");
    let server = Server::start(move |_: &Asked| answer.clone());
    let bounds = Bounds { max_answer_bytes: 16 << 20, ..ONCE };
    let mut chat = ask(&endpoint(server.address, bounds), question());
    let Some(Ok(Part::ToolCall(call))) = chat.next().await else { panic!("no call") };
    assert_eq!(call.arguments.len(), SIZE + 11);
    assert!(matches!(chat.next().await, Some(Ok(Part::End(_)))));
}

#[tokio::test]
async fn pieces_that_look_like_beginnings_cost_no_more_than_others() {
    let piece = |text: &str| {
        data(&json!({"choices": [{"delta": {"tool_calls": [
            {"index": 0, "function": {"name": "read", "arguments": text}}]}}]}))
    };
    let begins = format!("{{\"{}\":[", "x".repeat(64));
    let mut frames = piece(&begins);
    while frames.len() < 4 << 20 {
        frames +=
            &piece("{\"x\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24]},");
    }
    let answer = vec![ok(), chunk(frames), chunk(CALLS), end()];
    let bounds = Bounds { max_answer_bytes: 16 << 20, ..ONCE };
    let began = Instant::now();
    let found = of(answer, bounds).await;
    assert!(found.starts_with("made-up read({"), "{}", &found[..100]);
    // Seconds for each megabyte, if all that came is read again with each piece.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn pieces_behind_whole_arguments_cost_no_more_than_others() {
    let piece = |arguments: Value| {
        data(&json!({"choices": [{"delta": {"tool_calls": [
            {"index": 0, "function": {"name": "read", "arguments": arguments}}]}}]}))
    };
    let again = |arguments: Value| {
        data(&json!({"choices": [{"delta": {"tool_calls": [
            {"index": 0, "id": "a", "function": {"arguments": arguments}}]}}]}))
    };
    let blanks = " ".repeat(2 << 20);
    for (begins, more) in [
        // The same once more.
        (format!("{{{blanks}}}"), again(json!("{}"))),
        // No object, though its brackets close.
        (format!("{{\"x\":\"{blanks}\" 1}}"), piece(json!({}))),
        (format!("{blanks}{{\"x\":1}}"), again(json!(" "))),
    ] {
        let mut frames = again(json!("")) + &piece(json!(begins));
        let size = frames.len() + (2 << 20);
        while frames.len() < size {
            frames += &more;
        }
        let answer = vec![ok(), chunk(frames), chunk(CALLS), end()];
        let bounds = Bounds { max_answer_bytes: 16 << 20, ..ONCE };
        let began = Instant::now();
        let found = of(answer, bounds).await;
        assert!(found.starts_with("a read("), "{}", &found[..100.min(found.len())]);
        // Minutes, if all arguments are read again with each piece.
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}: {more}", began.elapsed());
    }
}

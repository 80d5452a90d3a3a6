//! What servers do that no specification has: each mode, and what becomes of it.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a panic is their failure")]

mod common;

use std::time::Duration;

use bulkhead_llm::Bounds;
use common::frames::{DONE, call, data, event, fine, says, stop, streamed, then};
use common::modes::{Mode, check, mode, narrow};
use common::{NARROW, Step, WIDE, chunk, document, end, head, ok};
use serde_json::{Value, json};

fn endings() -> Vec<Mode> {
    let half = says("half an ans");
    let usage = |choices: Value| {
        let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5});
        data(&json!({"choices": choices, "usage": usage}))
    };
    let whole = says("fine") + &stop();
    vec![
        mode("ok", streamed(&[fine()]), "text fine, stop"),
        mode("nodone", streamed(std::slice::from_ref(&whole)), "text fine, stop"),
        mode(
            "usage_empty",
            streamed(&[whole.clone() + &usage(json!([])) + DONE]),
            "text fine, stop 3/2",
        ),
        mode(
            "choices_null",
            streamed(&[whole.clone() + &usage(Value::Null) + DONE]),
            "text fine, stop 3/2",
        ),
        mode(
            "usage_null",
            streamed(&[
                data(&json!({"choices": [{"delta": {"content": "fine"}}], "usage": null})),
                data(&json!({"choices": [{"delta": {}, "finish_reason": "stop"}],
                             "usage": {"prompt_tokens": null, "completion_tokens": 2}})),
                DONE.to_owned(),
            ]),
            "text fine, stop 0/2",
        ),
        mode(
            "usage later",
            then(&whole, &[Step::Pause(20), chunk(usage(json!([]))), end()]),
            "text fine, stop 3/2",
        ),
        mode(
            "usage late",
            then(&whole, &[Step::Pause(400), chunk(usage(json!([]))), end()]),
            "text fine, stop 3/2",
        ),
        mode("hold quiet", then(&whole, &[Step::Hang]), "text fine, stop"),
        mode(
            "hold",
            {
                let beats = std::iter::repeat_n([chunk(": hb\n\n"), Step::Pause(5)], 400).flatten();
                then(&whole, &beats.chain([Step::Close]).collect::<Vec<_>>())
            },
            "text fine, stop",
        ),
        mode("reset after the end", then(&whole, &[Step::Reset]), "text fine, stop"),
        mode("done_nospace", streamed(&[whole.clone() + "data:[DONE]"]), "text fine, stop"),
        mode(
            "close_delim",
            vec![
                Step::Send(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec()),
                Step::Send(fine().into()),
                Step::Close,
            ],
            "text fine, stop",
        ),
        mode(
            "http/1.0",
            vec![Step::Send(format!("HTTP/1.0 200 OK\r\n\r\n{}", fine()).into()), Step::Close],
            "text fine, stop",
        ),
        mode(
            "len",
            streamed(&[half.clone(), event(json!({}), json!("length")) + DONE]),
            "text half an ans, length",
        ),
        mode(
            "cut",
            streamed(std::slice::from_ref(&half)),
            "text half an ans, cut off main: the answer ends in the middle",
        ),
        mode(
            "fr_empty_cut",
            streamed(&[event(json!({"content": "half an ans"}), json!(""))]),
            "text half an ans, cut off main: the answer ends in the middle",
        ),
        mode(
            "cut in a chunk",
            then(&half, &[Step::Send(b"30\r\ndata: {\"cho".to_vec()), Step::Close]),
            "text half an ans, cut off main: the connection broke off",
        ),
        mode(
            "reset",
            then(&half, &[Step::Reset]),
            "text half an ans, cut off main: the connection broke off",
        ),
        mode(
            "cut before the beginning",
            then(": hi\n\n", &[Step::Close]),
            "unavailable main: the connection broke off",
        ),
        mode("empty", streamed(&[]), "unavailable main: the response ends before an answer began"),
        mode("close", vec![Step::Close], "unavailable main: the connection broke off"),
        mode("reset at once", vec![Step::Reset], "unavailable main: the connection broke off"),
        mode(
            "reasoning_only",
            streamed(&[
                event(json!({"reasoning_content": "long thought"}), Value::Null),
                event(json!({}), json!("length")) + DONE,
            ]),
            "reasoning long thought, bad answer main: empty answer, finish reason: length; truncated",
        ),
    ]
}

fn forms() -> Vec<Mode> {
    let crlf = says("fi") + ": ping\n\n" + &says("ne") + &stop() + DONE;
    let split = says("grün ✓ 🚧");
    let bytes = split.as_bytes().iter().map(|byte| chunk([*byte]));
    let comments = std::iter::repeat_n([chunk(": PROCESSING\n\n"), Step::Pause(20)], 20).flatten();
    vec![
        mode("crlf", streamed(&[crlf.replace('\n', "\r\n")]), "text fine, stop"),
        mode("cr", streamed(&[crlf.replace('\n', "\r")]), "text fine, stop"),
        Mode {
            bounds: Bounds { first_byte: WIDE.first_byte, idle: NARROW.idle * 4, ..NARROW },
            ..mode(
                "comments",
                [ok()].into_iter().chain(comments).chain([chunk(fine()), end()]).collect(),
                "text fine, stop",
            )
        },
        mode(
            "utf8split",
            [ok()].into_iter().chain(bytes).chain([chunk(stop() + DONE), end()]).collect(),
            "text grün ✓ 🚧, stop",
        ),
        mode("ct_none", vec![head("200 OK", ""), chunk(fine()), end()], "text fine, stop"),
        mode(
            "ct_plain",
            vec![head("200 OK", "content-type: text/plain\r\n"), chunk(fine()), end()],
            "text fine, stop",
        ),
        mode("ct_json", document("200 OK", "", &fine()), "text fine, stop"),
        mode(
            "document",
            document(
                "200 OK",
                "",
                &json!({"choices": [{"message": {"content": "fine", "reasoning_content": "hm"},
                                     "finish_reason": "stop"}],
                        "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
                .to_string(),
            ),
            "reasoning hm, text fine, stop 3/2",
        ),
        mode(
            "parts",
            streamed(&[
                event(json!({"content": [{"type": "text", "text": "fine"}]}), Value::Null),
                stop() + DONE,
            ]),
            "text fine, stop",
        ),
        mode(
            "delta_null",
            streamed(&[data(&json!({"choices": [{"index": 0, "delta": null}]})) + &fine()]),
            "text fine, stop",
        ),
        mode(
            "double_json",
            streamed(&[format!(
                "data: {}{}\n\n{DONE}",
                json!({"choices": [{"delta": {"content": "fi"}}]}),
                json!({"choices": [{"delta": {"content": "ne"}}]}),
            )]),
            "text fine, stop",
        ),
        mode(
            "junk_first",
            streamed(&["data: {\"type\":\"ping\"}\n\ndata: \n\n".to_owned() + &fine()]),
            "text fine, stop",
        ),
        mode(
            "filter",
            streamed(&[data(&json!({"choices": [], "prompt_filter_results": [{}]})) + &fine()]),
            "text fine, stop",
        ),
        mode(
            "100c",
            [Step::Send(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())]
                .into_iter()
                .chain(streamed(&[fine()]))
                .collect(),
            "text fine, stop",
        ),
        mode(
            "103",
            [Step::Send(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".to_vec())]
                .into_iter()
                .chain(streamed(&[fine()]))
                .collect(),
            "text fine, stop",
        ),
        mode(
            "bighdr",
            vec![
                head("200 OK", &format!("x-big: {}\r\n", "a".repeat(40_000))),
                chunk(fine()),
                end(),
            ],
            "text fine, stop",
        ),
        mode(
            "manyhdr",
            vec![
                head("200 OK", &(0..150).map(|n| format!("x-{n}: v\r\n")).collect::<String>()),
                chunk(fine()),
                end(),
            ],
            "text fine, stop",
        ),
    ]
}

fn errors() -> Vec<Mode> {
    let error = |error: Value| data(&json!({"error": error}));
    vec![
        mode(
            "err_mid",
            streamed(&[
                says("par"),
                data(&json!({"error": {"message": "Provider returned error", "code": 502},
                             "choices": [{"delta": {"content": ""}, "finish_reason": "error"}]})),
                DONE.to_owned(),
            ]),
            "text par, unavailable main: status 502: Provider returned error",
        ),
        mode(
            "err_mid_400",
            streamed(&[error(json!({"message": "context length exceeded", "code": 400}))]),
            "rejected 400 main: context length exceeded",
        ),
        mode(
            "err_mid_nothing",
            streamed(&[error(json!("something"))]),
            "rejected 200 main: something",
        ),
        mode(
            "err_groq",
            streamed(&[
                says("par"),
                data(&json!({"choices": [{"delta": {}, "finish_reason": null}],
                             "x_groq": {"id": "r", "error": "over_capacity: later"}})),
                DONE.to_owned(),
            ]),
            "text par, rejected 200 main: over_capacity: later",
        ),
        mode(
            "err_vllm",
            streamed(&[
                says("par"),
                data(&json!({"object": "error", "message": "engine died",
                             "type": "InternalServerError", "code": 500})),
            ]),
            "text par, unavailable main: status 500: engine died",
        ),
        mode(
            "err_detail",
            document("200 OK", "", r#"{"detail":"Not authenticated upstream"}"#),
            "rejected 200 main: Not authenticated upstream",
        ),
        mode(
            "err_words",
            streamed(&[says("par"), "data: Internal Server Error\n\n".to_owned() + DONE]),
            "text par, cut off main: the answer ends in the middle, after: Internal Server Error",
        ),
        mode(
            "a document that is cut",
            document("200 OK", "", r#"{"choices":[{"message":{"content":"fi"#),
            "unavailable main: the answer ends in the middle of its JSON",
        ),
        mode(
            "404",
            document("404 Not Found", "", r#"{"error":"no such mode"}"#),
            "rejected 404 main: no such mode",
        ),
        mode(
            "404 without a word",
            document("404 Not Found", "", ""),
            "rejected 404 main: Not Found",
        ),
        mode(
            "a key in an error",
            document("403 Forbidden", "", r#"{"error":{"message":"sk-test may not"}}"#),
            "rejected 403 main: [key] may not",
        ),
        mode(
            "429 for too long",
            document("429 Too Many Requests", "retry-after: 61\r\n", r#"{"error":"slow"}"#),
            "rate limited Some(61000) main: slow",
        ),
        mode(
            "429 of an account without money",
            document(
                "429 Too Many Requests",
                "",
                r#"{"error":{"message":"no money","code":"insufficient_quota"}}"#,
            ),
            "rejected 429 main: no money",
        ),
        mode(
            "429 of a throttle that has the name of a quota",
            document(
                "429 Too Many Requests",
                "",
                r#"{"error":{"message":"no quota: error-code#token-limit","code":"insufficient_quota"}}"#,
            ),
            "rate limited None main: no quota",
        ),
        mode(
            "429 of a quota that a wait changes",
            document(
                "429 Too Many Requests",
                "retry-after: 7\r\n",
                r#"{"error":{"message":"no quota","code":"insufficient_quota"}}"#,
            ),
            "rate limited Some(7000) main: no quota",
        ),
        mode(
            "503 for too long",
            document("503 Service Unavailable", "retry-after: 61\r\n", "{}"),
            "unavailable main: status 503: Service Unavailable (not tried again: it asks to wait for 61 s)",
        ),
        mode(
            "304",
            vec![Step::Send(b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec())],
            "rejected 304 main: status 304 is no answer: Not Modified",
        ),
        mode(
            "junk behind a response",
            vec![Step::Send(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nnojunk".to_vec())],
            "rejected 404 main: no",
        ),
        mode(
            "redirect",
            document("307 Temporary Redirect", "location: http://127.0.0.1:1/v1\r\n", "moved"),
            "rejected 307 main: redirects are not followed, this one leads to http://127.0.0.1:1/v1",
        ),
        mode(
            "gzip",
            vec![head("200 OK", "content-encoding: gzip\r\n"), chunk(b"\x1f\x8b\x08\0"), end()],
            "bad answer main: the response is compressed (gzip)",
        ),
        mode(
            "gzip that is not declared",
            vec![head("200 OK", ""), chunk(b"\x1f\x8b\x08\0"), end()],
            "bad answer main: it is compressed",
        ),
        mode(
            "html",
            vec![head("200 OK", "content-type: text/html\r\n"), chunk("<html></html>"), end()],
            "bad answer main: it is a page and no completion",
        ),
        mode(
            "too large",
            vec![ok(), chunk(says(&"x".repeat(2 * 1024 * 1024))), end()],
            "bad answer main: the answer has more than 1048576 bytes",
        ),
        mode(
            "head too large",
            vec![head("200 OK", &format!("x-big: {}\r\n", "a".repeat(400_000)))],
            "bad answer main: the head of its response is too large",
        ),
        mode(
            "no http",
            vec![Step::Send(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()), Step::Close],
            "bad answer main: it speaks no HTTP/1.1",
        ),
        mode(
            "too many interim answers",
            std::iter::repeat_n(Step::Send(b"HTTP/1.1 102 Processing\r\n\r\n".to_vec()), 9000)
                .collect(),
            "bad answer main: more than 64 interim answers",
        ),
    ]
}

fn silences() -> Vec<Mode> {
    let status = "HTTP/1.1 200 OK\r\n";
    vec![
        narrow("silent_head", vec![Step::Hang], "timeout main: no response within 60 ms"),
        narrow(
            "silent in the head",
            vec![Step::Send(status.into()), Step::Hang],
            "timeout main: no response within 60 ms",
        ),
        narrow(
            "silent_body",
            vec![ok(), Step::Hang],
            "timeout main: no answer in time after the head of the response",
        ),
        narrow(
            "silent after a comment",
            then(": hi\n\n", &[Step::Hang]),
            "timeout main: silent for 60 ms in the middle",
        ),
        narrow(
            "stall",
            then(&event(json!({"reasoning_content": "hm"}), Value::Null), &[Step::Hang]),
            "reasoning hm, timeout main: silent for 60 ms in the middle",
        ),
        narrow(
            "silent in a call",
            then(&call(&json!({"index": 0, "function": {"name": "read"}})), &[Step::Hang]),
            "timeout main: silent for 60 ms in the middle",
        ),
        narrow(
            "silent in a refusal",
            vec![head("503 Service Unavailable", ""), Step::Hang],
            "unavailable main: status 503: Service Unavailable",
        ),
        Mode {
            bounds: Bounds { whole: NARROW.idle, ..WIDE },
            ..mode(
                "busy without end",
                {
                    let beats = std::iter::repeat_n([chunk(": hb\n\n"), Step::Pause(5)], 400);
                    [ok()].into_iter().chain(beats.flatten()).collect()
                },
                "timeout main: the time for the call is over",
            )
        },
    ]
}

/// Servers that give each chunk a finish reason.
fn many_reasons() -> Vec<Mode> {
    let with = |delta: Value, reason: &str| event(delta, json!(reason));
    let counted = |text: &str, output: u64| {
        let choice = json!({"delta": {"content": text}, "finish_reason": "stop"});
        let usage = json!({"prompt_tokens": 3, "completion_tokens": output});
        chunk(data(&json!({"choices": [choice], "usage": usage})))
    };
    let fi = with(json!({"content": "fi"}), "stop");
    let ne = || chunk(with(json!({"content": "ne"}), "stop"));
    let call = json!({"index": 0, "id": "a", "function": {"name": "read", "arguments": "{}"}});
    let calls = chunk(with(json!({"tool_calls": [call]}), "stop"));
    let pause = || Step::Pause(1200);
    let done = || [chunk(DONE), end()];
    let short = Bounds { whole: Duration::from_secs(2), retries: 0, ..WIDE };
    let then = |frame: &str, steps: &[&[Step]]| then(frame, &steps.concat());
    vec![
        mode("slow", then(&fi, &[&[pause(), ne(), pause()], &done()]), "text fine, stop"),
        mode("no end", then(&fi, &[&[pause(), ne(), end()]]), "text fine, stop"),
        mode(
            "broken off",
            then(&fi, &[&[pause(), ne(), Step::Reset]]),
            "text fine, cut off main: the connection broke off",
        ),
        mode("broken off after one reason", then(&fi, &[&[Step::Reset]]), "text fi, stop"),
        Mode {
            bounds: short,
            ..mode(
                "until the time is over",
                then(&fi, &[&[ne(), Step::Hang]]),
                "text fine, timeout main: the time for the call is over",
            )
        },
        Mode {
            bounds: short,
            ..mode(
                "one reason until the time is over",
                then(&fi, &[&[Step::Hang]]),
                "text fi, stop",
            )
        },
        mode(
            "with usage",
            then(": hi\n\n", &[&[counted("fi", 1), counted("ne", 2)], &done()]),
            "text fine, stop 3/2",
        ),
        mode("a call", then(&fi, &[&[pause(), calls], &done()]), "text fi, a read({}), toolcalls"),
        mode(
            "thought first",
            then(&with(json!({"reasoning": "hm"}), "stop"), &[&[pause(), ne()], &done()]),
            "reasoning hm, text ne, stop",
        ),
        mode(
            "an error in the middle",
            then(&fi, &[&[ne(), chunk(data(&json!({"error": "died"})))], &done()]),
            "text fine, rejected 200 main: died",
        ),
        narrow("silent", then(&fi, &[&[ne(), Step::Hang]]), "text fine, stop"),
    ]
}

#[tokio::test]
async fn an_answer_whose_chunks_all_have_a_reason_goes_on() {
    check(many_reasons()).await;
}

#[tokio::test]
async fn an_answer_ends_at_its_finish_reason_and_nowhere_else() {
    check(endings()).await;
}

#[tokio::test]
async fn an_answer_is_known_by_its_bytes() {
    check(forms()).await;
}

#[tokio::test]
async fn an_error_is_reported_with_the_words_of_the_server() {
    check(errors()).await;
}

#[tokio::test]
async fn silence_ends_a_call_at_every_stage() {
    check(silences()).await;
}

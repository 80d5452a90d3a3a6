//! Servers that answer in ways of their own, byte for byte: `POST /oddity/NAME/v1/chat/completions`.
//!
//! Between name and `v1` there may be more segments: counts (`fail-…`, `retry-after-…`) are by path, so that tests that
//! share a server do not share them. The authorization is not checked. A connection that began with another path does
//! not serve these.
//!
//! "Tools" ask for `status` with the arguments `{"text": "one"}`, or for two calls with "one" and "two", and answer "fine"
//! once the request has results of tools. Where nothing else is said, the answer is "fine", in a chunked body of
//! `text/event-stream`.
//!
//! | name | what is odd |
//! | --- | --- |
//! | `ok` | nothing |
//! | `no-done` | no `[DONE]` |
//! | `usage-last` | tokens in a last chunk with no choice |
//! | `choices-null` | the same, `"choices": null` |
//! | `usage-null` | tokens are `null`, also next to numbers |
//! | `usage-text` | tokens are strings |
//! | `null-content` | tools; `"content": null`, arguments in pieces |
//! | `empty-ids` | two tools; ids are empty, no index |
//! | `no-ids` | two tools; neither id nor index |
//! | `one-index` | two tools; both have the index 0 |
//! | `args-object` | tools; arguments are an object and no text |
//! | `name-null` | tools; name, id and type are `null` in the second piece |
//! | `repeated-name` | tools; name and id are repeated in the second piece |
//! | `length-tool` | tools; the arguments end in the middle, the finish reason is `length` |
//! | `crlf`, `cr` | line ends |
//! | `comments` | twenty comments before |
//! | `hold` | no `[DONE]`; the connection stays open, with a comment every 20 ms |
//! | `hold-quiet` | the same, in silence |
//! | `done-no-space` | `data:[DONE]` without an end of line |
//! | `double-json` | two values in one event |
//! | `junk-first` | events that are no completions before |
//! | `filter` | Azure's chunk with `prompt_filter_results` before |
//! | `delta-null` | `"delta": null` before |
//! | `parts` | content is a list of parts, one of them is thinking |
//! | `utf8-split` | "grün ✓ 🚧", one byte in each chunk of the body |
//! | `gzip` | compressed though nobody asked for it |
//! | `no-type`, `plain-type`, `json-type` | another content type, or none |
//! | `document` | one JSON object |
//! | `until-close` | neither length nor chunks: the body ends with the connection |
//! | `100-continue`, `early-hints` | an interim response before |
//! | `big-header` | a header of 40,000 bytes |
//! | `many-headers` | 150 headers |
//! | `fail-STATUS-N` | the first N requests of a path get this status |
//! | `retry-after-S` | the first request of a path gets 429 with `Retry-After: S` |
//!
//! | name | why there is no whole answer |
//! | --- | --- |
//! | `length` | "half an ans", finish reason `length` |
//! | `content-filter` | the same, `content_filter` |
//! | `empty-after-tool` | tools, then an empty answer with the reason `stop` |
//! | `reasoning-only` | reasoning and the reason `length` |
//! | `cut` | "half an ans", then the end of the body |
//! | `empty-reason` | the same, the finish reason is an empty string |
//! | `reset` | "par", then a reset of the connection |
//! | `error-midway` | "par", then an error with the code 502 beside a choice |
//! | `error-first` | an error with the code 400 as the only event |
//! | `error-vllm` | "par", then vLLM's error object with the code 500 |
//! | `error-detail` | `{"detail": …}` with the status 200 |
//! | `html` | a page |
//! | `redirect` | 307 to `/oddity/ok` |
//! | `silent-head` | nothing |
//! | `silent-body` | a head, then nothing |
//! | `stall` | a head and some reasoning, then nothing |
//! | `long-call` | 32 MiB of the arguments of a tool call, then nothing |
//!
//! Silence lasts until the client hangs up, at most [`STALL`](crate::fault::STALL).

mod connection;

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

pub(crate) use connection::serve;

/// What a server does, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Status line and headers, with the empty line.
    Head(String),
    /// A part of the body, in a chunk of its own if the body is chunked.
    Send(Vec<u8>),
    /// The end of a chunked body.
    End,
    Pause(Duration),
    /// Comments, until the client hangs up.
    Beat(Duration),
    /// Nothing, until the client hangs up.
    Silence,
    /// The end of the connection.
    Close,
    /// The same without a farewell.
    Reset,
}

/// What a request looks like to an oddity.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asked {
    /// There are results of tools.
    pub(crate) has_results: bool,
    /// Requests with this path before.
    pub(crate) before: u64,
}

/// Whether there is an oddity of this name.
pub(crate) fn is_known(name: &str) -> bool {
    steps(name, Asked::default()).is_some()
}

/// What the server of this name does. None: there is no such.
pub(crate) fn steps(name: &str, asked: Asked) -> Option<Vec<Step>> {
    if let Some(steps) = counted(name, asked.before) {
        return Some(steps);
    }
    if let Some(events) = stream(name) {
        return Some(body(EVENTS, events));
    }
    if let Some(events) = tools(name) {
        return Some(body(
            EVENTS,
            match name {
                "empty-after-tool" if asked.has_results => text("") + &end("stop") + DONE,
                _ if asked.has_results => fine(),
                _ => events,
            },
        ));
    }
    connection(name)
}

/// Those whose events are odd.
fn stream(name: &str) -> Option<String> {
    let before_fine = |data: &str| format!("data: {data}\n\n{}", fine());
    let after_par = |data: &str| format!("{}data: {data}\n\n{DONE}", text("par"));
    let half = || text("half an ans");
    Some(match name {
        "ok" => fine(),
        "no-done" => text("fine") + &end("stop"),
        "usage-last" => with_usage(json!([]), json!(3), json!(2)),
        "choices-null" => with_usage(Value::Null, json!(3), json!(2)),
        "usage-text" => with_usage(Value::Null, Value::Null, json!("2")),
        "usage-null" => usage_null(),
        "crlf" => {
            let text = format!("{}: ping\n\n{}", text("fi"), text("ne"));
            (text + &end("stop") + DONE).replace('\n', "\r\n")
        }
        "cr" => fine().replace('\n', "\r"),
        "done-no-space" => text("fine") + &end("stop") + "data:[DONE]",
        "double-json" => {
            let value = |text: &str| json!({"choices": [{"delta": {"content": text}}]});
            format!("data: {}{}\n\n{DONE}", value("fi"), value("ne"))
        }
        "junk-first" => "data: \n\ndata: ping\n\n".to_owned() + &before_fine(r#"{"type":"ping"}"#),
        "filter" => {
            let filtered = json!([{"prompt_index": 0, "content_filter_results": {}}]);
            before_fine(&json!({"choices": [], "prompt_filter_results": filtered}).to_string())
        }
        "delta-null" => chunk(Value::Null, Value::Null) + &fine(),
        "parts" => {
            let thinking = json!({"type": "thinking", "thinking": "hm"});
            let parts = json!([thinking, {"type": "text", "text": "fine"}]);
            chunk(json!({"content": parts}), Value::Null) + &end("stop") + DONE
        }
        "length" => half() + &end("length") + DONE,
        "content-filter" => half() + &end("content_filter") + DONE,
        "reasoning-only" => reasoning("long thought") + &end("length") + DONE,
        "cut" => half(),
        "empty-reason" => chunk(json!({"content": "half an ans"}), json!("")),
        "error-midway" => {
            let error = json!({"message": "Provider returned error", "code": 502});
            let choice = json!({"index": 0, "delta": {"content": ""}, "finish_reason": "error"});
            after_par(&json!({"error": error, "choices": [choice]}).to_string())
        }
        "error-first" => {
            let kind = "invalid_request_error";
            let error = json!({"message": "context length exceeded", "code": 400, "type": kind});
            format!("data: {}\n\n", json!({"error": error}))
        }
        "error-vllm" => {
            let kind = "InternalServerError";
            let error =
                json!({"object": "error", "message": "engine died", "type": kind, "code": 500});
            after_par(&error.to_string())
        }
        _ => return None,
    })
}

/// Those whose HTTP is odd.
fn connection(name: &str) -> Option<Vec<Step>> {
    let page = "<html><body>captive portal</body></html>";
    let send = |text: String| Step::Send(text.into());
    Some(match name {
        "comments" => comments(),
        "hold" => held(Step::Beat(BEAT)),
        "hold-quiet" => held(Step::Silence),
        "utf8-split" => split(&(text("grün ✓ 🚧") + &end("stop") + DONE)),
        "gzip" => gzip(),
        "no-type" => body("", fine()),
        "plain-type" => body("content-type: text/plain; charset=utf-8\r\n", fine()),
        "json-type" => body(JSON, fine()),
        "document" => {
            let message = json!({"role": "assistant", "content": "fine"});
            let choice = json!({"message": message, "finish_reason": "stop"});
            body(JSON, json!({"choices": [choice]}).to_string())
        }
        "until-close" => {
            let head = format!("HTTP/1.1 200 OK\r\n{EVENTS}connection: close\r\n\r\n");
            vec![Step::Head(head), send(fine()), Step::Close]
        }
        "100-continue" => after_interim("HTTP/1.1 100 Continue\r\n\r\n"),
        "early-hints" => after_interim("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
        "big-header" => body(&format!("{EVENTS}x-big: {}\r\n", "a".repeat(40_000)), fine()),
        "many-headers" => {
            let headers: String = (0..150).map(|i| format!("x-h{i}: v\r\n")).collect();
            body(&format!("{EVENTS}{headers}"), fine())
        }
        "reset" => vec![head(EVENTS), send(text("par")), Step::Reset],
        "error-detail" => body(JSON, json!({"detail": "Not authenticated upstream"}).to_string()),
        "html" => body("content-type: text/html\r\n", page.to_owned()),
        "redirect" => {
            let location = "location: /oddity/ok/v1/chat/completions\r\n";
            answer("307 Temporary Redirect", location, "moved".to_owned())
        }
        "silent-head" => vec![Step::Silence],
        "silent-body" => vec![head(EVENTS), Step::Silence],
        "stall" => vec![head(EVENTS), send(reasoning("thinking")), Step::Silence],
        "long-call" => long_call(),
        _ => return None,
    })
}

/// Those that ask for tools.
fn tools(name: &str) -> Option<String> {
    let status = |id: Value, arguments: Value| {
        let function = json!({"name": "status", "arguments": arguments});
        json!({"index": 0, "id": id, "type": "function", "function": function})
    };
    let (one, two) = (r#"{"text":"one"}"#, r#"{"text":"two"}"#);
    let (begin, rest) = (r#"{"text":"#, r#""one"}"#);
    let ended = |first: Value, second: Value| {
        let pieces = [first, second].into_iter().filter(|piece| !piece.is_null());
        pieces.map(calls).collect::<String>() + &end("tool_calls") + DONE
    };
    Some(match name {
        "null-content" => {
            chunk(json!({"role": "assistant", "content": null}), Value::Null)
                + &ended(
                    status(json!("a"), json!(begin)),
                    json!({"index": 0, "function": {"arguments": rest}}),
                )
        }
        "empty-ids" => ended(
            without(status(json!(""), json!(one)), &["index"]),
            without(status(json!(""), json!(two)), &["index"]),
        ),
        "no-ids" => ended(
            without(status(Value::Null, json!(one)), &["index", "id"]),
            without(status(Value::Null, json!(two)), &["index", "id"]),
        ),
        "one-index" => ended(status(json!("a"), json!(one)), status(json!("b"), json!(two))),
        "args-object" => ended(status(json!("a"), json!({"text": "one"})), Value::Null),
        "name-null" => ended(
            status(json!("a"), json!(begin)),
            json!({"index": 0, "id": null, "type": null,
                   "function": {"name": null, "arguments": rest}}),
        ),
        "repeated-name" => ended(status(json!("a"), json!(begin)), status(json!("a"), json!(rest))),
        "length-tool" => calls(status(json!("a"), json!("{\"text\":\"on"))) + &end("length") + DONE,
        "empty-after-tool" => ended(status(json!("a"), json!(one)), Value::Null),
        _ => return None,
    })
}

/// Those that count the requests of their path.
fn counted(name: &str, before: u64) -> Option<Vec<Step>> {
    let error = |status: &str, headers: &str| {
        let error = json!({"error": {"message": "told to fail by the path", "code": null}});
        answer(status, &format!("{JSON}{headers}"), error.to_string())
    };
    if let Some(seconds) = name.strip_prefix("retry-after-") {
        let seconds: u32 = seconds.parse().ok()?;
        return Some(match before {
            0 => error("429 Too Many Requests", &format!("retry-after: {seconds}\r\n")),
            _ => events(fine()),
        });
    }
    let (status, count) = name.strip_prefix("fail-")?.split_once('-')?;
    let status: u16 = status.parse().ok().filter(|status| (400..600).contains(status))?;
    let count: u64 = count.parse().ok()?;
    Some(if before < count { error(&format!("{status} Told To"), "") } else { events(fine()) })
}

const DONE: &str = "data: [DONE]\n\n";
const EVENTS: &str = "content-type: text/event-stream\r\n";
const JSON: &str = "content-type: application/json\r\n";

/// Between two comments.
const BEAT: Duration = Duration::from_millis(20);

fn chunk(delta: Value, finish_reason: Value) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
    let chunk = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
                       "choices": [choice]});
    format!("data: {chunk}\n\n")
}

fn text(text: &str) -> String {
    chunk(json!({"content": text}), Value::Null)
}

fn end(reason: &str) -> String {
    chunk(json!({}), reason.into())
}

fn calls(call: Value) -> String {
    chunk(json!({"tool_calls": [call]}), Value::Null)
}

fn without(mut call: Value, fields: &[&str]) -> Value {
    if let Some(call) = call.as_object_mut() {
        call.retain(|name, _| !fields.contains(&name.as_str()));
    }
    call
}

fn fine() -> String {
    text("fine") + &end("stop") + DONE
}

fn reasoning(text: &str) -> String {
    chunk(json!({"reasoning_content": text}), Value::Null)
}

fn with_usage(choices: Value, prompt: Value, completion: Value) -> String {
    let usage = json!({"prompt_tokens": prompt, "completion_tokens": completion});
    let last = json!({"choices": choices, "usage": usage});
    format!("{}{}data: {last}\n\n{DONE}", text("fine"), end("stop"))
}

fn usage_null() -> String {
    let chunk = |delta: Value, reason: Value, usage: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": reason});
        format!("data: {}\n\n", json!({"choices": [choice], "usage": usage}))
    };
    let usage = json!({"prompt_tokens": null, "completion_tokens": 2});
    let first = chunk(json!({"content": "fine"}), Value::Null, Value::Null);
    first + &chunk(json!({}), json!("stop"), usage) + DONE
}

fn head(headers: &str) -> Step {
    Step::Head(format!("HTTP/1.1 200 OK\r\n{headers}transfer-encoding: chunked\r\n\r\n"))
}

fn answer(status: &str, headers: &str, body: String) -> Vec<Step> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}transfer-encoding: chunked\r\n\r\n");
    vec![Step::Head(head), Step::Send(body.into()), Step::End]
}

fn body(headers: &str, body: String) -> Vec<Step> {
    answer("200 OK", headers, body)
}

fn long_call() -> Vec<Step> {
    const PIECES: usize = 512;
    let piece = |arguments: &str| {
        let function = json!({"name": "status", "arguments": arguments});
        Step::Send(calls(json!({"index": 0, "id": "a", "function": function})).into_bytes())
    };
    let mut steps = vec![head(EVENTS), piece("{\"text\":\"")];
    steps.extend(vec![piece(&"x".repeat(64 * 1024)); PIECES]);
    steps.push(Step::Silence);
    steps
}

fn events(events: String) -> Vec<Step> {
    body(EVENTS, events)
}

fn after_interim(interim: &str) -> Vec<Step> {
    let mut steps = events(fine());
    steps.insert(0, Step::Head(interim.to_owned()));
    steps
}

fn comments() -> Vec<Step> {
    let comment = [Step::Send(b": PROCESSING\n\n".to_vec()), Step::Pause(BEAT)];
    let comments = comment.iter().cycle().take(40).cloned();
    [head(EVENTS)]
        .into_iter()
        .chain(comments)
        .chain([Step::Send(fine().into()), Step::End])
        .collect()
}

fn held(then: Step) -> Vec<Step> {
    vec![head(EVENTS), Step::Send((text("fine") + &end("stop")).into()), then]
}

/// Each byte in a chunk of its own.
fn split(text: &str) -> Vec<Step> {
    let bytes = text.bytes().map(|byte| Step::Send(vec![byte]));
    [head(EVENTS)].into_iter().chain(bytes).chain([Step::End]).collect()
}

fn gzip() -> Vec<Step> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(fine().as_bytes());
    // A vector takes everything.
    let bytes = written.and_then(|()| encoder.finish()).unwrap_or_default();
    vec![head(&format!("{EVENTS}content-encoding: gzip\r\n")), Step::Send(bytes), Step::End]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the tables above.
    fn names() -> Vec<&'static str> {
        let rows =
            include_str!("oddity.rs").lines().filter_map(|line| line.strip_prefix("//! | `"));
        rows.flat_map(|row| row.split(" | ").next().unwrap_or_default().split(", "))
            .map(|name| name.trim_matches('`'))
            .collect()
    }

    #[test]
    fn every_name_of_the_table_is_known_and_begins_with_a_head() {
        let names = names();
        assert!(names.len() > 50, "{names:?}");
        for name in names {
            let name = name.replace("STATUS", "503").replace(['N', 'S'], "1");
            for asked in [Asked::default(), Asked { has_results: true, before: 1 }] {
                let steps = steps(&name, asked).unwrap_or_else(|| panic!("{name} is not known"));
                let begins = matches!(&steps[0], Step::Head(head) if head.starts_with("HTTP/1.1 "));
                assert!(begins || name == "silent-head", "{name}");
            }
        }
        assert_eq!(steps("nonsense", Asked::default()), None);
    }

    #[test]
    fn counted_ones_fail_as_often_as_they_say() {
        let ok = steps("ok", Asked::default());
        let nth = |name: &str, before| steps(name, Asked { before, ..Asked::default() });
        let status = |steps: Option<Vec<Step>>| match &steps.unwrap()[0] {
            Step::Head(head) => head[9..12].to_owned(),
            step => panic!("{step:?}"),
        };
        assert_eq!(status(nth("fail-503-2", 1)), "503");
        assert_eq!(nth("fail-503-2", 2), ok);
        assert_eq!(status(nth("retry-after-7", 0)), "429");
        assert_eq!(nth("retry-after-7", 1), ok);
        for wrong in ["fail-200-1", "fail-503", "retry-after-x"] {
            assert_eq!(nth(wrong, 0), None, "{wrong}");
        }
    }

    #[test]
    fn tools_are_asked_for_once() {
        for name in ["no-ids", "args-object", "length-tool"] {
            let sent =
                |has_results| match &steps(name, Asked { has_results, before: 0 }).unwrap()[1] {
                    Step::Send(bytes) => String::from_utf8(bytes.clone()).unwrap(),
                    step => panic!("{step:?}"),
                };
            assert!(sent(false).contains("\"status\""), "{name}");
            assert_eq!(sent(true), fine(), "{name}");
        }
    }
}

//! Asks models as its messages say, and replies with what came. It misbehaves in no way of its own.
//!
//! A body is a JSON object with `do` and the fields below, or plain words: `complete TEXT` is
//! `{"do": "complete", "say": "TEXT"}`, and so are `stream`, `open` and `config`. Any other body is answered with itself.
//!
//! | `do` | what it does | reply |
//! | --- | --- | --- |
//! | `complete` | asks for a whole answer | `{"text", "reasoning", "calls", "finish", "usage"}` |
//! | `stream` | begins an answer, takes `take` parts (default: all), then drops it | what was taken |
//! | `drain` | begins an answer and takes all of it, keeping nothing | `{"firstNs", "count", "textBytes", "end"}`; `firstNs` until the first part |
//! | `cancel` | as `stream`, but cancels it and takes two more parts | what was taken, `"after": [PART…]` |
//! | `open` | begins `count` answers (default 1) and keeps them, also beyond this turn | `{"open": [NUMBER or ERROR…]}` |
//! | `next` | takes `take` parts (default 1) of the kept answer `number` | what was taken |
//! | `stop` | cancels the kept answer `number` and keeps it | `{"kept": N}` |
//! | `release` | drops all kept answers | `{"kept": 0}` |
//! | `arguments` | `complete` after a tool call with `bytes` of arguments and its result | as `complete` |
//! | `invalid` | `complete` with each request that breaks a rule | `{NAME: ERROR or ANSWER…}`; names: see [`invalid`] |
//! | `config` | looks up the key `say` | `{"value": TEXT or null}` |
//! | `secrets` | looks up all keys `model.*`, and the environment | `{"config": {…}, "env": {…}}` |
//! | `panic` | begins an answer, takes `take` parts and panics | exit reason `panic` |
//!
//! Fields of the request: `say` (the user's words, default `hello`) or `messages` (as in a snapshot), `endpoint`,
//! `model`, `tools` (`[{"name", "description", "parameters"}]`), `toolChoice` (`"auto"`, `"none"`, `"required"`, or
//! another name), `format` (`"text"`, `"json"`, or a schema), `temperature`, `maxTokens`, `timeoutMs`, `extra`. Where the
//! interface has JSON as text, a string is passed as it is. How parts are taken: `pauseMs` after each of them;
//! `"emit": true` publishes each as the event `part`.
//!
//! What was taken: `{"parts": [PART…], "count", "text", "textBytes", "end"}`, with the first 50 parts: `{"text"}`,
//! `{"reasoning"}`, `{"call": {"id", "name", "arguments"}}`, `{"end": FINISH, "usage"}`, or an error, which is the last.
//! `end` is the end or the error, once it was reached, else null.
//!
//! An error: `{"error": CASE, "message"}` with `status` or `retryMs` where the case has one; `CASE` is that of the
//! interface: `invalid`, `denied`, `budget-exceeded`, … Texts longer than 300 bytes are cut.

use std::time::{Duration, Instant};

use bulkhead_guest::bindings::bulkhead::agent::model as raw;
use bulkhead_guest::model::{
    self, Completion, Content, Error, FinishReason, Message, Part, ResponseFormat, Role, Stream,
    ToolCall, ToolChoice, Usage,
};
use bulkhead_guest::{Agent, AgentError, Message as Mail, Outcome, config, host};
use serde_json::{Map, Value, json};

/// Of a text in a reply.
const MAX_TEXT_BYTES: usize = 300;

/// Of the parts in a reply.
const MAX_PARTS: usize = 50;

/// Keys that the host keeps to itself.
const KEYS: [&str; 10] = [
    "model.api-key",
    "model.base-url",
    "model.name",
    "model.timeout-ms",
    "model.retries",
    "model.max-wait-ms",
    "model.max-answer-bytes",
    "model.main.api-key",
    "models.main.api-key",
    "models.api-key",
];

#[derive(Default)]
struct Models {
    kept: Vec<Stream>,
}

impl Agent for Models {
    fn handle(&mut self, message: Mail) -> Result<Outcome, AgentError> {
        let Some(order) = order(&message.body) else { return Ok(Outcome::reply(message.body)) };
        Ok(Outcome::reply(self.obey(&order)?.to_string()))
    }
}

/// What a body says, if it says anything.
fn order(body: &str) -> Option<Value> {
    let (verb, rest) = body.split_once(' ').unwrap_or((body, ""));
    match verb {
        "complete" | "stream" | "open" | "config" => Some(json!({"do": verb, "say": rest})),
        "invalid" | "secrets" | "release" => Some(json!({"do": verb})),
        _ => serde_json::from_str(body).ok().filter(Value::is_object),
    }
}

impl Models {
    fn obey(&mut self, order: &Value) -> Result<Value, AgentError> {
        let number = |name: &str| order[name].as_u64().map(|number| number as usize);
        Ok(match order["do"].as_str().unwrap_or_default() {
            "complete" => complete(request(order)?),
            "arguments" => complete(with_arguments(order, number("bytes").unwrap_or(0))?),
            "stream" => match begin(order)? {
                Ok(mut stream) => Taken::of(&mut stream, order, usize::MAX).reply(),
                Err(error) => failed(&error),
            },
            "drain" => drain(request(order)?),
            "panic" => match begin(order)? {
                Ok(mut stream) => {
                    let taken = Taken::of(&mut stream, order, 1);
                    panic!("told to panic after {} parts", taken.count)
                }
                Err(error) => failed(&error),
            },
            "cancel" => match begin(order)? {
                Ok(mut stream) => {
                    let mut reply = Taken::of(&mut stream, order, 1).reply();
                    stream.cancel();
                    reply["after"] = stream.by_ref().take(2).map(|part| shown(&part)).collect();
                    reply
                }
                Err(error) => failed(&error),
            },
            "open" => {
                let mut opened = Vec::new();
                for _ in 0..number("count").unwrap_or(1) {
                    opened.push(match begin(order)? {
                        Ok(stream) => {
                            self.kept.push(stream);
                            json!(self.kept.len() - 1)
                        }
                        Err(error) => failed(&error),
                    });
                }
                json!({"open": opened})
            }
            "next" => Taken::of(self.kept(number("number"))?, order, 1).reply(),
            "stop" => {
                self.kept(number("number"))?.cancel();
                json!({"kept": self.kept.len()})
            }
            "release" => {
                self.kept.clear();
                json!({"kept": 0})
            }
            "invalid" => invalid(),
            "config" => json!({"value": config::text(order["say"].as_str().unwrap_or_default())}),
            "secrets" => secrets(),
            verb => return Err(bad(&format!("no such order: {verb}"))),
        })
    }

    fn kept(&mut self, number: Option<usize>) -> Result<&mut Stream, AgentError> {
        let number = number.unwrap_or(0);
        self.kept.get_mut(number).ok_or_else(|| bad(&format!("no answer {number} is kept")))
    }
}

fn bad(problem: &str) -> AgentError {
    AgentError::failed("bad-body", problem)
}

fn complete(request: raw::Request) -> Value {
    match model::complete(&request.into()) {
        Ok(Completion { message, reasoning, finish_reason, usage }) => json!({
            "text": short(&message.text()), "reasoning": short(&reasoning),
            "calls": message.tool_calls.iter().map(call).collect::<Vec<_>>(),
            "finish": finish(finish_reason), "usage": tokens(usage),
        }),
        Err(error) => failed(&error),
    }
}

fn drain(request: raw::Request) -> Value {
    let (request, began) = (request.into(), Instant::now());
    let mut stream = match model::stream(&request) {
        Ok(stream) => stream,
        Err(error) => return failed(&error),
    };
    let (mut first, mut count, mut bytes, mut last) = (None, 0, 0, None);
    for part in &mut stream {
        first.get_or_insert_with(|| began.elapsed());
        count += 1;
        match part {
            Ok(Part::Text(text)) => bytes += text.len(),
            part => last = Some(shown(&part)),
        }
    }
    let first = first.map(|first| first.as_nanos() as u64);
    json!({"firstNs": first, "count": count, "textBytes": bytes, "end": last})
}

fn begin(order: &Value) -> Result<Result<Stream, Error>, AgentError> {
    Ok(model::stream(&request(order)?.into()))
}

/// What was taken of an answer.
#[derive(Default)]
struct Taken {
    parts: Vec<Value>,
    count: usize,
    text: String,
    last: Option<Value>,
}

impl Taken {
    /// Takes what the order says, else so many parts.
    fn of(stream: &mut Stream, order: &Value, default: usize) -> Self {
        let most = order["take"].as_u64().map_or(default, |take| take as usize);
        let pause = Duration::from_millis(order["pauseMs"].as_u64().unwrap_or(0));
        let mut taken = Self::default();
        for part in stream.take(most) {
            let shown = shown(&part);
            if order["emit"] == true {
                // Over the rate nothing is published.
                let _ = host::emit("part", &shown);
            }
            match part {
                Ok(Part::Text(text)) => taken.text += &text,
                Ok(Part::End { .. }) | Err(_) => taken.last = Some(shown.clone()),
                Ok(Part::Reasoning(_) | Part::ToolCall(_)) => {}
            }
            taken.count += 1;
            if taken.parts.len() < MAX_PARTS {
                taken.parts.push(shown);
            }
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
        taken
    }

    fn reply(self) -> Value {
        json!({
            "parts": self.parts, "count": self.count, "text": short(&self.text),
            "textBytes": self.text.len(), "end": self.last,
        })
    }
}

fn shown(part: &Result<Part, Error>) -> Value {
    match part {
        Ok(Part::Text(text)) => json!({"text": short(text)}),
        Ok(Part::Reasoning(text)) => json!({"reasoning": short(text)}),
        Ok(Part::ToolCall(wanted)) => json!({"call": call(wanted)}),
        Ok(Part::End { finish_reason, usage, .. }) => {
            json!({"end": finish(*finish_reason), "usage": tokens(*usage)})
        }
        Err(error) => failed(error),
    }
}

fn call(call: &ToolCall) -> Value {
    json!({"id": call.id, "name": call.name, "arguments": short(&call.arguments)})
}

fn finish(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::ToolCalls => "tool-calls",
        FinishReason::Length => "length",
        FinishReason::ContentFilter => "content-filter",
        FinishReason::Other => "other",
    }
}

fn tokens(usage: Option<Usage>) -> Value {
    let fields = |usage: Usage| {
        json!({"input": usage.input_tokens, "cached": usage.cached_tokens,
               "output": usage.output_tokens, "reasoning": usage.reasoning_tokens})
    };
    usage.map_or(Value::Null, fields)
}

fn failed(error: &Error) -> Value {
    let ms = |wait: &Option<Duration>| json!(wait.map(|wait| wait.as_millis() as u64));
    let mut failed = json!({"message": short(&error.to_string())});
    let case = match error {
        Error::Invalid(_) => "invalid",
        Error::Denied(_) => "denied",
        Error::BudgetExceeded { retry_after, .. } => {
            failed["retryMs"] = ms(retry_after);
            "budget-exceeded"
        }
        Error::Unavailable(_) => "unavailable",
        Error::RateLimited { retry_after } => {
            failed["retryMs"] = ms(retry_after);
            "rate-limited"
        }
        Error::Rejected { status, .. } => {
            failed["status"] = json!(status);
            "rejected"
        }
        Error::BadAnswer(_) => "bad-answer",
        Error::Timeout(_) => "timeout",
        Error::Cancelled => "cancelled",
    };
    failed["error"] = case.into();
    failed
}

fn short(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// A request of the interface as the order's fields say.
fn request(order: &Value) -> Result<raw::Request, AgentError> {
    let text = |name: &str| order[name].as_str().map(str::to_owned);
    let messages = match &order["messages"] {
        Value::Null => vec![Message::user(order["say"].as_str().unwrap_or("hello"))],
        messages => serde_json::from_value(messages.clone()).map_err(|e| bad(&e.to_string()))?,
    };
    let tools = order["tools"].as_array().into_iter().flatten();
    Ok(raw::Request {
        endpoint: text("endpoint"),
        model: text("model"),
        messages,
        tools: tools.map(tool).collect(),
        tool_choice: text("toolChoice").map(|choice| match choice.as_str() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "required" => ToolChoice::Required,
            _ => ToolChoice::Named(choice),
        }),
        response_format: json_text(&order["format"]).map(|format| match format.as_str() {
            "text" => ResponseFormat::Text,
            "json" => ResponseFormat::Json,
            _ => ResponseFormat::JsonSchema(format),
        }),
        temperature: order["temperature"].as_f64().map(|temperature| temperature as f32),
        max_tokens: order["maxTokens"].as_u64().map(|tokens| tokens as u32),
        timeout_ms: order["timeoutMs"].as_u64(),
        extra: json_text(&order["extra"]),
    })
}

fn tool(tool: &Value) -> raw::Tool {
    let text = |name: &str| tool[name].as_str().unwrap_or_default().to_owned();
    raw::Tool {
        name: text("name"),
        description: text("description"),
        parameters: json_text(&tool["parameters"]).unwrap_or_else(|| "{}".to_owned()),
    }
}

/// A string as it is, anything else as JSON.
fn json_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        value => Some(value.to_string()),
    }
}

fn with_arguments(order: &Value, bytes: usize) -> Result<raw::Request, AgentError> {
    // The quotes, braces and the name are part of it.
    let arguments = format!("{{\"a\":\"{}\"}}", "x".repeat(bytes.saturating_sub(8)));
    let wanted = ToolCall { id: "c1".into(), name: "status".into(), arguments };
    let mut request = request(order)?;
    let result = Message::tool_result(&wanted, "done");
    request.messages.push(assistant(vec![wanted]));
    request.messages.push(result);
    Ok(request)
}

fn assistant(tool_calls: Vec<ToolCall>) -> Message {
    let content = Vec::new();
    Message {
        role: Role::Assistant,
        content,
        tool_calls,
        tool_call_id: None,
        reasoning_state: None,
    }
}

/// Requests that break a rule of the interface, one each.
fn invalid() -> Value {
    let order = |order: Value| request(&order);
    let tools = |name: &str, parameters: &str| json!({"tools": [{"name": name, "description": "d", "parameters": parameters}]});
    let many: Vec<_> =
        (0..129).map(|i| json!({"name": format!("t{i}"), "description": ""})).collect();
    let twice = json!([{"name": "a", "description": ""}, {"name": "a", "description": ""}]);
    let calls = |ids: &[&str]| {
        let call = |id: &&str| ToolCall {
            id: (*id).into(),
            name: "status".into(),
            arguments: "{}".into(),
        };
        assistant(ids.iter().map(call).collect())
    };
    let result = |id: &str| Message {
        tool_call_id: Some(id.into()),
        role: Role::Tool,
        ..Message::user("r")
    };
    let image = || Content::ImageUrl("https://example.com/a.png".into());
    let said = |messages: Vec<Message>| {
        order(json!({})).map(|request| raw::Request { messages, ..request })
    };
    let cases: Vec<(&str, Result<raw::Request, AgentError>)> = vec![
        ("no-messages", said(Vec::new())),
        (
            "image-of-assistant",
            said(vec![Message::user("a"), Message::assistant("b").with(image())]),
        ),
        ("image-of-system", said(vec![Message::system("a").with(image()), Message::user("b")])),
        (
            "image-media-type",
            said(vec![Message::user("a").with(Content::Image(model::ImageData {
                media_type: "nonsense".into(),
                data: vec![1],
            }))]),
        ),
        (
            "image-url",
            said(vec![Message::user("a").with(Content::ImageUrl("file:///etc/passwd".into()))]),
        ),
        ("calls-of-user", said(vec![Message { role: Role::User, ..calls(&["c1"]) }, result("c1")])),
        (
            "call-without-result",
            said(vec![Message::user("a"), calls(&["c1", "c2"]), result("c1"), Message::user("b")]),
        ),
        (
            "call-ids-twice",
            said(vec![Message::user("a"), calls(&["c1", "c1"]), result("c1"), result("c1")]),
        ),
        ("result-without-call", said(vec![Message::user("a"), result("c9")])),
        (
            "result-without-id",
            said(vec![
                Message::user("a"),
                calls(&["c1"]),
                Message { tool_call_id: None, ..result("c1") },
            ]),
        ),
        ("tool-name-empty", order(tools("", "{}"))),
        ("tool-name-characters", order(tools("say it", "{}"))),
        ("tool-name-long", order(tools(&"n".repeat(65), "{}"))),
        ("tool-names-twice", order(json!({"tools": twice}))),
        ("tools-many", order(json!({"tools": many}))),
        ("tool-parameters-no-json", order(tools("a", "{\"type\":"))),
        ("tool-parameters-no-object", order(tools("a", "[1]"))),
        (
            "choice-unknown",
            order(json!({"tools": [{"name": "a", "description": ""}], "toolChoice": "b"})),
        ),
        ("schema-no-json", order(json!({"format": "{\"type\":"}))),
        ("schema-no-object", order(json!({"format": "7"}))),
        ("temperature-negative", order(json!({"temperature": -1.0}))),
        (
            "temperature-nan",
            order(json!({})).map(|r| raw::Request { temperature: Some(f32::NAN), ..r }),
        ),
        ("max-tokens-zero", order(json!({"maxTokens": 0}))),
        ("timeout-zero", order(json!({"timeoutMs": 0}))),
        ("extra-no-json", order(json!({"extra": "{\"seed\":"}))),
        ("extra-no-object", order(json!({"extra": "[1]"}))),
        ("extra-model", order(json!({"extra": {"model": "other"}}))),
        ("extra-messages", order(json!({"extra": {"messages": []}}))),
        ("extra-stream", order(json!({"extra": {"stream": false}}))),
        ("extra-tools", order(json!({"extra": {"tools": []}}))),
        ("endpoint-unknown", order(json!({"endpoint": "nonsense"}))),
        ("endpoint-empty", order(json!({"endpoint": ""}))),
        ("model-empty", order(json!({"model": ""}))),
    ];
    let outcome = |request: Result<raw::Request, AgentError>| match request {
        Ok(request) => complete(request),
        Err(error) => json!({"notMade": error.message}),
    };
    cases
        .into_iter()
        .map(|(name, request)| (name.to_owned(), outcome(request)))
        .collect::<Map<_, _>>()
        .into()
}

fn secrets() -> Value {
    let config: Map<_, _> =
        KEYS.iter().map(|key| ((*key).to_owned(), config::text(key).into())).collect();
    let env: Map<_, _> =
        std::env::vars().map(|(name, value)| (name, short(&value).into())).collect();
    json!({"config": config, "env": env})
}

bulkhead_guest::export!(Models);

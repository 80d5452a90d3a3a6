//! OpenAI's chat completions, as far as the host asks for them and a script answers.

use serde::Deserialize;
use serde_json::{Value, json};

use super::script::{Answer, Call};

/// Seconds since the epoch in every answer, so that a script has the same answers in each run.
const CREATED: u64 = 1_700_000_000;

/// `POST /chat/completions`. What is not known here does nothing.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    #[serde(default)]
    model: String,
    messages: Vec<Message>,
    /// Server-sent events instead of one object.
    #[serde(default)]
    pub(super) stream: bool,
    stream_options: Option<StreamOptions>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Debug, Deserialize)]
struct Message {
    /// A text, a list of parts, or null beside calls.
    #[serde(default)]
    content: Value,
}

impl Request {
    /// All text of the conversation, a line for each message.
    pub(super) fn text(&self) -> String {
        let texts: Vec<String> = self.messages.iter().map(Message::text).collect();
        texts.join("\n")
    }

    /// What the answer is called, and its calls after it: by the length of the conversation, so that names in it differ.
    fn id(&self, kind: &str) -> String {
        format!("{kind}-{}", self.messages.len())
    }

    fn usage(&self, text: &str, calls: usize) -> Value {
        let words = |text: &str| text.split_whitespace().count();
        let (prompt, completion) = (words(&self.text()), words(text) + calls);
        json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
    }
}

impl Message {
    fn text(&self) -> String {
        match &self.content {
            Value::String(text) => text.clone(),
            Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
            _ => String::new(),
        }
    }
}

/// A response: status, media type and body.
pub(super) type Response = (u16, &'static str, String);

/// What a server that refuses says.
pub(super) fn refusal(status: u16, message: &str) -> Response {
    let error =
        json!({"error": {"message": message, "type": "scripted", "param": null, "code": null}});
    (status, "application/json", error.to_string())
}

/// The response with an answer of the script.
pub(super) fn response(request: &Request, answer: &Answer) -> Response {
    let (text, calls) = match answer {
        Answer::Status(status) => return refusal(*status, "the script says so"),
        Answer::Message { text, calls } => (text, calls),
    };
    if request.stream {
        let events = chunks(request, text, calls).into_iter().map(|it| format!("data: {it}\n\n"));
        let events = events.chain(["data: [DONE]\n\n".to_owned()]);
        return (200, "text/event-stream", events.collect());
    }
    (200, "application/json", whole(request, text, calls).to_string())
}

fn finish_reason(calls: &[Call]) -> &'static str {
    if calls.is_empty() { "stop" } else { "tool_calls" }
}

fn tool_calls(request: &Request, calls: &[Call]) -> Vec<Value> {
    let call = |(index, Call { tool, arguments }): (usize, &Call)| {
        json!({"index": index, "id": format!("{}-{index}", request.id("call")), "type": "function",
               "function": {"name": tool, "arguments": arguments}})
    };
    calls.iter().enumerate().map(call).collect()
}

fn whole(request: &Request, text: &[String], calls: &[Call]) -> Value {
    let text = text.concat();
    let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { json!(text) };
    let mut message = json!({"role": "assistant", "content": content});
    if !calls.is_empty() {
        message["tool_calls"] = tool_calls(request, calls).into();
    }
    json!({
        "id": request.id("chatcmpl"), "object": "chat.completion", "created": CREATED, "model": request.model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason(calls)}],
        "usage": request.usage(&text, calls.len()),
    })
}

/// The text in the pieces of the script, then the calls.
fn chunks(request: &Request, text: &[String], calls: &[Call]) -> Vec<Value> {
    let chunk = |delta: Value, finish_reason: Value| {
        json!({
            "id": request.id("chatcmpl"), "object": "chat.completion.chunk", "created": CREATED,
            "model": request.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        })
    };
    let mut chunks = vec![chunk(json!({"role": "assistant", "content": ""}), Value::Null)];
    chunks.extend(text.iter().map(|piece| chunk(json!({"content": piece}), Value::Null)));
    if !calls.is_empty() {
        chunks.push(chunk(json!({"tool_calls": tool_calls(request, calls)}), Value::Null));
    }
    chunks.push(chunk(json!({}), finish_reason(calls).into()));
    if request.stream_options.is_some_and(|options| options.include_usage) {
        let mut last = chunk(json!({}), Value::Null);
        last["choices"] = json!([]);
        last["usage"] = request.usage(&text.concat(), calls.len());
        chunks.push(last);
    }
    chunks
}

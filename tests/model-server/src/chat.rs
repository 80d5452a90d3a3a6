//! The wire format of chat completions, as far as agents use it.
//!
//! Requests ignore what they do not know. Answers are derived from the request alone: no clock and
//! no counter, so the same request always gets the same bytes.

use serde::Deserialize;
use serde_json::{Value, json};

/// Seconds since the epoch in every answer: the answers are deterministic.
const CREATED: u64 = 1_700_000_000;

/// Largest piece of text or of tool arguments in one chunk, in characters. Small, so that short
/// answers come in several chunks too.
const CHUNK_CHARS: usize = 8;

/// `POST /v1/chat/completions`.
#[derive(Debug, Clone, Deserialize)]
pub struct Request {
    /// A name of [`fault`](crate::fault), or anything else for the plain script.
    pub model: String,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// What the caller can do.
    #[serde(default)]
    pub tools: Vec<Tool>,
    /// Server-sent events instead of one JSON object.
    #[serde(default)]
    pub stream: bool,
}

/// One entry of the conversation.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// A string, a list of parts, or null beside tool calls.
    #[serde(default)]
    content: Value,
    /// Calls that the assistant made.
    #[serde(default)]
    pub tool_calls: Option<Vec<Value>>,
    /// The call that a `tool` message answers.
    #[serde(default)]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// The text, whichever way it was written.
    pub fn text(&self) -> String {
        match &self.content {
            Value::String(text) => text.clone(),
            Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
            _ => String::new(),
        }
    }

    /// Names of the tools that this message calls.
    pub fn called(&self) -> Vec<&str> {
        let calls = self.tool_calls.iter().flatten();
        calls.filter_map(|call| call["function"]["name"].as_str()).collect()
    }
}

/// A tool that the caller offers.
#[derive(Debug, Clone, Deserialize)]
pub struct Tool {
    /// Its signature.
    pub function: Function,
}

/// A tool's signature.
#[derive(Debug, Clone, Deserialize)]
pub struct Function {
    /// How it is called.
    pub name: String,
    /// JSON schema of its arguments.
    #[serde(default)]
    pub parameters: Value,
}

/// What the model says.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Words.
    Text(String),
    /// Tool calls: name and arguments.
    Calls(Vec<(String, Value)>),
}

impl Reply {
    fn finish_reason(&self) -> &'static str {
        match self {
            Self::Text(_) => "stop",
            Self::Calls(_) => "tool_calls",
        }
    }
}

/// Names answer and calls after the length of the conversation, so that ids differ within one.
fn id(kind: &str, request: &Request) -> String {
    format!("{kind}-{}", request.messages.len())
}

fn call_id(request: &Request, index: usize) -> String {
    format!("{}-{index}", id("call", request))
}

/// The whole answer as one object.
pub fn whole(request: &Request, reply: &Reply) -> Value {
    let message = match reply {
        Reply::Text(text) => json!({"role": "assistant", "content": text}),
        Reply::Calls(calls) => {
            let calls = calls.iter().enumerate().map(|(index, (name, arguments))| {
                json!({"id": call_id(request, index), "type": "function",
                       "function": {"name": name, "arguments": arguments.to_string()}})
            });
            json!({"role": "assistant", "content": null, "tool_calls": calls.collect::<Vec<_>>()})
        }
    };
    json!({
        "id": id("chatcmpl", request), "object": "chat.completion", "created": CREATED,
        "model": request.model,
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason()}],
        "usage": usage(request, reply),
    })
}

/// The answer as the `data` of server-sent events, without the closing `[DONE]`.
pub fn chunks(request: &Request, reply: &Reply) -> Vec<Value> {
    let mut deltas = vec![json!({"role": "assistant", "content": ""})];
    match reply {
        Reply::Text(text) => {
            deltas.extend(pieces(text).into_iter().map(|piece| json!({"content": piece})));
        }
        Reply::Calls(calls) => {
            for (index, (name, arguments)) in calls.iter().enumerate() {
                deltas.push(json!({"tool_calls": [{"index": index, "id": call_id(request, index),
                    "type": "function", "function": {"name": name, "arguments": ""}}]}));
                deltas.extend(pieces(&arguments.to_string()).into_iter().map(|piece| {
                    json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
                }));
            }
        }
    }
    let mut chunks: Vec<_> =
        deltas.into_iter().map(|delta| chunk(request, delta, Value::Null)).collect();
    chunks.push(chunk(request, json!({}), reply.finish_reason().into()));
    chunks
}

fn chunk(request: &Request, delta: Value, finish_reason: Value) -> Value {
    json!({
        "id": id("chatcmpl", request), "object": "chat.completion.chunk", "created": CREATED,
        "model": request.model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    })
}

fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(CHUNK_CHARS).map(|piece| piece.iter().collect()).collect()
}

/// Words for tokens. Nobody is billed.
fn usage(request: &Request, reply: &Reply) -> Value {
    let words = |text: &str| text.split_whitespace().count();
    let prompt: usize = request.messages.iter().map(|message| words(&message.text())).sum();
    let completion = match reply {
        Reply::Text(text) => words(text),
        Reply::Calls(calls) => calls.len(),
    };
    json!({"prompt_tokens": prompt, "completion_tokens": completion,
           "total_tokens": prompt + completion})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        serde_json::from_value(json!({"model": "scripted", "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
        ]}))
        .unwrap()
    }

    #[test]
    fn text_in_parts_is_one_text() {
        assert_eq!(request().messages[0].text(), "ab");
    }

    #[test]
    fn the_chunks_of_a_text_join_to_the_text() {
        let text = "gr\u{fc}n is the colour of the town hall";
        let chunks = chunks(&request(), &Reply::Text(text.into()));
        assert!(chunks.len() > 4);
        let joined: String = chunks
            .iter()
            .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(joined, text);
        assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
    }

    #[test]
    fn the_chunks_of_two_calls_join_to_the_arguments_of_each() {
        let calls = vec![
            ("read".to_owned(), json!({"path": "notes/one.md"})),
            ("read".to_owned(), json!({"path": "notes/two.md"})),
        ];
        let chunks = chunks(&request(), &Reply::Calls(calls.clone()));
        for (index, (_, arguments)) in calls.iter().enumerate() {
            let joined: String = chunks
                .iter()
                .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array())
                .flatten()
                .filter(|call| call["index"] == index)
                .filter_map(|call| call["function"]["arguments"].as_str())
                .collect();
            assert_eq!(joined, arguments.to_string());
        }
        assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    }
}

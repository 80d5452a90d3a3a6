//! The wire format of chat completions, as far as the host uses it.
//!
//! Requests ignore what they do not know. Answers are derived from the request alone: no clock and
//! no counter, so the same request always gets the same bytes.

use serde::Deserialize;
use serde_json::{Value, json};

/// Seconds since the epoch in every answer: the answers are deterministic.
const CREATED: u64 = 1_700_000_000;

/// Largest piece of text or of tool arguments in one chunk, in characters. Small, so that short
/// answers come in several chunks too.
pub(crate) const CHUNK_CHARS: usize = 8;

/// `POST /v1/chat/completions`.
#[derive(Debug, Clone, Deserialize)]
pub struct Request {
    /// A name of [`fault`](crate::fault) or of [`persona`](crate::persona), or anything else for the plain script.
    pub model: String,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// What the caller can do.
    #[serde(default)]
    pub tools: Vec<Tool>,
    /// Server-sent events instead of one JSON object.
    #[serde(default)]
    pub stream: bool,
    /// How to stream.
    #[serde(default)]
    pub stream_options: Option<StreamOptions>,
}

/// How to stream.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct StreamOptions {
    /// A last chunk with the tokens, and no choice.
    #[serde(default)]
    pub include_usage: bool,
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
    /// What the assistant thought, as it was sent back.
    #[serde(default)]
    pub reasoning_content: Option<String>,
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
    /// What it is for.
    #[serde(default)]
    pub description: String,
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

/// A reply with all that is around it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What the model thinks before.
    pub reasoning: Option<String>,
    /// What it says.
    pub reply: Reply,
    /// What it costs.
    pub usage: Usage,
}

/// Tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Read, with those from a cache.
    pub prompt: u32,
    /// Written, with those of reasoning.
    pub completion: u32,
    /// Of those read, from a cache.
    pub cached: u32,
    /// Of those written, as reasoning.
    pub reasoning: u32,
}

impl Answer {
    /// A reply without reasoning. Words count as tokens.
    pub fn of(request: &Request, reply: Reply) -> Self {
        let words = |text: &str| text.split_whitespace().count();
        let prompt: usize = request.messages.iter().map(|message| words(&message.text())).sum();
        let completion = match &reply {
            Reply::Text(text) => words(text),
            Reply::Calls(calls) => calls.len(),
        };
        let usage =
            Usage { prompt: prompt as u32, completion: completion as u32, ..Usage::default() };
        Self { reasoning: None, reply, usage }
    }
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
pub(crate) fn id(kind: &str, request: &Request) -> String {
    format!("{kind}-{}", request.messages.len())
}

pub(crate) fn call_id(request: &Request, index: usize) -> String {
    format!("{}-{index}", id("call", request))
}

/// The whole answer as one object.
pub fn whole(request: &Request, answer: &Answer) -> Value {
    let Answer { reasoning, reply, usage } = answer;
    let mut message = match reply {
        Reply::Text(text) => json!({"role": "assistant", "content": text}),
        Reply::Calls(calls) => {
            let calls = calls.iter().enumerate().map(|(index, (name, arguments))| {
                json!({"id": call_id(request, index), "type": "function",
                       "function": {"name": name, "arguments": arguments.to_string()}})
            });
            json!({"role": "assistant", "content": null, "tool_calls": calls.collect::<Vec<_>>()})
        }
    };
    if let Some(reasoning) = reasoning {
        message["reasoning_content"] = reasoning.as_str().into();
    }
    json!({
        "id": id("chatcmpl", request), "object": "chat.completion", "created": CREATED,
        "model": request.model,
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason()}],
        "usage": tokens(*usage),
    })
}

/// The answer as the `data` of server-sent events, without the closing `[DONE]`.
pub fn chunks(request: &Request, answer: &Answer) -> Vec<Value> {
    let Answer { reasoning, reply, usage } = answer;
    let mut deltas = vec![json!({"role": "assistant", "content": ""})];
    let reasoning = pieces(reasoning.as_deref().unwrap_or_default());
    deltas.extend(reasoning.into_iter().map(|piece| json!({"reasoning_content": piece})));
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
    if request.stream_options.is_some_and(|options| options.include_usage) {
        let mut last = chunk(request, json!({}), Value::Null);
        last["choices"] = json!([]);
        last["usage"] = tokens(*usage);
        chunks.push(last);
    }
    chunks
}

fn chunk(request: &Request, delta: Value, finish_reason: Value) -> Value {
    json!({
        "id": id("chatcmpl", request), "object": "chat.completion.chunk", "created": CREATED,
        "model": request.model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    })
}

pub(crate) fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(CHUNK_CHARS).map(|piece| piece.iter().collect()).collect()
}

/// An error object.
pub fn error(status: u16, message: &str) -> Value {
    let kind = match status {
        401 => "authentication_error",
        429 => "rate_limit_error",
        400..500 => "invalid_request_error",
        _ => "server_error",
    };
    json!({"error": {"message": message, "type": kind, "param": null, "code": null}})
}

fn tokens(usage: Usage) -> Value {
    let Usage { prompt, completion, cached, reasoning } = usage;
    json!({"prompt_tokens": prompt, "completion_tokens": completion,
           "total_tokens": prompt + completion,
           "prompt_tokens_details": {"cached_tokens": cached},
           "completion_tokens_details": {"reasoning_tokens": reasoning}})
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
        let chunks = chunks(&request(), &Answer::of(&request(), Reply::Text(text.into())));
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
        let chunks = chunks(&request(), &Answer::of(&request(), Reply::Calls(calls.clone())));
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

    #[test]
    fn tokens_come_last_if_they_are_asked_for() {
        let mut request = request();
        let usage = Usage { prompt: 9, completion: 4, cached: 5, reasoning: 2 };
        let reply = Reply::Text("hm".into());
        let answer = Answer { reasoning: Some("well".into()), reply, usage };
        assert!(chunks(&request, &answer).iter().all(|chunk| chunk.get("usage").is_none()));
        request.stream_options = Some(StreamOptions { include_usage: true });
        let chunks = chunks(&request, &answer);
        let last = chunks.last().unwrap();
        assert_eq!(last["choices"], json!([]));
        assert_eq!(last["usage"], whole(&request, &answer)["usage"]);
        assert_eq!(last["usage"]["prompt_tokens_details"]["cached_tokens"], 5);
        assert_eq!(last["usage"]["completion_tokens_details"]["reasoning_tokens"], 2);
        assert_eq!(chunks[1]["choices"][0]["delta"]["reasoning_content"], "well");
    }
}

//! The wire format of Anthropic's Messages, as far as the host uses it.
//!
//! A request becomes one of [`chat`](crate::chat), so that the same script answers it. What Anthropic refuses is
//! refused here as well: a missing `max_tokens`, other roles than two, empty texts, calls without results.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::chat::{Answer, Reply, Request, Usage, call_id, id, pieces};

/// Of all thinking.
const SIGNATURE: &str = "c2lnbmVk";

#[derive(Deserialize)]
struct Form {
    model: String,
    max_tokens: u32,
    messages: Vec<Message>,
    #[serde(default)]
    system: Value,
    #[serde(default)]
    tools: Vec<Tool>,
    #[serde(default)]
    stream: bool,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Value,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
    #[serde(default)]
    description: String,
    input_schema: Value,
}

/// The same request in the form of chat completions. The error says what is wrong with it.
pub fn request(body: &[u8]) -> Result<Request, String> {
    let form: Form = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if form.max_tokens == 0 {
        return Err("max_tokens: must be at least 1".into());
    }
    if form.messages.is_empty() {
        return Err("messages: at least one message is required".into());
    }
    let mut messages = Vec::new();
    if !form.system.is_null() {
        messages.push(json!({"role": "system", "content": text(&blocks(&form.system)?)}));
    }
    let mut open: Vec<String> = Vec::new();
    for (index, message) in form.messages.iter().enumerate() {
        let taken = take(message, &mut open, &mut messages);
        taken.map_err(|problem| format!("messages.{index}: {problem}"))?;
    }
    if let Some(id) = open.first() {
        return Err(format!("messages: `tool_use` {id} has no `tool_result` right after it"));
    }
    let tools: Vec<_> = form.tools.into_iter().map(Tool::into_function).collect();
    let request =
        json!({"model": form.model, "messages": messages, "tools": tools, "stream": form.stream});
    serde_json::from_value(request).map_err(|error| error.to_string())
}

impl Tool {
    fn into_function(self) -> Value {
        let Self { name, description, input_schema } = self;
        json!({"type": "function",
               "function": {"name": name, "description": description, "parameters": input_schema}})
    }
}

/// `open`: calls of the message before that have no result yet.
fn take(
    message: &Message,
    open: &mut Vec<String>,
    messages: &mut Vec<Value>,
) -> Result<(), String> {
    let blocks = blocks(&message.content)?;
    let of_kind = |kind: &'static str| blocks.iter().filter(move |block| block["type"] == kind);
    match message.role.as_str() {
        "assistant" => {
            if let Some(id) = open.first() {
                return Err(format!("`tool_use` {id} has no `tool_result` right after it"));
            }
            let calls: Result<Vec<_>, _> = of_kind("tool_use").map(call).collect();
            let calls = calls?;
            open.extend(calls.iter().filter_map(|call| call["id"].as_str()).map(str::to_owned));
            let mut said = json!({"role": "assistant", "content": text(&blocks)});
            if !calls.is_empty() {
                said["tool_calls"] = calls.into();
            }
            if let Some(block) = of_kind("thinking").next() {
                if block["signature"] != SIGNATURE {
                    return Err("thinking: invalid `signature` in `thinking` block".into());
                }
                said["reasoning_content"] = block["thinking"].clone();
            }
            messages.push(said);
        }
        "user" => {
            for result in of_kind("tool_result") {
                let id = result["tool_use_id"].as_str().unwrap_or_default();
                let Some(position) = open.iter().position(|open| open == id) else {
                    return Err(format!("unexpected `tool_use_id` {id:?} in `tool_result`"));
                };
                open.remove(position);
                let content = if result["content"].is_null() {
                    String::new()
                } else {
                    text(&self::blocks(&result["content"])?)
                };
                messages.push(json!({"role": "tool", "tool_call_id": id, "content": content}));
            }
            if let Some(id) = open.first() {
                return Err(format!("`tool_use` {id} has no `tool_result` right after it"));
            }
            if of_kind("text").next().is_some() || of_kind("image").next().is_some() {
                messages.push(json!({"role": "user", "content": text(&blocks)}));
            }
        }
        role => return Err(format!("role: {role:?} is neither `user` nor `assistant`")),
    }
    Ok(())
}

fn call(block: &Value) -> Result<Value, String> {
    if !block["input"].is_object() {
        return Err("tool_use.input: must be an object".into());
    }
    Ok(json!({"id": block["id"], "type": "function",
              "function": {"name": block["name"], "arguments": block["input"].to_string()}}))
}

/// The blocks of a content, which may be a string.
fn blocks(content: &Value) -> Result<Vec<Value>, String> {
    let blocks = match content {
        Value::String(text) => vec![json!({"type": "text", "text": text})],
        Value::Array(blocks) => blocks.clone(),
        _ => return Err("content: neither a string nor a list".into()),
    };
    for block in &blocks {
        let is_text = |text: &Value| text.as_str().is_some_and(|text| !text.is_empty());
        match block["type"].as_str() {
            Some("text") if is_text(&block["text"]) => {}
            Some("text") => return Err("text content blocks must be non-empty".into()),
            Some("image") if block["source"].is_object() => {}
            Some("tool_use" | "tool_result" | "thinking") => {}
            _ => return Err(format!("content: unknown block {block}")),
        }
    }
    Ok(blocks)
}

fn text(blocks: &[Value]) -> String {
    blocks.iter().filter_map(|block| block["text"].as_str()).collect()
}

/// The whole answer as one object.
pub fn whole(request: &Request, answer: &Answer) -> Value {
    let content: Vec<Value> = parts(request, answer).into_iter().map(|part| part.whole).collect();
    let mut message = head(request, tokens(answer.usage));
    message["content"] = content.into();
    message["stop_reason"] = stop_reason(&answer.reply).into();
    message
}

/// The answer as server-sent events: name and data.
pub fn events(request: &Request, answer: &Answer) -> Vec<Value> {
    let mut usage = tokens(answer.usage);
    usage["output_tokens"] = 1.into();
    let mut events = vec![
        json!({"type": "message_start", "message": head(request, usage)}),
        json!({"type": "ping"}),
    ];
    for (index, Part { begin, deltas, .. }) in parts(request, answer).into_iter().enumerate() {
        events.push(json!({"type": "content_block_start", "index": index, "content_block": begin}));
        events.extend(
            deltas.into_iter().map(
                |delta| json!({"type": "content_block_delta", "index": index, "delta": delta}),
            ),
        );
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    events.push(json!({"type": "message_delta",
        "delta": {"stop_reason": stop_reason(&answer.reply), "stop_sequence": null},
        "usage": {"output_tokens": answer.usage.completion}}));
    events.push(json!({"type": "message_stop"}));
    events
}

/// A block of content: whole, as it begins, and what is added to it.
struct Part {
    whole: Value,
    begin: Value,
    deltas: Vec<Value>,
}

fn parts(request: &Request, answer: &Answer) -> Vec<Part> {
    let mut parts = Vec::new();
    if let Some(reasoning) = &answer.reasoning {
        let deltas = pieces(reasoning).into_iter();
        parts.push(Part {
            whole: json!({"type": "thinking", "thinking": reasoning, "signature": SIGNATURE}),
            begin: json!({"type": "thinking", "thinking": "", "signature": ""}),
            deltas: deltas
                .map(|piece| json!({"type": "thinking_delta", "thinking": piece}))
                .chain([json!({"type": "signature_delta", "signature": SIGNATURE})])
                .collect(),
        });
    }
    match &answer.reply {
        Reply::Text(text) => parts.push(Part {
            whole: json!({"type": "text", "text": text}),
            begin: json!({"type": "text", "text": ""}),
            deltas: pieces(text)
                .into_iter()
                .map(|piece| json!({"type": "text_delta", "text": piece}))
                .collect(),
        }),
        Reply::Calls(calls) => {
            parts.extend(calls.iter().enumerate().map(|(index, (name, arguments))| {
                let id = call_id(request, index);
                let deltas = pieces(&arguments.to_string()).into_iter();
                Part {
                    whole: json!({"type": "tool_use", "id": id, "name": name, "input": arguments}),
                    begin: json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
                    deltas: deltas
                        .map(|piece| json!({"type": "input_json_delta", "partial_json": piece}))
                        .collect(),
                }
            }));
        }
    }
    parts
}

fn head(request: &Request, usage: Value) -> Value {
    json!({"id": id("msg", request), "type": "message", "role": "assistant", "model": request.model,
           "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage})
}

fn stop_reason(reply: &Reply) -> &'static str {
    match reply {
        Reply::Text(_) => "end_turn",
        Reply::Calls(_) => "tool_use",
    }
}

/// What was read from a cache is not among `input_tokens`.
fn tokens(usage: Usage) -> Value {
    json!({"input_tokens": usage.prompt.saturating_sub(usage.cached),
           "cache_creation_input_tokens": 0, "cache_read_input_tokens": usage.cached,
           "output_tokens": usage.completion})
}

/// An error object.
pub fn error(status: u16, message: &str) -> Value {
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": message}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(messages: Value) -> Vec<u8> {
        let tools = json!([{"name": "status", "description": "Say it.", "input_schema":
            {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}}]);
        json!({"model": "scripted", "max_tokens": 100, "system": "be kind", "tools": tools, "messages": messages})
            .to_string()
            .into_bytes()
    }

    fn refused(messages: Value) -> String {
        request(&body(messages)).map(|_| ()).unwrap_err()
    }

    fn with_call() -> Vec<Value> {
        vec![
            json!({"role": "user", "content": "status x"}),
            json!({"role": "assistant", "content": [
                {"type": "tool_use", "id": "t1", "name": "status", "input": {"text": "x"}}]}),
        ]
    }

    #[test]
    fn a_request_becomes_one_of_chat_completions() {
        let mut messages = with_call();
        messages.push(json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "published"}]},
            {"type": "text", "text": "thanks"}]}));
        let request = request(&body(messages.into())).unwrap();
        let roles: Vec<_> = request.messages.iter().map(|message| message.role.as_str()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool", "user"]);
        assert_eq!(request.messages[2].called(), ["status"]);
        assert_eq!(request.messages[3].text(), "published");
        assert_eq!(request.tools[0].function.name, "status");
    }

    #[test]
    fn what_anthropic_refuses_is_refused() {
        assert!(request(b"{\"model\":\"m\",\"messages\":[]}").unwrap_err().contains("max_tokens"));
        assert!(refused(json!([])).contains("at least one"));
        assert!(refused(json!([{"role": "system", "content": "x"}])).contains("role"));
        assert!(refused(json!([{"role": "user", "content": ""}])).contains("non-empty"));
        assert!(refused(with_call().into()).contains("no `tool_result`"));
        let mut messages = with_call();
        messages.push(json!({"role": "user", "content": "and?"}));
        assert!(refused(messages.into()).contains("t1"));
        let result = json!({"type": "tool_result", "tool_use_id": "t9", "content": "x"});
        assert!(refused(json!([{"role": "user", "content": [result]}])).contains("t9"));
    }

    #[test]
    fn the_deltas_of_each_block_join_to_its_whole() {
        let request = request(&body(json!([{"role": "user", "content": "hi"}]))).unwrap();
        let calls = vec![("status".to_owned(), json!({"text": "all is well"}))];
        let usage = Usage { prompt: 100, completion: 20, cached: 60, reasoning: 5 };
        let reasoning = Some("a long thought".to_owned());
        let answer = Answer { reasoning, reply: Reply::Calls(calls), usage };
        let (whole, events) = (whole(&request, &answer), events(&request, &answer));
        assert_eq!(whole["usage"]["input_tokens"], 40);
        assert_eq!(whole["usage"]["cache_read_input_tokens"], 60);
        let joined = |index: usize, name: &str| -> String {
            let of_block = events.iter().filter(|event| event["index"] == index);
            of_block.filter_map(|event| event["delta"][name].as_str()).collect()
        };
        assert_eq!(joined(0, "thinking"), "a long thought");
        let arguments: Value = serde_json::from_str(&joined(1, "partial_json")).unwrap();
        assert_eq!(arguments, whole["content"][1]["input"]);
        let kinds: Vec<_> = events.iter().filter_map(|event| event["type"].as_str()).collect();
        assert_eq!((kinds[0], *kinds.last().unwrap()), ("message_start", "message_stop"));
        let end = &events[events.len() - 2];
        assert_eq!(
            (&end["delta"]["stop_reason"], &end["usage"]["output_tokens"]),
            (&json!("tool_use"), &json!(20))
        );
    }
}

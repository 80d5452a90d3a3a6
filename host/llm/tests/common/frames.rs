//! Frames of a chat stream, and the streams made of them.

use serde_json::{Value, json};

use super::{Step, chunk, ok, stream};

/// A chunk of a completion as an event.
pub fn event(delta: Value, finish: Value) -> String {
    let chunk = json!({"id": "c", "object": "chat.completion.chunk",
                       "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    data(&chunk)
}

pub fn data(json: &Value) -> String {
    format!("data: {json}\n\n")
}

pub fn says(text: &str) -> String {
    event(json!({"content": text}), Value::Null)
}

pub fn stop() -> String {
    event(json!({}), json!("stop"))
}

pub const DONE: &str = "data: [DONE]\n\n";

/// A whole answer.
pub fn fine() -> String {
    says("fine") + &stop() + DONE
}

/// A piece of a tool call; what is not given is left out.
pub fn call(fields: &Value) -> String {
    event(json!({"tool_calls": [fields]}), Value::Null)
}

/// Pieces of calls, and the end that goes with them.
pub fn calls(pieces: &[Value]) -> Vec<Step> {
    let mut frames: Vec<_> = pieces.iter().map(call).collect();
    frames.push(event(json!({}), json!("tool_calls")) + DONE);
    streamed(&frames)
}

pub fn streamed(frames: &[String]) -> Vec<Step> {
    stream(&frames.iter().map(String::as_str).collect::<Vec<_>>())
}

/// One frame, and then these steps.
pub fn then(frame: &str, steps: &[Step]) -> Vec<Step> {
    [ok(), chunk(frame)].iter().chain(steps).cloned().collect()
}

pub fn function(name: &str, arguments: Value) -> Value {
    json!({"name": name, "arguments": arguments})
}

//! The events of a message as Anthropic streams it, and the message as one document.
//!
//! ```text
//!   message_start ─▶ (content_block_start ─▶ content_block_delta* ─▶ content_block_stop)* ─▶ message_delta ─▶ message_stop
//! ```

use serde_json::{Value, json};

use crate::draft::Draft;
use crate::problem::Problem;

/// Whether a value is one of them.
pub(crate) fn is_one(value: &Value) -> bool {
    let kind = value["type"].as_str().unwrap_or_default();
    kind == "message" || kind.starts_with("message_") || kind.starts_with("content_block_")
}

/// Takes one.
pub(crate) fn take(draft: &mut Draft, value: &Value) -> Result<(), Problem> {
    match value["type"].as_str().unwrap_or_default() {
        "message_start" => message(draft, &value["message"]),
        "message" => {
            message(draft, value)?;
            draft.complete();
            Ok(())
        }
        "content_block_start" => block(draft, &value["index"], &value["content_block"]),
        "content_block_delta" => delta(draft, &value["index"], &value["delta"]),
        "message_delta" => {
            draft.end(&value["delta"]["stop_reason"])?;
            draft.count(&value["usage"]);
            Ok(())
        }
        "message_stop" => {
            draft.complete();
            Ok(())
        }
        // `content_block_stop`, and what is newer than this.
        _ => Ok(()),
    }
}

/// A message: at its beginning without content.
fn message(draft: &mut Draft, message: &Value) -> Result<(), Problem> {
    let blocks = message["content"].as_array().into_iter().flatten();
    for (index, content) in blocks.enumerate() {
        block(draft, &json!(index), content)?;
    }
    draft.end(&message["stop_reason"])?;
    draft.count(&message["usage"]);
    Ok(())
}

/// A block, or the beginning of one. The beginning of a tool call has an empty input.
fn block(draft: &mut Draft, index: &Value, block: &Value) -> Result<(), Problem> {
    draft.reasoned.block(index, block);
    match block["type"].as_str().unwrap_or_default() {
        "tool_use" => {
            let input = block["input"].as_object().filter(|input| !input.is_empty());
            draft.add_call(&json!({
                "index": index, "id": block["id"], "name": block["name"], "arguments": input,
            }))
        }
        _ => {
            draft.add_reasoning(block["thinking"].as_str().unwrap_or_default());
            draft.add_text(block["text"].as_str().unwrap_or_default());
            Ok(())
        }
    }
}

fn delta(draft: &mut Draft, index: &Value, delta: &Value) -> Result<(), Problem> {
    draft.reasoned.delta(index, delta);
    draft.add_reasoning(delta["thinking"].as_str().unwrap_or_default());
    draft.add_text(delta["text"].as_str().unwrap_or_default());
    match &delta["partial_json"] {
        Value::String(part) => draft.add_call(&json!({"index": index, "arguments": part})),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{End, Finish, Part, ToolCall, Usage};

    fn read(events: &[Value]) -> (Vec<Part>, Result<End, Problem>) {
        let mut draft = Draft::default();
        events.iter().for_each(|event| take(&mut draft, event).unwrap());
        let end = draft.finish(false);
        (draft.parts().drain(..).collect(), end)
    }

    fn start(index: u64, block: Value) -> Value {
        json!({"type": "content_block_start", "index": index, "content_block": block})
    }

    fn piece(index: u64, delta: Value) -> Value {
        json!({"type": "content_block_delta", "index": index, "delta": delta})
    }

    fn end(reason: &str) -> [Value; 2] {
        [
            json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 9}}),
            json!({"type": "message_stop"}),
        ]
    }

    fn call(id: &str, arguments: &str) -> Part {
        Part::ToolCall(ToolCall { id: id.into(), name: "read".into(), arguments: arguments.into() })
    }

    #[test]
    fn a_message_is_thought_text_and_calls() {
        let mut events = vec![
            json!({"type": "message_start", "message": {"content": [], "stop_reason": null,
                   "usage": {"input_tokens": 2, "cache_read_input_tokens": 3, "output_tokens": 1}}}),
            start(0, json!({"type": "thinking", "thinking": ""})),
            piece(0, json!({"type": "thinking_delta", "thinking": "hm"})),
            piece(0, json!({"type": "signature_delta", "signature": "s"})),
            start(1, json!({"type": "text", "text": ""})),
            piece(1, json!({"type": "text_delta", "text": "I "})),
            piece(1, json!({"type": "text_delta", "text": "read"})),
            json!({"type": "content_block_stop", "index": 1}),
            start(2, json!({"type": "tool_use", "id": "a", "name": "read", "input": {}})),
            piece(2, json!({"type": "input_json_delta", "partial_json": ""})),
            piece(2, json!({"type": "input_json_delta", "partial_json": "{\"path\":"})),
            piece(2, json!({"type": "input_json_delta", "partial_json": "\"x\"}"})),
            start(3, json!({"type": "tool_use", "id": "b", "name": "read", "input": {}})),
        ];
        events.extend(end("tool_use"));
        let (parts, end) = read(&events);
        let expected = [
            Part::Reasoning("hm".into()),
            Part::Text("I read".into()),
            call("a", "{\"path\":\"x\"}"),
            call("b", ""),
        ];
        assert_eq!(parts, expected);
        let usage = Some(Usage { input: 5, cached: 3, output: 9, reasoning: 0 });
        let state = json!({"dialect": "anthropic", "thinking": [{"type": "thinking", "thinking": "hm", "signature": "s"}]});
        let reasoning_state = Some(state.to_string().parse().unwrap());
        assert_eq!(end, Ok(End { finish: Finish::ToolCalls, usage, reasoning_state }));
    }

    #[test]
    fn a_call_that_was_cut_is_left_out() {
        let mut events = vec![
            start(0, json!({"type": "text", "text": "so"})),
            start(1, json!({"type": "tool_use", "id": "a", "name": "read", "input": {}})),
            piece(1, json!({"type": "input_json_delta", "partial_json": "{\"pa"})),
        ];
        events.extend(end("max_tokens"));
        let (parts, end) = read(&events);
        assert_eq!(parts, [Part::Text("so".into())]);
        assert_eq!(end.unwrap().finish, Finish::Length);
    }

    #[test]
    fn a_document_is_a_whole_message() {
        let document = json!({
            "type": "message", "role": "assistant", "stop_reason": "tool_use",
            "content": [
                {"type": "text", "text": "so"},
                {"type": "tool_use", "id": "a", "name": "read", "input": {"path": "x"}},
            ],
            "usage": {"input_tokens": 2, "output_tokens": 3},
        });
        let (parts, end) = read(std::slice::from_ref(&document));
        assert_eq!(parts, [Part::Text("so".into()), call("a", "{\"path\":\"x\"}")]);
        assert_eq!(end.unwrap().usage.unwrap().input, 2);
    }

    #[test]
    fn a_message_that_stops_in_the_middle_is_cut_off() {
        let (_, end) = read(&[start(0, json!({"type": "text", "text": "so"}))]);
        assert_eq!(end, Err(Problem::CutOff));
    }
}

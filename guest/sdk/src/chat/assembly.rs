//! Puts an answer together, from the pieces of a stream or from one document.

use serde::Deserialize;

use super::{FunctionCall, Message, Reply, Role, ToolCall, Usage, function_kind};

/// More calls than this in one answer are a mistake of the model or of its server.
const MAX_TOOL_CALLS: usize = 64;

/// What is wrong with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The server reports an error in place of an answer.
    Reported(String),
    /// The answer ends in the middle.
    CutOff,
    /// It is not what a completion looks like.
    Malformed(String),
}

/// An answer that is coming in.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    text: String,
    calls: Vec<Call>,
    finish_reason: Option<String>,
    usage: Option<Usage>,
    complete: bool,
}

#[derive(Debug, Default)]
struct Call {
    id: String,
    name: String,
    arguments: String,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Choice {
    /// The name in a stream, and the name in a document.
    #[serde(alias = "message")]
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Deserialize)]
struct CallDelta {
    index: Option<usize>,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

impl Assembly {
    /// Takes the data of one server-sent event. Returns the text that it added.
    pub(super) fn event(&mut self, data: &str) -> Result<String, Problem> {
        if data.trim() == "[DONE]" {
            self.complete = true;
            return Ok(String::new());
        }
        self.chunk(data.as_bytes())
    }

    /// Takes an answer that came in one piece. Returns its text.
    pub(super) fn document(&mut self, json: &[u8]) -> Result<String, Problem> {
        let text = self.chunk(json)?;
        self.complete = true;
        Ok(text)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    fn chunk(&mut self, json: &[u8]) -> Result<String, Problem> {
        let chunk: Chunk = serde_json::from_slice(json)
            .map_err(|error| Problem::Malformed(format!("not a completion: {error}")))?;
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            return Err(Problem::Reported(error_text(&error)));
        }
        self.usage = chunk.usage.or(self.usage);
        // Only one choice is ever asked for.
        let Some(choice) = chunk.choices.into_iter().next() else { return Ok(String::new()) };
        self.finish_reason = choice.finish_reason.or(self.finish_reason.take());
        let Some(delta) = choice.delta else { return Ok(String::new()) };
        for call in delta.tool_calls.unwrap_or_default() {
            self.call(call)?;
        }
        let text = delta.content.unwrap_or_default();
        self.text.push_str(&text);
        Ok(text)
    }

    fn call(&mut self, delta: CallDelta) -> Result<(), Problem> {
        let index = self.index_of(&delta);
        if index >= MAX_TOOL_CALLS {
            return Err(Problem::Malformed(format!("more than {MAX_TOOL_CALLS} tool calls")));
        }
        if self.calls.len() <= index {
            self.calls.resize_with(index + 1, Call::default);
        }
        let call = &mut self.calls[index];
        // Some servers repeat id and name in each piece, so they replace nothing and add nothing.
        if call.id.is_empty() {
            call.id = delta.id.unwrap_or_default();
        }
        if let Some(function) = delta.function {
            if call.name.is_empty() {
                call.name = function.name.unwrap_or_default();
            }
            call.arguments.push_str(&function.arguments.unwrap_or_default());
        }
        Ok(())
    }

    /// Documents and some servers' streams have no index: a new id is a new call then, and a piece
    /// without one belongs to the last.
    fn index_of(&self, delta: &CallDelta) -> usize {
        let last = self.calls.len().saturating_sub(1);
        match (delta.index, &delta.id) {
            (Some(index), _) => index,
            (None, Some(id)) => {
                let known = self.calls.iter().position(|call| call.id == *id);
                known.unwrap_or(self.calls.len())
            }
            (None, None) => last,
        }
    }

    /// The whole answer.
    pub(super) fn finish(self) -> Result<Reply, Problem> {
        if !self.complete && self.finish_reason.is_none() {
            return Err(Problem::CutOff);
        }
        // An index that was left out leaves a call without a name behind.
        let named = self.calls.into_iter().filter(|call| !call.name.is_empty());
        let tool_calls: Vec<ToolCall> =
            named.enumerate().map(|(index, call)| call.finish(index)).collect();
        let content = (!self.text.is_empty()).then_some(self.text);
        if content.is_none() && tool_calls.is_empty() {
            let reason = self.finish_reason.as_deref().unwrap_or("none");
            return Err(Problem::Malformed(format!("empty answer, finish reason: {reason}")));
        }
        let message = Message { role: Role::Assistant, content, tool_calls, tool_call_id: None };
        Ok(Reply { message, finish_reason: self.finish_reason, usage: self.usage })
    }
}

impl Call {
    fn finish(self, index: usize) -> ToolCall {
        let id = if self.id.is_empty() { format!("call_{index}") } else { self.id };
        let function = FunctionCall { name: self.name, arguments: self.arguments };
        ToolCall { id, kind: function_kind(), function }
    }
}

/// The sentence in an error object, in the forms that servers use.
pub(super) fn error_text(error: &serde_json::Value) -> String {
    let message = error.get("message").unwrap_or(error);
    match message.as_str() {
        Some(text) => text.to_owned(),
        None => message.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn assemble(chunks: &[serde_json::Value]) -> Result<Reply, Problem> {
        let mut assembly = Assembly::default();
        for chunk in chunks {
            assembly.event(&chunk.to_string())?;
        }
        assembly.event("[DONE]")?;
        assembly.finish()
    }

    fn delta(delta: serde_json::Value) -> serde_json::Value {
        json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
    }

    fn calls(reply: &Reply) -> Vec<(&str, &str, &str)> {
        let calls = reply.message.tool_calls.iter();
        calls
            .map(|call| (call.id.as_str(), call.name(), call.function.arguments.as_str()))
            .collect()
    }

    #[test]
    fn text_is_joined_and_handed_on_as_it_comes() {
        let mut assembly = Assembly::default();
        let first =
            assembly.event(&delta(json!({"role": "assistant", "content": "Hel"})).to_string());
        let second = assembly.event(&delta(json!({"content": "lo"})).to_string());
        assert_eq!((first.unwrap().as_str(), second.unwrap().as_str()), ("Hel", "lo"));
        let end = json!({"choices": [{"delta": {}, "finish_reason": "stop"}],
                         "usage": {"prompt_tokens": 3, "completion_tokens": 2}});
        assembly.event(&end.to_string()).unwrap();
        let reply = assembly.finish().unwrap();
        assert_eq!(reply.message.text(), "Hello");
        assert_eq!(reply.finish_reason.as_deref(), Some("stop"));
        assert_eq!(reply.usage.unwrap().prompt_tokens, 3);
    }

    #[test]
    fn interleaved_calls_are_told_apart_by_index() {
        let reply = assemble(&[
            delta(json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "read"}}]})),
            delta(
                json!({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "list", "arguments": "{"}}]}),
            ),
            delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"path\":"}}]})),
            delta(json!({"tool_calls": [
                {"index": 1, "function": {"arguments": "}"}},
                {"index": 0, "function": {"arguments": "\"x\"}"}},
            ]})),
        ]);
        assert_eq!(
            calls(&reply.unwrap()),
            [("a", "read", "{\"path\":\"x\"}"), ("b", "list", "{}")]
        );
    }

    #[test]
    fn calls_without_index_are_told_apart_by_id() {
        let reply = assemble(&[
            delta(
                json!({"tool_calls": [{"id": "a", "function": {"name": "read", "arguments": "{"}}]}),
            ),
            delta(json!({"tool_calls": [{"function": {"arguments": "}"}}]})),
            delta(
                json!({"tool_calls": [{"id": "b", "function": {"name": "list", "arguments": "{}"}}]}),
            ),
        ]);
        assert_eq!(calls(&reply.unwrap()), [("a", "read", "{}"), ("b", "list", "{}")]);
    }

    #[test]
    fn a_repeated_name_is_not_doubled_and_a_missing_id_is_made() {
        let piece =
            json!({"tool_calls": [{"index": 0, "function": {"name": "list", "arguments": "1"}}]});
        let reply = assemble(&[delta(piece.clone()), delta(piece)]);
        assert_eq!(calls(&reply.unwrap()), [("call_0", "list", "11")]);
    }

    #[test]
    fn an_answer_in_one_piece_is_understood() {
        let mut assembly = Assembly::default();
        let document = json!({"choices": [{"message": {"role": "assistant", "content": null,
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "done", "arguments": "{}"}},
                {"id": "b", "type": "function", "function": {"name": "list", "arguments": ""}},
            ]}, "finish_reason": "tool_calls"}]});
        assembly.document(document.to_string().as_bytes()).unwrap();
        assert_eq!(calls(&assembly.finish().unwrap()), [("a", "done", "{}"), ("b", "list", "")]);
    }

    #[test]
    fn a_stream_that_breaks_off_is_no_answer() {
        let mut assembly = Assembly::default();
        assembly.event(&delta(json!({"content": "Hel"})).to_string()).unwrap();
        assert_eq!(assembly.finish().unwrap_err(), Problem::CutOff);
    }

    #[test]
    fn an_error_in_the_stream_is_reported() {
        let error = assemble(&[json!({"error": {"message": "overloaded", "code": 502}})]);
        assert_eq!(error.unwrap_err(), Problem::Reported("overloaded".into()));
    }

    #[test]
    fn nonsense_is_malformed() {
        let far = json!({"tool_calls": [{"index": 1_000_000_000, "function": {"name": "x"}}]});
        for chunk in [json!({"choices": 1}), json!([]), delta(far), json!({"choices": []})] {
            let error = assemble(std::slice::from_ref(&chunk)).unwrap_err();
            assert!(matches!(error, Problem::Malformed(_)), "{chunk}: {error:?}");
        }
    }
}

//! What is recorded of a call: a span, and what becomes of it at the end.

use std::sync::Arc;
use std::time::Instant;

use bulkhead_llm::{
    Chat, Content, Dialect, End, Endpoint, Error, Finish, Message, Part, Request, Role, ToolCall,
};
use bulkhead_telemetry::{Answered, ChatSpan, TurnScope};
use bulkhead_types::{Level, ModelCall, TokenUsage};
use serde_json::{Value, json};

use crate::logs::Logs;
use crate::port::{ModelStep, Port};

/// Most of an answer that is kept for its span, in bytes.
const MAX_OUTPUT: u64 = 64 * 1024;

/// A call under way.
pub(super) struct Report {
    pub port: Arc<dyn Port>,
    pub logs: Arc<Logs>,
    pub endpoint: Arc<str>,
    pub model: String,
    /// What the request counts as if its server does not say.
    pub request_tokens: u64,
    pub begun: Instant,
    /// Bytes of the answer that came.
    pub bytes: u64,
    pub span: ChatSpan,
    /// The answer, as far as it is kept.
    pub output: Vec<Part>,
}

impl Report {
    /// A part of the answer came.
    pub(super) fn saw(&mut self, part: &Part) {
        self.bytes += part.bytes();
        match part {
            Part::Text(text) => self.port.saw(ModelStep::Text(text)),
            Part::Reasoning(text) => self.port.saw(ModelStep::Reasoning(text)),
            Part::ToolCall(ToolCall { id, name, arguments }) => {
                self.port.saw(ModelStep::ToolCall { id, name, arguments });
            }
            Part::End(_) => {}
        }
        if self.span.records_content() && self.bytes <= MAX_OUTPUT {
            self.output.push(part.clone());
        }
    }

    /// It is over: with its end, with an error, or with neither, because nobody wants it any more.
    pub(super) fn end(mut self, chat: &Chat, ended: Option<&Result<End, Error>>) {
        if let Some(Err(error)) = ended {
            let text = format!("model call failed: {error}");
            self.logs.line(Level::Warn, "model", &text, Default::default());
        }
        let (outcome, tries) = (ended.map_or("cancelled", outcome), chat.tries());
        // Also of an answer that failed, as far as its server counted.
        let usage = chat.usage();
        let finish = ended.and_then(|ended| ended.as_ref().ok()).map(|end| finish(end.finish));
        let output = std::mem::take(&mut self.output);
        if self.bytes <= MAX_OUTPUT {
            self.span.set_output(|| answer(output, finish));
        }
        self.span.end(Answered {
            finish,
            input_tokens: usage.map(|usage| usage.input),
            cached_tokens: usage.map(|usage| usage.cached).filter(|tokens| *tokens > 0),
            output_tokens: usage.map(|usage| usage.output),
            reasoning_tokens: usage.map(|usage| usage.reasoning).filter(|tokens| *tokens > 0),
            tries,
            error: (!matches!(ended, Some(Ok(_)))).then_some(outcome),
        });
        let was_read = match ended {
            // The server has it, and may be writing.
            None => tries > 0,
            Some(Ok(_)) => true,
            Some(Err(_)) => self.bytes > 0,
        };
        let estimate = match was_read {
            true => TokenUsage {
                input: self.request_tokens,
                output: self.bytes.div_ceil(TOKEN_BYTES),
                ..TokenUsage::default()
            },
            false => TokenUsage::default(),
        };
        self.port.asked(ModelCall {
            endpoint: self.endpoint,
            model: self.model,
            outcome,
            usage,
            estimate,
            tries,
            duration: self.begun.elapsed(),
        });
    }
}

/// Bytes of English text that one token stands for, roughly.
pub(super) const TOKEN_BYTES: u64 = 4;

/// Begins the span of a call, and writes it into the request. The results of tools that the request has end theirs.
pub(super) fn begin_span(
    turn: &TurnScope,
    (name, endpoint): (&str, &Endpoint),
    request: &mut Request,
) -> ChatSpan {
    if turn.trace_context().is_none() {
        return ChatSpan::default();
    }
    turn.tools_returned(request.messages.iter().filter_map(|it| it.tool_call_id.as_deref()));
    let to = endpoint.destination();
    let mut span = turn.chat(bulkhead_telemetry::Chat {
        provider: match endpoint.dialect() {
            Dialect::OpenAi => "openai",
            Dialect::Anthropic => "anthropic",
        },
        model: &request.model,
        endpoint: name,
        address: &to.host,
        port: to.port,
        max_tokens: request.max_tokens,
        temperature: request.temperature,
    });
    span.set_input(|| Value::from_iter(request.messages.iter().map(message)).to_string());
    if let Some(context) = span.trace_context() {
        context.write(&mut request.headers);
    }
    span
}

fn outcome(ended: &Result<End, Error>) -> &'static str {
    match ended {
        Ok(_) => "ok",
        Err(Error::Unavailable(_)) => "unavailable",
        Err(Error::RateLimited { .. }) => "rate_limited",
        Err(Error::Rejected { .. }) => "rejected",
        Err(Error::BadAnswer { .. }) => "bad_answer",
        Err(Error::Timeout(_)) => "timeout",
    }
}

fn finish(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::ToolCalls => "tool_calls",
        Finish::Length => "length",
        Finish::ContentFilter => "content_filter",
        Finish::Other => "other",
    }
}

/// A message in the form of the conventions. Of an image that is part of it, the size alone.
fn message(message: &Message) -> Value {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let content = message.content.iter().map(|content| match (content, &message.tool_call_id) {
        (Content::Text(text), Some(id)) => {
            json!({ "type": "tool_call_response", "id": id, "response": text })
        }
        (Content::Text(text), None) => json!({ "type": "text", "content": text }),
        (Content::ImageUrl(url), _) => json!({ "type": "uri", "modality": "image", "uri": url }),
        (Content::Image { media_type, data }, _) => {
            json!({ "type": "image", "mime_type": media_type, "bytes": data.len() })
        }
    });
    let calls = message.tool_calls.iter().map(tool_call);
    json!({ "role": role, "parts": content.chain(calls).collect::<Vec<_>>() })
}

fn tool_call(call: &bulkhead_llm::ToolCall) -> Value {
    let arguments = serde_json::from_str(&call.arguments);
    let arguments: Value = arguments.unwrap_or_else(|_| call.arguments.as_str().into());
    json!({ "type": "tool_call", "id": call.id, "name": call.name, "arguments": arguments })
}

/// Text that came in pieces is one part.
fn answer(output: Vec<Part>, finish: Option<&str>) -> String {
    let (mut text, mut reasoning, mut calls) = (String::new(), String::new(), Vec::new());
    for part in output {
        match part {
            Part::Text(more) => text += &more,
            Part::Reasoning(more) => reasoning += &more,
            Part::ToolCall(call) => calls.push(tool_call(&call)),
            Part::End(_) => {}
        }
    }
    let texts = [("reasoning", reasoning), ("text", text)].into_iter();
    let texts = texts.filter(|(_, content)| !content.is_empty());
    let texts = texts.map(|(kind, content)| json!({ "type": kind, "content": content }));
    let parts: Vec<_> = texts.chain(calls).collect();
    json!([{ "role": "assistant", "parts": parts, "finish_reason": finish.unwrap_or("error") }])
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_has_the_form_of_the_conventions() {
        let call = ToolCall { id: "1".into(), name: "t".into(), arguments: "{\"a\":1}".into() };
        let said = Message {
            role: Role::Assistant,
            content: vec![Content::Text("well".into())],
            tool_calls: vec![call],
            tool_call_id: None,
            reasoning_state: None,
        };
        let result = Message {
            role: Role::Tool,
            content: vec![Content::Text("2".into())],
            tool_calls: Vec::new(),
            tool_call_id: Some("1".into()),
            reasoning_state: None,
        };
        let call = json!({ "type": "tool_call", "id": "1", "name": "t", "arguments": { "a": 1 } });
        let text = json!({ "type": "text", "content": "well" });
        assert_eq!(message(&said), json!({ "role": "assistant", "parts": [text, call] }));
        let response = json!({ "type": "tool_call_response", "id": "1", "response": "2" });
        assert_eq!(message(&result), json!({ "role": "tool", "parts": [response] }));
    }

    #[test]
    fn an_answer_is_one_message() {
        let call = ToolCall { id: "1".into(), name: "t".into(), arguments: "{".into() };
        let parts = vec![
            Part::Text("a".into()),
            Part::Reasoning("b".into()),
            Part::Text("c".into()),
            Part::ToolCall(call),
        ];
        let written: Value = serde_json::from_str(&answer(parts, Some("tool_calls"))).unwrap();
        let expected = json!([{ "role": "assistant", "finish_reason": "tool_calls", "parts": [
            { "type": "reasoning", "content": "b" },
            { "type": "text", "content": "ac" },
            { "type": "tool_call", "id": "1", "name": "t", "arguments": "{" },
        ] }]);
        assert_eq!(written, expected);
    }
}

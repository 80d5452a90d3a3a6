//! What comes back.

use super::{Content, Error, FinishReason, Message, Role, ToolCall, Usage, raw};

/// The next part of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// The next text of the answer: all that came since the last part. Never empty.
    Text(String),
    /// The next text of the reasoning, which is no part of the answer. Never empty.
    Reasoning(String),
    /// A whole tool call.
    ToolCall(ToolCall),
    /// The last part.
    End {
        /// Why the model ended its answer.
        finish_reason: FinishReason,
        /// Tokens of the answer, if the server reports them.
        usage: Option<Usage>,
        /// For the message of this answer ([`Message::reasoning_state`]).
        reasoning_state: Option<String>,
    },
}

impl From<raw::Part> for Part {
    fn from(part: raw::Part) -> Self {
        match part {
            raw::Part::Text(text) => Self::Text(text),
            raw::Part::Reasoning(text) => Self::Reasoning(text),
            raw::Part::ToolCall(call) => Self::ToolCall(call),
            raw::Part::End(raw::End { finish_reason, usage, reasoning_state }) => {
                Self::End { finish_reason, usage, reasoning_state }
            }
        }
    }
}

/// An answer under way, as an iterator over its parts. Ends after [`Part::End`] or an error. Dropping it cancels the
/// answer. Between two turns it stands still.
#[derive(Debug)]
pub struct Stream {
    raw: raw::ChatStream,
    ended: bool,
}

impl Stream {
    pub(super) fn new(raw: raw::ChatStream) -> Self {
        Self { raw, ended: false }
    }

    /// Ends the answer: the server sees its connection closed, and the next part is [`Error::Cancelled`].
    pub fn cancel(&self) {
        self.raw.cancel();
    }
}

impl Iterator for Stream {
    type Item = Result<Part, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let part = self.raw.next();
        self.ended = matches!(part, Ok(raw::Part::End(_)) | Err(_));
        Some(part.map(Part::from).map_err(Error::from))
    }
}

/// A whole answer, or what there is of one: parts add to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Text, tool calls, or both. Neither only after the result of a tool, when the model has nothing more to say.
    pub message: Message,
    /// What the model thought; no part of the answer.
    pub reasoning: String,
    /// Why the model ended its answer. [`FinishReason::Other`] before the last part.
    pub finish_reason: FinishReason,
    /// Tokens of the answer, if the server reports them.
    pub usage: Option<Usage>,
}

impl Completion {
    /// The text for a person: that of an answer that is truncated, or not over yet, says so.
    pub fn text(&self) -> String {
        let text = self.message.text();
        match self.truncated_by() {
            Some(cause) => format!("{text}\n\n[cut off: {cause}]"),
            None => text.into_owned(),
        }
    }

    /// Why the answer ends in the middle, if it does. A tool call that was not whole is left out then.
    pub fn truncated_by(&self) -> Option<&'static str> {
        match self.finish_reason {
            FinishReason::Length => Some("the model reached its length limit"),
            FinishReason::ContentFilter => Some("a content filter stopped the model"),
            FinishReason::Other => Some("the model did not come to its end"),
            FinishReason::Stop | FinishReason::ToolCalls => None,
        }
    }

    fn add(&mut self, part: Part) {
        match part {
            Part::Text(more) => match self.message.content.last_mut() {
                Some(Content::Text(text)) => text.push_str(&more),
                _ => self.message.content.push(Content::Text(more)),
            },
            Part::Reasoning(more) => self.reasoning.push_str(&more),
            Part::ToolCall(call) => self.message.tool_calls.push(call),
            Part::End { finish_reason, usage, reasoning_state } => {
                (self.finish_reason, self.usage) = (finish_reason, usage);
                self.message.reasoning_state = reasoning_state;
            }
        }
    }
}

impl Default for Completion {
    fn default() -> Self {
        let message = Message {
            role: Role::Assistant,
            content: Vec::new(),
            tool_calls: Vec::new(),
            tool_call_id: None,
            reasoning_state: None,
        };
        Self { message, reasoning: String::new(), finish_reason: FinishReason::Other, usage: None }
    }
}

impl Extend<Part> for Completion {
    fn extend<I: IntoIterator<Item = Part>>(&mut self, parts: I) {
        parts.into_iter().for_each(|part| self.add(part));
    }
}

impl FromIterator<Part> for Completion {
    fn from_iter<I: IntoIterator<Item = Part>>(parts: I) -> Self {
        let mut completion = Self::default();
        completion.extend(parts);
        completion
    }
}

impl From<raw::Completion> for Completion {
    fn from(raw: raw::Completion) -> Self {
        let raw::End { finish_reason, usage, reasoning_state } = raw.end;
        let content = if raw.text.is_empty() { Vec::new() } else { vec![Content::Text(raw.text)] };
        let message = Message {
            role: Role::Assistant,
            content,
            tool_calls: raw.tool_calls,
            tool_call_id: None,
            reasoning_state,
        };
        Self { message, reasoning: raw.reasoning, finish_reason, usage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &str) -> ToolCall {
        ToolCall { id: id.into(), name: "read".into(), arguments: "{}".into() }
    }

    fn end(finish_reason: FinishReason) -> Part {
        Part::End { finish_reason, usage: None, reasoning_state: None }
    }

    #[test]
    fn the_parts_of_an_answer_make_up_the_whole() {
        let usage =
            Usage { input_tokens: 9, cached_tokens: 4, output_tokens: 3, reasoning_tokens: 1 };
        let parts = [
            Part::Reasoning("h".into()),
            Part::Text("gr\u{fc}".into()),
            Part::Reasoning("m".into()),
            Part::Text("n".into()),
            Part::ToolCall(call("a")),
            Part::ToolCall(call("b")),
            Part::End {
                finish_reason: FinishReason::ToolCalls,
                usage: Some(usage),
                reasoning_state: Some("{}".into()),
            },
        ];
        let streamed: Completion = parts.into_iter().collect();
        let whole = Completion::from(raw::Completion {
            text: "gr\u{fc}n".into(),
            reasoning: "hm".into(),
            tool_calls: vec![call("a"), call("b")],
            end: raw::End {
                finish_reason: FinishReason::ToolCalls,
                usage: Some(usage),
                reasoning_state: Some("{}".into()),
            },
        });
        assert_eq!(streamed, whole);
        assert_eq!(streamed.message.content.len(), 1);
        assert_eq!(streamed.message.reasoning_state.as_deref(), Some("{}"));
    }

    #[test]
    fn an_error_ends_the_collection_of_a_stream() {
        let parts = [Ok(Part::Text("half".into())), Err(Error::Timeout("silence".into()))];
        let answer: Result<Completion, Error> = parts.into_iter().collect();
        assert_eq!(answer, Err(Error::Timeout("silence".into())));
    }

    #[test]
    fn a_truncated_answer_says_so() {
        let answer = |reason| [Part::Text("half".into()), end(reason)].into_iter().collect();
        let text = |reason| Completion::text(&answer(reason));
        assert_eq!(text(FinishReason::Stop), "half");
        assert_eq!(
            text(FinishReason::Other),
            "half\n\n[cut off: the model did not come to its end]"
        );
        assert_eq!(
            text(FinishReason::Length),
            "half\n\n[cut off: the model reached its length limit]"
        );
        assert_eq!(
            text(FinishReason::ContentFilter),
            "half\n\n[cut off: a content filter stopped the model]"
        );
    }
}

//! What a server wants back with the message of its answer, because it keeps nothing itself.
//!
//! - Anthropic: the thinking, with its signatures, before the calls that came of it.
//! - DeepSeek, Kimi and others: `reasoning_content`, as the message had it.
//! - OpenRouter: `reasoning_details`.
//! - Gemini: `extra_content` of each tool call, which has a signature.
//!
//! Without it a model that thinks refuses the results of its tools. An agent keeps it with the message, as a text that
//! means nothing to it. What is merely called `reasoning` is not kept: some servers send that and refuse it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What is sent back with a message of the assistant, to the model that wrote it. As text: JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasoningState {
    /// The name that the model was asked by.
    #[serde(default)]
    pub(crate) model: String,
    #[serde(flatten)]
    form: Form,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "dialect", rename_all = "lowercase")]
enum Form {
    Anthropic {
        /// Blocks, as they came.
        thinking: Vec<Value>,
    },
    OpenAi {
        /// Fields of the message.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        message: Map<String, Value>,
        /// `extra_content` of the tool calls, by id.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        extra_content: BTreeMap<String, Value>,
    },
}

/// A text that is no [`ReasoningState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it has to be what the end of an answer had")]
pub struct ReasoningStateError;

impl fmt::Display for ReasoningState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for ReasoningState {
    type Err = ReasoningStateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text).map_err(|_| ReasoningStateError)
    }
}

impl ReasoningState {
    /// What its text takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.to_string().len()
    }

    /// Blocks that stand before the rest of a message, for Anthropic.
    pub(crate) fn thinking(&self) -> &[Value] {
        match &self.form {
            Form::Anthropic { thinking } => thinking,
            Form::OpenAi { .. } => &[],
        }
    }

    /// Fields of a message, for OpenAI's dialect.
    pub(crate) fn fields(&self) -> Option<&Map<String, Value>> {
        match &self.form {
            Form::Anthropic { .. } => None,
            Form::OpenAi { message, .. } => Some(message),
        }
    }

    /// A field of a tool call, for OpenAI's dialect.
    pub(crate) fn extra_content(&self, call: &str) -> Option<&Value> {
        match &self.form {
            Form::Anthropic { .. } => None,
            Form::OpenAi { extra_content, .. } => extra_content.get(call),
        }
    }
}

/// Collects it from the pieces of an answer.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// Anthropic's blocks, by their index.
    thinking: BTreeMap<u64, Map<String, Value>>,
    content: String,
    details: Vec<Map<String, Value>>,
    bytes: usize,
}

/// Texts that come in pieces. Every other field is whole.
const IN_PIECES: [&str; 4] = ["thinking", "signature", "text", "summary"];

impl Collected {
    /// What it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Takes a block of Anthropic's, or the beginning of one.
    pub(crate) fn block(&mut self, index: &Value, block: &Value) {
        if matches!(block["type"].as_str(), Some("thinking" | "redacted_thinking"))
            && let (Some(index), Some(fields)) = (index.as_u64(), block.as_object())
        {
            self.bytes += add(self.thinking.entry(index).or_default(), fields);
        }
    }

    /// Takes more of a block.
    pub(crate) fn delta(&mut self, index: &Value, delta: &Value) {
        let Some(block) = index.as_u64().and_then(|index| self.thinking.get_mut(&index)) else {
            return;
        };
        for name in ["thinking", "signature"] {
            if let Some(more) = delta[name].as_str() {
                self.bytes += append(block, name, more);
            }
        }
    }

    /// Takes what a message or a piece of one has, in OpenAI's dialect.
    pub(crate) fn message(&mut self, message: &Value) {
        if let Some(more) = message["reasoning_content"].as_str() {
            self.content += more;
            self.bytes += more.len();
        }
        for detail in message["reasoning_details"].as_array().into_iter().flatten() {
            let Some(fields) = detail.as_object() else { continue };
            let is_same = |known: &&mut Map<String, Value>| {
                detail["index"].is_number()
                    && ["index", "type"].iter().all(|key| known.get(*key) == fields.get(*key))
            };
            match self.details.last_mut().filter(is_same) {
                Some(known) => self.bytes += add(known, fields),
                None => {
                    let mut new = Map::new();
                    self.bytes += add(&mut new, fields);
                    self.details.push(new);
                }
            }
        }
    }

    /// All of it; none if there was nothing. Of an answer that was `cut`, thinking without a signature is left out: no
    /// server takes it.
    pub(crate) fn finish(
        self,
        extra_content: BTreeMap<String, Value>,
        cut: bool,
    ) -> Option<ReasoningState> {
        let is_signed = |block: &Map<String, Value>| {
            ["signature", "data"].iter().any(|key| block.get(*key).is_some_and(|it| *it != ""))
        };
        let thinking: Vec<Value> = (self.thinking.into_values())
            .filter(|block| !cut || is_signed(block))
            .map(Value::Object)
            .collect();
        let mut message = Map::new();
        if !self.content.is_empty() {
            message.insert("reasoning_content".into(), self.content.into());
        }
        if !self.details.is_empty() {
            message.insert("reasoning_details".into(), json!(self.details));
        }
        let form = match (thinking.is_empty(), message.is_empty() && extra_content.is_empty()) {
            (false, _) => Form::Anthropic { thinking },
            (true, false) => Form::OpenAi { message, extra_content },
            (true, true) => return None,
        };
        Some(ReasoningState { model: String::new(), form })
    }
}

/// Puts fields to those that are there: texts that come in pieces are appended, and others replaced, unless by null.
/// Returns about how many bytes came.
fn add(to: &mut Map<String, Value>, fields: &Map<String, Value>) -> usize {
    let mut bytes = 0;
    for (name, value) in fields {
        bytes += match value {
            Value::Null if to.contains_key(name) => 0,
            Value::String(more) if IN_PIECES.contains(&name.as_str()) => append(to, name, more),
            value => {
                to.insert(name.clone(), value.clone());
                name.len() + value.as_str().map_or(8, str::len)
            }
        };
    }
    bytes
}

fn append(to: &mut Map<String, Value>, name: &str, more: &str) -> usize {
    match to.get_mut(name) {
        Some(Value::String(text)) => text.push_str(more),
        _ => _ = to.insert(name.to_owned(), more.into()),
    }
    more.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(collected: Collected, cut: bool) -> Option<Value> {
        let state = collected.finish(BTreeMap::new(), cut)?;
        let text = state.to_string();
        assert_eq!(text.parse(), Ok(state));
        Some(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn blocks_are_as_they_came() {
        let mut it = Collected::default();
        it.block(&json!(1), &json!({"type": "redacted_thinking", "data": "x=="}));
        it.block(&json!(0), &json!({"type": "thinking", "thinking": "", "signature": ""}));
        it.block(&json!(2), &json!({"type": "text", "text": "no"}));
        it.delta(&json!(0), &json!({"type": "thinking_delta", "thinking": "h"}));
        it.delta(&json!(0), &json!({"type": "thinking_delta", "thinking": "m"}));
        it.delta(&json!(0), &json!({"type": "signature_delta", "signature": "s"}));
        it.delta(&json!(2), &json!({"type": "text_delta", "text": "no"}));
        assert!(it.bytes() > 0);
        let thinking = json!([
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "x=="},
        ]);
        let expected = json!({"model": "", "dialect": "anthropic", "thinking": thinking});
        assert_eq!(finished(it, true), Some(expected));
    }

    #[test]
    fn thinking_that_was_cut_has_no_signature_and_is_left_out() {
        for cut in [false, true] {
            let mut it = Collected::default();
            it.block(&json!(0), &json!({"type": "thinking", "thinking": "h"}));
            assert_eq!(finished(it, cut).is_none(), cut);
        }
    }

    #[test]
    fn pieces_of_details_are_one_again() {
        let mut it = Collected::default();
        for piece in [
            json!({"reasoning_content": "h", "reasoning": "h"}),
            json!({"reasoning_content": "m", "reasoning_details": null}),
            json!({"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "h", "format": "f"}]}),
            json!({"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "m", "signature": null}]}),
            json!({"reasoning_details": [{"type": "reasoning.text", "index": 0, "signature": "s", "format": null}]}),
            json!({"reasoning_details": [{"type": "reasoning.encrypted", "index": 0, "data": "x"}]}),
            json!({"reasoning_details": [{"type": "reasoning.encrypted", "data": "y"}]}),
            json!({"reasoning_details": [{"type": "reasoning.encrypted", "data": "z"}, 7]}),
        ] {
            it.message(&piece);
        }
        let details = json!([
            {"type": "reasoning.text", "index": 0, "text": "hm", "format": "f", "signature": "s"},
            {"type": "reasoning.encrypted", "index": 0, "data": "x"},
            {"type": "reasoning.encrypted", "data": "y"},
            {"type": "reasoning.encrypted", "data": "z"},
        ]);
        let message = json!({"reasoning_content": "hm", "reasoning_details": details});
        let expected = json!({"model": "", "dialect": "openai", "message": message});
        assert_eq!(finished(it, false), Some(expected));
    }

    #[test]
    fn nothing_is_nothing() {
        let mut it = Collected::default();
        it.message(&json!({"reasoning": "hm", "reasoning_content": null}));
        it.message(&json!("hm"));
        it.delta(&json!(0), &json!({"thinking": "hm"}));
        assert_eq!((it.bytes(), finished(it, false)), (0, None));
        for text in ["", "{}", "[]", "{\"dialect\":\"anthropic\"}", "{\"dialect\":\"x\"}"] {
            assert_eq!(text.parse::<ReasoningState>(), Err(ReasoningStateError), "{text}");
        }
    }
}

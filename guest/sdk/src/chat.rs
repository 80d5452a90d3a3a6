//! A client for chat completions in the form that OpenAI gave them and many servers speak:
//! `POST {base-url}/chat/completions`.
//!
//! ```no_run
//! use bulkhead_guest::chat::{Client, Message};
//!
//! let client = Client::from_config(None)?;
//! let question = Message::user("What is a bulkhead?");
//! let reply = client.complete(&[&question], &[])?;
//! let answer = reply.message.text();
//! # Ok::<(), bulkhead_guest::AgentError>(())
//! ```
//!
//! Answers are asked for as a stream; a server that answers in one piece is understood too, and what an answer is
//! counts by its bytes. It is complete at its finish reason, whatever the connection does then. One that was cut, by the
//! connection or by a limit of the model, is never taken for a whole one: see [`Error::BadAnswer`] and [`Reply::cut`].
//!
//! | config key | meaning | default |
//! | --- | --- | --- |
//! | `model.base-url` | for example `http://127.0.0.1:9100/v1` | required |
//! | `model.api-key` | sent as a bearer token, never logged | none |
//! | `model.name` | the model, unless the settings name one | required then |
//! | `model.timeout-ms` | for one completion; the turn's deadline bounds it as well | 120000 |
//! | `model.retries` | repeats after a failure that may pass | 2 |
//! | `model.max-wait-ms` | longest `Retry-After` that is waited for; the turn's deadline bounds it as well | 60000 |
//! | `model.max-answer-bytes` | for one answer as it comes over the wire | 4194304 |

mod assembly;
mod calls;
mod client;
#[cfg(test)]
mod noise;
mod retry_after;
mod wire;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use client::{Client, Error};

/// Who a message is by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Standing instructions.
    System,
    /// The other side.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// One message of a conversation, in the form that goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who it is by.
    pub role: Role,
    /// The text. Missing where the model only calls tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The calls that the model wants. Each needs a message with its result right after this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Of a result: the call that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// Standing instructions.
    pub fn system(text: impl Into<String>) -> Self {
        Self::of(Role::System, text)
    }

    /// Something that the other side says.
    pub fn user(text: impl Into<String>) -> Self {
        Self::of(Role::User, text)
    }

    /// The result of a tool call.
    pub fn tool_result(call: &ToolCall, text: impl Into<String>) -> Self {
        Self { tool_call_id: Some(call.id.clone()), ..Self::of(Role::Tool, text) }
    }

    /// The text, or nothing.
    pub fn text(&self) -> &str {
        self.content.as_deref().unwrap_or_default()
    }

    /// How many bytes it takes as JSON, which is what a request and a snapshot make of it.
    pub fn json_bytes(&self) -> usize {
        serde_json::to_vec(self).map_or(0, |json| json.len())
    }

    fn of(role: Role, text: impl Into<String>) -> Self {
        Self { role, content: Some(text.into()), tool_calls: Vec::new(), tool_call_id: None }
    }
}

/// A call that the model wants to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Given by the model's server; connects call and result.
    pub id: String,
    /// Always `function`.
    #[serde(rename = "type", default = "function_kind")]
    pub kind: String,
    /// What to call.
    pub function: FunctionCall,
}

/// The tool's name and what to give it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionCall {
    /// One of the names that were offered, if the model keeps to them.
    pub name: String,
    /// JSON text, if the model keeps to the form.
    #[serde(default)]
    pub arguments: String,
}

impl ToolCall {
    /// The tool's name.
    pub fn name(&self) -> &str {
        &self.function.name
    }

    /// Reads the arguments. The error is a sentence that the model can learn from.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T, String> {
        let text = match self.function.arguments.trim() {
            "" => "{}",
            text => text,
        };
        serde_json::from_str(text)
            .map_err(|error| format!("arguments of `{}` are not right: {error}", self.name()))
    }
}

fn function_kind() -> String {
    "function".to_owned()
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Letters, digits, `_` and `-`.
    pub name: &'static str,
    /// When and why to use it; the model reads this.
    pub description: &'static str,
    /// JSON Schema of the arguments.
    pub parameters: Value,
}

impl Serialize for Tool {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::json!({
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": self.parameters,
            },
        })
        .serialize(serializer)
    }
}

/// A complete answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Text, tool calls, or both. Neither only after the result of a tool, when the model has nothing more to say.
    pub message: Message,
    /// Why the model stopped: `stop`, `tool_calls`, `length`, …
    pub finish_reason: Option<String>,
    /// Why the answer ends before its end, if it does: the message is what there is of it. A tool call that was not
    /// whole is left out.
    pub cut: Option<&'static str>,
    /// What it cost, if the server says so.
    pub usage: Option<Usage>,
}

impl Reply {
    /// The text for a person: one that was cut says so.
    pub fn text(&self) -> String {
        let text = self.message.text();
        match self.cut {
            Some(cut) => format!("{text}\n\n[cut off: {cut}]"),
            None => text.to_owned(),
        }
    }
}

/// Reads an answer that was received, in parts of so many bytes, as [`Client`] reads one that comes. For tests and
/// fuzzing; an error says what is wrong with it.
pub fn read_answer(bytes: &[u8], part_bytes: usize) -> Result<Reply, String> {
    let mut wire = wire::Wire::default();
    let read = |wire: &mut wire::Wire| {
        for part in bytes.chunks(part_bytes.max(1)) {
            wire.push(part)?;
            if wire.is_complete() {
                return Ok(());
            }
        }
        wire.end().map(|_| ())
    };
    let read = read(&mut wire).and_then(|()| wire.finish(false));
    read.map_err(|problem| problem.to_string())
}

/// Tokens of one completion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Read.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Written.
    #[serde(default)]
    pub completion_tokens: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_form_of_the_wire() {
        let call = ToolCall {
            id: "c1".into(),
            kind: function_kind(),
            function: FunctionCall { name: "read".into(), arguments: "{}".into() },
        };
        let result = Message::tool_result(&call, "text");
        assert_eq!(
            serde_json::to_value(&result).unwrap(),
            serde_json::json!({"role": "tool", "content": "text", "tool_call_id": "c1"})
        );
        let assistant = Message {
            role: Role::Assistant,
            content: None,
            tool_calls: vec![call],
            tool_call_id: None,
        };
        assert_eq!(
            serde_json::to_value(&assistant).unwrap(),
            serde_json::json!({"role": "assistant", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "read", "arguments": "{}"}}
            ]})
        );
    }

    #[test]
    fn arguments_that_are_missing_are_an_empty_object() {
        let mut call = ToolCall {
            id: "c".into(),
            kind: function_kind(),
            function: FunctionCall { name: "list".into(), arguments: " ".into() },
        };
        assert_eq!(call.arguments::<Value>().unwrap(), serde_json::json!({}));
        call.function.arguments = "{\"path\":".into();
        assert!(call.arguments::<Value>().unwrap_err().contains("`list`"));
    }
}

//! What is asked.

use std::borrow::Borrow;
use std::time::Duration;

use serde_json::Value;

use super::{Content, Error, Message, ResponseFormat, ToolCall, ToolChoice, raw};
use crate::host::copied_less_than;

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// 1 to 64 characters of `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// When and why to use it; the model reads this.
    pub description: String,
    /// JSON Schema of the arguments.
    pub parameters: Value,
}

impl Tool {
    /// A tool with a JSON Schema of its arguments.
    pub fn new(name: impl Into<String>, description: impl Into<String>, parameters: Value) -> Self {
        Self { name: name.into(), description: description.into(), parameters }
    }
}

/// A question to a model. What is not set is left to the host: the role's first endpoint, the model of
/// [`host::settings`](crate::host::settings) or else the endpoint's own, and the server's defaults.
#[derive(Debug, Clone)]
#[must_use = "a request does nothing before it is passed to `complete` or `stream`"]
pub struct Request(raw::Request);

impl Request {
    /// Asks for the next message of a conversation, which has at least one.
    pub fn new<M: Borrow<Message>>(messages: impl IntoIterator<Item = M>) -> Self {
        Self(raw::Request {
            endpoint: None,
            model: None,
            messages: messages.into_iter().map(|message| message.borrow().clone()).collect(),
            tools: Vec::new(),
            tool_choice: None,
            response_format: None,
            temperature: None,
            max_tokens: None,
            timeout_ms: None,
            extra: None,
        })
    }

    /// One of the role's `models`, by its name in the host's configuration.
    pub fn endpoint(mut self, name: impl Into<String>) -> Self {
        self.0.endpoint = Some(name.into());
        self
    }

    /// The model's name at its endpoint.
    pub fn model(mut self, name: impl Into<String>) -> Self {
        self.0.model = Some(name.into());
        self
    }

    /// Offers tools, at most 128 in all.
    pub fn tools<T: Borrow<Tool>>(mut self, tools: impl IntoIterator<Item = T>) -> Self {
        self.0.tools.extend(tools.into_iter().map(|tool| {
            let Tool { name, description, parameters } = tool.borrow();
            raw::Tool {
                name: name.clone(),
                description: description.clone(),
                parameters: parameters.to_string(),
            }
        }));
        self
    }

    /// Whether the model has to call a tool. Without tools it has no effect.
    pub fn tool_choice(mut self, choice: ToolChoice) -> Self {
        self.0.tool_choice = Some(choice);
        self
    }

    /// The form of the answer's text.
    pub fn response_format(mut self, format: ResponseFormat) -> Self {
        self.0.response_format = Some(format);
        self
    }

    /// How random the answer is.
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.0.temperature = Some(temperature);
        self
    }

    /// Bounds the answer. One that reaches the bound is [truncated](super::Completion::text).
    pub fn max_tokens(mut self, tokens: u32) -> Self {
        self.0.max_tokens = Some(tokens);
        self
    }

    /// Bounds the whole call with all attempts. Rounded to milliseconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.timeout_ms = Some(timeout.as_millis().try_into().unwrap_or(u64::MAX));
        self
    }

    /// A JSON object whose fields are added to the request's JSON, or replace what the host writes. Not `model`,
    /// `messages`, `stream` and `tools`.
    pub fn extra(mut self, fields: &Value) -> Self {
        self.0.extra = Some(fields.to_string());
        self
    }

    pub(super) fn raw(&self) -> &raw::Request {
        &self.0
    }

    /// Whether a call can copy it.
    pub(super) fn check(&self) -> Result<(), Error> {
        let bytes = request_bytes(&self.0);
        match copied_less_than(bytes) {
            Some(most) => Err(Error::Invalid(format!(
                "too large: the request has {bytes} bytes, and a call copies at most {most}"
            ))),
            None => Ok(()),
        }
    }
}

/// Beside its texts, of a record.
const RECORD_BYTES: usize = 256;

/// What the host copies of it, about.
fn request_bytes(request: &raw::Request) -> usize {
    let tool = |tool: &raw::Tool| tool.name.len() + tool.description.len() + tool.parameters.len();
    let tools = request.tools.iter().map(|each| tool(each) + RECORD_BYTES);
    let messages = request.messages.iter().map(message_bytes);
    let schema = match &request.response_format {
        Some(ResponseFormat::JsonSchema(schema)) => schema.len(),
        _ => 0,
    };
    let extra = request.extra.as_ref().map_or(0, String::len);
    messages.chain(tools).sum::<usize>() + schema + extra
}

fn message_bytes(message: &Message) -> usize {
    let contents = message.content.iter().map(|content| match content {
        Content::Text(text) | Content::ImageUrl(text) => text.len(),
        Content::Image(image) => image.data.len() + image.media_type.len(),
    });
    let call = |call: &ToolCall| call.id.len() + call.name.len() + call.arguments.len();
    let calls = message.tool_calls.iter().map(|each| call(each) + RECORD_BYTES);
    let reasoning = message.reasoning_state.as_ref().map_or(0, String::len);
    contents.chain(calls).sum::<usize>() + reasoning + RECORD_BYTES
}

/// A request of the bindings, for what the builder cannot express.
impl From<raw::Request> for Request {
    fn from(raw: raw::Request) -> Self {
        Self(raw)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plain_request_leaves_everything_to_the_host() {
        let messages = [Message::system("be kind"), Message::user("hi")];
        let Request(raw) = Request::new(&messages);
        assert_eq!(raw.messages, messages);
        assert_eq!((raw.endpoint, raw.model, raw.extra), (None, None, None));
        assert!(raw.tools.is_empty() && raw.tool_choice.is_none() && raw.timeout_ms.is_none());
    }

    #[test]
    fn the_size_of_a_request_is_that_of_its_texts() {
        let tool = Tool::new("look", "x".repeat(1_000), json!({}));
        let request = Request::new([Message::user("x".repeat(100_000)), Message::user("hi")]);
        let request = request.tools([&tool]);
        let bytes = request_bytes(request.raw());
        assert!((101_000..103_000).contains(&bytes), "{bytes}");
        let schema = ResponseFormat::JsonSchema("x".repeat(2_000));
        assert_eq!(request_bytes(request.response_format(schema).raw()), bytes + 2_000);
    }

    #[test]
    fn schemas_fields_and_times_have_the_form_of_the_interface() {
        let tool = Tool::new("look", "Look around.", json!({"type": "object"}));
        let Request(raw) = Request::new([Message::user("hi")])
            .tools([&tool])
            .timeout(Duration::from_secs(2))
            .extra(&json!({"seed": 7}));
        assert_eq!(raw.tools[0].parameters, r#"{"type":"object"}"#);
        assert_eq!((raw.timeout_ms, raw.extra.as_deref()), (Some(2000), Some(r#"{"seed":7}"#)));
        let Request(forever) = Request::new([Message::user("hi")]).timeout(Duration::MAX);
        assert_eq!(forever.timeout_ms, Some(u64::MAX));
    }
}

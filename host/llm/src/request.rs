//! What is asked.

use http::HeaderMap;
use serde_json::{Map, Value};

use crate::ReasoningState;

/// Who a message is by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// A part of what a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Text.
    Text(String),
    /// An image that the model's server fetches.
    ImageUrl(String),
    /// An image in the request.
    Image {
        /// For example `image/png`.
        media_type: String,
        /// Its bytes.
        data: Vec<u8>,
    },
}

/// A call that the model asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Connects call and result. Unique within one answer.
    pub id: String,
    /// The tool.
    pub name: String,
    /// JSON text, if the model keeps to the form.
    pub arguments: String,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who it is by.
    pub role: Role,
    /// What it says.
    pub content: Vec<Content>,
    /// Of the assistant: the calls that it asked for.
    pub tool_calls: Vec<ToolCall>,
    /// Of a tool: the call that this is the result of.
    pub tool_call_id: Option<String>,
    /// Of the assistant: what the answer's end had. Sent to the model that it came from, and to no other.
    pub reasoning_state: Option<ReasoningState>,
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// 1 to 64 characters of `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// When and why to use it.
    pub description: String,
    /// JSON Schema of the arguments.
    pub parameters: Value,
}

/// Whether the model has to call a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// It decides.
    Auto,
    /// It must not.
    None,
    /// It must call at least one.
    Required,
    /// It must call this one.
    Named(String),
}

/// The form of the answer's text.
#[derive(Debug, Clone, PartialEq)]
pub enum ResponseFormat {
    /// Text.
    Text,
    /// Any JSON object.
    Json,
    /// JSON that fits this JSON Schema.
    JsonSchema(Value),
}

/// What is asked of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The model's name at its endpoint.
    pub model: String,
    /// At least one.
    pub messages: Vec<Message>,
    /// What it may call.
    pub tools: Vec<Tool>,
    /// Not sent without tools.
    pub tool_choice: Option<ToolChoice>,
    /// None: text.
    pub response_format: Option<ResponseFormat>,
    /// None: the server's default.
    pub temperature: Option<f32>,
    /// Of the answer. None: the server's default.
    pub max_tokens: Option<u32>,
    /// Added to the request's JSON last, so it replaces what the dialect writes.
    pub extra: Map<String, Value>,
    /// Sent beside the endpoint's own, which win. They may name the trace of the call.
    pub headers: HeaderMap,
}

impl Request {
    /// What is sent back with a message: it has to be of the model that is asked.
    pub(crate) fn state_of<'a>(&self, message: &'a Message) -> Option<&'a ReasoningState> {
        message.reasoning_state.as_ref().filter(|state| state.model == self.model)
    }
}

#[cfg(test)]
pub(crate) mod examples {
    use serde_json::json;

    use super::*;

    /// One message of the user.
    pub(crate) fn only(text: &str) -> Request {
        Request {
            model: "m".into(),
            messages: vec![message(Role::User, &[text])],
            tools: Vec::new(),
            tool_choice: None,
            response_format: None,
            temperature: None,
            max_tokens: None,
            extra: Map::new(),
            headers: HeaderMap::new(),
        }
    }

    /// Something of everything.
    pub(crate) fn conversation() -> Request {
        let call = |id: &str, arguments: &str| ToolCall {
            id: id.into(),
            name: "read".into(),
            arguments: arguments.into(),
        };
        let result = |id: &str, texts: &[&str]| Message {
            tool_call_id: Some(id.into()),
            ..message(Role::Tool, texts)
        };
        let mut question = message(Role::User, &["what is this?"]);
        question.content.push(Content::ImageUrl("https://example.com/a.png".into()));
        let (media_type, data) = ("image/png".into(), vec![1, 2, 3]);
        question.content.push(Content::Image { media_type, data });
        Request {
            messages: vec![
                message(Role::System, &["be brief"]),
                question,
                Message {
                    tool_calls: vec![call("a", "{\"path\":\"x\"}"), call("b", "")],
                    ..message(Role::Assistant, &[])
                },
                result("a", &["one", "two"]),
                result("b", &[]),
                message(Role::Assistant, &["a picture"]),
                message(Role::User, &["sure?"]),
            ],
            tools: vec![Tool {
                name: "read".into(),
                description: "reads".into(),
                parameters: json!({"type": "object"}),
            }],
            tool_choice: Some(ToolChoice::Named("read".into())),
            response_format: Some(ResponseFormat::JsonSchema(json!({"type": "object"}))),
            temperature: Some(0.7),
            max_tokens: Some(100),
            ..only("hi")
        }
    }

    fn message(role: Role, texts: &[&str]) -> Message {
        let content = texts.iter().map(|text| Content::Text((*text).to_owned())).collect();
        Message { role, content, tool_calls: Vec::new(), tool_call_id: None, reasoning_state: None }
    }
}

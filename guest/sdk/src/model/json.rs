//! The JSON form of messages, which stands in the snapshots of agents: that of OpenAI's chat completions, with
//! `reasoning_state`. It must not change, or older snapshots are lost.

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Content, ImageData, Message, Role, ToolCall};

#[derive(Serialize, Deserialize)]
struct MessageForm<'a> {
    role: RoleForm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<ContentForm<'a>>,
    #[serde(default, skip_serializing_if = "<[ToolCall]>::is_empty")]
    tool_calls: Cow<'a, [ToolCall]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reasoning_state: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RoleForm {
    System,
    User,
    Assistant,
    Tool,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ContentForm<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<PartForm<'a>>),
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum PartForm<'a> {
    Text { text: Cow<'a, str> },
    ImageUrl { image_url: UrlForm<'a> },
}

#[derive(Serialize, Deserialize)]
struct UrlForm<'a> {
    url: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct CallForm<'a> {
    id: Cow<'a, str>,
    #[serde(rename = "type", default)]
    kind: Kind,
    function: FunctionForm<'a>,
}

#[derive(Default, Serialize, Deserialize)]
enum Kind {
    #[default]
    #[serde(rename = "function")]
    Function,
}

#[derive(Serialize, Deserialize)]
struct FunctionForm<'a> {
    name: Cow<'a, str>,
    #[serde(default)]
    arguments: Cow<'a, str>,
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let content = match self.content.as_slice() {
            [] => None,
            [Content::Text(text)] => Some(ContentForm::Text(text.into())),
            parts => Some(ContentForm::Parts(parts.iter().map(PartForm::from).collect())),
        };
        let form = MessageForm {
            role: self.role.into(),
            content,
            tool_calls: self.tool_calls.as_slice().into(),
            tool_call_id: self.tool_call_id.as_deref().map(Cow::from),
            reasoning_state: self.reasoning_state.as_deref().map(Cow::from),
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = MessageForm::deserialize(deserializer)?;
        let content = match form.content {
            None => Vec::new(),
            Some(ContentForm::Text(text)) => vec![Content::Text(text.into_owned())],
            Some(ContentForm::Parts(parts)) => parts
                .into_iter()
                .map(Content::try_from)
                .collect::<Result<_, _>>()
                .map_err(D::Error::custom)?,
        };
        Ok(Self {
            role: form.role.into(),
            content,
            tool_calls: form.tool_calls.into_owned(),
            tool_call_id: form.tool_call_id.map(Cow::into_owned),
            reasoning_state: form.reasoning_state.map(Cow::into_owned),
        })
    }
}

impl Serialize for ToolCall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let function = FunctionForm {
            name: self.name.as_str().into(),
            arguments: self.arguments.as_str().into(),
        };
        let form = CallForm { id: self.id.as_str().into(), kind: Kind::Function, function };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ToolCall {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let CallForm { id, function, .. } = CallForm::deserialize(deserializer)?;
        Ok(Self {
            id: id.into_owned(),
            name: function.name.into_owned(),
            arguments: function.arguments.into_owned(),
        })
    }
}

impl<'a> From<&'a Content> for PartForm<'a> {
    fn from(content: &'a Content) -> Self {
        let url = match content {
            Content::Text(text) => return Self::Text { text: text.into() },
            Content::ImageUrl(url) => url.into(),
            Content::Image(ImageData { media_type, data }) => {
                format!("data:{media_type};base64,{}", BASE64_STANDARD.encode(data)).into()
            }
        };
        Self::ImageUrl { image_url: UrlForm { url } }
    }
}

impl TryFrom<PartForm<'_>> for Content {
    type Error = base64::DecodeError;

    fn try_from(part: PartForm<'_>) -> Result<Self, Self::Error> {
        let url = match part {
            PartForm::Text { text } => return Ok(Self::Text(text.into_owned())),
            PartForm::ImageUrl { image_url } => image_url.url,
        };
        match url.strip_prefix("data:").and_then(|data| data.split_once(";base64,")) {
            Some((media_type, data)) => {
                let data = BASE64_STANDARD.decode(data)?;
                Ok(Self::Image(ImageData { media_type: media_type.to_owned(), data }))
            }
            None => Ok(Self::ImageUrl(url.into_owned())),
        }
    }
}

impl From<Role> for RoleForm {
    fn from(role: Role) -> Self {
        match role {
            Role::System => Self::System,
            Role::User => Self::User,
            Role::Assistant => Self::Assistant,
            Role::Tool => Self::Tool,
        }
    }
}

impl From<RoleForm> for Role {
    fn from(role: RoleForm) -> Self {
        match role {
            RoleForm::System => Self::System,
            RoleForm::User => Self::User,
            RoleForm::Assistant => Self::Assistant,
            RoleForm::Tool => Self::Tool,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn call() -> ToolCall {
        ToolCall { id: "c1".into(), name: "read".into(), arguments: "{}".into() }
    }

    /// As versions before the interface `model` wrote them.
    fn older() -> Vec<(Message, Value)> {
        vec![
            (Message::system("be kind"), json!({"role": "system", "content": "be kind"})),
            (Message::user("hi"), json!({"role": "user", "content": "hi"})),
            (Message::assistant(""), json!({"role": "assistant", "content": ""})),
            (
                Message { content: Vec::new(), tool_calls: vec![call()], ..Message::assistant("") },
                json!({"role": "assistant", "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "read", "arguments": "{}"}}
                ]}),
            ),
            (
                Message::tool_result(&call(), "text"),
                json!({"role": "tool", "content": "text", "tool_call_id": "c1"}),
            ),
        ]
    }

    #[test]
    fn messages_keep_the_form_that_is_in_snapshots() {
        for (message, form) in older() {
            assert_eq!(serde_json::to_value(&message).unwrap(), form);
            assert_eq!(serde_json::from_value::<Message>(form).unwrap(), message);
        }
    }

    #[test]
    fn what_the_server_wants_back_survives_json() {
        let message =
            Message { reasoning_state: Some("{\"a\":1}".into()), ..Message::assistant("a") };
        let form = serde_json::to_value(&message).unwrap();
        assert_eq!(form["reasoning_state"], "{\"a\":1}");
        assert_eq!(serde_json::from_value::<Message>(form).unwrap(), message);
    }

    #[test]
    fn missing_content_type_and_arguments_have_defaults() {
        let form = json!({"role": "assistant", "content": null,
            "tool_calls": [{"id": "c1", "function": {"name": "read"}}]});
        let message: Message = serde_json::from_value(form).unwrap();
        assert!(message.content.is_empty());
        assert_eq!(message.tool_calls[0].arguments, "");
    }

    #[test]
    fn images_survive_json() {
        let image = ImageData { media_type: "image/png".into(), data: vec![0, 255, 7] };
        let message = Message::user("what is this?")
            .with(Content::Image(image))
            .with(Content::ImageUrl("https://example.com/a.png".into()));
        let form = serde_json::to_value(&message).unwrap();
        assert_eq!(form["content"][1]["image_url"]["url"], "data:image/png;base64,AP8H");
        assert_eq!(serde_json::from_value::<Message>(form).unwrap(), message);
    }

    #[test]
    fn an_image_that_is_not_base64_is_an_error() {
        let url = "data:image/png;base64,=";
        let form =
            json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]});
        assert!(serde_json::from_value::<Message>(form).is_err());
    }
}

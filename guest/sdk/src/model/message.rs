//! Making and reading the messages of a conversation.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use super::{Content, Message, Role, ToolCall};

impl Message {
    /// Standing instructions.
    pub fn system(text: impl Into<String>) -> Self {
        Self::of(Role::System, text)
    }

    /// Something that the other side says.
    pub fn user(text: impl Into<String>) -> Self {
        Self::of(Role::User, text)
    }

    /// Something that the model said.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::of(Role::Assistant, text)
    }

    /// The result of a tool call.
    pub fn tool_result(call: &ToolCall, text: impl Into<String>) -> Self {
        Self { tool_call_id: Some(call.id.clone()), ..Self::of(Role::Tool, text) }
    }

    /// Adds content, an image for example. Only a user's message may have other content than text.
    #[must_use]
    pub fn with(mut self, content: Content) -> Self {
        self.content.push(content);
        self
    }

    /// The text, without images. Empty if there is none.
    pub fn text(&self) -> Cow<'_, str> {
        let mut texts = self.content.iter().filter_map(|content| match content {
            Content::Text(text) => Some(text.as_str()),
            Content::ImageUrl(_) | Content::Image(_) => None,
        });
        let Some(first) = texts.next() else { return Cow::Borrowed("") };
        texts.fold(Cow::Borrowed(first), |text, more| text + more)
    }

    /// Keeps so many bytes of the text, and says how many are left out.
    pub(crate) fn shorten(&mut self, most: usize) {
        let text = self.text();
        if text.len() <= most {
            return;
        }
        let most = text.floor_char_boundary(most);
        let left_out = text.len() - most;
        let text = format!("{}\n[{left_out} bytes left out]", &text[..most]);
        self.content = vec![Content::Text(text)];
    }

    /// Bytes as JSON, which is what a snapshot holds.
    pub fn json_bytes(&self) -> usize {
        serde_json::to_vec(self).map_or(0, |json| json.len())
    }

    fn of(role: Role, text: impl Into<String>) -> Self {
        let content = vec![Content::Text(text.into())];
        Self { role, content, tool_calls: Vec::new(), tool_call_id: None, reasoning_state: None }
    }
}

/// A user's.
impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::user(text)
    }
}

/// A user's.
impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::user(text)
    }
}

impl ToolCall {
    /// Parses the arguments; empty text counts as an empty object. The error is a sentence that the model can learn
    /// from.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T, String> {
        let text = match self.arguments.trim() {
            "" => "{}",
            text => text,
        };
        serde_json::from_str(text)
            .map_err(|error| format!("arguments of `{}` are not right: {error}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn call(arguments: &str) -> ToolCall {
        ToolCall { id: "c".into(), name: "list".into(), arguments: arguments.into() }
    }

    #[test]
    fn missing_arguments_are_an_empty_object() {
        assert_eq!(call(" ").arguments::<Value>().unwrap(), json!({}));
        assert!(call("{\"path\":").arguments::<Value>().unwrap_err().contains("`list`"));
    }

    #[test]
    fn the_text_of_a_message_is_all_of_its_texts() {
        let picture = Content::ImageUrl("https://example.com/a.png".into());
        let message = Message::user("a").with(picture).with(Content::Text("b".into()));
        assert_eq!(message.text(), "ab");
        assert_eq!(Message::user("a").text(), "a");
        assert_eq!(Message { content: Vec::new(), ..Message::user("") }.text(), "");
    }
}

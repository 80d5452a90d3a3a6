//! The face that chat clients know: `GET /v1/models`, `POST /v1/chat/completions`, in the form of OpenAI's API. A model
//! is an agent.

use std::fmt;

use bulkhead_types::TokenUsage;
use bulkhead_types::message::MAX_BODY_BYTES;
use schemars::JsonSchema;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::error::{ErrorBody, Issue, required};
use crate::unknown::parse_shared;

/// A request for a completion.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(with = "Raw")]
pub struct ChatRequest {
    /// The agent.
    pub model: String,
    /// What is new in the conversation: the texts of `user` after the last message of `assistant`, one after the other.
    /// The agent keeps the conversation itself. Not empty, at most 1 MiB.
    pub prompt: String,
    /// The answer comes as a stream.
    pub stream: bool,
    /// The stream has the tokens at its end.
    pub include_usage: bool,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "ChatRequest")]
struct Raw {
    /// The agent's id.
    #[schemars(required, with = "String", length(min = 1))]
    model: Option<String>,
    /// The last one is of `user` and has text.
    #[serde(default)]
    #[schemars(required, length(min = 1))]
    messages: Vec<RawMessage>,
    /// The answer comes in pieces.
    #[serde(default)]
    stream: Option<bool>,
    /// For a stream.
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    /// 1.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1))]
    n: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "ChatStreamOptions")]
struct StreamOptions {
    /// The last piece has no choices, and the tokens.
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "ChatMessage")]
struct RawMessage {
    role: String,
    #[serde(default)]
    content: Option<Content>,
}

#[derive(JsonSchema)]
#[schemars(rename = "ChatContent", untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

// By hand: serde says of one that is untagged neither what is expected nor where.
impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of parts")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }

            fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Content, E> {
                Ok(Content::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, parts: A) -> Result<Content, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(parts)).map(Content::Parts)
            }
        }

        from.deserialize_any(Either)
    }
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "ChatPart")]
struct Part {
    r#type: String,
    #[serde(default)]
    text: String,
}

impl ChatRequest {
    /// Parses and checks a body. Fields that an agent has no use for (`temperature`, `tools`, ...) do nothing, unless they
    /// look like one that it has.
    ///
    /// # Errors
    ///
    /// The fields that break a rule.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<Issue>> {
        let Raw { model, messages, stream, stream_options, n } = parse_shared(body, &[])?.request;
        if let Some(issue) = required("model", model.as_deref()) {
            return Err(vec![issue]);
        }
        if n.is_some_and(|n| n != 1) {
            return Err(vec![Issue::new("n", "must be 1: an agent answers once")]);
        }
        let answered = messages.iter().rposition(|message| message.role == "assistant");
        let first = answered.map_or(0, |at| at + 1);
        let mut texts = Vec::new();
        for (at, message) in messages.into_iter().enumerate().skip(first) {
            if message.role != "user" {
                continue;
            }
            match message.content {
                Some(Content::Text(text)) => texts.push(text),
                Some(Content::Parts(parts)) => {
                    if let Some(part) = parts.iter().find(|part| part.r#type != "text") {
                        let rule = format!("is {:?}: an agent takes text", part.r#type);
                        let path = format!("messages[{at}].content[].type");
                        return Err(vec![Issue::new(path, rule)]);
                    }
                    texts.extend(parts.into_iter().map(|part| part.text));
                }
                None => {}
            }
        }
        texts.retain(|text| !text.trim().is_empty());
        if texts.is_empty() {
            let rule = "must end with a message of user that has text";
            return Err(vec![Issue::new("messages", rule)]);
        }
        let prompt = texts.join("\n\n");
        if prompt.len() > MAX_BODY_BYTES {
            let rule =
                format!("must bring at most 1 MiB of new text, and have {} bytes", prompt.len());
            return Err(vec![Issue::new("messages", rule)]);
        }
        let model = model.unwrap_or_default();
        let include_usage = stream_options.and_then(|options| options.include_usage);
        let include_usage = include_usage.unwrap_or(false);
        Ok(Self { model, prompt, stream: stream.unwrap_or(false), include_usage })
    }
}

/// `GET /v1/models`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ModelList {
    /// `list`.
    pub object: String,
    /// The agents that take messages.
    pub data: Vec<ModelCard>,
}

/// An agent, as a model. `GET /v1/models/{model}`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ModelCard {
    /// The agent's id.
    pub id: String,
    /// `model`.
    pub object: String,
    /// When this incarnation began, in seconds since 1970.
    pub created: u64,
    /// The agent's role.
    pub owned_by: String,
}

/// `POST /v1/chat/completions`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Completion {
    /// `chatcmpl-` and the message's id.
    pub id: String,
    /// `chat.completion`, or `chat.completion.chunk` of a stream.
    pub object: String,
    /// In seconds since 1970.
    pub created: u64,
    /// The agent.
    pub model: String,
    /// One; none in the piece of a stream that has the tokens.
    pub choices: Vec<Choice>,
    /// Tokens that the agent's models read and wrote for the message. In a stream at its end, when it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<CompletionUsage>,
}

/// Tokens, as models' servers count them. 0 where they do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CompletionUsage {
    /// Read.
    pub prompt_tokens: u64,
    /// Written.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
    /// Of those that were read.
    pub prompt_tokens_details: PromptTokens,
    /// Of those that were written.
    pub completion_tokens_details: CompletionTokens,
}

/// Of the tokens that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PromptTokens {
    /// From a server's cache.
    pub cached_tokens: u64,
}

/// Of the tokens that were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CompletionTokens {
    /// Reasoning.
    pub reasoning_tokens: u64,
}

impl From<TokenUsage> for CompletionUsage {
    fn from(tokens: TokenUsage) -> Self {
        Self {
            prompt_tokens: tokens.input,
            completion_tokens: tokens.output,
            total_tokens: tokens.total(),
            prompt_tokens_details: PromptTokens { cached_tokens: tokens.cached },
            completion_tokens_details: CompletionTokens { reasoning_tokens: tokens.reasoning },
        }
    }
}

/// The one answer.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Choice {
    /// 0.
    pub index: u32,
    /// The whole answer; absent in a stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Said>,
    /// The next piece of it; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<Said>,
    /// `stop`, or `length` when the agent said more than 1 MiB, of which the host kept the beginning; in a stream in the
    /// last piece.
    pub finish_reason: Option<String>,
}

/// What the agent says, or a piece of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Said {
    /// `assistant`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Reasoning of its model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
}

/// The body of a refusal.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct OpenAiError {
    /// What went wrong.
    pub error: OpenAiErrorBody,
}

/// What went wrong.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct OpenAiErrorBody {
    /// Names the thing. Never empty.
    pub message: String,
    /// `invalid_request_error`, `rate_limit_error`, or `server_error` from status 500 on.
    pub r#type: String,
    /// The first field at fault; `null` when it is the body itself.
    pub param: Option<String>,
    /// Stable name of the failure, as `error_type` of other routes.
    pub code: Option<String>,
}

impl From<ErrorBody> for OpenAiError {
    fn from(body: ErrorBody) -> Self {
        let status = body.status.unwrap_or(500);
        let kind = match status {
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        let issue = body.issues.first();
        // `.` is the body itself, which is no parameter.
        let param = issue.map(|issue| issue.path.clone()).filter(|path| path != ".");
        let place = param.as_ref().map(|path| format!("{path} ")).unwrap_or_default();
        let detail = issue.map(|issue| format!(": {place}{}", issue.message));
        Self {
            error: OpenAiErrorBody {
                message: body.error + &detail.unwrap_or_default(),
                r#type: kind.to_owned(),
                param,
                code: body.error_type,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(messages: &str) -> Result<String, String> {
        let body = format!(r#"{{"model":"a","temperature":1,"messages":{messages}}}"#);
        let parsed = ChatRequest::parse(body.as_bytes());
        parsed.map(|request| request.prompt).map_err(|issues| issues[0].path.clone())
    }

    #[test]
    fn only_what_is_new_in_the_conversation_is_said() {
        let one = r#"[{"role":"system","content":"be kind"},{"role":"user","content":"hi"}]"#;
        assert_eq!(prompt(one).unwrap(), "hi");
        let history = r#"[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"},
            {"role":"user","content":[{"type":"text","text":"and"},{"type":"text","text":"now"}]},
            {"role":"user","content":"then"}]"#;
        assert_eq!(prompt(history).unwrap(), "and\n\nnow\n\nthen");
    }

    #[test]
    fn a_body_that_is_no_object_is_no_parameter() {
        for body in ["", "{", "[]", "7"] {
            let issues = ChatRequest::parse(body.as_bytes()).unwrap_err();
            let said = OpenAiError::from(ErrorBody { issues, ..ErrorBody::new("invalid") }).error;
            assert_eq!(said.param, None, "{body}: {said:?}");
            assert!(
                said.message.starts_with("invalid: e") || said.message.starts_with("invalid: EOF")
            );
        }
    }

    #[test]
    fn what_an_agent_cannot_take_is_named() {
        assert_eq!(prompt("[]").unwrap_err(), "messages");
        assert_eq!(prompt(r#"[{"role":"user","content":" "}]"#).unwrap_err(), "messages");
        assert_eq!(prompt(r#"[{"role":"assistant","content":"x"}]"#).unwrap_err(), "messages");
        let image = r#"[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]"#;
        assert_eq!(prompt(image).unwrap_err(), "messages[0].content[].type");
        assert_eq!(prompt(r#"[{"content":"x"}]"#).unwrap_err(), "messages[0]");
        let issue = |body: &str| ChatRequest::parse(body.as_bytes()).unwrap_err().remove(0);
        let content = issue(r#"{"model":"a","messages":[{"role":"user","content":5}]}"#);
        let expected = "expected a string or an array of parts";
        assert_eq!(content, Issue::new("messages[0].content", expected));
        let case = issue(r#"{"model":"a","Messages":[]}"#);
        assert_eq!(case, Issue::new("Messages", "is not known here; did you mean messages?"));
        let issues = ChatRequest::parse(br#"{"messages":[]}"#).unwrap_err();
        assert_eq!(issues[0].path, "model");
        let issues = ChatRequest::parse(br#"{"model":"a","n":2}"#).unwrap_err();
        assert_eq!(issues[0].path, "n");
    }
}

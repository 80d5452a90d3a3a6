//! From a guest's request to one that can be sent. What breaks a rule of the interface is refused here.

use std::collections::HashSet;
use std::time::Duration;

use bulkhead_llm::{Content, Message, ResponseFormat, Role, Tool, ToolCall, ToolChoice};
use serde_json::{Map, Value};

use super::invalid;
use super::report::TOKEN_BYTES;
use crate::bindings::bulkhead::agent::model as wit;
use crate::bindings::bulkhead::agent::model::ModelError;

const MAX_TOOLS: usize = 128;
const MAX_TOOL_NAME: usize = 64;
/// Of the names of an endpoint and of a model, in bytes.
const MAX_NAME: usize = 256;

/// What the server of a model can fetch, or has at once.
const IMAGE_URLS: [&str; 3] = ["https://", "http://", "data:"];

/// What of a request the host decides, or the guest by no other way.
const RESERVED: [&str; 4] = ["model", "messages", "stream", "tools"];

/// A request that keeps the rules.
pub(super) struct Asked {
    /// `[models.NAME]`.
    pub endpoint: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// For the whole call.
    pub timeout: Option<Duration>,
    /// What its texts and data take, in bytes.
    pub bytes: u64,
    /// Roughly its tokens, for a server that does not count them.
    pub tokens: u64,
    /// The rest. Its model is empty.
    pub request: bulkhead_llm::Request,
}

pub(super) fn check(request: wit::Request) -> Result<Asked, ModelError> {
    let (bytes, tokens) = (size(&request), tokens(&request));
    let endpoint = name("endpoint", request.endpoint)?;
    let model = name("model", request.model)?;
    if request.messages.is_empty() {
        return Err(invalid("messages: there is none"));
    }
    if request.tools.len() > MAX_TOOLS {
        return Err(invalid(format!("tools: {} are more than {MAX_TOOLS}", request.tools.len())));
    }
    let messages = request.messages.into_iter().enumerate();
    let messages = messages.map(|(at, message)| self::message(at, message));
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    results_follow_calls(&messages)?;
    let tools = request.tools.into_iter().enumerate().map(|(at, tool)| self::tool(at, tool));
    let tools = tools.collect::<Result<Vec<_>, _>>()?;
    let mut names = HashSet::new();
    if let Some(twice) = tools.iter().find(|tool| !names.insert(tool.name.as_str())) {
        return Err(invalid(format!("tools: {:?} is there twice", twice.name)));
    }
    let tool_choice = request.tool_choice.map(|choice| self::choice(choice, &tools)).transpose()?;
    let response_format = request.response_format.map(format).transpose()?;
    if request.temperature.is_some_and(|it| !it.is_finite() || it < 0.0) {
        return Err(invalid("temperature: it has to be a number from 0 on"));
    }
    if request.max_tokens == Some(0) {
        return Err(invalid("max-tokens: it has to be at least 1"));
    }
    if request.timeout_ms == Some(0) {
        return Err(invalid("timeout-ms: it has to be at least 1"));
    }
    let extra = request.extra.as_deref().map(extra).transpose()?.unwrap_or_default();
    Ok(Asked {
        endpoint,
        model,
        timeout: request.timeout_ms.map(Duration::from_millis),
        bytes,
        tokens,
        request: bulkhead_llm::Request {
            model: String::new(),
            messages,
            tools,
            tool_choice,
            response_format,
            temperature: request.temperature,
            max_tokens: request.max_tokens,
            extra,
            headers: Default::default(),
        },
    })
}

fn name(field: &str, name: Option<String>) -> Result<Option<String>, ModelError> {
    let Some(name) = name else { return Ok(None) };
    let is_fit = !name.trim().is_empty() && !name.chars().any(char::is_control);
    if !is_fit || name.len() > MAX_NAME {
        return Err(invalid(format!(
            "{field}: it has to have 1 to {MAX_NAME} bytes and no control characters"
        )));
    }
    Ok(Some(name))
}

fn message(at: usize, message: wit::ChatMessage) -> Result<Message, ModelError> {
    let rule = |rule: &str| Err(invalid(format!("messages[{at}]: {rule}")));
    let role = match message.role {
        wit::Role::System => Role::System,
        wit::Role::User => Role::User,
        wit::Role::Assistant => Role::Assistant,
        wit::Role::Tool => Role::Tool,
    };
    let is_text = |content: &wit::Content| matches!(content, wit::Content::Text(_));
    if role != Role::User && !message.content.iter().all(is_text) {
        return rule("only a message of `user` has images");
    }
    if role != Role::Assistant && !message.tool_calls.is_empty() {
        return rule("only a message of `assistant` has tool-calls");
    }
    if role != Role::Assistant && message.reasoning_state.is_some() {
        return rule("only a message of `assistant` has a reasoning-state");
    }
    if (role == Role::Tool) != message.tool_call_id.is_some() {
        return rule("a message of `tool`, and no other, has a tool-call-id");
    }
    let content = message.content.into_iter().map(|content| match content {
        wit::Content::Text(text) => Ok(Content::Text(text)),
        wit::Content::ImageUrl(url) if IMAGE_URLS.iter().any(|it| url.starts_with(it)) => {
            Ok(Content::ImageUrl(url))
        }
        wit::Content::ImageUrl(_) => Err(invalid(format!(
            "messages[{at}]: image-url has to begin with https://, http:// or data:"
        ))),
        wit::Content::Image(image) if is_media_type(&image.media_type) => {
            Ok(Content::Image { media_type: image.media_type, data: image.data })
        }
        wit::Content::Image(_) => {
            Err(invalid(format!("messages[{at}]: media-type has to be like image/png")))
        }
    });
    let reasoning_state = match message.reasoning_state.as_deref().map(str::parse) {
        None => None,
        Some(Ok(state)) => Some(state),
        Some(Err(error)) => return rule(&format!("reasoning-state: {error}")),
    };
    let calls = message.tool_calls.into_iter();
    Ok(Message {
        role,
        content: content.collect::<Result<_, _>>()?,
        tool_calls: calls
            .map(|call| ToolCall { id: call.id, name: call.name, arguments: call.arguments })
            .collect(),
        tool_call_id: message.tool_call_id,
        reasoning_state,
    })
}

/// Every call has one result, right after the message that asks for it, and there are no other results.
fn results_follow_calls(messages: &[Message]) -> Result<(), ModelError> {
    let mut open: Vec<&str> = Vec::new();
    let missing = |at: usize, open: &[&str]| match open {
        [] => Ok(()),
        [id, ..] => {
            Err(invalid(format!("messages[{at}]: the call {id:?} has no result before it")))
        }
    };
    for (at, message) in messages.iter().enumerate() {
        if let Some(id) = &message.tool_call_id {
            let Some(place) = open.iter().position(|call| call == id) else {
                let text =
                    format!("messages[{at}]: its tool-call-id names no call right before it");
                return Err(invalid(text));
            };
            open.swap_remove(place);
            continue;
        }
        missing(at, &open)?;
        for call in &message.tool_calls {
            if open.contains(&call.id.as_str()) {
                return Err(invalid(format!("messages[{at}]: two calls have one id")));
            }
            open.push(&call.id);
        }
    }
    missing(messages.len(), &open)
}

fn is_media_type(text: &str) -> bool {
    let is_token = |part: &str| {
        let is_fit = |b: u8| b.is_ascii_alphanumeric() || b"-+._".contains(&b);
        !part.is_empty() && part.bytes().all(is_fit)
    };
    text.len() <= MAX_NAME
        && text.split_once('/').is_some_and(|(kind, sub)| is_token(kind) && is_token(sub))
}

fn tool(at: usize, tool: wit::Tool) -> Result<Tool, ModelError> {
    let is_fit = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let len = tool.name.len();
    if len == 0 || len > MAX_TOOL_NAME || !tool.name.bytes().all(is_fit) {
        return Err(invalid(format!(
            "tools[{at}].name: it has to have 1 to {MAX_TOOL_NAME} characters of A-Z a-z 0-9 _ -"
        )));
    }
    let parameters = object(&format!("tools[{at}].parameters"), &tool.parameters)?;
    Ok(Tool { name: tool.name, description: tool.description, parameters: parameters.into() })
}

fn choice(choice: wit::ToolChoice, tools: &[Tool]) -> Result<ToolChoice, ModelError> {
    Ok(match choice {
        wit::ToolChoice::Auto => ToolChoice::Auto,
        wit::ToolChoice::None => ToolChoice::None,
        wit::ToolChoice::Required => ToolChoice::Required,
        wit::ToolChoice::Named(name) if tools.iter().any(|tool| tool.name == name) => {
            ToolChoice::Named(name)
        }
        wit::ToolChoice::Named(_) => {
            return Err(invalid("tool-choice: it names no tool of this request"));
        }
    })
}

fn format(format: wit::ResponseFormat) -> Result<ResponseFormat, ModelError> {
    Ok(match format {
        wit::ResponseFormat::Text => ResponseFormat::Text,
        wit::ResponseFormat::Json => ResponseFormat::Json,
        wit::ResponseFormat::JsonSchema(schema) => {
            ResponseFormat::JsonSchema(object("response-format.json-schema", &schema)?.into())
        }
    })
}

fn extra(text: &str) -> Result<Map<String, Value>, ModelError> {
    let extra = object("extra", text)?;
    match RESERVED.iter().find(|name| extra.contains_key(**name)) {
        Some(name) => Err(invalid(format!("extra: `{name}` has a field of its own"))),
        None => Ok(extra),
    }
}

fn object(field: &str, text: &str) -> Result<Map<String, Value>, ModelError> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(invalid(format!("{field}: it is no JSON object"))),
        // The line and the column, without what stands there.
        Err(error) => Err(invalid(format!(
            "{field}: it is no JSON, see line {} column {}",
            error.line(),
            error.column()
        ))),
    }
}

/// What a request holds. Each entry of a list counts a little beside its texts.
fn size(request: &wit::Request) -> u64 {
    const ENTRY_BYTES: usize = 128;
    let of_content = |content: &wit::Content| {
        ENTRY_BYTES
            + match content {
                wit::Content::Text(text) | wit::Content::ImageUrl(text) => text.len(),
                wit::Content::Image(image) => image.media_type.len() + image.data.len(),
            }
    };
    let of_call =
        |call: &wit::ToolCall| ENTRY_BYTES + call.id.len() + call.name.len() + call.arguments.len();
    let of_message = |message: &wit::ChatMessage| {
        ENTRY_BYTES
            + message.content.iter().map(of_content).sum::<usize>()
            + message.tool_calls.iter().map(of_call).sum::<usize>()
            + 4 * message.reasoning_state.as_ref().map_or(0, String::len)
    };
    let of_tool = |tool: &wit::Tool| {
        // As a tree of values, JSON takes several times its text.
        ENTRY_BYTES + tool.name.len() + tool.description.len() + 4 * tool.parameters.len()
    };
    let messages: usize = request.messages.iter().map(of_message).sum();
    let tools: usize = request.tools.iter().map(of_tool).sum();
    (messages + tools + 4 * request.extra.as_ref().map_or(0, String::len)) as u64
}

/// Tokens that an image counts as, roughly: servers scale it down.
const IMAGE_TOKENS: u64 = 1000;

/// Roughly the tokens of a request.
fn tokens(request: &wit::Request) -> u64 {
    let (mut bytes, mut images) = (0, 0);
    for message in &request.messages {
        for content in &message.content {
            match content {
                wit::Content::Text(text) => bytes += text.len(),
                wit::Content::ImageUrl(_) | wit::Content::Image(_) => images += 1,
            }
        }
        let calls = message.tool_calls.iter();
        bytes += calls.map(|call| call.name.len() + call.arguments.len()).sum::<usize>();
    }
    let tools = request.tools.iter();
    bytes += tools
        .map(|tool| tool.name.len() + tool.description.len() + tool.parameters.len())
        .sum::<usize>();
    (bytes as u64).div_ceil(TOKEN_BYTES) + images * IMAGE_TOKENS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> wit::Request {
        wit::Request {
            endpoint: None,
            model: None,
            messages: vec![user("hi")],
            tools: Vec::new(),
            tool_choice: None,
            response_format: None,
            temperature: None,
            max_tokens: None,
            timeout_ms: None,
            extra: None,
        }
    }

    fn user(text: &str) -> wit::ChatMessage {
        wit::ChatMessage {
            role: wit::Role::User,
            content: vec![wit::Content::Text(text.into())],
            tool_calls: Vec::new(),
            tool_call_id: None,
            reasoning_state: None,
        }
    }

    fn assistant(tool_calls: Vec<wit::ToolCall>) -> wit::ChatMessage {
        wit::ChatMessage {
            role: wit::Role::Assistant,
            content: Vec::new(),
            tool_calls,
            tool_call_id: None,
            reasoning_state: None,
        }
    }

    fn result(id: &str) -> wit::ChatMessage {
        wit::ChatMessage { role: wit::Role::Tool, tool_call_id: Some(id.into()), ..user("done") }
    }

    fn tool(name: &str, parameters: &str) -> wit::Tool {
        wit::Tool { name: name.into(), description: String::new(), parameters: parameters.into() }
    }

    fn refusal(change: impl FnOnce(&mut wit::Request)) -> String {
        let mut request = request();
        change(&mut request);
        match check(request) {
            Err(ModelError::Invalid(text)) => text,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("it was taken"),
        }
    }

    #[test]
    fn a_request_with_messages_alone_is_enough() {
        let asked = check(request()).ok().unwrap();
        assert_eq!((asked.endpoint, asked.model, asked.timeout), (None, None, None));
        assert_eq!(asked.request.messages.len(), 1);
    }

    #[test]
    fn what_breaks_a_rule_names_the_field() {
        let image =
            || wit::Content::Image(wit::ImageData { media_type: "png".into(), data: vec![] });
        let call = || wit::ToolCall { id: "1".into(), name: "a".into(), arguments: "{}".into() };
        type Change = Box<dyn FnOnce(&mut wit::Request)>;
        let cases: Vec<(&str, Change)> = vec![
            ("messages: ", Box::new(|it| it.messages.clear())),
            ("endpoint: ", Box::new(|it| it.endpoint = Some(" ".into()))),
            ("model: ", Box::new(|it| it.model = Some("a\nb".into()))),
            ("model: ", Box::new(|it| it.model = Some("m".repeat(MAX_NAME + 1)))),
            ("messages[0]: media-type", Box::new(move |it| it.messages[0].content = vec![image()])),
            (
                "messages[0]: only a message of `user`",
                Box::new(|it| {
                    it.messages[0].role = wit::Role::System;
                    it.messages[0].content = vec![wit::Content::ImageUrl("http://h/x".into())];
                }),
            ),
            (
                "messages[0]: only a message of `assistant` has a reasoning-state",
                Box::new(|it| it.messages[0].reasoning_state = Some("{}".into())),
            ),
            (
                "messages[1]: reasoning-state: it has to be what",
                Box::new(|it| {
                    let state = Some("{\"secret\":1}".into());
                    it.messages
                        .push(wit::ChatMessage { reasoning_state: state, ..assistant(vec![]) });
                }),
            ),
            (
                "messages[0]: only a message of `assistant`",
                Box::new(move |it| {
                    it.messages[0].tool_calls = vec![call()];
                }),
            ),
            (
                "messages[0]: a message of `tool`",
                Box::new(|it| {
                    it.messages[0].role = wit::Role::Tool;
                }),
            ),
            (
                "messages[0]: a message of `tool`",
                Box::new(|it| {
                    it.messages[0].tool_call_id = Some("x".into());
                }),
            ),
            (
                "messages[0]: image-url",
                Box::new(|it| {
                    it.messages[0].content =
                        vec![wit::Content::ImageUrl("file:///etc/passwd".into())];
                }),
            ),
            ("messages[1]: its tool-call-id", Box::new(move |it| it.messages.push(result("1")))),
            (
                "messages[1]: two calls",
                Box::new(move |it| {
                    it.messages.push(assistant(vec![call(), call()]));
                }),
            ),
            (
                "messages[2]: the call \"1\"",
                Box::new(move |it| {
                    it.messages.extend([assistant(vec![call()]), user("and")]);
                }),
            ),
            (
                "messages[2]: the call \"1\"",
                Box::new(move |it| {
                    it.messages.push(assistant(vec![call()]));
                }),
            ),
            ("tools: ", Box::new(|it| it.tools = vec![tool("t", "{}"); MAX_TOOLS + 1])),
            ("tools: \"a\" is there twice", Box::new(|it| it.tools = vec![tool("a", "{}"); 2])),
            ("tools[0].name: ", Box::new(|it| it.tools = vec![tool("a b", "{}")])),
            (
                "tools[1].parameters: ",
                Box::new(|it| {
                    it.tools = vec![tool("a", "{}"), tool("b", "[]")];
                }),
            ),
            ("tools[0].parameters: ", Box::new(|it| it.tools = vec![tool("a", "{secret")])),
            (
                "tool-choice: ",
                Box::new(|it| {
                    it.tool_choice = Some(wit::ToolChoice::Named("x".into()));
                }),
            ),
            (
                "response-format.json-schema: ",
                Box::new(|it| {
                    it.response_format = Some(wit::ResponseFormat::JsonSchema("1".into()));
                }),
            ),
            ("temperature: ", Box::new(|it| it.temperature = Some(f32::NAN))),
            ("max-tokens: ", Box::new(|it| it.max_tokens = Some(0))),
            ("timeout-ms: ", Box::new(|it| it.timeout_ms = Some(0))),
            ("extra: it is no JSON,", Box::new(|it| it.extra = Some("{".into()))),
            ("extra: `stream`", Box::new(|it| it.extra = Some("{\"stream\":false}".into()))),
        ];
        for (begin, change) in cases {
            let text = refusal(change);
            assert!(text.starts_with(begin), "{text:?} does not begin with {begin:?}");
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_request_counts_with_all_that_it_holds() {
        let empty = check(request()).ok().unwrap().bytes;
        let mut large = request();
        large.messages[0].content.push(wit::Content::Image(wit::ImageData {
            media_type: "image/png".into(),
            data: vec![0; 100_000],
        }));
        large.messages.push(wit::ChatMessage {
            role: wit::Role::Assistant,
            content: Vec::new(),
            tool_calls: vec![wit::ToolCall {
                id: String::new(),
                name: String::new(),
                arguments: " ".repeat(10_000),
            }],
            tool_call_id: None,
            reasoning_state: None,
        });
        large.messages.push(result(""));
        let bytes = check(large).ok().unwrap().bytes;
        assert!((110_000..112_000).contains(&(bytes - empty)), "{bytes}");
    }

    #[test]
    fn tokens_are_estimated_from_texts_and_images() {
        let mut request = request();
        request.messages[0].content = vec![wit::Content::Text("x".repeat(400))];
        request.tools = vec![tool("abcd", "{\"a\": 10}")];
        let image = wit::ImageData { media_type: "image/png".into(), data: vec![0; 100_000] };
        request.messages[0].content.push(wit::Content::Image(image));
        assert_eq!(check(request).ok().unwrap().tokens, 100 + 1000 + 4);
    }
}

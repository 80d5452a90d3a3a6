//! The request as Anthropic has it.
//!
//! What it has no form for is translated:
//! - System messages are one field, wherever they stood.
//! - Messages of one side that follow each other are one message: results of tools must come together.
//! - JSON that fits a schema is asked for by `output_config.format` (structured outputs), which older models refuse.
//!   JSON of any form has no field, so the system instructions ask for it.
//! - Arguments of a call that are no JSON object become one with the field `arguments`.
//! - Ids of calls that the server refuses, or that several calls of the conversation have, become others.
//!
//! Thinking is sent back with the message that it led to. Where all calls under way lack it, because the agent or
//! another model wrote them, the server would refuse the request, so that answer is asked for without thinking.

use std::collections::{HashMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::openai::{decimal, text_of};
use crate::{
    Content, Message, ReasoningState, Request, ResponseFormat, Role, Tool, ToolCall, ToolChoice,
    schema,
};

/// After the base URL.
pub(crate) const PATH: &str = "/v1/messages";

/// The header `anthropic-version`.
pub(crate) const VERSION: &str = "2023-06-01";

/// The server wants a limit. All models since Claude 3.5 can write as much.
const DEFAULT_MAX_TOKENS: u32 = 8192;

const ASK_FOR_JSON: &str = "Answer with one JSON object, and with nothing before or after it.";

/// Whether the server would refuse to go on thinking: answers since the last word of the user call tools, and none of
/// them has the model's own thinking. A model thinks before the first of them, and often before no other.
pub(crate) fn cannot_think(request: &Request) -> bool {
    let since = request.messages.iter().rev().take_while(|message| message.role != Role::User);
    let own = |message: &Message| {
        request.state_of(message).is_some_and(|state| !state.thinking().is_empty())
    };
    let mut calling = since.filter(|message| !message.tool_calls.is_empty()).peekable();
    calling.peek().is_some() && !calling.any(own)
}

/// Why a request cannot be sent: what it asks for is empty, and left out it would be another request.
pub(crate) fn refuses(request: &Request) -> Option<&'static str> {
    let asked = || request.messages.iter().filter(|message| message.role != Role::System);
    let is_said = |message: &&Message| {
        let is_blank = |it: &Content| matches!(it, Content::Text(text) if text.trim().is_empty());
        message.role == Role::Tool
            || !message.tool_calls.is_empty()
            || !message.content.iter().all(is_blank)
    };
    let Some(last) = asked().rfind(is_said) else {
        return Some("messages: Anthropic wants one beside those of `system` that is not empty");
    };
    let is_answer = |message: &Message| message.role == Role::Assistant;
    let ends_with_answer = asked().next_back().is_some_and(is_answer);
    (is_answer(last) && !ends_with_answer)
        .then_some("messages: the last one is empty, which Anthropic refuses")
}

/// Raises the limit of an answer above what it may think, where the agent set none.
pub(crate) fn make_room(body: &mut Map<String, Value>) {
    let budget = body.get("thinking").and_then(|it| it["budget_tokens"].as_u64()).unwrap_or(0);
    if budget >= u64::from(DEFAULT_MAX_TOKENS) {
        let limit = budget.saturating_add(u64::from(DEFAULT_MAX_TOKENS));
        body.insert("max_tokens".into(), limit.into());
    }
}

/// The request's JSON, without `extra`.
pub(crate) fn body(request: &Request) -> Map<String, Value> {
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| body.insert(name.to_owned(), value);
    set("model", json!(request.model));
    set("max_tokens", json!(request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS)));
    set("stream", json!(true));
    let system = system(request);
    if !system.is_empty() {
        set("system", json!(system));
    }
    set("messages", messages(request));
    if !request.tools.is_empty() {
        set("tools", request.tools.iter().map(tool).collect());
        if let Some(choice) = &request.tool_choice {
            set("tool_choice", tool_choice(choice));
        }
    }
    if let Some(ResponseFormat::JsonSchema(schema)) = &request.response_format {
        // The server refuses objects that are open.
        let schema = schema::closed(schema).unwrap_or_else(|| schema.clone());
        set("output_config", json!({"format": {"type": "json_schema", "schema": schema}}));
    }
    if let Some(temperature) = request.temperature {
        set("temperature", decimal(temperature));
    }
    body
}

fn system(request: &Request) -> String {
    let is_system = |message: &&Message| message.role == Role::System;
    let mut texts: Vec<_> =
        request.messages.iter().filter(is_system).map(|of| text_of(&of.content)).collect();
    if request.response_format == Some(ResponseFormat::Json) {
        texts.push(ASK_FOR_JSON.to_owned());
    }
    texts.retain(|text| !text.is_empty());
    texts.join("\n\n")
}

fn messages(request: &Request) -> Value {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    let mut ids = Ids::default();
    for message in &request.messages {
        let (role, blocks) = match message.role {
            Role::System => continue,
            Role::Assistant => {
                // Thinking alone is refused as well.
                let blocks = blocks(message, &mut ids);
                let state = request.state_of(message).filter(|_| !blocks.is_empty());
                let thinking = state.map_or(&[][..], ReasoningState::thinking);
                ("assistant", [thinking, &blocks].concat())
            }
            Role::User => ("user", blocks(message, &mut ids)),
            Role::Tool => ("user", vec![tool_result(message, &ids)]),
        };
        match turns.last_mut() {
            Some((last, turn)) if *last == role => turn.extend(blocks),
            // An empty message is refused.
            _ if blocks.is_empty() => {}
            _ => turns.push((role, blocks)),
        }
    }
    turns.into_iter().map(|(role, turn)| json!({"role": role, "content": turn})).collect()
}

fn blocks<'a>(message: &'a Message, ids: &mut Ids<'a>) -> Vec<Value> {
    let content = message.content.iter().filter_map(block);
    let calls = message.tool_calls.iter().map(|call| tool_use(call, ids.begin(&call.id)));
    content.chain(calls).collect()
}

/// Ids of calls as the server takes them. A conversation may come from one that has others, or made none.
#[derive(Default)]
struct Ids<'a> {
    used: HashSet<String>,
    /// The number of the latest call that would have the same id.
    numbers: HashMap<String, u32>,
    /// Of the latest call with that id: results follow their calls.
    sent: HashMap<&'a str, String>,
}

impl<'a> Ids<'a> {
    fn begin(&mut self, id: &'a str) -> &str {
        let is_taken = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
        let taken = |char: char| if is_taken(char) { char } else { '_' };
        let mut fit: String = id.chars().map(taken).collect();
        if fit.is_empty() {
            fit.push_str("call");
        }
        let mut sent = fit.clone();
        let number = self.numbers.entry(fit.clone()).or_insert(1);
        while !self.used.insert(sent.clone()) {
            *number += 1;
            sent = format!("{fit}_{number}");
        }
        self.sent.entry(id).insert_entry(sent).into_mut()
    }

    fn of<'b>(&'b self, id: &'b str) -> &'b str {
        self.sent.get(id).map_or(id, String::as_str)
    }
}

fn block(content: &Content) -> Option<Value> {
    match content {
        // The server refuses text that is empty.
        Content::Text(text) if text.trim().is_empty() => None,
        Content::Text(text) => Some(json!({"type": "text", "text": text})),
        Content::ImageUrl(url) => Some(json!({"type": "image", "source": source(url)})),
        Content::Image { media_type, data } => {
            let data = STANDARD.encode(data);
            let source = json!({"type": "base64", "media_type": media_type, "data": data});
            Some(json!({"type": "image", "source": source}))
        }
    }
}

/// An image by its URL, which may hold it.
fn source(url: &str) -> Value {
    let held = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    match held {
        Some((media_type, data)) => {
            json!({"type": "base64", "media_type": media_type, "data": data})
        }
        None => json!({"type": "url", "url": url}),
    }
}

fn tool_use(call: &ToolCall, id: &str) -> Value {
    let input = match call.arguments.trim() {
        "" => json!({}),
        text => match serde_json::from_str(text) {
            Ok(input @ Value::Object(_)) => input,
            _ => json!({"arguments": text}),
        },
    };
    json!({"type": "tool_use", "id": id, "name": call.name, "input": input})
}

fn tool_result(message: &Message, ids: &Ids<'_>) -> Value {
    let id = ids.of(message.tool_call_id.as_deref().unwrap_or_default());
    json!({"type": "tool_result", "tool_use_id": id, "content": text_of(&message.content)})
}

fn tool(tool: &Tool) -> Value {
    let Tool { name, description, parameters } = tool;
    json!({"name": name, "description": description, "input_schema": parameters})
}

fn tool_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => json!({"type": "auto"}),
        ToolChoice::None => json!({"type": "none"}),
        ToolChoice::Required => json!({"type": "any"}),
        ToolChoice::Named(name) => json!({"type": "tool", "name": name}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::examples::{conversation, only};

    #[test]
    fn a_request_without_more_has_a_limit() {
        let user = json!([{"type": "text", "text": "hi"}]);
        assert_eq!(
            Value::Object(body(&only("hi"))),
            json!({
                "model": "m", "stream": true, "max_tokens": 8192,
                "messages": [{"role": "user", "content": user}],
            })
        );
    }

    #[test]
    fn a_conversation_has_the_form_of_the_wire() {
        assert_eq!(
            Value::Object(body(&conversation())),
            json!({
                "model": "m", "stream": true, "max_tokens": 100, "system": "be brief",
                "messages": [
                    {"role": "user", "content": [
                        {"type": "text", "text": "what is this?"},
                        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AQID"}},
                    ]},
                    {"role": "assistant", "content": [
                        {"type": "tool_use", "id": "a", "name": "read", "input": {"path": "x"}},
                        {"type": "tool_use", "id": "b", "name": "read", "input": {}},
                    ]},
                    {"role": "user", "content": [
                        {"type": "tool_result", "tool_use_id": "a", "content": "one\n\ntwo"},
                        {"type": "tool_result", "tool_use_id": "b", "content": ""},
                    ]},
                    {"role": "assistant", "content": [{"type": "text", "text": "a picture"}]},
                    {"role": "user", "content": [{"type": "text", "text": "sure?"}]},
                ],
                "tools": [{"name": "read", "description": "reads", "input_schema": {"type": "object"}}],
                "tool_choice": {"type": "tool", "name": "read"},
                "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
                "temperature": 0.7,
            })
        );
    }

    #[test]
    fn thinking_goes_back_to_its_own_model_before_the_calls_it_led_to() {
        let block = json!({"type": "thinking", "thinking": "hm", "signature": "s"});
        let state = |model: &str, dialect: &str| {
            let thinking = [block.clone()];
            let state = json!({"model": model, "dialect": dialect, "thinking": thinking, "message": {"a": 1}});
            Some(state.to_string().parse().unwrap())
        };
        let mut request = conversation();
        request.messages.truncate(5);
        for (reasoning_state, is_sent) in [
            (state("m", "anthropic"), true),
            (state("other", "anthropic"), false),
            (state("m", "openai"), false),
            (None, false),
        ] {
            request.messages[2].reasoning_state = reasoning_state;
            let content = body(&request)["messages"][1]["content"].clone();
            assert_eq!(content[0] == block, is_sent, "{content}");
            assert_eq!(content.as_array().unwrap().len(), 2 + usize::from(is_sent));
            assert_eq!(cannot_think(&request), !is_sent);
        }
        // It thought before the first call, and not before the second.
        request.messages[2].reasoning_state = state("m", "anthropic");
        let (mut call, result) = (request.messages[2].clone(), request.messages[3].clone());
        (call.reasoning_state, _) = (None, call.tool_calls.truncate(1));
        request.messages.extend([call, result]);
        assert!(!cannot_think(&request));
        // Thinking without anything else is no message.
        request.messages[2].tool_calls.clear();
        request.messages[2].content = vec![Content::Text(" ".into())];
        assert!(!body(&request)["messages"].to_string().contains("signature"));
        // Calls of before the user's last word may have lost it.
        assert!(!cannot_think(&conversation()));
    }

    #[test]
    fn ids_of_calls_are_sent_as_the_server_takes_them() {
        let mut request = conversation();
        let of = |call: &str| {
            let mut all = conversation().messages[2..5].to_vec();
            all[0].tool_calls[0].id = call.into();
            all[1].tool_call_id = Some(call.into());
            all
        };
        // The other call of each is `b`.
        for id in ["functions.read:0", "functions.read:0", "functions_read_0", ""] {
            request.messages.extend(of(id));
        }
        let sent = body(&request)["messages"].clone();
        let blocks =
            || sent.as_array().unwrap().iter().flat_map(|it| it["content"].as_array().unwrap());
        let ids = |name: &str| -> Vec<_> {
            blocks().filter_map(|block| block[name].as_str()).map(str::to_owned).collect()
        };
        let expected = [
            "a",
            "b",
            "functions_read_0",
            "b_2",
            "functions_read_0_2",
            "b_3",
            "functions_read_0_3",
            "b_4",
            "call",
            "b_5",
        ];
        assert_eq!(ids("id"), expected);
        assert_eq!(ids("tool_use_id"), expected);
    }

    #[test]
    fn what_would_be_another_question_is_refused() {
        let of = |messages: &[(Role, &str)]| {
            let message = |(role, text): &(Role, &str)| Message {
                role: *role,
                content: vec![Content::Text((*text).into())],
                tool_calls: Vec::new(),
                tool_call_id: None,
                reasoning_state: None,
            };
            let messages = messages.iter().map(message).collect();
            refuses(&Request { messages, ..only("hi") }).is_some()
        };
        use Role::{Assistant, System, User};
        assert!(of(&[(User, " ")]) && of(&[(System, "a")]) && of(&[(Assistant, "")]));
        assert!(of(&[(User, "a"), (Assistant, "b"), (User, "")]));
        assert!(of(&[(User, "a"), (Assistant, "b"), (User, ""), (System, "c")]));
        // A beginning of the answer, and an addition without a word.
        assert!(!of(&[(User, "a"), (Assistant, "b")]));
        assert!(!of(&[(User, "a"), (User, "")]));
        assert_eq!(refuses(&conversation()), None);
    }

    #[test]
    fn an_id_that_many_calls_have_costs_no_more_than_others() {
        const CALLS: usize = 20_000;
        let mut ids = Ids::default();
        ids.begin("a_3");
        let began = std::time::Instant::now();
        for _ in 1..CALLS {
            ids.begin("a");
        }
        // The number 3 is taken.
        assert_eq!(ids.begin("a"), format!("a_{}", CALLS + 1));
        // Minutes, if each call tries all numbers before its own.
        assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
    }

    #[test]
    fn json_of_any_form_is_asked_for_in_words() {
        let request = Request { response_format: Some(ResponseFormat::Json), ..only("hi") };
        assert_eq!(body(&request)["system"], ASK_FOR_JSON);
    }

    #[test]
    fn what_the_server_would_refuse_is_not_sent() {
        let of = |role, text: &str| Message {
            role,
            content: vec![Content::Text(text.into())],
            tool_calls: Vec::new(),
            tool_call_id: None,
            reasoning_state: None,
        };
        let request = Request {
            messages: vec![of(Role::User, "a"), of(Role::Assistant, " "), of(Role::User, "b")],
            ..only("hi")
        };
        let text = |text: &str| json!({"type": "text", "text": text});
        let expected = json!([{"role": "user", "content": [text("a"), text("b")]}]);
        assert_eq!(body(&request)["messages"], expected);
        let call = |arguments: &str| {
            let arguments = arguments.to_owned();
            tool_use(&ToolCall { id: "a".into(), name: "read".into(), arguments }, "a")
        };
        assert_eq!(call("{\"pa")["input"], json!({"arguments": "{\"pa"}));
        assert_eq!(call("[1]")["input"], json!({"arguments": "[1]"}));
        let image = source("data:image/png;base64,AQID");
        assert_eq!(image, json!({"type": "base64", "media_type": "image/png", "data": "AQID"}));
    }
}

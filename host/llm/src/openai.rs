//! The request as OpenAI has it, and all who copied it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::{
    Content, Message, ReasoningState, Request, ResponseFormat, Role, Tool, ToolCall, ToolChoice,
    schema,
};

/// After the base URL.
pub(crate) const PATH: &str = "/chat/completions";

/// What a schema is called that has no usable title.
const SCHEMA_NAME: &str = "answer";

/// The request's JSON, without `extra`. OpenAI's own models want another name for the limit of tokens than the servers
/// of others know.
pub(crate) fn body(request: &Request, is_openai: bool) -> Map<String, Value> {
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| body.insert(name.to_owned(), value);
    set("model", json!(request.model));
    set("messages", request.messages.iter().map(|it| message(request, it)).collect());
    set("stream", json!(true));
    set("stream_options", json!({"include_usage": true}));
    if !request.tools.is_empty() {
        set("tools", request.tools.iter().map(tool).collect());
        if let Some(choice) = &request.tool_choice {
            set("tool_choice", tool_choice(choice));
        }
    }
    match &request.response_format {
        None | Some(ResponseFormat::Text) => {}
        Some(ResponseFormat::Json) => _ = set("response_format", json!({"type": "json_object"})),
        Some(ResponseFormat::JsonSchema(schema)) => {
            let strict = schema::closed(schema)
                .and_then(|mut closed| schema::requires_all(&mut closed).then_some(closed));
            let is_strict = strict.is_some();
            let name = name_of(schema);
            let schema = strict.as_ref().unwrap_or(schema);
            let form = json!({"name": name, "schema": schema, "strict": is_strict});
            set("response_format", json!({"type": "json_schema", "json_schema": form}));
        }
    }
    if let Some(temperature) = request.temperature {
        set("temperature", decimal(temperature));
    }
    if let Some(limit) = request.max_tokens {
        set(if is_openai { "max_completion_tokens" } else { "max_tokens" }, json!(limit));
    }
    body
}

/// A number as it was written: 0.7 and not 0.699999988079071.
pub(crate) fn decimal(number: f32) -> Value {
    json!(number.to_string().parse::<f64>().unwrap_or(f64::from(number)))
}

/// All text of a message, a paragraph for each part.
pub(crate) fn text_of(content: &[Content]) -> String {
    let text = |content: &Content| match content {
        Content::Text(text) => Some(text.clone()),
        _ => None,
    };
    content.iter().filter_map(text).collect::<Vec<_>>().join("\n\n")
}

/// An image as a URL that holds it.
fn data_url(media_type: &str, data: &[u8]) -> String {
    format!("data:{media_type};base64,{}", STANDARD.encode(data))
}

fn message(request: &Request, message: &Message) -> Value {
    let state = request.state_of(message);
    let mut json = match message.role {
        Role::System => json!({"role": "system", "content": text_of(&message.content)}),
        Role::User => json!({"role": "user", "content": content(&message.content)}),
        Role::Assistant if message.tool_calls.is_empty() => {
            json!({"role": "assistant", "content": text_of(&message.content)})
        }
        Role::Assistant => {
            let text = Some(text_of(&message.content)).filter(|text| !text.is_empty());
            let calls: Value =
                message.tool_calls.iter().map(|call| tool_call(call, state)).collect();
            json!({"role": "assistant", "content": text, "tool_calls": calls})
        }
        Role::Tool => json!({
            "role": "tool",
            "tool_call_id": message.tool_call_id.as_deref().unwrap_or_default(),
            "content": text_of(&message.content),
        }),
    };
    for (name, value) in state.and_then(ReasoningState::fields).into_iter().flatten() {
        // What a message itself says is the agent's to say.
        if json.get(name).is_none() {
            json[name] = value.clone();
        }
    }
    json
}

/// Plain text where there is nothing else: many servers know no other form.
fn content(content: &[Content]) -> Value {
    if content.iter().all(|part| matches!(part, Content::Text(_))) {
        return json!(text_of(content));
    }
    let part = |part: &Content| match part {
        Content::Text(text) => json!({"type": "text", "text": text}),
        Content::ImageUrl(url) => json!({"type": "image_url", "image_url": {"url": url}}),
        Content::Image { media_type, data } => {
            json!({"type": "image_url", "image_url": {"url": data_url(media_type, data)}})
        }
    };
    content.iter().map(part).collect()
}

fn tool_call(call: &ToolCall, state: Option<&ReasoningState>) -> Value {
    let arguments = match call.arguments.trim() {
        // Some servers read them as JSON.
        "" => "{}",
        arguments => arguments,
    };
    let function = json!({"name": call.name, "arguments": arguments});
    let mut json = json!({"id": call.id, "type": "function", "function": function});
    if let Some(extra) = state.and_then(|state| state.extra_content(&call.id)) {
        json["extra_content"] = extra.clone();
    }
    json
}

fn tool(tool: &Tool) -> Value {
    let Tool { name, description, parameters } = tool;
    json!({
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    })
}

fn tool_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({"type": "function", "function": {"name": name}}),
    }
}

/// The title of a schema, if it can be a name.
fn name_of(schema: &Value) -> &str {
    let is_name = |title: &&str| {
        (1..=64).contains(&title.len())
            && title.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    schema["title"].as_str().filter(is_name).unwrap_or(SCHEMA_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::examples::{conversation, only};

    #[test]
    fn what_the_server_wants_back_goes_back_to_its_own_model() {
        let message =
            json!({"reasoning_content": "hm", "reasoning_details": [{"a": 1}], "role": "user"});
        let extra = json!({"google": {"thought_signature": "s"}});
        let state = |model: &str| {
            let state = json!({"model": model, "dialect": "openai", "message": message, "extra_content": {"b": extra}});
            Some(state.to_string().parse().unwrap())
        };
        let mut request = conversation();
        request.messages[2].reasoning_state = state("other");
        assert_eq!(body(&request, false), body(&conversation(), false));
        request.messages[2].reasoning_state = state("m");
        let sent = body(&request, false)["messages"][2].clone();
        assert_eq!(sent["reasoning_content"], "hm");
        assert_eq!(sent["reasoning_details"], json!([{"a": 1}]));
        assert_eq!(sent["role"], "assistant");
        assert_eq!(sent["tool_calls"][1]["extra_content"], extra);
        assert!(sent["tool_calls"][0].get("extra_content").is_none());
    }

    #[test]
    fn a_request_without_more_names_nothing_more() {
        let body = body(&only("hi"), false);
        assert_eq!(
            Value::Object(body),
            json!({
                "model": "m", "stream": true, "stream_options": {"include_usage": true},
                "messages": [{"role": "user", "content": "hi"}],
            })
        );
    }

    #[test]
    fn a_conversation_has_the_form_of_the_wire() {
        let body = body(&conversation(), false);
        let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "read", "arguments": arguments}});
        assert_eq!(
            Value::Object(body),
            json!({
                "model": "m", "stream": true, "stream_options": {"include_usage": true},
                "messages": [
                    {"role": "system", "content": "be brief"},
                    {"role": "user", "content": [
                        {"type": "text", "text": "what is this?"},
                        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQID"}},
                    ]},
                    {"role": "assistant", "content": null, "tool_calls": [
                        call("a", "{\"path\":\"x\"}"), call("b", "{}"),
                    ]},
                    {"role": "tool", "tool_call_id": "a", "content": "one\n\ntwo"},
                    {"role": "tool", "tool_call_id": "b", "content": ""},
                    {"role": "assistant", "content": "a picture"},
                    {"role": "user", "content": "sure?"},
                ],
                "tools": [{"type": "function", "function": {
                    "name": "read", "description": "reads", "parameters": {"type": "object"},
                }}],
                "tool_choice": {"type": "function", "function": {"name": "read"}},
                "response_format": {"type": "json_schema", "json_schema": {
                    "name": "answer", "strict": false, "schema": {"type": "object"},
                }},
                "temperature": 0.7, "max_tokens": 100,
            })
        );
    }

    #[test]
    fn a_schema_is_strict_where_the_server_takes_it_so() {
        let form = |schema: Value| {
            let response_format = Some(ResponseFormat::JsonSchema(schema));
            let body = body(&Request { response_format, ..only("hi") }, false);
            body["response_format"]["json_schema"].clone()
        };
        let properties = json!({"a": {"type": "string"}, "b": {"type": "string"}});
        let all = json!({"type": "object", "properties": properties, "required": ["a", "b"]});
        let found = form(all.clone());
        assert_eq!(
            (&found["strict"], &found["schema"]["additionalProperties"]),
            (&json!(true), &json!(false))
        );
        let some = json!({"type": "object", "properties": properties, "required": ["a"]});
        let found = form(some.clone());
        assert_eq!((&found["strict"], &found["schema"]), (&json!(false), &some));
    }

    #[test]
    fn openai_itself_gets_its_new_name_of_the_limit() {
        let request = Request { max_tokens: Some(7), ..only("hi") };
        let body = body(&request, true);
        assert_eq!(body.get("max_tokens"), None);
        assert_eq!(body["max_completion_tokens"], 7);
    }

    #[test]
    fn a_choice_of_tools_needs_tools() {
        let request = Request { tool_choice: Some(ToolChoice::Required), ..only("hi") };
        assert_eq!(body(&request, false).get("tool_choice"), None);
        for (choice, form) in [
            (ToolChoice::Auto, json!("auto")),
            (ToolChoice::None, json!("none")),
            (ToolChoice::Required, json!("required")),
        ] {
            let request = Request { tool_choice: Some(choice), ..conversation() };
            assert_eq!(body(&request, false)["tool_choice"], form);
        }
    }

    #[test]
    fn a_schema_is_named_by_its_title_if_that_is_a_name() {
        assert_eq!(name_of(&json!({"title": "City_1"})), "City_1");
        for title in [json!("a city"), json!(""), json!(7), json!(null)] {
            assert_eq!(name_of(&json!({"title": title})), "answer");
        }
    }
}

//! What the model may ask the mayor to do.

use bulkhead_guest::model::{Tool, ToolCall};
use bulkhead_guest::{host, info};
use serde::Deserialize;
use serde_json::{Value, json};

/// What a tool did.
#[derive(Debug, Default)]
pub struct Result {
    /// For the model.
    pub text: String,
    /// The last word, when the model says that its work is over.
    pub done: Option<String>,
}

/// The tools with their schemas.
pub fn offered() -> Vec<Tool> {
    vec![
        Tool::new(
            "emit",
            "Publish an event for programs that follow this agent.",
            object(
                json!({
                    "name": {
                        "type": "string",
                        "description": "1 to 64 characters of a-z 0-9 . _ -",
                    },
                    "data": { "description": "Any JSON value." },
                }),
                &["name"],
            ),
        ),
        Tool::new(
            "status",
            "Publish one line that says what you are doing, for people.",
            object(json!({ "text": { "type": "string" } }), &["text"]),
        ),
        Tool::new(
            "send_message",
            "Put a message into another agent's mailbox. Does not wait for an answer.",
            object(
                json!({ "agent_id": { "type": "string" }, "body": { "type": "string" } }),
                &["agent_id", "body"],
            ),
        ),
        Tool::new(
            "done",
            "End your work for good. You get no message after this.",
            object(
                json!({ "summary": { "type": "string", "description": "Your last word." } }),
                &[],
            ),
        ),
    ]
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

/// Runs one call. A failure is a result too: the model reads it and goes on.
pub fn run(call: &ToolCall) -> Result {
    let _active = host::ActiveTools::set(&[&call.name]);
    let outcome = match call.name.as_str() {
        "emit" => emit(call),
        "status" => status(call),
        "send_message" => send_message(call),
        "done" => return done(call),
        name => Err(format!("no such tool: {name}")),
    };
    info!("tool called", tool = call.name, ok = outcome.is_ok());
    let text = outcome.unwrap_or_else(|error| format!("error: {error}"));
    Result { text, done: None }
}

fn emit(call: &ToolCall) -> std::result::Result<String, String> {
    #[derive(Deserialize)]
    struct Arguments {
        name: String,
        #[serde(default)]
        data: Value,
    }
    let Arguments { name, data } = call.arguments()?;
    host::emit(&name, &data).map_err(|error| host::explain(&error))?;
    Ok("published".to_owned())
}

fn status(call: &ToolCall) -> std::result::Result<String, String> {
    #[derive(Deserialize)]
    struct Arguments {
        text: String,
    }
    let Arguments { text } = call.arguments()?;
    let line = one_line(&text);
    host::emit("status", &json!({ "text": line })).map_err(|error| host::explain(&error))?;
    Ok("published".to_owned())
}

fn send_message(call: &ToolCall) -> std::result::Result<String, String> {
    #[derive(Deserialize)]
    struct Arguments {
        agent_id: String,
        body: String,
    }
    let Arguments { agent_id, body } = call.arguments()?;
    let id = host::send(&agent_id, &body).map_err(|error| host::explain(&error))?;
    Ok(format!("sent as message {id}"))
}

fn done(call: &ToolCall) -> Result {
    #[derive(Deserialize)]
    struct Arguments {
        #[serde(default)]
        summary: String,
    }
    // The end counts even where its form is wrong: a model that is asked to try again may never end.
    let summary = call.arguments().map_or(String::new(), |Arguments { summary }| summary);
    info!("tool called", tool = "done", ok = true);
    Result { text: "ended".to_owned(), done: Some(summary) }
}

/// The longest line that a status display shows.
const MAX_STATUS_CHARS: usize = 200;

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(MAX_STATUS_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_bounded_line() {
        assert_eq!(one_line(" two\n lines\t"), "two lines");
        assert_eq!(one_line(&"x".repeat(1000)).len(), MAX_STATUS_CHARS);
    }

    #[test]
    fn every_tool_has_an_object_for_its_arguments() {
        for tool in offered() {
            assert_eq!(tool.parameters["type"], "object", "{}", tool.name);
        }
    }
}

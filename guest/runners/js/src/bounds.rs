//! What is too large for the host. One call may copy so much out of the agent and not more: past that the agent would end, before
//! the host could refuse or cut what it got.

use crate::bindings::bulkhead::agent::agent_types::AgentError;
use crate::bindings::bulkhead::agent::host::{self, Event, HostError};
use crate::bindings::bulkhead::agent::model::{
    ChatMessage, Content, ModelError, Request, ResponseFormat,
};
use crate::bindings::bulkhead::agent::tools::{Command, ToolError};
use bulkhead_guest::host::{
    MAX_BODY_BYTES, MAX_EVENT_BYTES, MAX_EVENT_NAME_BYTES, command_bytes, copied_bytes, cut_reply,
};

/// Emits an event, unless the host would refuse it for its size.
pub fn emit(event: &Event) -> Result<(), HostError> {
    if event.name.len() > MAX_EVENT_NAME_BYTES {
        return Err(HostError::Invalid("event name must have 1 to 64 characters".to_owned()));
    }
    if event.data.len() > MAX_EVENT_BYTES {
        return Err(HostError::TooLarge(MAX_EVENT_BYTES as u64));
    }
    host::emit(event)
}

/// Sends a message, unless the host would refuse it for its size.
pub fn send(to: &str, body: &str) -> Result<String, HostError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(HostError::TooLarge(MAX_BODY_BYTES as u64));
    }
    host::send(to, body)
}

/// Whether a model can be asked this.
pub fn ask(request: &Request) -> Result<(), ModelError> {
    let bytes = request_bytes(request);
    match most(bytes) {
        Some(most) => Err(ModelError::Invalid(format!(
            "too large: the request has {bytes} bytes, and a call copies at most {most}"
        ))),
        None => Ok(()),
    }
}

/// Whether a program can be given these arguments and variables, and how many bytes they are.
pub fn command(command: &Command) -> Result<usize, ToolError> {
    command_bytes(&command.arguments, &command.environment).map_err(ToolError::Invalid)
}

/// Whether a program can be given this to read as well.
pub fn input(of: &Command, stdin: &[u8]) -> Result<(), ToolError> {
    match most(stdin.len() + command(of)? + RECORD_BYTES) {
        Some(most) => Err(ToolError::Invalid(format!(
            "stdin is too large: a call copies at most {most} bytes; spawn the program and write to it"
        ))),
        None => Ok(()),
    }
}

/// A reply of which the host keeps as much as of all of it, and says as well that it cut.
pub fn reply(mut text: String) -> String {
    cut_reply(&mut text);
    text
}

/// A snapshot, or why there is none.
pub fn snapshot(bytes: Vec<u8>) -> Result<Vec<u8>, AgentError> {
    let Some(most) = most(bytes.len()) else { return Ok(bytes) };
    let message =
        format!("the snapshot has {} bytes, and a call copies at most {most}", bytes.len());
    let code = "snapshot-failed".to_owned();
    Err(AgentError { code, message, fatal: false, exceptions: Vec::new() })
}

/// What one call may copy, if this is more.
fn most(bytes: usize) -> Option<usize> {
    // Most are smaller than what every agent may.
    if bytes <= copied_bytes(0) {
        return None;
    }
    let most = copied_bytes(host::memory().limit_bytes);
    (bytes > most).then_some(most)
}

/// What the host copies of a request, about.
fn request_bytes(request: &Request) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let messages: usize = request.messages.iter().map(message_bytes).sum();
    let tools = request.tools.iter().map(|tool| {
        tool.name.len() + tool.description.len() + tool.parameters.len() + RECORD_BYTES
    });
    let schema = match &request.response_format {
        Some(ResponseFormat::JsonSchema(schema)) => schema.len(),
        _ => 0,
    };
    messages + tools.sum::<usize>() + schema + text(&request.extra) + RECORD_BYTES
}

/// Beside its texts, of a record.
const RECORD_BYTES: usize = 256;

fn message_bytes(message: &ChatMessage) -> usize {
    let contents = message.content.iter().map(|content| match content {
        Content::Text(text) | Content::ImageUrl(text) => text.len(),
        Content::Image(image) => image.data.len() + image.media_type.len(),
    });
    let calls = message
        .tool_calls
        .iter()
        .map(|call| call.id.len() + call.name.len() + call.arguments.len() + RECORD_BYTES);
    let reasoning = message.reasoning_state.as_ref().map_or(0, String::len);
    contents.sum::<usize>() + calls.sum::<usize>() + reasoning + RECORD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::bulkhead::agent::tools::Limits;

    #[test]
    fn what_is_too_large_does_not_go_to_the_host() {
        let large = "x".repeat(5_000_000);
        let event = |name: &str, data: &str| Event { name: name.to_owned(), data: data.to_owned() };
        assert_eq!(emit(&event("a", &large)), Err(HostError::TooLarge(65_536)));
        assert!(matches!(emit(&event(&large, "1")), Err(HostError::Invalid(_))));
        assert_eq!(send("b", &large), Err(HostError::TooLarge(1_048_576)));
        assert_eq!(reply("ä".repeat(1_000_000)).len(), MAX_BODY_BYTES + 2);
        assert_eq!(reply("x".to_owned()), "x");
        assert_eq!(most(1_300_000), None);
        let limits = Limits {
            memory_bytes: None,
            wall_ms: None,
            cpu_ms: None,
            pids: None,
            output_bytes: None,
        };
        let (program, directory) = ("cat".to_owned(), None);
        let (arguments, environment) = (vec!["x".to_owned()], vec![("A".to_owned(), large)]);
        let of = Command { program, arguments, directory, environment, limits };
        assert!(
            matches!(input(&of, b""), Err(ToolError::Invalid(it)) if it.starts_with("arguments and"))
        );
    }
}

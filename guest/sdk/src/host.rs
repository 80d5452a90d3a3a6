//! What the host offers. No call here waits for another agent or for the network.

use std::time::Duration;

use serde::Serialize;

use crate::AgentError;
use crate::bindings::bulkhead::agent::host as raw;

pub use raw::{AgentSettings, HostError, MemoryUsage, Nudge};

/// An event's name, its data, and a message have at most so many bytes.
pub const MAX_EVENT_NAME_BYTES: usize = 64;
/// See [`MAX_EVENT_NAME_BYTES`].
pub const MAX_EVENT_BYTES: usize = 64 * 1024;
/// See [`MAX_EVENT_NAME_BYTES`].
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// The host keeps so much of a reply.
pub const MAX_REPLY_BYTES: usize = MAX_BODY_BYTES;

/// Of a reply what a call of any agent can copy: a little more than the host keeps, which so sees that it cuts.
pub fn cut_reply(reply: &mut String) {
    reply.truncate(reply.ceil_char_boundary(MAX_REPLY_BYTES + 1));
}

/// How many bytes one call may copy out of an agent with this memory limit. Past that the agent traps.
pub fn copied_bytes(memory_limit: u64) -> usize {
    let least = MAX_BODY_BYTES + MAX_BODY_BYTES / 4;
    usize::try_from(memory_limit / 10).unwrap_or(usize::MAX).clamp(least, 4 * MAX_BODY_BYTES)
}

/// What one call may copy, if that is less than this.
pub(crate) fn copied_less_than(bytes: usize) -> Option<usize> {
    // Most are smaller than what every agent may.
    let most = if bytes <= copied_bytes(0) { bytes } else { copied_bytes(memory().limit_bytes) };
    (bytes > most).then_some(most)
}

/// Bytes that the arguments and the environment of a program may have together.
pub const MAX_COMMAND_BYTES: usize = 128 * 1024;

/// How many bytes these are, or why a program cannot be given them. The host counts as well, but not past what a call
/// copies.
pub fn command_bytes(
    arguments: &[String],
    environment: &[(String, String)],
) -> Result<usize, String> {
    let variables = environment.iter().map(|(name, value)| name.len() + value.len() + 2);
    let bytes: usize = arguments.iter().map(|it| it.len() + 1).chain(variables).sum();
    let most = MAX_COMMAND_BYTES;
    if bytes > most {
        return Err(format!("arguments and environment have {bytes} bytes, at most {most} fit"));
    }
    Ok(bytes)
}

/// The beginning of a text of which the host keeps less.
pub(crate) fn beginning(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Publishes a fact for those who follow the agent.
///
/// `name` is 1 to 64 characters of `a-z 0-9 . _ -` and does not begin with `agent.` or `container.`;
/// `data` becomes JSON of at most 64 KiB.
pub fn emit(name: &str, data: &impl Serialize) -> Result<(), HostError> {
    let data = serde_json::to_string(data)
        .map_err(|error| HostError::Invalid(format!("data is not JSON: {error}")))?;
    emit_json(name, data)
}

/// [`emit`] with data that is JSON text already.
pub fn emit_json(name: &str, data: String) -> Result<(), HostError> {
    if name.len() > MAX_EVENT_NAME_BYTES {
        return Err(HostError::Invalid("event name must have 1 to 64 characters".to_owned()));
    }
    if data.len() > MAX_EVENT_BYTES {
        return Err(HostError::TooLarge(MAX_EVENT_BYTES as u64));
    }
    raw::emit(&raw::Event { name: name.to_owned(), data })
}

/// Puts a message into another agent's mailbox and returns the message's id. Does not wait for the
/// other agent.
pub fn send(agent_id: &str, body: &str) -> Result<String, HostError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(HostError::TooLarge(MAX_BODY_BYTES as u64));
    }
    raw::send(agent_id, body)
}

/// Takes the nudges that wait. Each is returned once.
pub fn nudges() -> Vec<Nudge> {
    raw::nudges()
}

/// What the agent should go by now: model, instructions, dashboard. May be another with each turn; a
/// new [`revision`](AgentSettings::revision) says so.
pub fn settings() -> AgentSettings {
    raw::settings()
}

/// Standing instructions for a model: those that people set for the agent, or else its own, and what the dashboard of the
/// town shows.
pub fn instructions(own: &str) -> String {
    let AgentSettings { system_prompt, dashboard_context, .. } = settings();
    let instructions = system_prompt.as_deref().unwrap_or(own);
    match dashboard_context {
        Some(context) => format!("{instructions}\n\nThe dashboard of the town shows:\n{context}")
            .trim_start()
            .to_owned(),
        None => instructions.to_owned(),
    }
}

/// How much wall time the current call may still take.
pub fn deadline() -> Duration {
    Duration::from_millis(raw::deadline())
}

/// Memory of the whole component, as the host counts it.
pub fn memory() -> MemoryUsage {
    raw::memory()
}

/// Shows tools as active until it is dropped, also when the tool returns early with an error.
#[must_use = "the tools count as active only while this exists"]
pub struct ActiveTools(());

impl ActiveTools {
    /// Replaces the shown set. At most 32 names of at most 128 bytes; what is over is truncated.
    pub fn set(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        raw::set_active_tools(&names);
        Self(())
    }
}

impl Drop for ActiveTools {
    fn drop(&mut self) {
        raw::set_active_tools(&[]);
    }
}

/// One sentence about a refusal, for a model or a person.
pub fn explain(error: &HostError) -> String {
    match error {
        HostError::Invalid(what) => format!("invalid argument: {what}"),
        HostError::TooLarge(limit) => format!("larger than {limit} bytes"),
        HostError::NotFound(what) => format!("no such agent: {what}"),
        HostError::Unavailable(what) => format!("not available now: {what}"),
        HostError::RateLimited(ms) => format!("rate used up, try again in {ms} ms"),
    }
}

impl From<HostError> for AgentError {
    /// Fails the turn.
    fn from(error: HostError) -> Self {
        let code = match error {
            HostError::Invalid(_) => "invalid",
            HostError::TooLarge(_) => "too-large",
            HostError::NotFound(_) => "not-found",
            HostError::Unavailable(_) => "unavailable",
            HostError::RateLimited(_) => "rate-limited",
        };
        Self::failed(code, explain(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_does_not_go_to_the_host() {
        let large = "x".repeat(5_000_000);
        assert!(matches!(emit("a", &large), Err(HostError::TooLarge(65_536))));
        assert!(matches!(emit(&large, &1), Err(HostError::Invalid(_))));
        assert!(matches!(send("b", &large), Err(HostError::TooLarge(1_048_576))));
        assert_eq!(beginning(&"ä".repeat(9), 5), "ää");
    }

    #[test]
    fn a_long_reply_is_cut_to_what_a_call_copies_and_the_host_still_cuts() {
        for letter in ["x", "ä", "€", "😀"] {
            let mut reply = letter.repeat(3_000_000 / letter.len());
            cut_reply(&mut reply);
            assert!(reply.len() > MAX_REPLY_BYTES && reply.len() < copied_bytes(0), "{letter}");
            let mut whole = "x".repeat(MAX_REPLY_BYTES - letter.len()) + letter;
            cut_reply(&mut whole);
            assert_eq!(whole.len(), MAX_REPLY_BYTES, "{letter}");
        }
    }

    #[test]
    fn a_call_copies_a_tenth_of_the_memory_within_bounds() {
        let mib = 1024 * 1024;
        for (limit, most) in [(0, mib / 4 * 5), (30 * mib, 3 * mib), (u64::MAX, 4 * mib)] {
            assert_eq!(copied_bytes(limit) as u64, most);
        }
        assert_eq!(copied_less_than(1_300_000), None);
    }
}

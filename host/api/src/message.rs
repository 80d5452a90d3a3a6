//! `POST /agents/{id}/message`.

use bulkhead_types::message::MAX_BODY_BYTES;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{Issue, text_issue};
use crate::unknown::{Parsed, parse_shared};

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
pub struct MessageRequest {
    /// The text. Not empty, at most 1 MiB.
    #[schemars(length(min = 1, max = MAX_BODY_BYTES))]
    pub prompt: String,
}

#[derive(Deserialize)]
struct Raw {
    prompt: Option<String>,
}

impl MessageRequest {
    /// Parses and checks a body.
    pub fn parse(body: &[u8]) -> Result<Parsed<Self>, Vec<Issue>> {
        parse_shared(body, &[])?.map(Self::check)
    }

    fn check(raw: Raw) -> Result<Self, Vec<Issue>> {
        match text_issue("prompt", raw.prompt.as_deref(), MAX_BODY_BYTES) {
            Some(issue) => Err(vec![issue]),
            None => Ok(Self { prompt: raw.prompt.unwrap_or_default() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_needs_a_prompt() {
        assert_eq!(MessageRequest::parse(b"{}").unwrap_err()[0].path, "prompt");
        assert_eq!(MessageRequest::parse(br#"{"prompt":[]}"#).unwrap_err()[0].path, "prompt");
        let issues = MessageRequest::parse(br#"{"prompt":""}"#).unwrap_err();
        assert_eq!(issues, [Issue::new("prompt", "must not be empty")]);
        assert_eq!(MessageRequest::parse(br#"{"prompt":" "}"#).unwrap().request.prompt, " ");
        let long = format!("{{\"prompt\":\"{}\"}}", "x".repeat(MAX_BODY_BYTES + 7));
        let issues = MessageRequest::parse(long.as_bytes()).unwrap_err();
        assert_eq!(issues[0].message, "must be at most 1 MiB, and has 1048583 bytes");
        assert_eq!(MessageRequest::parse(br#"{"prompt":"hi"}"#).unwrap().request.prompt, "hi");
    }
}

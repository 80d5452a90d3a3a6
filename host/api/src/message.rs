//! `POST /agents/{id}/message`.

use bulkhead_types::message::MAX_BODY_BYTES;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{Issue, required};
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
        if let Some(issue) = required("prompt", raw.prompt.as_deref()) {
            return Err(vec![issue]);
        }
        let prompt = raw.prompt.unwrap_or_default();
        if prompt.len() > MAX_BODY_BYTES {
            return Err(vec![Issue::new("prompt", "must be at most 1 MiB")]);
        }
        Ok(Self { prompt })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_needs_a_prompt() {
        assert_eq!(MessageRequest::parse(b"{}").unwrap_err()[0].path, "prompt");
        assert_eq!(MessageRequest::parse(br#"{"prompt":[]}"#).unwrap_err()[0].path, "prompt");
        assert_eq!(MessageRequest::parse(br#"{"prompt":"hi"}"#).unwrap().request.prompt, "hi");
    }
}

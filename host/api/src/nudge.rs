//! `POST /agents/{id}/nudge`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{Issue, required, text_issue, too_long};
use crate::unknown::parse_own;

/// Longest nudge, in bytes: a hint, not a document.
pub const MAX_NUDGE_BYTES: usize = 16 * 1024;

/// Longest id and source, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// A message that comes when no other does.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct NudgeRequest {
    /// The text. Not empty, at most 16 KiB.
    #[schemars(length(min = 1, max = MAX_NUDGE_BYTES))]
    pub message: String,
    /// Who sends it; `operator` when the request does not say.
    #[schemars(with = "Option<String>", length(max = MAX_NAME_BYTES))]
    pub source: String,
    /// Names it; the host does when the request does not.
    #[schemars(length(min = 1, max = MAX_NAME_BYTES))]
    pub nudge_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    message: Option<String>,
    source: Option<String>,
    nudge_id: Option<String>,
}

impl NudgeRequest {
    /// Parses and checks a body.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<Issue>> {
        let Raw { message, source, nudge_id } = parse_own(body)?;
        let issues: Vec<_> = [
            text_issue("message", message.as_deref(), MAX_NUDGE_BYTES),
            too_long("source", source.as_deref(), MAX_NAME_BYTES),
            too_long("nudgeId", nudge_id.as_deref(), MAX_NAME_BYTES),
            nudge_id.as_deref().and_then(|id| required("nudgeId", Some(id))),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !issues.is_empty() {
            return Err(issues);
        }
        let source = source.unwrap_or_else(|| "operator".to_owned());
        Ok(Self { message: message.unwrap_or_default(), source, nudge_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nudge_needs_a_message_and_says_who_sends_it() {
        assert_eq!(NudgeRequest::parse(b"{}").unwrap_err()[0].path, "message");
        let nudge = NudgeRequest::parse(br#"{"message":"hi"}"#).unwrap();
        assert_eq!((nudge.source.as_str(), nudge.nudge_id), ("operator", None));
        let body = br#"{"message":"hi","source":"witness","nudgeId":"n1"}"#;
        let nudge = NudgeRequest::parse(body).unwrap();
        assert_eq!((nudge.source.as_str(), nudge.nudge_id.as_deref()), ("witness", Some("n1")));
    }

    #[test]
    fn every_offending_field_is_named() {
        let long = "x".repeat(MAX_NUDGE_BYTES + 1);
        let body = format!(r#"{{"message":"{long}","source":"{long}","nudgeId":""}}"#);
        let issues = NudgeRequest::parse(body.as_bytes()).unwrap_err();
        let paths: Vec<_> = issues.iter().map(|issue| issue.path.as_str()).collect();
        assert_eq!(paths, ["message", "source", "nudgeId"]);
    }
}

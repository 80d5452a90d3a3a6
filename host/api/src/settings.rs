//! What changes while agents are active: `PATCH /agents/{id}/model`, `PUT /agents/{id}/system-prompt`,
//! `POST /dashboard-context`.

use bulkhead_types::message::MAX_BODY_BYTES;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::error::{Issue, required};
use crate::unknown::{Parsed, parse_shared};

/// Longest name of a model.
pub(crate) const MAX_MODEL_BYTES: usize = 256;

/// Longest dashboard context. It goes into every request to a model.
const MAX_CONTEXT_BYTES: usize = 64 * 1024;

/// A change of an agent's models.
///
/// The original restarts its agent for it, so its callers bring `conversationHistory` to be played
/// again, and `organizationId`. Here the session stays: both are accepted and not looked at.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub struct ModelRequest {
    /// The language model to use.
    #[schemars(length(min = 1, max = MAX_MODEL_BYTES), pattern(r"\S"))]
    pub model: String,
    /// A cheaper one for small tasks. Absent: it stays; null: there is none any more.
    #[schemars(with = "Option<String>", length(min = 1, max = MAX_MODEL_BYTES), pattern(r"\S"))]
    pub small_model: Option<Option<String>>,
}

/// A change of an agent's standing instructions.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub struct SystemPromptRequest {
    /// The new ones. Not empty, at most 1 MiB.
    #[schemars(length(min = 1, max = MAX_BODY_BYTES))]
    pub system_prompt: String,
}

/// A change of what the dashboard shows.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
pub struct DashboardContextRequest {
    /// At most 64 KiB. Blank text takes away what was shown before.
    #[schemars(with = "String", length(max = MAX_CONTEXT_BYTES))]
    pub context: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawModel {
    model: Option<String>,
    /// Absent and `null` differ.
    #[serde(default, deserialize_with = "given")]
    small_model: Option<Option<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSystemPrompt {
    system_prompt: Option<String>,
}

#[derive(Deserialize)]
struct RawContext {
    context: Option<String>,
}

fn given<'de, D: Deserializer<'de>>(json: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(json).map(Some)
}

impl ModelRequest {
    /// Parses and checks a body.
    pub fn parse(body: &[u8]) -> Result<Parsed<Self>, Vec<Issue>> {
        parse_shared(body, &["conversationHistory", "organizationId"])?.map(Self::check)
    }

    fn check(raw: RawModel) -> Result<Self, Vec<Issue>> {
        let small_model = raw.small_model.as_ref().and_then(Option::as_deref);
        let issues: Vec<_> = [
            unusable("model", Some(raw.model.as_deref())),
            unusable("smallModel", small_model.map(Some)),
        ]
        .into_iter()
        .flatten()
        .collect();
        match (raw.model, issues.is_empty()) {
            (Some(model), true) => Ok(Self { model, small_model: raw.small_model }),
            _ => Err(issues),
        }
    }
}

/// The issue of a model's name, if it has one. The outer `None`: nothing to check.
fn unusable(path: &str, name: Option<Option<&str>>) -> Option<Issue> {
    let name = name?.map(str::trim);
    required(path, name).or_else(|| {
        let rule = format!("must have at most {MAX_MODEL_BYTES} bytes");
        (name?.len() > MAX_MODEL_BYTES).then(|| Issue::new(path, rule))
    })
}

impl SystemPromptRequest {
    /// Parses and checks a body.
    pub fn parse(body: &[u8]) -> Result<Parsed<Self>, Vec<Issue>> {
        parse_shared(body, &[])?.map(Self::check)
    }

    fn check(raw: RawSystemPrompt) -> Result<Self, Vec<Issue>> {
        if let Some(issue) = required("systemPrompt", raw.system_prompt.as_deref()) {
            return Err(vec![issue]);
        }
        let system_prompt = raw.system_prompt.unwrap_or_default();
        if system_prompt.len() > MAX_BODY_BYTES {
            return Err(vec![Issue::new("systemPrompt", "must be at most 1 MiB")]);
        }
        Ok(Self { system_prompt })
    }
}

impl DashboardContextRequest {
    /// Parses and checks a body.
    pub fn parse(body: &[u8]) -> Result<Parsed<Self>, Vec<Issue>> {
        parse_shared(body, &[])?.map(Self::check)
    }

    fn check(raw: RawContext) -> Result<Self, Vec<Issue>> {
        let Some(context) = raw.context else {
            return Err(vec![Issue::new("context", "is required; an empty text takes it away")]);
        };
        if context.len() > MAX_CONTEXT_BYTES {
            return Err(vec![Issue::new("context", "must be at most 64 KiB")]);
        }
        Ok(Self { context: Some(context).filter(|context| !context.trim().is_empty()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(issues: Vec<Issue>) -> Vec<String> {
        issues.into_iter().map(|issue| issue.path).collect()
    }

    #[test]
    fn a_model_is_changed_with_what_the_original_brings() {
        let body = br#"{"model":"m","conversationHistory":"[]","organizationId":"o"}"#;
        let Parsed { request, ignored } = ModelRequest::parse(body).unwrap();
        assert!(ignored.is_empty());
        assert_eq!((request.model.as_str(), request.small_model), ("m", None));
    }

    #[test]
    fn a_small_model_that_is_null_is_taken_away_and_one_that_is_absent_stays() {
        let small = |body: &str| ModelRequest::parse(body.as_bytes()).unwrap().request.small_model;
        assert_eq!(small(r#"{"model":"m"}"#), None);
        assert_eq!(small(r#"{"model":"m","smallModel":null}"#), Some(None));
        assert_eq!(small(r#"{"model":"m","smallModel":"s"}"#), Some(Some("s".into())));
    }

    #[test]
    fn every_name_that_is_none_is_an_issue_at_once() {
        let long = "x".repeat(257);
        for (body, expected) in [
            ("{}".to_owned(), vec!["model"]),
            (r#"{"model":" ","smallModel":""}"#.to_owned(), vec!["model", "smallModel"]),
            (format!(r#"{{"model":"{long}","smallModel":"{long}"}}"#), vec!["model", "smallModel"]),
            (r#"{"model":"m","smallModel":7}"#.to_owned(), vec!["smallModel"]),
            (r#"{"model":["hunter2"]}"#.to_owned(), vec!["model"]),
        ] {
            let issues = ModelRequest::parse(body.as_bytes()).unwrap_err();
            assert!(!format!("{issues:?}").contains("hunter2"));
            assert_eq!(paths(issues), expected, "{body:.60}");
        }
        assert!(
            ModelRequest::parse(format!(r#"{{"model":"{}"}}"#, &long[..256]).as_bytes()).is_ok()
        );
    }

    #[test]
    fn a_system_prompt_is_text_within_its_bound() {
        let parse = |body: &str| SystemPromptRequest::parse(body.as_bytes());
        assert_eq!(
            parse(r#"{"systemPrompt":"be brief"}"#).unwrap().request.system_prompt,
            "be brief"
        );
        let long = format!(r#"{{"systemPrompt":"{}"}}"#, "x".repeat(MAX_BODY_BYTES + 1));
        for body in ["{}", r#"{"systemPrompt":""}"#, r#"{"systemPrompt":7}"#, long.as_str()] {
            assert_eq!(paths(parse(body).unwrap_err()), ["systemPrompt"], "{body:.60}");
        }
    }

    #[test]
    fn a_context_is_text_within_its_bound_and_a_blank_one_takes_it_away() {
        let parse = |body: &str| DashboardContextRequest::parse(body.as_bytes());
        let text = parse(r#"{"context":"open beads"}"#).unwrap().request.context;
        assert_eq!(text.as_deref(), Some("open beads"));
        assert_eq!(parse(r#"{"context":" "}"#).unwrap().request.context, None);
        let long = format!(r#"{{"context":"{}"}}"#, "x".repeat(MAX_CONTEXT_BYTES + 1));
        for body in ["{}", r#"{"context":{}}"#, long.as_str()] {
            assert_eq!(paths(parse(body).unwrap_err()), ["context"], "{body:.60}");
        }
    }
}

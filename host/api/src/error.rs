//! The one shape of every refusal.

use std::sync::Arc;

use bulkhead_types::error::expected_kind;
use bulkhead_types::restart::PastEnd;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::view::MissingAgent;

/// One offending field.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Issue {
    /// Where in the body, for example `envVars.TOKEN`. `.` is the body itself.
    pub path: String,
    /// What is wrong with it and what would be right.
    pub message: String,
}

impl Issue {
    /// An issue at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// Body of every answer with a status of 400 and above.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// What went wrong, naming the thing. Never empty.
    pub error: String,
    /// Field by field, when the body was at fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issues: Vec<Issue>,
    /// Stable kebab-case name of the failure, for programs.
    #[serde(default, rename = "error_type", skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    /// Where a start failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// HTTP status, repeated for those who only see the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What can be done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The crash record that belongs to the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash_id: Option<String>,
    /// The crash records of all deliveries of a message that was set aside, oldest first; the last ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crash_ids: Vec<String>,
    /// How often a message that was set aside was delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The ends that led to a quarantine, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Arc<PastEnd>>,
    /// How many desired agents are missing, when that is the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<usize>,
    /// The first 100 of them, for callers that may see agents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<MissingAgent>,
    /// Which lease is waited for, on a copy of a town that is not the one that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Box<LeaseWait>>,
    /// The message whose turn failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The files that both sides of a merge changed, the first 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Why the agent ended, when it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_reason: Option<String>,
}

/// What a copy of a town waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseWait {
    /// The process that holds the lease, when the register names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// Where the holder is reached, as its operator says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The epoch of the holder, or of the last one; 0 when there was none.
    pub epoch: u64,
    /// When this copy takes the lease if it hears of no renewal until then. Each renewal begins the wait again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takeover_in_ms: Option<u64>,
}

impl ErrorBody {
    /// An error that is only a sentence.
    pub fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), ..Self::default() }
    }
}

/// Reads JSON, naming the offending field. Fields that are not known do nothing: it comes from the disk, or from a
/// town that may be newer.
pub(crate) fn parse_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, Vec<Issue>> {
    read_json(json, 0).map(|(value, _)| value)
}

/// The same, with the names of fields that are not known, the first `most` of them.
pub(crate) fn read_json<T: DeserializeOwned>(
    body: &[u8],
    most: usize,
) -> Result<(T, Vec<String>), Vec<Issue>> {
    // serde would read a struct from an array as well, by position.
    if body.trim_ascii_start().first().is_some_and(|first| *first == b'[') {
        return Err(vec![Issue::new(".", "expected an object, found an array")]);
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut unknown = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| {
        if unknown.len() < most {
            unknown.push(path.to_string());
        }
    };
    let noting = serde_ignored::Deserializer::new(&mut json, &mut note);
    let value = serde_path_to_error::deserialize(noting).map_err(|error| {
        // Of what is no JSON there are no fields.
        let path = match error.inner().is_data() {
            true => error.path().to_string(),
            false => ".".to_owned(),
        };
        vec![Issue::new(path, without_values(error.inner()))]
    })?;
    json.end().map_err(|error| vec![Issue::new(".", error.to_string())])?;
    Ok((value, unknown))
}

/// What the parser says, without the values that it quotes, which may be secrets, and without names of types.
fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let wrong = ["invalid type: ", "invalid value: "];
    let Some(wrong) = wrong.iter().find_map(|wrong| text.strip_prefix(wrong)) else {
        let Some((_, expected)) = text.rsplit_once(", expected ") else { return text };
        return format!("expected {expected}");
    };
    // A text that was found may hold anything.
    let Some((found, expected)) = wrong.rsplit_once(", expected ") else {
        return "is not of the kind that is expected".to_owned();
    };
    // The path says where it is.
    let expected = expected_kind(
        expected.split(" at line ").next().unwrap_or_default(),
        "an array",
        "an object",
    );
    match there(found) {
        Some(found) => format!("expected {expected}, found {found}"),
        None => format!("expected {expected}"),
    }
}

/// `None`: a number, of which another kind is expected.
fn there(found: &str) -> Option<&str> {
    match found.split([' ', '`', '"']).next().unwrap_or_default() {
        "integer" | "floating" => None,
        "string" => Some("a string"),
        "boolean" => Some("true or false"),
        "map" => Some("an object"),
        "sequence" => Some("an array"),
        kind => Some(kind),
    }
}

/// The issue of a text that is longer than it may be, if it is.
pub(crate) fn too_long(path: &str, text: Option<&str>, most: usize) -> Option<Issue> {
    let long = text.is_some_and(|text| text.len() > most);
    long.then(|| Issue::new(path, format!("must have at most {most} bytes")))
}

/// The issue of a text for an agent that is empty or too long, if it is. White space is a text: agents take it for "go
/// on".
pub fn text_issue(path: &str, text: Option<&str>, most: usize) -> Option<Issue> {
    let text = match text {
        Some("") => return required(path, Some("")),
        Some(text) => text,
        None => return required(path, None),
    };
    let size = |bytes: usize| match bytes {
        bytes if bytes % (1 << 20) == 0 => format!("{} MiB", bytes >> 20),
        bytes if bytes % (1 << 10) == 0 => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} bytes"),
    };
    let length = text.len();
    (length > most).then(|| {
        Issue::new(path, format!("must be at most {}, and has {length} bytes", size(most)))
    })
}

/// The issue of a required field that is absent or empty, if it is.
pub(crate) fn required(path: &str, value: Option<&str>) -> Option<Issue> {
    match value {
        None => Some(Issue::new(path, "is required")),
        Some("") => Some(Issue::new(path, "must not be empty")),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "it is parsed, and that fails")]
    struct Raw {
        size: Option<u64>,
        share: Option<f64>,
        names: Option<Vec<String>>,
        on: Option<bool>,
    }

    #[test]
    fn what_is_wrong_is_said_in_words_of_json_and_without_values() {
        for (body, path, expected) in [
            (r#"{"size": -1}"#, "size", "expected a whole number of at least 0"),
            (r#"{"size": 1.5}"#, "size", "expected a whole number of at least 0"),
            (r#"{"size": "s"}"#, "size", "expected a whole number of at least 0, found a string"),
            (r#"{"share": {}}"#, "share", "expected a number, found an object"),
            (r#"{"names": true}"#, "names", "expected an array, found true or false"),
            (r#"{"names": ["a", null]}"#, "names[1]", "expected a string, found null"),
            (r#"{"on": []}"#, "on", "expected true or false, found an array"),
            (r#"{"on": "no, expected hunter2"}"#, "on", "expected true or false, found a string"),
            (r#""x""#, ".", "expected an object, found a string"),
            ("7", ".", "expected an object"),
            ("[]", ".", "expected an object, found an array"),
            ("", ".", "EOF while parsing a value at line 1 column 0"),
            (r#"{"size": 1"#, ".", "EOF while parsing an object at line 1 column 10"),
            (r#"{"size" 1}"#, ".", "expected `:` at line 1 column 9"),
        ] {
            let issues = parse_json::<Raw>(body.as_bytes()).unwrap_err();
            assert_eq!(issues, [Issue::new(path, expected)], "{body}");
        }
    }
}

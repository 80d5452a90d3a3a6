//! What is wrong with an answer, and how servers report errors.

use std::fmt;

use serde_json::Value;

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The server reports an error in place of an answer, and with it a status, if it names or implies one.
    Reported(String, Option<u16>),
    /// The answer ends in the middle.
    CutOff,
    /// The same, and the last that came were these words, which are no part of an answer.
    CutAfter(String),
    /// One JSON document ends in the middle.
    CutDocument,
    /// It is not what a completion looks like.
    Malformed(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reported(message, Some(status)) => write!(f, "status {status}: {message}"),
            Self::Reported(message, None) | Self::Malformed(message) => f.write_str(message),
            Self::CutOff => f.write_str("the answer ends in the middle"),
            Self::CutAfter(words) => write!(f, "the answer ends in the middle, after: {words}"),
            Self::CutDocument => f.write_str("the answer ends in the middle of its JSON"),
        }
    }
}

/// What an object that stands for an error says, in the forms that servers use.
pub(crate) fn error_in(object: &Value) -> Option<Problem> {
    // Groq has a place of its own for what happens in the middle of a stream.
    let errors = [&object["error"], &object["x_groq"]["error"]];
    if let Some(error) = errors.into_iter().find(|error| !is_nothing(error)) {
        // Some put the status beside the text.
        let status = status_of(error).or_else(|| status_of(object));
        return Some(Problem::Reported(error_text(error), status));
    }
    if object["object"] == "error" || object["type"] == "error" {
        return Some(reported(object));
    }
    if let Some(code) = number(&object["base_resp"], &["status_code"]).filter(|code| *code != 0) {
        let status = minimax_status(code);
        return Some(Problem::Reported(error_text(&object["base_resp"]), Some(status)));
    }
    const TEXTS: [&str; 6] =
        ["detail", "message", "errors", "error_msg", "error_message", "Message"];
    let is_answer = object.get("choices").is_some() || object.get("delta").is_some();
    if is_answer || object["message"].is_object() || object["finish_reason"].is_string() {
        return None;
    }
    let said = TEXTS.iter().map(|name| &object[*name]).find(|text| !is_nothing(text))?;
    Some(Problem::Reported(error_text(said), status_of(object)))
}

/// An error object as a problem.
pub(crate) fn reported(error: &Value) -> Problem {
    Problem::Reported(error_text(error), status_of(error))
}

/// What servers call their errors, and the status that goes with it. The first that fits counts.
const STATUSES: [(&str, u16); 16] = [
    ("invalid_request", 400),
    ("context_length", 400),
    ("authentication", 401),
    ("invalid_api_key", 401),
    ("billing", 402),
    ("insufficient_quota", 402),
    ("permission", 403),
    ("not_found", 404),
    ("too_large", 413),
    ("rate_limit", 429),
    ("resource_exhausted", 429),
    ("overloaded", 529),
    ("timeout", 504),
    ("api_error", 500),
    ("server_error", 500),
    ("servererror", 500),
];

/// Words by which a server says that it throttles. Alibaba's code for that is `insufficient_quota`.
const THROTTLES: [&str; 7] = [
    "throttl",
    "token-limit",
    "rate limit",
    "rate-limit",
    "rate_limit",
    "per minute",
    "per second",
];

/// The HTTP status that an error object names or implies.
fn status_of(error: &Value) -> Option<u16> {
    let named = number(error, &["code", "status", "status_code"]);
    if let Some(status) = named.and_then(|status| u16::try_from(status).ok()) {
        return (400..600).contains(&status).then_some(status);
    }
    let words = ["code", "type", "status"]
        .map(|name| error[name].as_str().unwrap_or_default().to_lowercase());
    let fits = |kind: &str| words.iter().any(|word| word.contains(kind));
    let (_, status) = STATUSES.iter().find(|(kind, _)| fits(kind))?;
    let throttles = || {
        let text = error_text(error).to_lowercase();
        THROTTLES.iter().any(|words| text.contains(words))
    };
    Some(if *status == 402 && throttles() { 429 } else { *status })
}

/// The status that goes with an error of MiniMax, which answers with 200. Its other codes, such as 1026 and 1027 of a
/// content filter, are about the request.
fn minimax_status(code: u64) -> u16 {
    match code {
        1002 | 1039 | 1041 | 2045 | 2056 => 429,
        1004 | 2049 => 401,
        1008 => 402,
        1000 | 1001 | 1013 | 1024 | 1033 => 500,
        _ => 400,
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// The sentence in an error object, in the forms that servers use; else its JSON.
pub(crate) fn error_text(error: &Value) -> String {
    sentence(error, MAX_DEPTH).unwrap_or_else(|| error.to_string())
}

/// Errors that hold errors are followed so far.
const MAX_DEPTH: u8 = 4;

fn sentence(error: &Value, depth: u8) -> Option<String> {
    /// The first that says something counts.
    const NAMES: [&str; 12] = [
        "message",
        "detail",
        "error_msg",
        "error_message",
        "msg",
        "status_msg",
        "Message",
        "error",
        "errors",
        "base_resp",
        "reason",
        "title",
    ];
    let inner = |value: &Value| sentence(value, depth.checked_sub(1)?);
    match error {
        value if is_nothing(value) => None,
        Value::String(text) => {
            let json = Some(text.as_str()).filter(|text| text.trim_start().starts_with('{'));
            let json = json.and_then(|text| serde_json::from_str(text).ok());
            json.and_then(|json| inner(&json)).or_else(|| Some(text.clone()))
        }
        Value::Array(_) => Some(error.to_string()),
        Value::Object(_) => {
            let said = NAMES.iter().find_map(|name| inner(&error[*name]));
            let named = || ["code", "type", "status"].iter().find_map(|it| error[*it].as_str());
            let said =
                said.or_else(|| named().filter(|name| !name.is_empty()).map(str::to_owned))?;
            // A gateway says of whom it has its words.
            let metadata = &error["metadata"];
            let provider = metadata["provider_name"].as_str().map(str::to_owned);
            let words: Vec<_> = provider.into_iter().chain(inner(&metadata["raw"])).collect();
            match words.is_empty() {
                true => Some(said),
                false => Some(format!("{said} ({})", words.join(": "))),
            }
        }
        _ => None,
    }
}

/// The body of a refused request: the sentence of a JSON error, else the body, and the status that an error implies.
pub(crate) fn refusal(body: &str) -> (String, Option<u16>) {
    match serde_json::from_str::<Value>(body) {
        Ok(json) if is_nothing(&json) => (String::new(), None),
        Ok(json) => {
            // Some put it into a list.
            let json = json.get(0).unwrap_or(&json);
            let error = Some(&json["error"]).filter(|error| !is_nothing(error)).unwrap_or(json);
            (error_text(error), status_of(error))
        }
        Err(_) => (body.to_owned(), None),
    }
}

/// Text of an answer is UTF-8, as JSON and events are.
pub(crate) fn not_utf8() -> Problem {
    Problem::Malformed("the answer is not in UTF-8".into())
}

/// A piece of JSON that ends too early was cut off.
pub(crate) fn not_json(error: &serde_json::Error) -> Problem {
    match error.is_eof() {
        true => Problem::CutOff,
        false => Problem::Malformed(format!("not a completion: {error}")),
    }
}

/// The first of these fields that is a count.
pub(crate) fn number(object: &Value, names: &[&str]) -> Option<u64> {
    names.iter().find_map(|name| match &object[*name] {
        Value::Number(number) => {
            number.as_u64().or_else(|| number.as_f64().map(|number| number as u64))
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_name_of_an_error_implies_its_status() {
        for (error, status) in [
            (json!({"type": "overloaded_error"}), Some(529)),
            (json!({"type": "rate_limit_error"}), Some(429)),
            (json!({"type": "api_error"}), Some(500)),
            (json!({"type": "authentication_error"}), Some(401)),
            (json!({"code": "rate_limit_exceeded", "type": "tokens"}), Some(429)),
            (json!({"status": "RESOURCE_EXHAUSTED"}), Some(429)),
            (json!({"code": "insufficient_quota", "message": "check your plan"}), Some(402)),
            (
                json!({"code": "insufficient_quota", "message": "see x/error#token-limit"}),
                Some(429),
            ),
            (json!({"type": "insufficient_quota", "message": "9 tokens per minute"}), Some(429)),
            (json!({"type": "InternalServerError"}), Some(500)),
            (json!({"type": "rate_limit_error", "code": "503"}), Some(503)),
            (json!({"code": 7}), None),
            (json!("overloaded"), None),
        ] {
            assert_eq!(status_of(&error), status, "{error}");
        }
    }

    #[test]
    fn what_minimax_does_not_take_is_not_sent_again() {
        for (code, status) in [
            (1002, 429),
            (1041, 429),
            (2045, 429),
            (2056, 429),
            (1033, 500),
            (2013, 400),
            (1026, 400),
            (1027, 400),
            (4711, 400),
        ] {
            let answer = json!({"base_resp": {"status_code": code, "status_msg": "no"}});
            let expected = Problem::Reported("no".into(), Some(status));
            assert_eq!(error_in(&answer), Some(expected), "{code}");
        }
    }

    #[test]
    fn the_body_of_a_refusal_has_many_forms() {
        for body in [
            r#"{"error":{"message":"no"}}"#,
            r#"[{"error":{"message":"no"}}]"#,
            r#"{"error":"no"}"#,
            r#"{"detail":"no"}"#,
            r#"{"error":{"message":null,"type":"no"}}"#,
            r#"{"error":{"message":"","code":"no"}}"#,
            r#"{"error":"","reason":"no"}"#,
            r#"{"error":{"message":"{\"error\":{\"message\":\"no\"}}"}}"#,
            r#"{"message":{"detail":"no"}}"#,
            r#"{"base_resp":{"status_code":1004,"status_msg":"no"}}"#,
            "no",
        ] {
            assert_eq!(refusal(body).0, "no", "{body}");
        }
        assert_eq!(refusal("{}"), (String::new(), None));
        assert_eq!(refusal(r#"{"error":{"code":7}}"#).0, r#"{"code":7}"#);
        let quota = r#"{"error":{"message":"no","code":"insufficient_quota"}}"#;
        assert_eq!(refusal(quota), ("no".into(), Some(402)));
        let deep = (0..9).fold(json!("no"), |inner, _| json!({"error": inner}));
        assert!(refusal(&deep.to_string()).0.contains("no"));
    }

    #[test]
    fn a_gateway_has_the_words_of_its_provider() {
        let of = |metadata: Value| {
            error_text(&json!({"message": "no", "code": 400, "metadata": metadata}))
        };
        let raw = r#"{"error":{"message":"too long"}}"#;
        assert_eq!(of(json!({"raw": raw, "provider_name": "X"})), "no (X: too long)");
        assert_eq!(of(json!({"raw": "too long"})), "no (too long)");
        assert_eq!(of(json!({"provider_name": "X"})), "no (X)");
        assert_eq!(of(json!({"reasons": ["x"]})), "no");
    }
}

//! The control API as the tools see it.

use std::time::Duration;

use bulkhead_api::ErrorBody;
use bulkhead_printable as printable;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Method;
use serde::de::DeserializeOwned;

/// How long an answer may take that needs no agent.
const QUICK: Duration = Duration::from_secs(10);

/// One request.
#[derive(Debug, Clone)]
pub struct Call {
    /// `GET` or `POST`.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// JSON, or nothing.
    pub body: Bytes,
    /// How long the answer may take.
    pub patience: Duration,
}

/// What a host answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// JSON.
    pub body: Bytes,
}

/// A way to a host.
pub trait Api: Send + Sync + 'static {
    /// Makes one call. It ends when the future is dropped.
    ///
    /// # Errors
    ///
    /// There was no answer. The words say why, and what to do.
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, String>>;
}

impl Call {
    /// A question.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: Bytes::new(), patience: QUICK }
    }

    /// An order.
    pub(crate) fn post(path: String, body: &serde_json::Value, patience: Duration) -> Self {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        Self { method: Method::POST, path, body, patience }
    }
}

/// The body of an answer below 300.
///
/// # Errors
///
/// There was none, or it is a refusal: in words, with what to do about it.
pub(crate) async fn ask(api: &dyn Api, call: Call) -> Result<Bytes, String> {
    let answer = api.call(call).await?;
    match answer.status {
        200..300 => Ok(answer.body),
        status => Err(refusal(status, &answer.body)),
    }
}

/// The same, `None` where there is nothing of the kind.
pub(crate) async fn ask_for(api: &dyn Api, call: Call) -> Result<Option<Bytes>, String> {
    let answer = api.call(call).await?;
    match answer.status {
        200..300 => Ok(Some(answer.body)),
        404 => Ok(None),
        status => Err(refusal(status, &answer.body)),
    }
}

/// Reads a body.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| {
        let error = printable::line(&error.to_string()).into_owned();
        format!("the host's answer is not understood: {error}")
    })
}

/// A sentence, then a line for each thing that is known.
fn refusal(status: u16, body: &[u8]) -> String {
    let Ok(body) = serde_json::from_slice::<ErrorBody>(body) else {
        return format!("the answer has status {status} and no error of a Bulkhead host");
    };
    let kind = body.error_type.as_ref().map_or_else(String::new, |kind| format!(", {kind}"));
    let mut lines = vec![format!("{} (status {status}{kind})", body.error)];
    if let Some(phase) = &body.phase {
        lines.push(format!("Phase: {phase}"));
    }
    let issues = body.issues.iter().filter(|issue| issue.message != body.error);
    lines.extend(issues.map(|issue| format!("Field {}: {}", issue.path, issue.message)));
    let named = [
        ("Message", &body.message_id),
        ("The agent ended", &body.exit_reason),
        ("Crash record", &body.crash_id),
        ("What to do", &body.action),
    ];
    let named = named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    lines.extend(named.map(|(name, value)| format!("{name}: {value}")));
    let lines: Vec<_> = lines.iter().map(|line| printable::line(line)).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do_and_hides_nothing() {
        let body = r#"{"error":"no\u001b[2J","error_type":"quarantined","status":409,"action":"read it",
            "crashId":"c1","issues":[{"path":"role","message":"no such role"}]}"#;
        assert_eq!(
            refusal(409, body.as_bytes()),
            "no\\u{1b}[2J (status 409, quarantined)\nField role: no such role\nCrash record: c1\nWhat to do: read it"
        );
        assert!(refusal(502, b"<html>").contains("no error of a Bulkhead host"));
    }
}

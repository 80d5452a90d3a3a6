//! Why an exchange failed.

use std::fmt;
use std::time::Duration;

use ::http::Method;
use wasip2::http::types::{DnsErrorPayload, ErrorCode};

/// How the host marks a name that leads where the role must not go: "Blocked" of the extended DNS errors.
const BLOCKED: u16 = 15;

/// A failed exchange: what was asked of whom, and why it failed.
#[derive(Debug, Clone)]
pub struct Error {
    /// The method of the request.
    pub method: Method,
    /// The URL without user name, password, query and fragment.
    pub url: String,
    /// The reason.
    pub kind: ErrorKind,
}

/// The reason of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// The URL cannot be used; the text says why.
    InvalidUrl(&'static str),
    /// This header is malformed, or not the agent's to set.
    InvalidHeader(String),
    /// The request's body cannot be written as JSON.
    InvalidBody(String),
    /// The host does not let this agent's role go there.
    Denied,
    /// The host does not let this agent's role go where the name leads; the text names the address and the setting.
    Prohibited(String),
    /// No connection; the text says why.
    Connect(String),
    /// It took longer than this.
    Timeout {
        /// What took too long.
        phase: Phase,
        /// The limit.
        after: Duration,
    },
    /// The answer's body has more than this many bytes.
    TooLarge(usize),
    /// The status is not 200 to 299. Only [`Response::ok`](super::Response::ok) reports it.
    Status(u16),
    /// The answer is not the JSON that was wanted.
    NotJson(String),
    /// The exchange broke off or was no HTTP; the text says how.
    Broken(String),
}

/// A part of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Resolving the name and connecting.
    Connect,
    /// Sending the request.
    Send,
    /// Waiting for the head of the answer.
    Head,
    /// Reading the body of the answer.
    Body,
}

impl Error {
    /// The same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self.kind {
            ErrorKind::Connect(_) | ErrorKind::Timeout { .. } | ErrorKind::Broken(_) => true,
            ErrorKind::Status(status) => matches!(status, 408 | 429 | 500..=599),
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.method, self.url, self.kind)
    }
}

impl std::error::Error for Error {}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidUrl(why) => write!(f, "invalid URL: {why}"),
            Self::InvalidHeader(name) => write!(f, "header `{name}` is not allowed"),
            Self::InvalidBody(why) => write!(f, "request body is not JSON: {why}"),
            Self::Denied => write!(f, "denied by the host's policy"),
            Self::Prohibited(why) => write!(f, "denied by the host's policy: {why}"),
            Self::Connect(why) => write!(f, "no connection: {why}"),
            Self::Timeout { phase, after } => {
                write!(f, "{phase} took longer than {} ms", after.as_millis())
            }
            Self::TooLarge(limit) => write!(f, "answer is larger than {limit} bytes"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::NotJson(why) => write!(f, "answer is not the expected JSON: {why}"),
            Self::Broken(why) => write!(f, "exchange broke off: {why}"),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Send => "sending the request",
            Self::Head => "waiting for the answer",
            Self::Body => "reading the answer",
        })
    }
}

/// What a code of `wasi:http` means. `after` is the limit that a timeout refers to.
pub(super) fn from_code(code: ErrorCode, connect: Duration, after: Duration) -> ErrorKind {
    match code {
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => ErrorKind::Denied,
        ErrorCode::ConnectionTimeout | ErrorCode::DnsTimeout => {
            ErrorKind::Timeout { phase: Phase::Connect, after: connect }
        }
        ErrorCode::HttpResponseTimeout => ErrorKind::Timeout { phase: Phase::Head, after },
        ErrorCode::ConnectionReadTimeout => ErrorKind::Timeout { phase: Phase::Body, after },
        ErrorCode::ConnectionWriteTimeout => ErrorKind::Timeout { phase: Phase::Send, after },
        ErrorCode::HttpRequestUriInvalid => ErrorKind::InvalidUrl("refused by the host"),
        ErrorCode::DnsError(DnsErrorPayload { rcode: Some(why), info_code }) => match info_code {
            Some(BLOCKED) => ErrorKind::Prohibited(why),
            _ => ErrorKind::Connect(format!("dns error: {why}")),
        },
        ErrorCode::DnsError(_)
        | ErrorCode::DestinationNotFound
        | ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationIpUnroutable
        | ErrorCode::ConnectionRefused
        | ErrorCode::ConnectionLimitReached
        | ErrorCode::TlsProtocolError
        | ErrorCode::TlsCertificateError
        | ErrorCode::TlsAlertReceived(_) => ErrorKind::Connect(words(&code)),
        ErrorCode::InternalError(Some(why)) => ErrorKind::Broken(why),
        _ => ErrorKind::Broken(words(&code)),
    }
}

/// `ConnectionRefused` becomes `connection refused`. A payload is left out.
fn words(code: &ErrorCode) -> String {
    let name = format!("{code:?}");
    let name = name.strip_prefix("ErrorCode::").unwrap_or(&name);
    let name = name.split(['(', ' ']).next().unwrap_or(name);
    let mut words = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_error_names_the_url_and_the_reason() {
        let kind = from_code(ErrorCode::ConnectionRefused, SECOND, SECOND);
        let error = Error { method: Method::POST, url: "http://localhost:1/v1".into(), kind };
        assert_eq!(
            error.to_string(),
            "POST http://localhost:1/v1: no connection: connection refused"
        );
        assert!(error.is_transient());
    }

    #[test]
    fn a_denial_is_distinguished_and_is_not_transient() {
        for code in [ErrorCode::HttpRequestDenied, ErrorCode::DestinationIpProhibited] {
            let kind = from_code(code, SECOND, SECOND);
            assert_eq!(kind, ErrorKind::Denied);
            let error = Error { method: Method::GET, url: String::new(), kind };
            assert!(!error.is_transient());
        }
        let payload = |info_code| DnsErrorPayload { rcode: Some("why".into()), info_code };
        let kind = from_code(ErrorCode::DnsError(payload(Some(BLOCKED))), SECOND, SECOND);
        assert_eq!(kind, ErrorKind::Prohibited("why".into()));
        let kind = from_code(ErrorCode::DnsError(payload(None)), SECOND, SECOND);
        assert_eq!(kind, ErrorKind::Connect("dns error: why".into()));
    }

    #[test]
    fn a_timeout_says_which_limit() {
        let kind = from_code(ErrorCode::ConnectionTimeout, SECOND, SECOND * 9);
        assert_eq!(kind.to_string(), "connecting took longer than 1000 ms");
    }
}

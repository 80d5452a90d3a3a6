//! A try that failed: the error that it comes to, and whether another try is worth it.

use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::problem::Problem;

/// Of the text of an error, so that it fits into a log line.
const MAX_CHARS: usize = 300;

/// What stands in place of a key.
const MASK: &str = "[key]";

/// A try that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) retry: Retry,
}

impl Failure {
    /// There is no other try, because its server asks for a wait that is too long.
    pub(crate) fn unless_waited(mut self, too_long: Option<Duration>) -> Self {
        if let (Error::Unavailable(text), Some(asked)) = (&mut self.error, too_long) {
            let seconds = asked.as_secs_f64().ceil();
            *text += &format!(" (not tried again: it asks to wait for {seconds} s)");
        }
        self
    }
}

/// Whether another try is worth it, as long as nothing of the answer was handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// The same request will fail again.
    Never,
    /// It may pass: after what the server asks for, and a pause.
    Later(Option<Duration>),
    /// With another key.
    NewKey,
    /// On another connection: this one was over before the request.
    NewConnection,
}

/// Makes the texts of errors: they name the endpoint, are short, can be printed, and hold no secret.
#[derive(Clone)]
pub(crate) struct Texts {
    pub(crate) name: Arc<str>,
    /// What must not appear.
    pub(crate) secrets: Vec<Arc<str>>,
}

impl Texts {
    fn of(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.secrets.iter().filter(|secret| !secret.is_empty()) {
            text = text.replace(&**secret, MASK);
        }
        let text = format!("{}: {}", self.name, text.trim());
        bulkhead_printable::line(&text).chars().take(MAX_CHARS).collect()
    }

    /// The server was not reached, or broke off before an answer began.
    pub(crate) fn unavailable(&self, text: &str) -> Failure {
        Failure { error: Error::Unavailable(self.of(text)), retry: Retry::Later(None) }
    }

    /// The time is over, or the server fell silent.
    pub(crate) fn timeout(&self, text: &str, retry: Retry) -> Failure {
        Failure { error: Error::Timeout(self.of(text)), retry }
    }

    /// It is no answer, and will be none.
    pub(crate) fn bad(&self, text: &str) -> Failure {
        let error = Error::BadAnswer { message: self.of(text), cut_off: false };
        Failure { error, retry: Retry::Never }
    }

    /// The connection broke off. An answer that `has_begun` was cut off by that.
    pub(crate) fn cut_off(&self, text: &str, has_begun: bool) -> Failure {
        if !has_begun {
            return self.unavailable(text);
        }
        let error = Error::BadAnswer { message: self.of(text), cut_off: true };
        Failure { error, retry: Retry::Later(None) }
    }

    /// The request cannot be sent or is refused, for every caller.
    pub(crate) fn rejected(&self, status: u16, text: &str) -> Failure {
        let error = Error::Rejected { status, message: self.of(text) };
        Failure { error, retry: Retry::Never }
    }

    /// The server answered with an error. Status 200: in the middle of a stream, and without a status of its own.
    pub(crate) fn status(&self, status: u16, text: &str, asked: Option<Duration>) -> Failure {
        match status {
            408 | 500..=599 => {
                let error = Error::Unavailable(self.of(&format!("status {status}: {text}")));
                Failure { error, retry: Retry::Later(asked) }
            }
            429 => {
                let error = Error::RateLimited { retry_after: asked, message: self.of(text) };
                Failure { error, retry: Retry::Later(asked) }
            }
            _ => {
                let retry = match status {
                    200 => Retry::Later(None),
                    401 => Retry::NewKey,
                    _ => Retry::Never,
                };
                Failure { retry, ..self.rejected(status, text) }
            }
        }
    }

    /// What came is not an answer, or is not all of one.
    pub(crate) fn problem(&self, problem: &Problem, has_begun: bool) -> Failure {
        match problem {
            Problem::Reported(text, status) => self.status(status.unwrap_or(200), text, None),
            Problem::CutAfter(_) | Problem::CutDocument => {
                self.cut_off(&problem.to_string(), has_begun)
            }
            Problem::CutOff if has_begun => self.cut_off(&problem.to_string(), true),
            Problem::CutOff => self.cut_off("the response ends before an answer began", false),
            Problem::Malformed(text) => self.bad(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Texts {
        Texts { name: "main".into(), secrets: vec!["".into(), "sk-secret".into()] }
    }

    #[test]
    fn texts_name_the_endpoint_and_hold_no_key() {
        let failure = texts().status(400, "bad key sk-secret\u{1b}[2J\n", None);
        assert_eq!(failure.error.to_string(), "main: bad key [key]\\u{1b}[2J");
        // Masked before it is cut, so that no half of a key stays.
        let long = format!("{}sk-secret", "x".repeat(MAX_CHARS - 10));
        let text = texts().bad(&long).error.to_string();
        assert!(text.chars().count() <= MAX_CHARS && !text.contains("sk-"), "{text}");
    }

    #[test]
    fn the_status_says_what_may_pass() {
        let of = |status| {
            let failure = texts().status(status, "no", None);
            let kind = match failure.error {
                Error::Unavailable(_) => "unavailable",
                Error::RateLimited { .. } => "rate limited",
                Error::Rejected { status: same, .. } if same == status => "rejected",
                _ => "",
            };
            (kind, failure.retry)
        };
        for status in [408, 500, 502, 503, 504, 529] {
            assert_eq!(of(status), ("unavailable", Retry::Later(None)), "{status}");
        }
        assert_eq!(of(429), ("rate limited", Retry::Later(None)));
        assert_eq!(of(200), ("rejected", Retry::Later(None)));
        assert_eq!(of(401), ("rejected", Retry::NewKey));
        for status in [302, 400, 403, 404, 407, 413, 422] {
            assert_eq!(of(status), ("rejected", Retry::Never), "{status}");
        }
    }
}

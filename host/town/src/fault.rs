//! Why a call failed: the one place that knows causes.

use std::fmt;
use std::time::Duration;

use bulkhead_net::ConnectError;
use bulkhead_types::error::chain;
use hyper::StatusCode;

/// What kind of failure it was. The words are in the log and in the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The name of the town's host has no address, or no resolver answers.
    Dns,
    /// Nobody took the connection.
    Connect,
    /// No TLS: a certificate that is not trusted, a wrong name, no TLS at all.
    Tls,
    /// Not through in time.
    Deadline,
    /// An answer with a status of 300 and above.
    Status,
    /// The connection ended before the answer did.
    HalfClosed,
    /// The answer is no HTTP.
    NotHttp,
    /// The answer is no JSON of the expected shape.
    NotJson,
    /// The answer is larger than the call may take.
    TooLarge,
    /// The octets are not those that their hash was made of.
    Corrupt,
    /// A newer run serves the town: nothing was sent.
    Fenced,
}

impl Cause {
    /// All of them, for tables.
    pub const ALL: [Self; 11] = [
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Deadline,
        Self::Status,
        Self::HalfClosed,
        Self::NotHttp,
        Self::NotJson,
        Self::TooLarge,
        Self::Corrupt,
        Self::Fenced,
    ];

    /// The word for it in a line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Deadline => "deadline",
            Self::Status => "status",
            Self::HalfClosed => "half_closed",
            Self::NotHttp => "not_http",
            Self::NotJson => "not_json",
            Self::TooLarge => "too_large",
            Self::Corrupt => "corrupt",
            Self::Fenced => "fenced",
        }
    }

    /// Whether the request cannot have reached the town, so that repeating it is safe whatever it is.
    pub(crate) fn is_before_sending(self) -> bool {
        matches!(self, Self::Dns | Self::Connect | Self::Tls)
    }

    /// Whether nobody answered who could be the town.
    pub(crate) fn is_silence(self) -> bool {
        self.is_before_sending() || matches!(self, Self::Deadline | Self::HalfClosed)
    }
}

/// A failed call. Never holds a secret: neither tokens nor bodies that were sent go into its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind of failure.
    pub cause: Cause,
    /// The status of the answer, when there was one.
    pub status: Option<u16>,
    /// What went wrong, in one line.
    pub message: String,
    /// How long the town asks to be left alone. Bounded.
    pub retry_after: Option<Duration>,
}

/// Of an error text that came from outside, in bytes.
const SHOWN_BYTES: usize = 300;

impl Fault {
    pub(crate) fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, status: None, message: message.into(), retry_after: None }
    }

    /// An answer that is a refusal. `text` is what the town says of it.
    pub(crate) fn refused(status: StatusCode, text: &str) -> Self {
        let text = one_line(text);
        let colon = if text.is_empty() { "" } else { ": " };
        let message = format!("the town answered {status}{colon}{text}");
        Self { status: Some(status.as_u16()), ..Self::new(Cause::Status, message) }
    }

    /// A newer run has been seen.
    pub(crate) fn fenced() -> Self {
        Self::new(Cause::Fenced, "a newer run serves the town; this one makes no further calls")
    }

    /// There is no connection.
    pub(crate) fn of_connecting(error: &ConnectError) -> Self {
        let cause = match error {
            ConnectError::Resolve { .. } => Cause::Dns,
            ConnectError::Refused(_)
            | ConnectError::Connect { .. }
            | ConnectError::Proxy { .. } => Cause::Connect,
            ConnectError::Tls { .. } => Cause::Tls,
        };
        Self::new(cause, one_line(&chain(error)))
    }

    /// The town does not have it: it was refused before, and nothing was sent.
    pub(crate) fn switched_off() -> Self {
        let message = "the call was refused before and is switched off for this run".to_owned();
        Self { status: Some(404), ..Self::new(Cause::Status, message) }
    }

    /// What hyper says went wrong on a connection that was there.
    pub(crate) fn of_hyper(error: &hyper::Error) -> Self {
        let cause = if error.is_parse_too_large() {
            Cause::TooLarge
        } else if error.is_parse() {
            Cause::NotHttp
        } else {
            Cause::HalfClosed
        };
        Self::new(cause, one_line(&chain(error)))
    }

    /// Whether another try can help: not when the town has understood and refused.
    pub(crate) fn is_passing(&self) -> bool {
        match self.cause {
            Cause::Status => matches!(self.status, Some(408 | 425 | 429 | 500..)),
            Cause::NotJson | Cause::TooLarge | Cause::Corrupt | Cause::Fenced => false,
            _ => true,
        }
    }

    /// Whether there is no use in saying the same thing later: the town itself has understood and refused. A
    /// token that is not good is put right some time, and another who answered is not the town.
    pub(crate) fn is_final(&self) -> bool {
        match self.cause {
            Cause::Status => {
                matches!(self.status, Some(400..500))
                    && !self.is_passing()
                    && self.status != Some(401)
            }
            Cause::Fenced => true,
            _ => false,
        }
    }

    /// Groups failures of one cause.
    pub(crate) fn fingerprint(&self, call: &str) -> String {
        let status = self.status.map_or_else(String::new, |status| format!(":{status}"));
        format!("town:{call}:{}{status}", self.cause.as_str())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cause.as_str(), self.message)
    }
}

impl std::error::Error for Fault {}

/// A text from outside as part of a line: bounded, without line breaks and control characters.
pub(crate) fn one_line(text: &str) -> String {
    let cut = &text[..text.floor_char_boundary(SHOWN_BYTES)];
    let clean = cut.chars().map(|char| if char.is_control() { ' ' } else { char });
    clean.collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_short_and_one_line() {
        let fault =
            Fault::refused(StatusCode::BAD_GATEWAY, &format!("a\nb\u{1b}{}", "ä".repeat(999)));
        assert!(fault.message.starts_with("the town answered 502 Bad Gateway: a b"), "{fault}");
        assert!(fault.message.len() < SHOWN_BYTES + 100);
        assert_eq!(fault.fingerprint("heartbeat"), "town:heartbeat:status:502");
    }

    #[test]
    fn a_refusal_is_not_tried_again_and_an_outage_is() {
        let of = |status| Fault::refused(StatusCode::from_u16(status).unwrap(), "").is_passing();
        assert!(of(500) && of(503) && of(429));
        assert!(!of(400) && !of(404) && !of(409) && !of(301));
        assert!(!Fault::fenced().is_passing());
        let of = |status| Fault::refused(StatusCode::from_u16(status).unwrap(), "").is_final();
        assert!(of(400) && of(404) && of(422) && Fault::fenced().is_final());
        assert!(!of(200) && !of(302) && !of(401) && !of(429) && !of(503));
        assert!(!Fault::new(Cause::NotJson, "a page").is_final());
    }
}

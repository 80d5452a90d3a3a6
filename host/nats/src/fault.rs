//! Why a call of a bucket failed.

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// No answer, or one that says to try again. What was to be stored may be.
    Unavailable,
    /// The server does not want it: credentials, permissions, no such bucket, no room.
    Refused,
    /// What answers is no NATS server, or the bucket does not keep what it is given.
    Misbehaves,
}

/// A failure. The text names it, and no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What kind.
    pub cause: Cause,
    /// One sentence for a person. What a server says is in it, at any length.
    pub message: String,
}

impl Fault {
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self { cause: Cause::Unavailable, message: message.into() }
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self { cause: Cause::Refused, message: message.into() }
    }

    pub(crate) fn misbehaves(message: impl Into<String>) -> Self {
        Self { cause: Cause::Misbehaves, message: message.into() }
    }

    /// What a server says by `-ERR`.
    pub(crate) fn of_server(text: &str) -> Self {
        let lower = text.to_ascii_lowercase();
        let is_final = ["authorization", "authentication", "permissions", "maximum", "account"];
        let message = format!("the NATS server says: {text}");
        match is_final.iter().any(|word| lower.contains(word)) {
            true => Self::refused(message),
            false => Self::unavailable(message),
        }
    }
}

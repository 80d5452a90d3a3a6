//! Why a call of a bucket failed.

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// There is no connection: nothing was sent.
    Connect,
    /// The connection broke, or what answers does not speak the protocol. A document may have been stored.
    Protocol,
    /// The server does not want it: its status, or no credentials.
    Refused,
    /// The server has no room.
    Full,
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

impl Cause {
    /// Of a status that is no success.
    pub fn of_status(status: http::StatusCode) -> Self {
        match status.as_u16() {
            413 | 507 => Self::Full,
            _ => Self::Refused,
        }
    }
}

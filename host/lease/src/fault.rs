//! Why a call of the register failed.

/// A call that failed. The text names no secret, and has at most 512 bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// No answer, or one that says to try again.
    #[error("{0}")]
    Unavailable(String),
    /// It does not want it: credentials, rights, no room.
    #[error("{0}")]
    Refused(String),
    /// What answers is no register, or one that does not keep its word.
    #[error("{0}")]
    Misbehaves(String),
}

/// Longest text of an error: what a server says may be anything.
const MAX_MESSAGE: usize = 512;

impl RegisterError {
    pub(crate) fn unavailable(text: impl Into<String>) -> Self {
        Self::Unavailable(bounded(text.into()))
    }

    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self::Refused(bounded(text.into()))
    }

    pub(crate) fn misbehaves(text: impl Into<String>) -> Self {
        Self::Misbehaves(bounded(text.into()))
    }
}

fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_MESSAGE));
    text
}

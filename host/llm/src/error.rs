//! Why there is no answer.

use std::time::Duration;

/// Why there is no answer. The text names the endpoint, and contains no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The server was not reached, broke off before an answer began, or has no capacity (408, 5xx).
    #[error("{0}")]
    Unavailable(String),
    /// The server asks for patience (429).
    #[error("{message}")]
    RateLimited {
        /// For how long, if it says so.
        retry_after: Option<Duration>,
        /// Its words.
        message: String,
    },
    /// The server refuses this request.
    #[error("{message}")]
    Rejected {
        /// The HTTP status. Of an error in the middle of a stream: the status that it names, else 200.
        status: u16,
        /// Its words.
        message: String,
    },
    /// What came is no answer, or ends in the middle.
    #[error("{message}")]
    BadAnswer {
        /// What is wrong with it.
        message: String,
        /// It ended in the middle, which may not happen again.
        cut_off: bool,
    },
    /// The time is over, or the server fell silent.
    #[error("{0}")]
    Timeout(String),
}

//! Why there is no answer.

use std::fmt;
use std::time::Duration;

use super::raw;
use crate::AgentError;

/// Why there is no answer. Texts name the endpoint, and contain no key. The host has repeated what may pass, as often
/// as its configuration says: there is no need to try again at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The request breaks a rule; the text names the field and the rule. Nothing was sent.
    Invalid(String),
    /// The role may not use this endpoint or model, or there is none. Nothing was sent.
    Denied(String),
    /// A budget is used up. Nothing was sent.
    BudgetExceeded {
        /// Names the budget, how much of it was used, and its bound.
        message: String,
        /// When there is room again. Missing: not within this message, or never.
        retry_after: Option<Duration>,
    },
    /// The server was not reached, broke off, or has no capacity.
    Unavailable(String),
    /// The server asks for patience.
    RateLimited {
        /// For how long, if it says so.
        retry_after: Option<Duration>,
    },
    /// The server refuses this request; the same one will fail again.
    Rejected {
        /// The HTTP status. Of an error in the middle of a stream: the status that it names, else 200.
        status: u16,
        /// The server's own words, at most 300 characters.
        message: String,
    },
    /// What came is no answer, or ends in the middle.
    BadAnswer(String),
    /// The time for the call is over, or the server fell silent.
    Timeout(String),
    /// The answer was cancelled.
    Cancelled,
}

impl From<raw::ModelError> for Error {
    fn from(error: raw::ModelError) -> Self {
        let after = |ms: Option<u64>| ms.map(Duration::from_millis);
        match error {
            raw::ModelError::Invalid(message) => Self::Invalid(message),
            raw::ModelError::Denied(message) => Self::Denied(message),
            raw::ModelError::BudgetExceeded(raw::ExhaustedBudget { message, retry_ms }) => {
                Self::BudgetExceeded { message, retry_after: after(retry_ms) }
            }
            raw::ModelError::Unavailable(message) => Self::Unavailable(message),
            raw::ModelError::RateLimited(ms) => Self::RateLimited { retry_after: after(ms) },
            raw::ModelError::Rejected(raw::Rejection { status, message }) => {
                Self::Rejected { status, message }
            }
            raw::ModelError::BadAnswer(message) => Self::BadAnswer(message),
            raw::ModelError::Timeout(message) => Self::Timeout(message),
            raw::ModelError::Cancelled => Self::Cancelled,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(message) => write!(f, "invalid model request: {message}"),
            Self::Denied(message) => write!(f, "model denied: {message}"),
            Self::BudgetExceeded { message, retry_after } => {
                write!(f, "budget exceeded: {message}")?;
                retry_after
                    .map_or(Ok(()), |wait| write!(f, "; room again in {} ms", wait.as_millis()))
            }
            Self::Unavailable(message) => write!(f, "model unavailable: {message}"),
            Self::RateLimited { retry_after: Some(wait) } => {
                write!(f, "model is rate limited, its server asks to wait {} ms", wait.as_millis())
            }
            Self::RateLimited { retry_after: None } => write!(f, "model is rate limited"),
            Self::Rejected { status, message } => {
                write!(f, "model refused the request with status {status}: {message}")
            }
            Self::BadAnswer(message) => write!(f, "bad answer of the model: {message}"),
            Self::Timeout(message) => write!(f, "model timed out: {message}"),
            Self::Cancelled => write!(f, "answer of the model was cancelled"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for AgentError {
    /// None is fatal.
    ///
    /// | code | errors |
    /// | --- | --- |
    /// | `model-unavailable` | what may pass: unavailable, rate limited, timeout |
    /// | `model-refused` | rejected |
    /// | `model-bad-answer` | bad answer |
    /// | `model-denied` | denied |
    /// | `model-invalid` | invalid |
    /// | `model-cancelled` | cancelled |
    /// | `budget-exceeded` | budget exceeded |
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Unavailable(_) | Error::RateLimited { .. } | Error::Timeout(_) => {
                "model-unavailable"
            }
            Error::Rejected { .. } => "model-refused",
            Error::BadAnswer(_) => "model-bad-answer",
            Error::Denied(_) => "model-denied",
            Error::Invalid(_) => "model-invalid",
            Error::Cancelled => "model-cancelled",
            Error::BudgetExceeded { .. } => "budget-exceeded",
        };
        Self::failed(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_code_and_none_is_fatal() {
        let text = || "at `main`".to_owned();
        let wait = Some(Duration::from_secs(61));
        for (error, code, part) in [
            (Error::Invalid(text()), "model-invalid", "`main`"),
            (Error::Denied(text()), "model-denied", "`main`"),
            (
                Error::BudgetExceeded { message: text(), retry_after: wait },
                "budget-exceeded",
                "`main`; room again in 61000 ms",
            ),
            (
                Error::BudgetExceeded { message: text(), retry_after: None },
                "budget-exceeded",
                "exceeded: at `main`",
            ),
            (Error::Unavailable(text()), "model-unavailable", "`main`"),
            (Error::RateLimited { retry_after: wait }, "model-unavailable", "61000 ms"),
            (Error::RateLimited { retry_after: None }, "model-unavailable", "rate limited"),
            (Error::Rejected { status: 401, message: text() }, "model-refused", "401: at `main`"),
            (Error::BadAnswer(text()), "model-bad-answer", "`main`"),
            (Error::Timeout(text()), "model-unavailable", "`main`"),
            (Error::Cancelled, "model-cancelled", "cancelled"),
        ] {
            let error = AgentError::from(error);
            assert_eq!((error.code.as_str(), error.fatal), (code, false));
            assert!(error.message.contains(part), "{}", error.message);
        }
    }
}

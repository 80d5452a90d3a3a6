//! Why a document was not stored or read.

use std::io;

use bulkhead_bucket as bucket;
use bulkhead_net::ExchangeError;
use bulkhead_types::error::chain;

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It took too long.
    Deadline,
    /// There is no connection.
    Connect,
    /// The connection broke, or what answers does not speak the protocol.
    Protocol,
    /// The sink does not want it: its status, or no right to a directory.
    Refused,
    /// The sink has no room.
    Full,
    /// The disk of a directory failed.
    Disk,
}

impl Cause {
    /// The word for it in a line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Connect => "connect",
            Self::Protocol => "protocol",
            Self::Refused => "refused",
            Self::Full => "full",
            Self::Disk => "disk",
        }
    }
}

/// A failure of the sink. The text names it, and no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What kind.
    pub cause: Cause,
    /// One sentence for a person. At most 512 bytes.
    pub message: String,
}

/// Longest text of a fault: what a sink says may be anything.
const MAX_MESSAGE: usize = 512;

impl Fault {
    pub(crate) fn new(cause: Cause, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        Self { cause, message }
    }

    /// A status that is no success.
    pub(crate) fn of_status(status: http::StatusCode) -> Self {
        Self::new(bucket::Cause::of_status(status).into(), format!("the sink answered {status}"))
    }

    /// Of a directory.
    pub(crate) fn of_io(doing: &str, error: &io::Error) -> Self {
        let cause = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Cause::Full,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Cause::Refused,
            _ => Cause::Disk,
        };
        Self::new(cause, format!("{doing}: {error}"))
    }
}

impl From<bucket::Cause> for Cause {
    fn from(cause: bucket::Cause) -> Self {
        match cause {
            bucket::Cause::Connect => Self::Connect,
            bucket::Cause::Protocol => Self::Protocol,
            bucket::Cause::Refused | bucket::Cause::NoBucket => Self::Refused,
            bucket::Cause::Full => Self::Full,
        }
    }
}

impl From<bucket::Fault> for Fault {
    fn from(fault: bucket::Fault) -> Self {
        Self::new(fault.cause.into(), fault.message)
    }
}

impl From<ExchangeError> for Fault {
    fn from(error: ExchangeError) -> Self {
        let cause = match error {
            ExchangeError::Connect(_) => Cause::Connect,
            ExchangeError::Url(_) | ExchangeError::Protocol(_) => Cause::Protocol,
        };
        Self::new(cause, chain(&error))
    }
}

//! Whether there is a file to write to.

use std::sync::Arc;
use std::time::Instant;

use super::file::Opened;

/// Whether there is a file to write to.
pub(super) enum FileState {
    /// Everything is well.
    Open(Opened),
    /// There is no file to write to. `None`: it is not tried again.
    Lost { reason: Arc<str>, retry_at: Option<Instant> },
}

impl FileState {
    /// Why there is none.
    pub(super) fn lost(&self) -> Option<&Arc<str>> {
        match self {
            Self::Open(_) => None,
            Self::Lost { reason, .. } => Some(reason),
        }
    }
}

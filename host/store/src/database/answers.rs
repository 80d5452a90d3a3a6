//! What the database answers to its callers, and reports to its owner.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;

/// What was not written, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not durable: {reason}")]
pub struct NotDurable {
    /// One fragment for a person.
    pub reason: Arc<str>,
}

/// Why a snapshot is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotRefused {
    /// Larger than the bound.
    #[error("snapshot has {bytes} bytes, at most {max_bytes} are kept")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        max_bytes: usize,
    },
    /// Too much waits for the disk.
    #[error("too many snapshots wait for the disk")]
    Full,
}

/// Something that a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The file was damaged, or gone. A new one is there.
    SetAside {
        /// What was found.
        reason: String,
        /// Where it is now. Nothing was there: nowhere.
        kept_as: Option<PathBuf>,
        /// The oldest of those that were set aside before; it had to make room.
        removed: Option<PathBuf>,
    },
    /// There is no file to write to. Nothing is durable.
    Unavailable {
        /// What went wrong.
        reason: String,
        /// Whether it is tried again.
        retries: bool,
    },
    /// The file is back, with everything that was kept in memory meanwhile: what is known of agents, and the
    /// crash records. Snapshots that were refused meanwhile are not among it.
    Available {
        /// Crash records that waited and are written.
        crashes_written: u64,
        /// Crash records that had to make room for newer ones while they waited.
        crashes_dropped: u64,
    },
    /// The check at open was too slow for its time.
    CheckCutShort,
    /// Rows that say nothing. They are left where they are.
    Unreadable {
        /// Agents.
        agents: u64,
        /// Crash records.
        crashes: u64,
    },
}

/// Of a file that is gone.
const GONE: &str = "the database is missing or empty, although earlier runs left their journal or events beside it: agents that were \
    started over the API, snapshots, quarantines and crash records are lost; restore a backup, or start the agents again";

impl Notice {
    /// Earlier runs had a file.
    pub(super) fn gone() -> Self {
        Self::SetAside { reason: GONE.into(), kept_as: None, removed: None }
    }
}

/// Resolves when what was changed is written.
#[derive(Debug)]
pub struct Receipt(pub(super) oneshot::Receiver<Result<(), NotDurable>>);

impl Receipt {
    /// Waits for the commit. A writer that hangs in a disk lets this wait: bound it.
    pub async fn durable(self) -> Result<(), NotDurable> {
        self.0.await.unwrap_or_else(|_| Err(NotDurable::gone()))
    }

    /// The same on a thread that may block, outside of any runtime.
    pub fn wait(self) -> Result<(), NotDurable> {
        self.0.blocking_recv().unwrap_or_else(|_| Err(NotDurable::gone()))
    }
}

impl NotDurable {
    pub(super) fn gone() -> Self {
        Self { reason: super::CLOSED.into() }
    }

    pub(super) fn too_many() -> Self {
        Self { reason: "too many wait for the disk".into() }
    }
}

//! How the database is set up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::pages::Follower;
use super::records::Retention;

/// Largest snapshot that is kept by default, in bytes.
pub const MAX_SNAPSHOT_BYTES: usize = 16 * 1024 * 1024;

/// How the database is set up.
#[derive(Clone)]
pub struct Config {
    /// Where its files are. Without one nothing is durable.
    pub dir: Option<PathBuf>,
    /// Why the files must not be touched, if they must not: then nothing is durable, and that is reported.
    pub unusable: Option<String>,
    /// Earlier runs had a database here: one that is missing or empty is a loss, and that is reported.
    pub expected: bool,
    /// Agents that are known. Past it those go first that are stopped and changed first.
    pub max_agents: usize,
    /// Largest snapshot, in bytes.
    pub max_snapshot_bytes: usize,
    /// Bytes of snapshots that may wait for the writer. More are refused.
    pub snapshot_queue_bytes: usize,
    /// Crash records that may wait for the writer, or for a file. Past it the oldest are dropped and counted.
    pub crash_queue: usize,
    /// Of them together, in memory.
    pub crash_queue_bytes: usize,
    /// Bytes of the log of what was committed. Past it, when it cannot be emptied, the file counts as lost. What is
    /// written between two checks comes on top: 8 MiB and one transaction.
    pub max_log_bytes: u64,
    /// How many crash records the file keeps.
    pub retention: Retention,
    /// The newest crash records that are read at open.
    pub crashes_at_open: usize,
    /// Time between two tries when there is no file to write to.
    pub retry: Duration,
    /// How long the check at open may take. One that is cut short is reported.
    pub check: Duration,
    /// Hears which pages of the file change.
    pub follower: Option<Arc<dyn Follower>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: None,
            unusable: None,
            expected: false,
            max_agents: 10_000,
            max_snapshot_bytes: MAX_SNAPSHOT_BYTES,
            snapshot_queue_bytes: 64 * 1024 * 1024,
            crash_queue: 4096,
            crash_queue_bytes: 32 * 1024 * 1024,
            max_log_bytes: 64 * 1024 * 1024,
            retention: Retention::default(),
            crashes_at_open: 1000,
            retry: Duration::from_secs(5),
            check: Duration::from_secs(2),
            follower: None,
        }
    }
}

impl Config {
    /// The default bounds, with the files in a directory of their own below `state_dir`.
    pub fn in_state_dir(state_dir: &Path) -> Self {
        Self { dir: Some(state_dir.join("store")), ..Self::default() }
    }
}

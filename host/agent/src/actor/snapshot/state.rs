//! What an incarnation has to do with snapshots.

use bulkhead_types::Timestamp;
use tokio::time::Instant;

use super::attempt::{Attempt, Attempts};
use super::lineage::Lineage;

/// What an incarnation has to do with snapshots.
#[derive(Default)]
pub(in crate::actor) struct Snapshots {
    /// The first turn that no snapshot has.
    pub dirty_since: Option<Instant>,
    /// What became of the attempts to have one.
    pub attempts: Attempts,
    /// What became of the last one.
    pub last_attempt: Attempt,
    /// What was kept last, so that the same is not kept twice.
    pub last: Option<[u8; 32]>,
    /// What it began with, until its first turn is done.
    pub unproven: Option<Restored>,
    /// What its snapshots follow from.
    pub lineage: Lineage,
}

/// A snapshot that an incarnation began with.
pub(in crate::actor) struct Restored {
    pub generation: u64,
    pub failures: u32,
    pub taken_at: Timestamp,
    pub bytes: usize,
}

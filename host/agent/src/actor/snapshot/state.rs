//! What an incarnation has to do with snapshots.

use bulkhead_store::database::Kept;
use bulkhead_types::{Digest, Timestamp};
use tokio::time::Instant;

use super::attempt::{Attempt, Attempts, NotKept};
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
    /// Why the last one was not kept, as it was said.
    pub not_kept: Option<NotKept>,
    /// What was kept last, so that the same is not kept twice.
    pub last: Option<[u8; 32]>,
    /// What it began with, until its first turn is done.
    pub unproven: Option<Restored>,
    /// What its snapshots follow from.
    pub lineage: Lineage,
}

/// A snapshot that an incarnation began with.
#[derive(Debug, Clone)]
pub(in crate::actor) struct Restored {
    pub generation: u64,
    pub failures: u32,
    pub taken_at: Timestamp,
    pub bytes: usize,
    /// The code that is known to work with it.
    pub code: Option<Digest>,
}

impl From<&Kept> for Restored {
    fn from(Kept { generation, snapshot, failures }: &Kept) -> Self {
        Self {
            generation: *generation,
            failures: *failures,
            taken_at: snapshot.taken_at,
            bytes: snapshot.bytes.len(),
            code: snapshot.code,
        }
    }
}

impl Restored {
    /// Whether a fault of this code is evidence against the snapshot: the code is known to work with it. A fault of any
    /// other is evidence against the code, which may not even load.
    pub fn is_judged_by(&self, code: Option<Digest>) -> bool {
        self.code.is_some() && self.code == code
    }

    /// Whether the first turn of this code has something to write down.
    pub fn is_news_to(&self, code: Digest) -> bool {
        self.failures > 0 || self.code != Some(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_that_works_with_a_snapshot_judges_it() {
        let (known, other) = (Some(Digest([1; 32])), Some(Digest([2; 32])));
        let of =
            |code| Restored { generation: 1, failures: 0, taken_at: Timestamp(0), bytes: 1, code };
        for (wrote, runs, judges) in [
            (known, known, true),
            (known, other, false),
            (known, None, false),
            (None, known, false),
            (None, None, false),
        ] {
            assert_eq!(of(wrote).is_judged_by(runs), judges, "{wrote:?} {runs:?}");
        }
        assert!(!of(known).is_news_to(Digest([1; 32])));
        assert!(of(known).is_news_to(Digest([2; 32])) && of(None).is_news_to(Digest([1; 32])));
        assert!(Restored { failures: 1, ..of(known) }.is_news_to(Digest([1; 32])));
    }
}

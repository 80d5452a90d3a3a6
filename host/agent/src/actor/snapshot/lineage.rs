//! The order of an agent's snapshots.
//!
//! Snapshots of one agent are compared by when they were taken: those of this host with those of the town, which
//! may come from another machine. A wall clock alone does not do for that, because it is set back now and then.
//! So the time of a snapshot is a logical clock: the wall clock, but always later than every snapshot that was
//! seen before it. Along a lineage it only rises; between two machines the later one wins.

use bulkhead_types::Timestamp;

/// The newest snapshot that was seen, taken or restored from.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::actor) struct Lineage {
    newest: Option<Timestamp>,
}

impl Lineage {
    /// What comes now follows from a snapshot that was taken then.
    pub(super) fn follows(&mut self, taken_at: Timestamp) {
        self.newest = self.newest.max(Some(taken_at));
    }

    /// The time of a snapshot that is taken when the wall clock says `now`.
    pub(super) fn next(&mut self, now: Timestamp) -> Timestamp {
        let after = self.newest.map(|newest| Timestamp(newest.0.saturating_add(1)));
        let at = after.map_or(now, |after| after.max(now));
        self.newest = Some(at);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_makes_no_snapshot_older_than_the_one_before_it() {
        // A first incarnation: it began with nothing.
        let mut lineage = Lineage::default();
        let first = lineage.next(Timestamp(1000));
        let second = lineage.next(Timestamp(400));
        let third = lineage.next(Timestamp(400));
        assert_eq!(first, Timestamp(1000));
        assert!(first < second && second < third, "{first:?} {second:?} {third:?}");
        assert_eq!(lineage.next(Timestamp(5000)), Timestamp(5000), "and goes with the clock again");
    }

    #[test]
    fn what_follows_from_a_snapshot_is_newer_than_it_wherever_that_was_taken() {
        let mut lineage = Lineage::default();
        lineage.follows(Timestamp(9000));
        // An older one that was checked as well.
        lineage.follows(Timestamp(10));
        assert_eq!(lineage.next(Timestamp(1000)), Timestamp(9001));
        lineage.follows(Timestamp(i64::MAX));
        assert_eq!(lineage.next(Timestamp(1000)), Timestamp(i64::MAX), "no overflow");
    }
}

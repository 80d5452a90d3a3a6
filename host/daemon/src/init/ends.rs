//! The ends that init saw and that no supervisor has reported yet.
//!
//! A boot that is killed reports nothing, and of several in a row each may leave nothing behind. So an end is handed
//! over to every supervisor until one says, by [`InitMessage::Reported`], that all it was given are reported.
//!
//! [`InitMessage::Reported`]: super::InitMessage::Reported

use std::collections::VecDeque;

use super::ProcessEnd;

/// Ends that are kept. The oldest makes room, and is counted.
pub const MAX_ENDS: usize = 8;

/// What was seen and not reported.
#[derive(Debug, Default)]
pub struct Ends {
    kept: VecDeque<ProcessEnd>,
    forgotten: u64,
}

impl Ends {
    /// One more.
    pub fn saw(&mut self, end: ProcessEnd) {
        if self.kept.len() >= MAX_ENDS {
            self.kept.pop_front();
            self.forgotten += 1;
        }
        self.kept.push_back(end);
    }

    /// All of them were reported.
    pub fn set_reported(&mut self) {
        *self = Self::default();
    }

    /// Whether there are any.
    pub fn is_owed(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Oldest first, at most [`MAX_ENDS`].
    pub fn kept(&self) -> Vec<ProcessEnd> {
        self.kept.iter().cloned().collect()
    }

    /// How many there were before those.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_types::previous::MemoryFigures;

    use super::*;

    fn end(pid: i32) -> ProcessEnd {
        ProcessEnd {
            run_id: format!("run-{pid}"),
            pid,
            code: None,
            signal: Some(9),
            counters_before: MemoryFigures::default(),
            counters_after: MemoryFigures::default(),
            lease_lost: false,
        }
    }

    #[test]
    fn ends_are_kept_until_they_are_reported_and_what_makes_room_is_counted() {
        let mut ends = Ends::default();
        for pid in 1..=11 {
            ends.saw(end(pid));
        }
        let pids: Vec<_> = ends.kept().iter().map(|end| end.pid).collect();
        assert_eq!(pids, [4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(ends.forgotten(), 3);
        ends.set_reported();
        assert_eq!((ends.kept(), ends.forgotten()), (Vec::new(), 0));
    }
}

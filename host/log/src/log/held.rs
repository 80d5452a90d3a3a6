//! Crashes that a person is not shown yet, because the files and lines of their frames are still being found.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_types::{CrashRecord, Frames, Symbolized};

/// How long a crash is held at most. The first crash of a large component takes longest.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Crashes that are held at once. With more, each is shown at once.
const MOST: usize = 16;

/// The crashes, the oldest first.
#[derive(Default)]
pub(super) struct HeldCrashes(VecDeque<(Instant, Arc<CrashRecord>)>);

impl HeldCrashes {
    /// Holds a crash. Yields it when there is nothing to wait for, or no room.
    pub fn hold(&mut self, record: &Arc<CrashRecord>, now: Instant) -> Option<Arc<CrashRecord>> {
        if record.symbolized != Symbolized::Pending || self.0.len() >= MOST {
            return Some(Arc::clone(record));
        }
        self.0.push_back((now + PATIENCE, Arc::clone(record)));
        None
    }

    /// Takes a crash whose files and lines are known now, with them.
    pub fn symbolized(
        &mut self,
        crash_id: &str,
        frames: &Frames,
        symbolized: Symbolized,
    ) -> Option<CrashRecord> {
        let at = self.0.iter().position(|(_, record)| record.crash_id == crash_id)?;
        let (_, record) = self.0.remove(at)?;
        Some(CrashRecord { frames: frames.clone(), symbolized, ..CrashRecord::clone(&record) })
    }

    /// Takes those that were held long enough, or all.
    pub fn due(&mut self, now: Option<Instant>) -> Vec<Arc<CrashRecord>> {
        let is_due = |(due, _): &(Instant, _)| now.is_none_or(|now| *due <= now);
        let count = self.0.iter().take_while(|held| is_due(held)).count();
        self.0.drain(..count).map(|(_, record)| record).collect()
    }

    /// When the next one was held long enough.
    pub fn next_due(&self) -> Option<Instant> {
        self.0.front().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crash(number: usize) -> Arc<CrashRecord> {
        let is_crash = |event| match event {
            bulkhead_types::Event::AgentCrash(record) => Some(record),
            _ => None,
        };
        let record = crate::examples::all().into_iter().find_map(is_crash).unwrap();
        Arc::new(CrashRecord { crash_id: number.to_string(), ..CrashRecord::clone(&record) })
    }

    #[test]
    fn a_crash_is_held_until_its_lines_are_known_or_its_time_is_over() {
        let (mut held, now) = (HeldCrashes::default(), Instant::now());
        for number in 0..3 {
            assert_eq!(held.hold(&crash(number), now), None);
        }
        let found = held.symbolized("1", &Frames::default(), Symbolized::Done).unwrap();
        assert_eq!((&*found.crash_id, found.symbolized), ("1", Symbolized::Done));
        assert_eq!(held.symbolized("1", &Frames::default(), Symbolized::Done), None);
        assert_eq!(held.due(Some(now)).len(), 0);
        assert_eq!(held.next_due(), Some(now + PATIENCE));
        assert_eq!(held.due(Some(now + PATIENCE)).len(), 2);
        assert_eq!(held.next_due(), None);
    }

    #[test]
    fn a_crash_is_not_held_without_a_reason_or_without_room() {
        let (mut held, now) = (HeldCrashes::default(), Instant::now());
        let done = CrashRecord { symbolized: Symbolized::Done, ..CrashRecord::clone(&crash(0)) };
        assert!(held.hold(&Arc::new(done), now).is_some());
        for number in 0..MOST {
            assert_eq!(held.hold(&crash(number), now), None);
        }
        assert!(held.hold(&crash(MOST), now).is_some());
        assert_eq!(held.due(None).len(), MOST);
    }
}

//! The table of work at hand: what a run was at when it ended.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::facts::{self, Work};
use super::layout::{self, Area, Word};
use super::{Fact, Kind, Open, PAYLOAD_BYTES, now_ms, slot};

/// Where work that begins is written down until it ends. Cheap to clone, usable from every thread.
#[derive(Clone)]
pub struct InFlightTable {
    pub(super) open: Option<Arc<Open>>,
}

impl InFlightTable {
    /// One that keeps nothing.
    pub fn absent() -> Self {
        Self { open: None }
    }

    /// Marks work that is at hand until the marker is dropped. When this returns, that is known to the code that
    /// reads the black box, whatever ends the process.
    ///
    /// No lock, no system call, no wait. Work that finds the table full is counted instead: in
    /// [`untracked`](Self::untracked), and for the next run as long as it is at hand.
    pub fn begin(&self, work: &Work<'_>) -> Marker {
        let Some(open) = &self.open else { return Marker(Recorded::Nowhere) };
        let Some(index) = open.free.take() else {
            open.untracked.fetch_add(1, Relaxed);
            open.add_to(Word::Untracked, 1);
            return Marker(Recorded::OnlyCounted(Arc::clone(open)));
        };
        let mut buffer = [0; PAYLOAD_BYTES];
        let length = facts::render(&Fact::InFlight(work.borrowed()), &mut buffer);
        let seq = open.seq.fetch_add(1, Relaxed) + 1;
        let words = open.slot(Area::InFlight, index);
        slot::take(words);
        slot::publish(words, seq, now_ms(), Kind::InFlight.number(), &buffer[..length]);
        Marker(Recorded::Slot(Arc::clone(open), index))
    }

    /// Work of this run that was not marked, because the table was full.
    pub fn untracked(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.untracked.load(Relaxed))
    }
}

/// Work at hand, until this is dropped.
#[must_use = "dropping it says that the work ended"]
pub struct Marker(Recorded);

enum Recorded {
    Nowhere,
    Slot(Arc<Open>, u64),
    OnlyCounted(Arc<Open>),
}

impl Drop for Marker {
    fn drop(&mut self) {
        match &self.0 {
            Recorded::Nowhere => {}
            Recorded::Slot(open, index) => {
                slot::free(open.slot(Area::InFlight, *index));
                open.free.give(*index);
            }
            Recorded::OnlyCounted(open) => open.add_to(Word::Untracked, -1),
        }
    }
}

impl Open {
    /// Adds to a word that counts. It stays within what a word holds.
    pub(super) fn add_to(&self, word: Word, change: i64) {
        let more = |old| {
            let count = layout::value(word, old).unwrap_or(0);
            Some(layout::checked(word, count.saturating_add_signed(change)))
        };
        let _ = self.word(word).fetch_update(Relaxed, Relaxed, more);
    }
}

/// Which slots nobody has: one bit each.
pub struct FreeSlots {
    words: Box<[AtomicU64]>,
    /// The word that had one last.
    hint: AtomicU64,
}

impl FreeSlots {
    /// All of `slots` are free.
    pub fn new(slots: u64) -> Self {
        let word = |index| match slots - index * 64 {
            bits @ 0..64 => (1 << bits) - 1,
            _ => u64::MAX,
        };
        let words = (0..slots.div_ceil(64)).map(|index| AtomicU64::new(word(index))).collect();
        Self { words, hint: AtomicU64::new(0) }
    }

    /// Takes one. `None` when all are taken; one that is given back at this moment may be missed.
    pub fn take(&self) -> Option<u64> {
        let words = self.words.len() as u64;
        let first = self.hint.load(Relaxed);
        for n in 0..words {
            let index = (first + n) % words;
            if let Some(bit) = take_bit(&self.words[index as usize]) {
                if n > 0 {
                    self.hint.store(index, Relaxed);
                }
                return Some(index * 64 + u64::from(bit));
            }
        }
        None
    }

    /// This one is not free.
    pub fn claim(&self, slot: u64) {
        self.words[(slot / 64) as usize].fetch_and(!(1 << (slot % 64)), AcqRel);
    }

    /// Gives a slot back.
    pub fn give(&self, slot: u64) {
        self.words[(slot / 64) as usize].fetch_or(1 << (slot % 64), Release);
    }
}

fn take_bit(word: &AtomicU64) -> Option<u32> {
    let taken = word.fetch_update(AcqRel, Acquire, |free| (free != 0).then(|| free & (free - 1)));
    taken.ok().map(u64::trailing_zeros)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_slot_is_given_out_once_until_it_is_given_back() {
        for slots in [1, 63, 64, 65, 200] {
            let free = FreeSlots::new(slots);
            let taken: BTreeSet<u64> = std::iter::from_fn(|| free.take()).collect();
            assert_eq!(taken, (0..slots).collect(), "of {slots}");
            free.give(slots - 1);
            assert_eq!((free.take(), free.take()), (Some(slots - 1), None), "of {slots}");
        }
    }
}

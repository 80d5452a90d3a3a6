//! Bodies that a slot has no room for: in blocks, which need not lie together.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use super::lane::Head;
use super::layout::{self, BLOCK_BYTES, Geometry};
use bulkhead_blackbox::mapped::FreeSlots;

/// The blocks of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blocks {
    message_id: String,
    pub indexes: Vec<u16>,
    /// Size and checksum of the body. A sender may give two messages one id.
    bytes: usize,
    pub sum: u32,
}

impl Blocks {
    /// Of a record that was read.
    pub fn of(head: &Head<'_>) -> Option<Self> {
        let indexes = head.blocks.to_vec();
        let (message_id, bytes) = (head.id.clone().into_owned(), head.bytes as usize);
        let blocks = Self { message_id, indexes, bytes, sum: head.sum };
        Some(blocks).filter(|blocks| !blocks.indexes.is_empty())
    }
}

/// Which slot has which blocks.
pub(super) struct Bodies {
    geometry: Geometry,
    free: FreeSlots,
    held: Mutex<HashMap<u64, Held>>,
}

/// What a slot has. A body that another one replaces is held until the record of the other is valid.
struct Held {
    now: Blocks,
    before: Option<Blocks>,
}

impl Bodies {
    pub fn new(geometry: Geometry) -> Self {
        let free = FreeSlots::new(u64::from(geometry.blocks));
        Self { geometry, free, held: Mutex::default() }
    }

    /// Keeps a body for a slot, or finds it there already. `None`: there is no room for it.
    pub fn keep(
        &self,
        file: &[AtomicU64],
        slot: u64,
        message_id: &str,
        body: &[u8],
    ) -> Option<Blocks> {
        let (bytes, sum) = (body.len(), crc32fast::hash(body));
        let there = self.held.lock().get(&slot).map(|held| held.now.clone());
        let is_it = |there: &Blocks| {
            there.message_id == message_id && (there.bytes, there.sum) == (bytes, sum)
        };
        if let Some(there) = there.filter(is_it) {
            return Some(there);
        }
        let indexes = self.take(body.len().div_ceil(BLOCK_BYTES))?;
        for (index, part) in indexes.iter().zip(body.chunks(BLOCK_BYTES)) {
            layout::store(&file[self.geometry.block_words(u64::from(*index))], part);
        }
        let blocks = Blocks { message_id: message_id.to_owned(), indexes, bytes, sum };
        // A slot has one writer: nobody changed what it has meanwhile.
        let mut held = self.held.lock();
        let before = held.remove(&slot).map(|held| held.now);
        held.insert(slot, Held { now: blocks.clone(), before });
        Some(blocks)
    }

    /// What the file of the run before has for a slot is held by it.
    pub fn adopt(&self, slot: u64, blocks: Blocks) {
        blocks.indexes.iter().for_each(|index| self.free.claim(u64::from(*index)));
        self.held.lock().insert(slot, Held { now: blocks, before: None });
    }

    /// Gives back what a slot had before.
    pub fn release_before(&self, slot: u64) {
        let before = self.held.lock().get_mut(&slot).and_then(|held| held.before.take());
        self.give(before);
    }

    /// Gives back all that a slot has.
    pub fn release(&self, slot: u64) {
        if let Some(Held { now, before }) = self.held.lock().remove(&slot) {
            self.give(Some(now));
            self.give(before);
        }
    }

    /// How many blocks nobody has.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        let held = self.held.lock();
        let all = held.values().flat_map(|held| std::iter::once(&held.now).chain(&held.before));
        self.geometry.blocks as usize - all.map(|blocks| blocks.indexes.len()).sum::<usize>()
    }

    /// Holds up callers that take a body or give one back.
    #[cfg(test)]
    pub fn hold(&self) -> impl Sized + '_ {
        self.held.lock()
    }

    fn take(&self, count: usize) -> Option<Vec<u16>> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            match self.free.take() {
                Some(index) => taken.push(index as u16),
                None => {
                    taken.into_iter().for_each(|index| self.free.give(u64::from(index)));
                    return None;
                }
            }
        }
        Some(taken)
    }

    fn give(&self, blocks: Option<Blocks>) {
        let indexes = blocks.into_iter().flat_map(|blocks| blocks.indexes);
        indexes.for_each(|index| self.free.give(u64::from(index)));
    }
}

//! Where things are in the file.

use std::ops::{Range, RangeInclusive};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const MAGIC: &[u8; 8] = b"BHJOURNL";

/// A file of another version is set aside.
const VERSION: u32 = 1;

/// Size of the header.
pub(super) const HEADER_BYTES: usize = 4096;

/// Size of a slot: one page, so that an agent without messages costs no more.
pub(super) const SLOT_BYTES: usize = 4096;

/// Size of a block.
pub(super) const BLOCK_BYTES: usize = 8 * 1024;

/// Most agents with a slot.
const MAX_SLOTS: usize = 4096;

/// Blocks of the file: half as many as slots, so that every second agent may work on a message of some pages at
/// the same time, and one body of the largest size fits in any case.
const BLOCKS: RangeInclusive<u32> = 128..=2048;

/// Words of the header.
const FIXED: usize = 4;
const USED: usize = FIXED;

/// Words of a slot: its owner's id, with length and checksum before it, and the mark of its prompt.
const OWNER: usize = 0;
pub(super) const MARK: usize = 17;

/// Longest id of an owner, in bytes.
pub(super) const MAX_OWNER_BYTES: usize = (MARK - OWNER - 1) * 8;

/// Numbers of slots and blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub slots: u32,
    pub blocks: u32,
}

impl Geometry {
    /// For so many agents.
    pub fn of(agents: usize) -> Self {
        let slots = u32::try_from(agents.clamp(1, MAX_SLOTS)).unwrap_or(1);
        Self { slots, blocks: (slots / 2).clamp(*BLOCKS.start(), *BLOCKS.end()) }
    }

    /// Size of the file.
    pub fn bytes(self) -> u64 {
        self.block_at(u64::from(self.blocks))
    }

    pub fn slot_at(index: u64) -> u64 {
        HEADER_BYTES as u64 + index * SLOT_BYTES as u64
    }

    pub fn block_at(self, index: u64) -> u64 {
        Self::slot_at(u64::from(self.slots)) + index * BLOCK_BYTES as u64
    }

    pub fn slot_words(self, index: u64) -> Range<usize> {
        words(Self::slot_at(index), SLOT_BYTES)
    }

    pub fn block_words(self, index: u64) -> Range<usize> {
        words(self.block_at(index), BLOCK_BYTES)
    }
}

fn words(at: u64, bytes: usize) -> Range<usize> {
    let first = at as usize / 8;
    first..first + bytes / 8
}

/// The header's words that never change: what the file is, and its sizes.
fn fixed(geometry: Geometry) -> [u64; FIXED] {
    let sizes = u64::from(geometry.slots) | u64::from(geometry.blocks) << 32;
    let head = [u64::from_le_bytes(*MAGIC), u64::from(VERSION), sizes];
    let bytes: Vec<u8> = head.iter().flat_map(|word| word.to_le_bytes()).collect();
    [head[0], head[1], head[2], u64::from(crc32fast::hash(&bytes))]
}

pub(super) fn write_header(file: &[AtomicU64], geometry: Geometry) {
    for (word, value) in file.iter().zip(fixed(geometry)) {
        word.store(value, Relaxed);
    }
}

/// The sizes that a header says, and how many slots were used; or what is wrong with it.
pub(super) fn read_header(header: &[u8]) -> Result<(Geometry, u64), &'static str> {
    let (words, _) = header.as_chunks::<8>();
    let Some(words) = words.first_chunk::<{ FIXED + 1 }>() else {
        return Err("it is too short");
    };
    let words = words.map(u64::from_le_bytes);
    if words[0] != u64::from_le_bytes(*MAGIC) {
        return Err("it is no journal");
    }
    if words[1] != u64::from(VERSION) {
        return Err("it is of another version");
    }
    let geometry = Geometry { slots: words[2] as u32, blocks: (words[2] >> 32) as u32 };
    if words[..FIXED] != fixed(geometry) {
        return Err("its header is damaged");
    }
    Ok((geometry, words[USED].min(u64::from(geometry.slots))))
}

/// The first `slots` slots are in use, or were.
pub(super) fn mark_used(file: &[AtomicU64], slots: u64) {
    file[USED].fetch_max(slots, Relaxed);
}

/// Writes whose slot it is; nobody's when the id is empty.
pub(super) fn write_owner(slot: &[AtomicU64], id: &str) {
    let length = id.len().min(MAX_OWNER_BYTES);
    let id = &id.as_bytes()[..length];
    slot[OWNER].store(0, Release);
    store(&slot[OWNER + 1..MARK], id);
    if !id.is_empty() {
        slot[OWNER].store(sum_and_length(id), Release);
    }
}

/// Whose slot it is. `Err` when what is there is damaged.
pub(super) fn read_owner(slot: &[u8]) -> Result<Option<&str>, ()> {
    let head = word(slot, OWNER).ok_or(())?;
    if head == 0 {
        return Ok(None);
    }
    let length = (head >> 32) as usize;
    let id = slot.get((OWNER + 1) * 8..(OWNER + 1) * 8 + length).ok_or(())?;
    if length > MAX_OWNER_BYTES || sum_and_length(id) != head {
        return Err(());
    }
    str::from_utf8(id).map(Some).map_err(|_| ())
}

fn sum_and_length(bytes: &[u8]) -> u64 {
    u64::from(crc32fast::hash(bytes)) | (bytes.len() as u64) << 32
}

/// One word of bytes that were read from the file.
pub(super) fn word(bytes: &[u8], index: usize) -> Option<u64> {
    let bytes = bytes.get(index * 8..index * 8 + 8)?;
    Some(u64::from_le_bytes(*bytes.first_chunk()?))
}

/// Stores bytes into words, the last one filled up with zeros.
pub(super) fn store(words: &[AtomicU64], bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks::<8>();
    for (word, chunk) in words.iter().zip(whole) {
        word.store(u64::from_le_bytes(*chunk), Relaxed);
    }
    if let Some(word) = words.get(whole.len()).filter(|_| !rest.is_empty()) {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        word.store(u64::from_le_bytes(last), Relaxed);
    }
}

/// What a word of the mapping has.
pub(super) fn load(word: &AtomicU64) -> u64 {
    word.load(Acquire)
}

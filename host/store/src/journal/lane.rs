//! One lane of a slot: two halves, of which one is valid.

use std::borrow::Cow;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Release;

use bulkhead_types::{Message, Sender};
use serde::{Deserialize, Serialize};

use super::layout::{self, SLOT_BYTES};

/// Words of a slot before its lanes.
const LANES_AT: usize = 32;

/// Words of one half of the prompt's lane. Its text is not in it.
const PROMPT_HALF: usize = 73;

/// Words of one half of the mail's lane: the rest of the slot.
const MAIL_HALF: usize = (SLOT_BYTES / 8 - LANES_AT - 2 - 2 * PROMPT_HALF) / 2;

/// Largest record of any half, in bytes.
const MAX_RECORD_BYTES: usize = (MAIL_HALF - 1) * 8;

/// Which lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// The prompt of the start.
    Prompt,
    /// Any other message.
    Mail,
}

impl Lane {
    /// Where it begins in a slot, and the size of a half, in words.
    fn at(self) -> (usize, usize) {
        match self {
            Self::Prompt => (LANES_AT, PROMPT_HALF),
            Self::Mail => (LANES_AT + 1 + 2 * PROMPT_HALF, MAIL_HALF),
        }
    }
}

/// What a lane says of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// There is none.
    None,
    /// Its turn is under way.
    Delivered,
    /// It waits to be delivered again.
    Waits,
    /// It is done with.
    Done,
}

/// The state of a lane: its kind, which half is valid, and whether its body is in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    kind: Kind,
    half: usize,
    has_blocks: bool,
}

const HALF_BIT: u64 = 1 << 8;
const BLOCKS_BIT: u64 = 1 << 9;

impl State {
    fn of(word: u64) -> Self {
        let kind = match word & 0xff {
            1 => Kind::Delivered,
            2 => Kind::Waits,
            3 => Kind::Done,
            _ => Kind::None,
        };
        let half = usize::from(word & HALF_BIT != 0);
        Self { kind, half, has_blocks: word & BLOCKS_BIT != 0 }
    }

    fn word(self) -> u64 {
        let kind = match self.kind {
            Kind::None => 0,
            Kind::Delivered => 1,
            Kind::Waits => 2,
            Kind::Done => 3,
        };
        let half = if self.half == 1 { HALF_BIT } else { 0 };
        let blocks = if self.has_blocks { BLOCKS_BIT } else { 0 };
        kind | half | blocks
    }
}

/// A record without its body.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head<'a> {
    pub id: Cow<'a, str>,
    pub sender: Cow<'a, Sender>,
    pub attempt: u32,
    pub faults: u32,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub crashes: Cow<'a, [String]>,
    /// Of a body that is in blocks: where, how long, its checksum.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub blocks: Cow<'a, [u16]>,
    pub bytes: u32,
    #[serde(default)]
    pub sum: u32,
}

impl<'a> Head<'a> {
    pub fn of(message: &'a Message, faults: u32, crash_ids: &'a [String]) -> Self {
        Self {
            id: Cow::Borrowed(&message.id),
            sender: Cow::Borrowed(&message.sender),
            attempt: message.attempt,
            faults,
            crashes: Cow::Borrowed(crash_ids),
            blocks: Cow::Borrowed(&[]),
            bytes: u32::try_from(message.body.len()).unwrap_or(u32::MAX),
            sum: 0,
        }
    }

    pub fn with_blocks(self, blocks: &'a [u16], sum: u32) -> Self {
        Self { blocks: Cow::Borrowed(blocks), sum, ..self }
    }
}

/// The words of a lane in the mapping. One task at a time writes them.
pub(super) struct Words<'a> {
    state: &'a AtomicU64,
    halves: [&'a [AtomicU64]; 2],
}

impl<'a> Words<'a> {
    pub fn of(slot: &'a [AtomicU64], lane: Lane) -> Self {
        let (at, half) = lane.at();
        let first = at + 1;
        let halves = [&slot[first..first + half], &slot[first + half..first + 2 * half]];
        Self { state: &slot[at], halves }
    }

    fn state(&self) -> State {
        State::of(layout::load(self.state))
    }

    /// Whether the record's body is in blocks.
    #[cfg(test)]
    pub fn has_blocks(&self) -> bool {
        self.state().has_blocks
    }

    /// The record is done with. Says whether it had blocks.
    pub fn clear(&self, kind: Kind) -> bool {
        let state = self.state();
        self.state.store(State { kind, has_blocks: false, ..state }.word(), Release);
        state.has_blocks
    }

    /// Puts a record in place of the one that is there. `false`: it is too large, and nothing changed.
    pub fn write(&self, kind: Kind, head: &Head<'_>, body: &[u8]) -> bool {
        let mut record = [0; MAX_RECORD_BYTES];
        let half = 1 - self.state().half;
        let Some((word, rest)) = self.halves[half].split_first() else { return false };
        let room = rest.len() * 8;
        let mut left = &mut record[..room];
        if serde_json::to_writer(&mut left, head).is_err() {
            return false;
        }
        let head_bytes = room - left.len();
        let Some(place) = left.get_mut(..body.len()) else { return false };
        place.copy_from_slice(body);
        let record = &record[..head_bytes + body.len()];
        layout::store(rest, record);
        word.store(half_word(record, head_bytes), Release);
        let has_blocks = !head.blocks.is_empty();
        self.state.store(State { kind, half, has_blocks }.word(), Release);
        true
    }
}

/// Checksum and lengths of the record of a half.
fn half_word(record: &[u8], head_bytes: usize) -> u64 {
    let body_bytes = (record.len() - head_bytes) as u64;
    u64::from(crc32fast::hash(record)) | (head_bytes as u64) << 32 | body_bytes << 48
}

/// What a lane of a file says.
pub(super) enum Read<'a> {
    Nothing,
    Done,
    /// `true`: its turn was under way.
    Record(Head<'a>, &'a [u8], bool),
    Damaged,
}

/// Reads a lane from the bytes of a slot, whatever is in them.
pub(super) fn read(slot: &[u8], lane: Lane) -> Read<'_> {
    let (at, half_words) = lane.at();
    let Some(state) = layout::word(slot, at).map(State::of) else { return Read::Damaged };
    let in_turn = match state.kind {
        Kind::None => return Read::Nothing,
        Kind::Done => return Read::Done,
        Kind::Delivered => true,
        Kind::Waits => false,
    };
    let first = at + 1 + state.half * half_words;
    let Some(word) = layout::word(slot, first) else { return Read::Damaged };
    let (head_bytes, body_bytes) = ((word >> 32) as u16 as usize, (word >> 48) as usize);
    let from = (first + 1) * 8;
    let length = head_bytes + body_bytes;
    let record = slot.get(from..from + length).filter(|_| length <= (half_words - 1) * 8);
    let Some(record) = record.filter(|record| half_word(record, head_bytes) == word) else {
        return Read::Damaged;
    };
    let (head, body) = record.split_at(head_bytes);
    match serde_json::from_slice(head) {
        Ok(head) => Read::Record(head, body, in_turn),
        Err(_) => Read::Damaged,
    }
}

//! Where things are in the file.

use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};

use bulkhead_types::Timestamp;
use bulkhead_types::previous::{MemoryFigures, RunState};
use serde::{Deserialize, Serialize};

use super::OpenError;
use super::slot::SLOT_BYTES;

const MAGIC: &[u8; 8] = b"BHBLKBOX";

/// A file of another version is set aside.
const VERSION: u32 = 1;

const HEADER_BYTES: usize = 4096;
const FIXED_BYTES: usize = 32;
const WORDS_AT: usize = 2048;
const CLEAN_AT: usize = 3072;
const CLEAN_BYTES: usize = HEADER_BYTES - CLEAN_AT;

/// Longest run id.
const MAX_RUN_ID_BYTES: usize = 256;

/// Most slots of one area.
const MAX_SLOTS: u32 = 1 << 16;

/// Numbers of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Work at hand at the same time.
    pub in_flight: u32,
    /// Facts of the container that are kept.
    pub container: u32,
    /// Facts of agents that are kept.
    pub agents: u32,
}

impl Default for Geometry {
    /// 2.4 MiB.
    fn default() -> Self {
        Self { in_flight: 256, container: 512, agents: 4096 }
    }
}

/// What a run says about itself at its beginning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Run {
    /// Names it. At most 256 bytes.
    pub run_id: String,
    /// Boot id of the kernel.
    pub boot_id: Option<String>,
    /// Of the process.
    pub pid: u32,
    /// When it began, in milliseconds since the Unix epoch.
    pub started_at_ms: i64,
    /// Its number among all runs on this disk, from 1. 0 in files of earlier versions.
    pub number: u64,
    /// How often the host was restarted by its init process.
    pub restart_seq: u64,
    /// The file that its log goes to, in words that distinguish it from others of the same boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Of the program.
    pub version: String,
    /// Memory and the kernel's counters as they were then.
    pub baseline: MemoryFigures,
}

impl Run {
    /// When it began.
    pub fn started_at(&self) -> Timestamp {
        Timestamp(self.started_at_ms)
    }
}

/// The parts of the file that consist of slots, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Area {
    InFlight,
    Container,
    Agents,
}

impl Geometry {
    pub(super) fn slots(&self, area: Area) -> u64 {
        u64::from(match area {
            Area::InFlight => self.in_flight,
            Area::Container => self.container,
            Area::Agents => self.agents,
        })
    }

    /// Size of the file.
    pub(super) fn bytes(&self) -> usize {
        self.offset(Area::Agents) + self.agents as usize * SLOT_BYTES
    }

    /// Whether a file can be like that.
    pub(super) fn is_sound(&self) -> bool {
        let sound = |slots| slots > 0 && slots <= MAX_SLOTS;
        sound(self.in_flight) && sound(self.container) && sound(self.agents)
    }

    fn offset(&self, area: Area) -> usize {
        let before = match area {
            Area::InFlight => 0,
            Area::Container => self.in_flight as usize,
            Area::Agents => self.in_flight as usize + self.container as usize,
        };
        HEADER_BYTES + before * SLOT_BYTES
    }

    pub(super) fn slot_bytes(&self, area: Area, index: u64) -> Range<usize> {
        let start = self.offset(area) + index as usize * SLOT_BYTES;
        start..start + SLOT_BYTES
    }

    pub(super) fn slot_words(&self, area: Area, index: u64) -> Range<usize> {
        let bytes = self.slot_bytes(area, index);
        bytes.start / 8..bytes.end / 8
    }
}

/// The words of the header that change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Reached(RunState),
    StopIntent,
    LastLive,
    LastLogSeq,
    Lost,
    /// Work at hand that has no slot.
    Untracked,
    /// How long the run lived at its last heartbeat.
    Uptime,
    /// 1 while a line of the output is written in parts.
    InLine,
}

impl Word {
    /// Offset in the file, in words.
    pub(super) fn index(self) -> usize {
        WORDS_AT / 8 + self.number()
    }

    /// Part of the format.
    fn number(self) -> usize {
        match self {
            Self::Reached(RunState::Starting) => 0,
            Self::Reached(RunState::Started) => 1,
            Self::Reached(RunState::Hydrated) => 2,
            Self::Reached(RunState::Draining) => 3,
            Self::Reached(RunState::Clean) => 4,
            Self::StopIntent => 8,
            Self::LastLive => 9,
            Self::LastLogSeq => 10,
            Self::Lost => 11,
            Self::Untracked => 12,
            Self::Uptime => 13,
            Self::InLine => 14,
        }
    }
}

/// A word with 48 bits of value and 16 bits that show whether it was damaged. Never zero, which is a word
/// that was not written.
pub(super) fn checked(word: Word, value: u64) -> u64 {
    let value = value.min((1 << 48) - 1);
    let salted = value | (word.number() as u64 + 1) << 56;
    let tag = salted
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(32)
        .wrapping_mul(0xd6e8_feb8_6659_fd93);
    (value << 16 | tag >> 48).max(1)
}

/// What [`checked`] was given, unless the word was damaged or never written.
pub(super) fn value(word: Word, bits: u64) -> Option<u64> {
    (bits != 0 && checked(word, bits >> 16) == bits).then_some(bits >> 16)
}

/// Writes the part of the header that does not change.
pub(super) fn write_header(
    words: &[AtomicU64],
    geometry: &Geometry,
    run: &Run,
) -> Result<(), OpenError> {
    let json = serde_json::to_vec(run).map_err(|_| OpenError::Describe("it is no JSON"))?;
    if run.run_id.len() > MAX_RUN_ID_BYTES || json.len() > WORDS_AT - FIXED_BYTES {
        return Err(OpenError::Describe("it is too long"));
    }
    let mut bytes = vec![0; WORDS_AT];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let numbers = [geometry.in_flight, geometry.container, geometry.agents, json.len() as u32];
    for (place, number) in bytes[16..FIXED_BYTES].as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
        *place = number.to_le_bytes();
    }
    bytes[FIXED_BYTES..FIXED_BYTES + json.len()].copy_from_slice(&json);
    let sum = crc32fast::hash(&bytes[16..FIXED_BYTES + json.len()]);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    for (word, chunk) in words.iter().zip(bytes.as_chunks::<8>().0) {
        word.store(u64::from_le_bytes(*chunk), Relaxed);
    }
    Ok(())
}

/// Reads what [`write_header`] wrote.
pub(super) fn read_header(bytes: &[u8]) -> Result<(Geometry, Run), &'static str> {
    let fixed = bytes.first_chunk::<FIXED_BYTES>().ok_or("shorter than a header")?;
    if &fixed[..8] != MAGIC {
        return Err("not a black box");
    }
    let number = |n: usize| u32::from_le_bytes(fixed.as_chunks::<4>().0[n]);
    if number(2) != VERSION {
        return Err("of another version");
    }
    let end = FIXED_BYTES + number(7) as usize;
    if end > WORDS_AT || bytes.len() < HEADER_BYTES {
        return Err("truncated in its header");
    }
    if crc32fast::hash(&bytes[16..end]) != number(3) {
        return Err("checksum of the header does not match");
    }
    let geometry = Geometry { in_flight: number(4), container: number(5), agents: number(6) };
    let run = serde_json::from_slice(&bytes[FIXED_BYTES..end]).map_err(|_| "the run is no JSON")?;
    if geometry.is_sound() { Ok((geometry, run)) } else { Err("numbers of slots out of bounds") }
}

/// Makes a header of what is in a file, whatever that is: its words and its marker stay as they are.
pub(super) fn make_sound(file: &mut [u8], geometry: &Geometry) {
    let words: Vec<AtomicU64> = (0..WORDS_AT / 8).map(|_| AtomicU64::new(0)).collect();
    if write_header(&words, geometry, &Run::default()).is_ok() {
        for (word, chunk) in words.iter().zip(file.as_chunks_mut::<8>().0) {
            *chunk = word.load(Relaxed).to_le_bytes();
        }
    }
}

/// One of the words that change.
pub(super) fn read_word(bytes: &[u8], word: Word) -> Option<u64> {
    let at = word.index() * 8;
    value(word, u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Writes the clean marker, its checksum last.
pub(super) fn write_clean_marker(words: &[AtomicU64], run_id: &str) {
    let mut bytes = [0; MAX_RUN_ID_BYTES];
    let length = run_id.len().min(MAX_RUN_ID_BYTES);
    bytes[..length].copy_from_slice(&run_id.as_bytes()[..length]);
    let marker = &words[CLEAN_AT / 8..];
    for (word, chunk) in marker[1..].iter().zip(bytes.as_chunks::<8>().0) {
        word.store(u64::from_le_bytes(*chunk), Relaxed);
    }
    marker[0].store(clean_head(&bytes[..length]), Release);
}

/// The run id in the clean marker; nothing when there is no marker, an error when it is damaged.
pub(super) fn read_clean_marker(bytes: &[u8]) -> Result<Option<String>, ()> {
    let marker = bytes.get(CLEAN_AT..CLEAN_AT + CLEAN_BYTES).ok_or(())?;
    let head = u64::from_le_bytes(*marker.first_chunk().ok_or(())?);
    let written = marker[8..8 + MAX_RUN_ID_BYTES].iter().any(|byte| *byte != 0);
    if head == 0 {
        return if written { Err(()) } else { Ok(None) };
    }
    let length = (head >> 32) as usize;
    let run_id = marker.get(8..8usize.saturating_add(length)).ok_or(())?;
    if length > MAX_RUN_ID_BYTES || clean_head(run_id) != head {
        return Err(());
    }
    String::from_utf8(run_id.to_vec()).map(Some).map_err(|_| ())
}

fn clean_head(run_id: &[u8]) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(b"clean:");
    hasher.update(run_id);
    u64::from(hasher.finalize()) | (run_id.len() as u64) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_was_damaged_is_not_believed() {
        for number in [0, 1, 1_700_000_000_000, (1 << 48) - 1] {
            let good = checked(Word::LastLive, number);
            assert_eq!(value(Word::LastLive, good), Some(number));
            assert_eq!(value(Word::LastLogSeq, good), None, "in the wrong place");
            for bit in 0..64 {
                assert_eq!(value(Word::LastLive, good ^ 1 << bit), None, "bit {bit} of {number}");
            }
        }
        assert_eq!(value(Word::LastLive, 0), None);
    }

    #[test]
    fn areas_follow_each_other_and_end_with_the_file() {
        let geometry = Geometry { in_flight: 2, container: 3, agents: 5 };
        assert_eq!(geometry.slot_bytes(Area::InFlight, 0).start, HEADER_BYTES);
        let end = |area, slots: u64| geometry.slot_bytes(area, slots - 1).end;
        assert_eq!(end(Area::InFlight, 2), geometry.slot_bytes(Area::Container, 0).start);
        assert_eq!(end(Area::Container, 3), geometry.slot_bytes(Area::Agents, 0).start);
        assert_eq!(end(Area::Agents, 5), geometry.bytes());
    }
}

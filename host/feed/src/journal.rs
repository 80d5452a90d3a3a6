//! The file that keeps events through SIGKILL.
//!
//! ```text
//!  byte 0     ┌────────────────────────────────────────────────────────────────┐
//!             │ magic, bytes of the log, tail, head, last number, floor          │
//!       4096  ├────────────────────────────────────────────────────────────────┤
//!             │ records, one after the other, round and round                    │
//!             └────────────────────────────────────────────────────────────────┘
//!
//!  record: crc32, bytes of agent, event and data │ number │ unix ms │ agent, event, data │ up to a whole word
//! ```
//!
//! `tail` and `head` count bytes that were ever freed and written. A record is written between two stores: the tail
//! goes past what it overwrites, then the head past itself. Whenever the process is killed, what is between them is
//! whole. The kernel writes the pages within its own time, so after the loss of the machine the last events may be
//! missing, or damaged, which their checksums show.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

use bulkhead_blackbox::mapped::{Map, create_private, fill_holes, whereabouts};
use bulkhead_types::{AgentId, RingEvent, Timestamp};
use rustix::fs::OFlags;
use serde_json::value::RawValue;

use crate::entry::Entry;

const CURRENT: &str = "events";
const NEW: &str = "events.new";
const CORRUPT: &str = "events.corrupt";

const HEADER_BYTES: u64 = 4096;
const RECORD_HEAD_BYTES: usize = 32;
/// "bhevents", version 1.
const MAGIC: u64 = u64::from_le_bytes(*b"bhevent1");

// Words of the header.
const AT_MAGIC: usize = 0;
const AT_BYTES: usize = 1;
const AT_TAIL: usize = 2;
const AT_HEAD: usize = 3;
const AT_LAST: usize = 4;
const AT_FLOOR: usize = 5;
const HEADER_WORDS: usize = (HEADER_BYTES / 8) as usize;

/// What went wrong when the event file was opened. The host goes on.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Events of this run do not outlive it.
    #[error("there is no event file: {0}")]
    Absent(#[source] io::Error),
    /// The file of the run before says nothing, or cannot be read.
    #[error("the events of the run before cannot be used ({reason}); {}", whereabouts(kept_as.as_deref()))]
    Unreadable {
        /// Why.
        reason: String,
        /// Where it is now. `None`: it could not be renamed, and stays where it is.
        kept_as: Option<PathBuf>,
    },
    /// From some event on the file is damaged. Those after it are lost.
    #[error("the event file is damaged: {0} bytes of it are lost")]
    Damaged(u64),
}

/// The writing end. One writes at a time: its owner has a lock.
pub(crate) struct Journal {
    map: Map,
    bytes: u64,
}

/// What a run before left.
#[derive(Default)]
pub(crate) struct Found {
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// The last number that was given.
    pub last: u64,
    /// Events up to this number are not in the file.
    pub floor: u64,
}

/// Opens the file in `dir`, with room for so many bytes of events, and reads it. A file of another size is read and
/// replaced. Without a file, what was found is there all the same.
pub(crate) fn open(dir: &Path, bytes: u64) -> (Option<Journal>, Found, Vec<Problem>) {
    let mut problems = Vec::new();
    let bytes = bytes.next_multiple_of(8);
    let (opened, found) = match read(dir, &mut problems) {
        Ok(Some((file, old, found))) if old == bytes => (go_on(&file, bytes, &found), found),
        Ok(read) => {
            let found = read.map(|(_, _, found)| found).unwrap_or_default();
            (create(dir, bytes, &found), found)
        }
        Err(error) => (Err(error), Found::default()),
    };
    match opened {
        Ok(journal) => (Some(journal), found, problems),
        Err(error) => {
            let _ = fs::remove_file(dir.join(NEW));
            problems.push(Problem::Absent(error));
            (None, found, problems)
        }
    }
}

/// The file, the size of its log and what is in it. An error: there is one that is neither read nor out of the way.
fn read(dir: &Path, problems: &mut Vec<Problem>) -> io::Result<Option<(File, u64, Found)>> {
    let path = dir.join(CURRENT);
    let mut options = OpenOptions::new();
    // A pipe that nobody writes to must not hold the boot.
    options.read(true).write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let reason = match options.open(&path).and_then(|file| parse(&file).map(|read| (file, read))) {
        Ok((file, Ok((bytes, found, damaged)))) => {
            if damaged > 0 {
                problems.push(Problem::Damaged(damaged));
            }
            return Ok(Some((file, bytes, found)));
        }
        Ok((_, Err(reason))) => reason.to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => error.to_string(),
    };
    let kept_as = dir.join(CORRUPT);
    // It makes room for the new one, and is overwritten by none.
    let renamed = fs::rename(&path, &kept_as);
    let kept_as = renamed.is_ok().then_some(kept_as);
    problems.push(Problem::Unreadable { reason, kept_as });
    renamed.map(|()| None)
}

/// Largest file that is read.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

type Parsed = Result<(u64, Found, u64), &'static str>;

/// What is in a file: the size of its log, its events, and how many bytes of it are damaged.
fn parse(file: &File) -> io::Result<Parsed> {
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() < HEADER_BYTES || meta.len() > MAX_BYTES {
        return Ok(Err("it is no event file"));
    }
    let mut all = vec![0; usize::try_from(meta.len()).unwrap_or(0)];
    file.read_exact_at(&mut all, 0)?;
    let (header, log) = all.split_at(HEADER_BYTES as usize);
    let word = |at: usize| word(header, at * 8);
    if word(AT_MAGIC) != MAGIC {
        return Ok(Err("it does not begin like an event file"));
    }
    let (bytes, tail, head) = (word(AT_BYTES), word(AT_TAIL), word(AT_HEAD));
    let is_sound = bytes == log.len() as u64 && bytes > 0 && bytes.is_multiple_of(8);
    if !is_sound || tail > head || head - tail > bytes || tail % 8 != 0 || head % 8 != 0 {
        return Ok(Err("its header is damaged"));
    }
    let mut found = Found { entries: Vec::new(), last: word(AT_LAST), floor: word(AT_FLOOR) };
    let mut at = tail;
    while at < head {
        let Some((entry, length)) = record(log, at, head - at) else { break };
        if found.entries.last().is_some_and(|last| last.event.id >= entry.event.id) {
            break;
        }
        found.last = found.last.max(entry.event.id);
        found.entries.push(entry);
        at += length;
    }
    Ok(Ok((bytes, found, head - at)))
}

/// The record at a place, and its length.
fn record(log: &[u8], at: u64, left: u64) -> Option<(Entry, u64)> {
    let copy = |at: u64, length: usize| -> Vec<u8> {
        let start = usize::try_from(at % log.len() as u64).unwrap_or(0);
        let first = length.min(log.len() - start);
        let mut bytes = log[start..start + first].to_vec();
        bytes.extend_from_slice(&log[..length - first]);
        bytes
    };
    if left < RECORD_HEAD_BYTES as u64 {
        return None;
    }
    let head = copy(at, RECORD_HEAD_BYTES);
    let lengths = word(&head, 8);
    let (agent, event) = ((lengths & 0xffff) as usize, (lengths >> 16 & 0xffff) as usize);
    let data = (lengths >> 32) as usize;
    let length = (RECORD_HEAD_BYTES + agent + event + data).next_multiple_of(8);
    if length as u64 > left || length > log.len() {
        return None;
    }
    let all = copy(at, length);
    if u64::from(crc32fast::hash(&all[8..])) != word(&all, 0) {
        return None;
    }
    let text = std::str::from_utf8(&all[RECORD_HEAD_BYTES..]).ok()?;
    let (agent_id, rest) = text.split_at_checked(agent)?;
    let (name, rest) = rest.split_at_checked(event)?;
    let data = RawValue::from_string(rest.split_at_checked(data)?.0.to_owned()).ok()?;
    let agent = if agent_id.is_empty() { None } else { Some(AgentId::parse(agent_id).ok()?) };
    let event = RingEvent {
        id: word(&all, 16),
        event: name.into(),
        data: data.into(),
        timestamp: Timestamp(word(&all, 24).cast_signed()),
    };
    Some((Entry { agent, event }, length as u64))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Goes on with the file of the run before: after its last whole record.
fn go_on(file: &File, bytes: u64, found: &Found) -> io::Result<Journal> {
    fill_holes(file, HEADER_BYTES + bytes)?;
    let journal = Journal { map: Map::of(file)?, bytes };
    let whole: u64 = found.entries.iter().map(|entry| length(entry) as u64).sum();
    let header = journal.map.words();
    let head = header[AT_TAIL].load(Acquire) + whole;
    header[AT_HEAD].store(head, Release);
    Ok(journal)
}

fn create(dir: &Path, bytes: u64, found: &Found) -> io::Result<Journal> {
    let path = dir.join(NEW);
    // What agents say is in it: nobody else reads it.
    let mut journal = Journal { map: create_private(&path, HEADER_BYTES + bytes)?, bytes };
    let header = journal.map.words();
    header[AT_BYTES].store(bytes, Relaxed);
    header[AT_LAST].store(found.last, Relaxed);
    header[AT_FLOOR].store(found.floor, Relaxed);
    header[AT_MAGIC].store(MAGIC, Release);
    for entry in &found.entries {
        journal.append(entry);
    }
    fs::rename(&path, dir.join(CURRENT))?;
    Ok(journal)
}

/// What an event takes in the file.
fn length(Entry { agent, event }: &Entry) -> usize {
    let agent = agent.as_ref().map_or(0, |agent| agent.as_str().len());
    let texts = agent + event.event.len() + event.data.get().len();
    (RECORD_HEAD_BYTES + texts).next_multiple_of(8)
}

impl Journal {
    /// Appends an event; the oldest make room. One that is larger than the whole file is not kept.
    pub(crate) fn append(&mut self, entry: &Entry) {
        let length = length(entry);
        if length as u64 > self.bytes {
            return;
        }
        let header = self.map.words();
        let head = header[AT_HEAD].load(Relaxed);
        let mut tail = header[AT_TAIL].load(Relaxed);
        if head + length as u64 - tail > self.bytes {
            let mut floor = header[AT_FLOOR].load(Relaxed);
            while head + length as u64 - tail > self.bytes {
                floor = self.log_word(tail + 16).load(Relaxed);
                tail += self.length_at(tail);
            }
            header[AT_FLOOR].store(floor, Relaxed);
            header[AT_TAIL].store(tail, Relaxed);
        }
        header[AT_LAST].store(entry.event.id, Relaxed);
        // Nothing is overwritten before the tail is past it.
        fence(Release);
        self.write(head, &bytes(entry, length));
        header[AT_HEAD].store(head + length as u64, Release);
    }

    /// Waits until the disk has all of it.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.map.sync()
    }

    fn length_at(&self, at: u64) -> u64 {
        let lengths = self.log_word(at + 8).load(Relaxed);
        let texts = (lengths & 0xffff) + (lengths >> 16 & 0xffff) + (lengths >> 32);
        (RECORD_HEAD_BYTES as u64 + texts).next_multiple_of(8)
    }

    fn log_word(&self, at: u64) -> &AtomicU64 {
        let word = usize::try_from(at % self.bytes / 8).unwrap_or(0);
        &self.map.words()[HEADER_WORDS + word]
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let words = &self.map.words()[HEADER_WORDS..];
        let start = usize::try_from(at % self.bytes / 8).unwrap_or(0);
        let places = words[start..].iter().chain(words);
        for (place, word) in places.zip(bytes.as_chunks::<8>().0) {
            place.store(u64::from_le_bytes(*word), Relaxed);
        }
    }
}

fn bytes(Entry { agent, event }: &Entry, length: usize) -> Vec<u8> {
    let agent = agent.as_ref().map_or("", |agent| agent.as_str());
    let (name, data) = (&*event.event, event.data.get());
    let lengths = agent.len() as u64 | (name.len() as u64) << 16 | (data.len() as u64) << 32;
    let mut bytes = Vec::with_capacity(length);
    let at = event.timestamp.0.cast_unsigned();
    for word in [0, lengths, event.id, at] {
        bytes.extend_from_slice(&u64::to_le_bytes(word));
    }
    for text in [agent, name, data] {
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes.resize(length, 0);
    let sum = u64::from(crc32fast::hash(&bytes[8..]));
    bytes[..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

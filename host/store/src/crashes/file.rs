//! The file of crash records: its lines, appending to it, reading it back.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_model::{CrashRecord, Frame, Symbolized};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::Loaded;
use super::memory::Memory;

const CURRENT: &str = "crashes.jsonl";
const OLD: &str = "crashes.1.jsonl";

/// One line, when written.
#[derive(Serialize)]
#[serde(tag = "line", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub(super) enum Line<'a> {
    Crash(&'a CrashRecord),
    Frames { crash_id: &'a str, symbolized: Symbolized, frames: &'a [Frame] },
}

/// One line, when read.
#[derive(Deserialize)]
#[serde(tag = "line", rename_all = "lowercase", rename_all_fields = "camelCase")]
enum Entry {
    Crash(Box<CrashRecord>),
    Frames { crash_id: String, symbolized: Symbolized, frames: Vec<Frame> },
}

impl Line<'_> {
    pub fn render(&self) -> io::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}

/// Appends whole lines to the file, and makes it the old one when it is full.
pub(super) struct Appender {
    dir: PathBuf,
    max_bytes: u64,
    open: Option<(File, u64)>,
}

impl Appender {
    pub fn new(dir: &Path, max_bytes: u64) -> Self {
        Self { dir: dir.to_owned(), max_bytes, open: None }
    }

    /// Size of a full file.
    pub fn max_bytes(&self) -> usize {
        usize::try_from(self.max_bytes).unwrap_or(usize::MAX)
    }

    /// Whole or not at all, unless the process dies meanwhile. After an error the next call opens the
    /// file anew.
    pub fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let bytes = line.len() as u64;
        if bytes > self.max_bytes {
            return Err(io::Error::new(ErrorKind::FileTooLarge, "the line is larger than a file"));
        }
        let (mut file, mut length) = match self.open.take() {
            Some((file, length)) if file.metadata()?.nlink() > 0 => (file, length),
            _ => self.open()?,
        };
        if length + bytes > self.max_bytes {
            drop(file);
            fs::rename(self.dir.join(CURRENT), self.dir.join(OLD))?;
            (file, length) = self.open()?;
        }
        if let Err(error) = file.write_all(line) {
            // What a full disk took of the line would spoil the next one.
            let _ = file.set_len(length);
            return Err(error);
        }
        self.open = Some((file, length + bytes));
        Ok(())
    }

    fn open(&self) -> io::Result<(File, u64)> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600).custom_flags(nonblocking());
        let file = options.open(self.dir.join(CURRENT))?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
        }
        let mut length = meta.len();
        let unfinished = self.last_line(&file, length)?;
        if !unfinished.is_empty() {
            // Either only its end is missing, or it says nothing.
            if serde_json::from_slice::<Entry>(&unfinished).is_ok() {
                (&file).write_all(b"\n")?;
                length += 1;
            } else {
                length -= unfinished.len() as u64;
                file.set_len(length)?;
            }
        }
        Ok((file, length))
    }

    /// What stands after the last end of a line. Of a line that is too long, its end.
    fn last_line(&self, file: &File, length: u64) -> io::Result<Vec<u8>> {
        let tail = length.min(self.max_bytes);
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        if last == [b'\n'] {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; usize::try_from(tail).unwrap_or(0)];
        file.read_exact_at(&mut bytes, length - tail)?;
        let first = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        Ok(bytes.split_off(first))
    }
}

/// A pipe in the file's place must hold nobody.
fn nonblocking() -> i32 {
    OFlags::NONBLOCK.bits().cast_signed()
}

/// Reads what earlier runs wrote, oldest first.
pub(super) fn read_back(dir: &Path, max_bytes: u64, memory: &mut Memory) -> Loaded {
    let mut loaded = Loaded::default();
    for name in [OLD, CURRENT] {
        match read_tail(&dir.join(name), max_bytes) {
            Ok(bytes) => read_lines(&bytes, memory, &mut loaded),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => loaded.errors.push(format!("read {name}: {error}")),
        }
    }
    memory.begin_to_count();
    loaded.records = memory.stats().kept;
    loaded
}

/// The last `max_bytes` of a file, from the beginning of a line on.
fn read_tail(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new().read(true).custom_flags(nonblocking()).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
    }
    let skipped = meta.len().saturating_sub(max_bytes);
    file.seek(SeekFrom::Start(skipped.saturating_sub(1)))?;
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len() - skipped).unwrap_or(0) + 1);
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if skipped > 0 {
        let first = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        bytes.drain(..first);
    }
    Ok(bytes)
}

fn read_lines(bytes: &[u8], memory: &mut Memory, loaded: &mut Loaded) {
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(Entry::Crash(record)) => drop(memory.put(Arc::from(record))),
            // Its record may be gone with the file before the old one.
            Ok(Entry::Frames { crash_id, symbolized, frames }) => {
                let _ = memory.update_frames(&crash_id, frames, symbolized);
            }
            Err(_) if line.last() != Some(&b'\n') => loaded.half_lines += 1,
            Err(_) => loaded.unreadable_lines += 1,
        }
    }
}

//! Crash records that an earlier version left as lines in files.
//!
//! A line is a record (`"line": "crash"`) or the frames of one that came before it (`"line": "frames"`). The
//! files get another name when their records are in the database, so that they are read once.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_types::{CrashRecord, Frames, Symbolized};
use rustix::fs::OFlags;
use serde::Deserialize;

use super::Filter;
use super::memory::Memory;
use crate::Database;

/// The files, in the order in which they were written.
const FILES: [&str; 2] = ["crashes.1.jsonl", "crashes.jsonl"];

/// What a file is called when it was read.
const READ: &str = "imported";

/// The end of a file that is read.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Records that are taken over, the newest of them all.
const MAX_RECORDS: usize = 1000;

/// Their size in memory.
const MAX_MEMORY: usize = 32 * 1024 * 1024;

/// How long their way into the database may take. Files that did not make it are read by the next run.
const PATIENCE: Duration = Duration::from_secs(5);

/// One line.
#[derive(Deserialize)]
#[serde(tag = "line", rename_all = "lowercase", rename_all_fields = "camelCase")]
enum Entry {
    Crash(Box<CrashRecord>),
    Frames { crash_id: String, symbolized: Symbolized, frames: Frames },
}

/// What was found in old files.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Imported {
    /// Records, oldest first.
    pub records: Vec<Arc<CrashRecord>>,
    /// Lines that were neither a record nor the frames of one.
    pub unreadable_lines: u64,
    /// Files that could not be read or renamed, with the reason.
    pub errors: Vec<String>,
}

/// Brings records of old files in `dir` into the database, once.
pub fn import(dir: &Path, database: &Database) -> Imported {
    let mut imported = Imported::default();
    if !FILES.iter().any(|name| dir.join(name).exists()) {
        return imported;
    }
    let mut memory = Memory::new(MAX_RECORDS, MAX_MEMORY);
    let mut read = Vec::new();
    for name in FILES {
        match read_tail(&dir.join(name), MAX_BYTES) {
            Ok(bytes) => {
                imported.unreadable_lines += read_lines(&bytes, &mut memory);
                read.push(name);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => imported.errors.push(format!("read {name}: {error}")),
        }
    }
    imported.records = memory.list(&Filter { limit: MAX_RECORDS, ..Filter::default() }).records;
    imported.records.reverse();
    if !database.import_crashes(&imported.records, PATIENCE) {
        imported.errors.push("the database did not take old crash records".into());
        return imported;
    }
    for name in read {
        if let Err(error) = fs::rename(dir.join(name), dir.join(format!("{name}.{READ}"))) {
            imported.errors.push(format!("rename {name}: {error}"));
        }
    }
    imported
}

/// The last `max_bytes` of a file, from the beginning of a line on.
fn read_tail(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    // A pipe in the file's place must hold nobody.
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let mut file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
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

/// Puts what a file says into memory; yields how many lines said nothing.
fn read_lines(bytes: &[u8], memory: &mut Memory) -> u64 {
    let mut unreadable = 0;
    for line in bytes.split(|byte| *byte == b'\n') {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(Entry::Crash(record)) => drop(memory.put(Arc::from(record))),
            // Its record may be gone with the file before the old one.
            Ok(Entry::Frames { crash_id, symbolized, frames }) => {
                let _ = memory.update_frames(&crash_id, frames, symbolized);
            }
            Err(_) => unreadable += 1,
        }
    }
    unreadable
}

//! Reading from outside, crash records above all: a host may run or not, the file may be older than this program,
//! and its directory may be read-only.
//!
//! A database with a log needs two files beside it to be read, and one that was closed in order has neither. Where
//! they cannot be made, or would be left behind, it is read as a file that nobody changes (`immutable`). That is
//! dangerous while a host runs: what it has only in its log would be missing, and a page could change between two
//! reads. So this is done only when no process has the database open and there is no log, and what was read counts only
//! if both is still so afterwards and the file is the same.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use bulkhead_types::{AgentId, CrashRecord};
use rusqlite::{Connection, ErrorCode};
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};

use super::file::{self, FileError};
use super::records::{self, CrashQuery};
use super::schema;
use super::snapshots::{self, Newest};

/// A database that this program must not touch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the database in {dir} has version {found}, this program knows {known}")]
pub struct NewerDatabase {
    /// Where it is.
    pub dir: String,
    /// Its version.
    pub found: i64,
    /// The newest that this program knows.
    pub known: i64,
}

/// Whether a newer program wrote the file in `dir`. No file, or one that cannot be read: not as far as is known.
pub fn check_version(dir: &Path) -> Result<(), NewerDatabase> {
    let exists = file::path(dir).is_file();
    let shared = || file::open_to_look(dir).and_then(|it| schema::version(&it));
    let found = exists.then(|| match read_closed(dir, schema::version) {
        Some(found) => found,
        None => shared(),
    });
    match found {
        Some(Ok(found)) if found > schema::NEWEST => {
            let dir = dir.display().to_string();
            Err(NewerDatabase { dir, found, known: schema::NEWEST })
        }
        _ => Ok(()),
    }
}

/// Reads the newest good snapshot of an agent from the file in `dir`, whether a host runs or not.
pub fn read_snapshot(dir: &Path, agent: &AgentId) -> Result<Newest, ReadError> {
    let connection = file::open_to_read(dir).map_err(|error| ReadError(error.to_string()))?;
    snapshots::newest(&connection, agent)
        .map_err(|error| ReadError(format!("read the database: {error}")))
}

/// Why the file could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(String);

/// Times that a read is begun again because somebody changed the file under it.
const ATTEMPTS: u32 = 3;

/// Reads crash records from the file in `dir`, newest first, whether a host runs or not. No file: none.
///
/// An error says what is wrong with the file, with its directory, or names both versions when a newer program wrote
/// it. On a network file system nobody sees that a host on another machine has the file open: ask that host.
pub fn read_crashes(dir: &Path, query: &CrashQuery) -> Result<Vec<Arc<CrashRecord>>, ReadError> {
    let path = file::path(dir);
    let is_there = path.try_exists();
    match is_there {
        Ok(true) => {}
        Ok(false) => return Ok(Vec::new()),
        Err(error) => return Err(ReadError(format!("look for the database: {error}"))),
    }
    if let Some(records) = read_closed(dir, |connection| read(connection, query)) {
        return records.map_err(failed)?;
    }
    let mut attempts = 0;
    loop {
        attempts += 1;
        match read_shared(dir, query) {
            Err(error) if is_read_only(&error) => {}
            read => return read.map_err(failed)?,
        }
        if let Some(records) = read_alone(dir, query)? {
            return Ok(records);
        }
        if attempts == ATTEMPTS {
            return Err(ReadError("the database changed while it was read".into()));
        }
    }
}

/// Reads beside a writer.
fn read_shared(dir: &Path, query: &CrashQuery) -> rusqlite::Result<Records> {
    read(&file::open_to_look(dir)?, query)
}

type Records = Result<Vec<Arc<CrashRecord>>, ReadError>;

fn read(connection: &Connection, query: &CrashQuery) -> rusqlite::Result<Records> {
    let found = schema::version(connection)?;
    if found > schema::NEWEST {
        let error = FileError::TooNew { found, known: schema::NEWEST };
        return Ok(Err(ReadError(error.to_string())));
    }
    if !schema::has_crashes(found) {
        // Made, and not filled yet.
        return Ok(Ok(Vec::new()));
    }
    let (records, _) = records::query(connection, query)?;
    Ok(Ok(records))
}

/// Reads a file that was closed in order and that nobody has open: to open it in the usual way would leave a log and
/// an index beside it, which only somebody who may write can remove. Nothing: it is none of that kind.
fn read_closed<T>(
    dir: &Path,
    read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Option<rusqlite::Result<T>> {
    let is_closed = file::beside(dir).iter().all(|path| matches!(path.try_exists(), Ok(false)));
    let before = is_closed.then(|| Alone::look(dir).ok())??;
    let read = file::open_unchanging(dir).and_then(|connection| read(&connection));
    Alone::look(dir).is_ok_and(|after| after == before).then_some(read)
}

/// Reads a file that nobody has open. Nothing: it was changed meanwhile.
fn read_alone(dir: &Path, query: &CrashQuery) -> Result<Option<Vec<Arc<CrashRecord>>>, ReadError> {
    let before = Alone::look(dir)?;
    let read = file::open_unchanging(dir).and_then(|connection| read(&connection, query));
    match Alone::look(dir) {
        Ok(after) if after == before => read.map_err(failed)?.map(Some),
        _ => Ok(None),
    }
}

/// A file that nobody has open, and which one it is.
#[derive(PartialEq, Eq)]
struct Alone {
    file: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
}

impl Alone {
    fn look(dir: &Path) -> Result<Self, ReadError> {
        let failed = |error: std::io::Error| ReadError(format!("inspect the database: {error}"));
        let log = fs::metadata(file::log_path(dir)).map_or(0, |meta| meta.len());
        if log > 0 {
            let text = format!(
                "the database was not closed, and its directory is read-only: {log} bytes of its log can only be \
                 read in a copy of the directory that can be written"
            );
            return Err(ReadError(text));
        }
        let database = File::open(file::path(dir)).map_err(failed)?;
        let any = Flock {
            start: 0,
            length: 0,
            pid: None,
            typ: FlockType::WriteLock,
            offset_type: FlockOffsetType::Set,
        };
        // A process that has a database with a log open holds a lock on it all the time.
        let lock = fcntl_getlk(&database, &any).map_err(|error| failed(error.into()))?;
        if lock.is_some() {
            let text = "a host uses the database, and its directory is read-only here: ask the host with --url";
            return Err(ReadError(text.into()));
        }
        let meta = database.metadata().map_err(failed)?;
        Ok(Self {
            file: (meta.dev(), meta.ino()),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        })
    }
}

/// Whether the files that a reader needs could not be made.
fn is_read_only(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

fn failed(error: rusqlite::Error) -> ReadError {
    ReadError(format!("read the database: {error}"))
}

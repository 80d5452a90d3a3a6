//! The log of what was committed: how it goes over into the file, and how large it becomes.
//!
//! A log can only begin at its start again when all of it went over into the file and nobody reads it any more. A
//! reader that never ends its transaction, or a disk that fails at each checkpoint, would let it grow for ever. So
//! it is checked after each commit that may have made it too large, and when it cannot be emptied past its bound
//! the file counts as lost: what changes stays in memory, and is written when the log can be emptied.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::file::{self, FileError};

/// Bytes of the log on the disk.
pub(super) fn size(dir: &Path) -> u64 {
    std::fs::metadata(file::log_path(dir)).map_or(0, |meta| meta.len())
}

/// Brings what is committed over into the file, as far as no reader needs what is there.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// Brings all of it over and gives the log's place on the disk back. Waits for nobody. Says whether it did: it does
/// not while somebody reads the log.
pub(super) fn empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.busy_timeout(Duration::ZERO)?;
    let emptied = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0));
    connection.busy_timeout(file::BUSY)?;
    match emptied {
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
            Ok(false)
        }
        emptied => emptied,
    }
}

/// Keeps the log within its bound, or says why that does not work.
pub(super) fn bound(connection: &Connection, dir: &Path, max_bytes: u64) -> Result<(), FileError> {
    if size(dir) <= max_bytes {
        return Ok(());
    }
    match empty(connection) {
        Ok(true) => Ok(()),
        Ok(false) => Err(too_large(max_bytes, "another process reads it and does not end")),
        Err(error) => match FileError::of("empty the log of the database", &error) {
            FileError::Unusable { error, .. } => Err(too_large(max_bytes, &error)),
            damaged => Err(damaged),
        },
    }
}

fn too_large(max_bytes: u64, why: &str) -> FileError {
    let mib = max_bytes / (1024 * 1024);
    let error = format!("it has more than {mib} MiB, and {why}");
    FileError::Unusable { what: "empty the log of the database", error }
}

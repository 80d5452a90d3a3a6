//! A file that was made elsewhere, put into the place of the database.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};

use super::file::{self, FileError};
use super::{agents, schema, writer};

/// Why a file was not put into the place of the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InstallError {
    /// The file that was made is to blame, and not the disk that it is on.
    pub is_damage: bool,
    /// What is wrong.
    pub message: String,
}

impl InstallError {
    fn of(error: &FileError) -> Self {
        let is_damage = matches!(error, FileError::Damaged(_));
        Self { is_damage, message: format!("the restored database: {error}") }
    }
}

/// Numbers that are left out where the file does not have the last ones that were given.
pub const NUMBERS_LEFT_OUT: u64 = 100_000;

/// Checks the file at `made`, which nobody has open, and puts it into the place of the database in `dir`. One that is there is
/// set aside; returns its new path.
///
/// `losses`: so many machines may have given numbers that the file does not have. For each of them agents go on
/// [`NUMBERS_LEFT_OUT`] higher.
pub fn install(dir: &Path, made: &Path, losses: u64) -> Result<Option<PathBuf>, InstallError> {
    check(made, losses).map_err(|error| InstallError::of(&error))?;
    let local = |message: String| InstallError { is_damage: false, message };
    let is_there = file::path(dir).exists() || file::log_path(dir).exists();
    let aside = is_there.then(|| file::set_aside(dir, writer::now())).transpose();
    let aside = aside.map_err(|error| local(error.to_string()))?;
    let put = || {
        fs::rename(made, file::path(dir))?;
        File::open(dir)?.sync_all()
    };
    put().map_err(|error| local(format!("put the restored database in place: {error}")))?;
    Ok(aside.map(|aside| aside.kept_as))
}

fn check(made: &Path, losses: u64) -> Result<(), FileError> {
    let failed = |error: rusqlite::Error| FileError::of("check it", &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(made, flags).map_err(failed)?;
    let answer = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match answer.map_err(failed)?.as_str() {
        "ok" => {}
        answer => return Err(FileError::Damaged(answer.to_owned())),
    }
    let version = schema::version(&connection).map_err(failed)?;
    // A newer one is refused by who opens it.
    if losses > 0 && (1..=schema::NEWEST).contains(&version) {
        let transaction = connection.unchecked_transaction().map_err(failed)?;
        let count = i64::try_from(NUMBERS_LEFT_OUT.saturating_mul(losses)).unwrap_or(i64::MAX);
        let all = "UPDATE agents SET incarnation = incarnation + ?1";
        transaction.execute(all, params![count]).map_err(failed)?;
        agents::leave_out(&transaction, count).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(failed)?;
    connection.close().map_err(|(_, error)| failed(error))
}

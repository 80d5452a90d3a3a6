//! The file: opening it, checking it, setting it aside.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_types::Timestamp;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::schema;
use crate::ownership::explain;

/// The file's name in its directory.
const NAME: &str = "bulkhead.db";

/// What belongs to it: the log of what was committed, and the readers' index of that.
const WITH_IT: [&str; 3] = ["", "-wal", "-shm"];

/// Begins the name of one that was set aside; the time and the suffix follow.
const SET_ASIDE: &str = "bulkhead.db.set-aside-";

/// Sets of files that are kept after they were set aside. The oldest makes room.
const MAX_SET_ASIDE: usize = 8;

/// How long another process that reads may hold up a write.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// Bytes of the log after which it goes over into the file, and that a log which is not in use may keep on the disk.
pub(super) const CHECKPOINT_BYTES: u64 = 8 * 1024 * 1024;

/// Instructions of the database's machine between two checks of the clock.
const STEPS: i32 = 10_000;

/// Why there is no file to work with.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// What is there is no database, or a broken one.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// A newer program wrote it.
    #[error("the database has version {found}, this program knows {known}")]
    TooNew { found: i64, known: i64 },
    /// The disk, the directory, permissions.
    #[error("{what}: {error}")]
    Unusable { what: &'static str, error: String },
}

impl FileError {
    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Unusable { what, error: error.to_string() }
    }

    /// What an error of the database says about its file.
    pub fn of(what: &'static str, error: &rusqlite::Error) -> Self {
        if is_damage(error) {
            return Self::Damaged(error.to_string());
        }
        let is_full = error.sqlite_error().map(|it| it.extended_code) == Some(SQLITE_IOERR_SHMSIZE);
        let room = if is_full { ": the disk has no room for the index of its log" } else { "" };
        Self::Unusable { what, error: format!("{error}{room}") }
    }
}

/// Whether the file, and not the machine around it, is to blame.
fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, message) => match failure.code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => true,
            // A table or a column that is missing: the schema is not the one of its version.
            ErrorCode::Unknown => {
                message.as_deref().is_some_and(|text| text.starts_with("no such "))
            }
            // Of rows that tables of this shape cannot have.
            ErrorCode::TypeMismatch | ErrorCode::ConstraintViolation => true,
            _ => false,
        },
        rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..) => true,
        _ => false,
    }
}

/// A file that was opened and looks whole.
pub(super) struct Opened {
    pub connection: Connection,
    /// The file's place on its disk, to see whether it is still the one with the name.
    pub identity: (u64, u64),
    /// The check did not come to its end in its time.
    pub check_cut_short: bool,
    /// Nothing was in it.
    pub is_new: bool,
}

/// The file's path.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// The paths of what belongs to the file while somebody has it open.
pub(super) fn beside(dir: &Path) -> [PathBuf; 2] {
    ["-wal", "-shm"].map(|suffix| dir.join(format!("{NAME}{suffix}")))
}

/// The path of the log of what was committed.
pub(super) fn log_path(dir: &Path) -> PathBuf {
    dir.join(format!("{NAME}-wal"))
}

/// Opens the file, makes it when there is none, checks it for at most `patience`, and brings it to the
/// newest shape.
pub(super) fn open(dir: &Path, patience: Duration) -> Result<Opened, FileError> {
    make_private(dir)?;
    let path = path(dir);
    let identity = identity(&path).map_err(FileError::io("inspect the database"))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |what| move |error: rusqlite::Error| FileError::of(what, &error);
    let mut connection =
        Connection::open_with_flags(&path, flags).map_err(failed("open the database"))?;
    connection.busy_timeout(BUSY).map_err(failed("set up the database"))?;
    let found = schema::version(&connection).map_err(failed("read the database's version"))?;
    if found > schema::NEWEST {
        return Err(FileError::TooNew { found, known: schema::NEWEST });
    }
    if found < 0 {
        return Err(FileError::Damaged(format!("its version is {found}")));
    }
    set_up(&connection).map_err(failed("set up the database"))?;
    let check_cut_short = check(&mut connection, patience)?;
    schema::migrate(&mut connection).map_err(failed("migrate the database"))?;
    Ok(Opened { connection, identity, check_cut_short, is_new: found == 0 })
}

/// Opens the file for someone who only looks. A host may be writing it at the same time.
pub(super) fn open_to_look(dir: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path(dir), flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// The same, of a file that has the newest shape.
pub(super) fn open_to_read(dir: &Path) -> Result<Connection, FileError> {
    let failed = |error: rusqlite::Error| FileError::of("open the database", &error);
    let connection = open_to_look(dir).map_err(failed)?;
    let found = schema::version(&connection).map_err(failed)?;
    match found {
        found if found > schema::NEWEST => Err(FileError::TooNew { found, known: schema::NEWEST }),
        schema::NEWEST => Ok(connection),
        found => Err(older(found)),
    }
}

/// Of a file that was not upgraded.
fn older(found: i64) -> FileError {
    let error = format!("it has version {found}, and nothing can be written to upgrade it");
    FileError::Unusable { what: "read the database", error }
}

/// Opens the file for this process alone, which only reads: its directory is locked, and nothing writes. Works on a
/// disk that takes nothing, where the index that readers of a log share has no room.
pub(super) fn open_alone(dir: &Path) -> Result<Connection, FileError> {
    let what = "read the database";
    let failed = |error: rusqlite::Error| FileError::of(what, &error);
    let has_log = ["-wal", "-journal"].iter().any(|suffix| {
        fs::metadata(dir.join(format!("{NAME}{suffix}"))).is_ok_and(|meta| meta.len() > 0)
    });
    let opened = if has_log { open_exclusive(dir) } else { open_unchanging(dir) };
    let connection = opened.map_err(failed)?;
    match schema::version(&connection).map_err(failed)? {
        schema::NEWEST => Ok(connection),
        found if found > schema::NEWEST => Err(FileError::TooNew { found, known: schema::NEWEST }),
        found => Err(older(found)),
    }
}

/// With what its log has. The index of that is in memory where nobody else can have the file open.
fn open_exclusive(dir: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path(dir), flags)?;
    connection.busy_timeout(BUSY)?;
    connection.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// As a file that nobody changes, and that has no log.
pub(super) fn open_unchanging(dir: &Path) -> rusqlite::Result<Connection> {
    let path = path(dir);
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri, flags)
}

/// Whether there is a file with something in it. One that cannot be seen may be there.
pub(super) fn may_be_there(dir: &Path) -> bool {
    match fs::metadata(path(dir)) {
        Ok(meta) => !meta.is_file() || meta.len() > 0,
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

/// Whether the name still leads to the file that was opened.
pub(super) fn is_still(dir: &Path, opened: (u64, u64)) -> bool {
    fs::metadata(path(dir)).is_ok_and(|meta| (meta.dev(), meta.ino()) == opened)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let meta = fs::metadata(path)?;
    if !meta.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
    }
    Ok((meta.dev(), meta.ino()))
}

/// Makes the directory and the file, for this user only. What belongs to the file gets its mode.
fn make_private(dir: &Path) -> Result<(), FileError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    let failed =
        |what| move |error: io::Error| FileError::Unusable { what, error: explain(&error, dir) };
    made.map_err(failed("make the directory of the database"))?;
    let private = || {
        fs::set_permissions(dir, Permissions::from_mode(0o700))?;
        let path = path(dir);
        let mut options = OpenOptions::new();
        // A pipe in the file's place must hold nobody.
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(nonblocking);
        options.open(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))
    };
    private().map_err(failed("make the database private"))
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    // On a file system without shared memory it answers with another mode, which is slower and as safe.
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    // Commits are written, and synced when the log goes over into the file: what a dead process had
    // committed is there, a dead machine may lose its last seconds. The writer says when. A log that begins at its
    // start again gives back what it took beyond the usual.
    connection.pragma_update(None, "journal_size_limit", CHECKPOINT_BYTES as i64)?;
    connection.execute_batch(
        "PRAGMA synchronous = NORMAL;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA temp_store = MEMORY;
         PRAGMA secure_delete = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON;
         PRAGMA cache_size = -4096;",
    )?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// Looks whether the file is whole, for as long as there is patience. Says whether that was too short.
pub(super) fn check(connection: &mut Connection, patience: Duration) -> Result<bool, FileError> {
    let until = Instant::now() + patience;
    let failed = |error: rusqlite::Error| FileError::of("check the database", &error);
    connection.progress_handler(STEPS, Some(move || Instant::now() >= until)).map_err(failed)?;
    let found = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    connection.progress_handler(0, None::<fn() -> bool>).map_err(failed)?;
    match found {
        Ok(answer) if answer == "ok" => Ok(false),
        Ok(answer) => Err(FileError::Damaged(answer)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            Ok(true)
        }
        Err(error) => Err(failed(error)),
    }
}

/// What was set aside.
pub(super) struct SetAside {
    /// The new path of the file.
    pub kept_as: PathBuf,
    /// One that was set aside long ago and had to make room.
    pub removed: Option<PathBuf>,
}

/// Renames the file and what belongs to it, so that a new one can be made.
pub(super) fn set_aside(dir: &Path, now: Timestamp) -> Result<SetAside, FileError> {
    let failed = || FileError::io("set the damaged database aside");
    let before = were_set_aside(dir);
    // Their order is that of their names, whatever the clock says.
    let stamp = before.last().map_or(now.0, |last| now.0.max(last + 1)).max(0);
    let renamed = |suffix: &str| dir.join(format!("{SET_ASIDE}{stamp:013}{suffix}"));
    // The log first: a new file must never be read with the log of the old one.
    for suffix in WITH_IT.iter().rev() {
        match fs::rename(dir.join(format!("{NAME}{suffix}")), renamed(suffix)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed()(error)),
            _ => {}
        }
    }
    let removed = (before.len() >= MAX_SET_ASIDE).then(|| {
        for suffix in WITH_IT {
            let _ = fs::remove_file(dir.join(format!("{SET_ASIDE}{:013}{suffix}", before[0])));
        }
        dir.join(format!("{SET_ASIDE}{:013}", before[0]))
    });
    Ok(SetAside { kept_as: renamed(""), removed })
}

/// When files were set aside, oldest first.
fn were_set_aside(dir: &Path) -> Vec<i64> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let stamp = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let rest = name.to_str()?.strip_prefix(SET_ASIDE)?;
        rest.get(..13)?.parse().ok()
    };
    let mut stamps: Vec<i64> = names.filter_map(stamp).collect();
    stamps.sort_unstable();
    stamps.dedup();
    stamps
}

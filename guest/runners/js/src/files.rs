//! Files of the workspace.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Where the host puts it.
const ROOT: &str = "/workspace";

/// Why a file was not read or changed, in the form of the contract's errors.
#[derive(Debug, Serialize)]
pub enum Error {
    NotFound(String),
    AlreadyExists(String),
    Denied(String),
    Invalid(String),
    Failed(String),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        let text = error.to_string();
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound(text),
            io::ErrorKind::AlreadyExists => Self::AlreadyExists(text),
            io::ErrorKind::PermissionDenied => Self::Denied(text),
            io::ErrorKind::IsADirectory
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidInput => Self::Invalid(text),
            _ => Self::Failed(text),
        }
    }
}

/// An entry of a directory.
#[derive(Serialize)]
pub struct Entry {
    name: String,
    kind: &'static str,
}

/// What there is to know about a file.
#[derive(Serialize)]
pub struct Stat {
    kind: &'static str,
    size: u64,
    /// Milliseconds since 1970.
    modified_ms: Option<u64>,
}

pub fn read(path: &str) -> Result<Vec<u8>, Error> {
    Ok(fs::read(within(path))?)
}

pub fn write(path: &str, append: bool, contents: &[u8]) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.create(true).write(true).append(append).truncate(!append);
    Ok(options.open(within(path))?.write_all(contents)?)
}

/// Entries by name.
pub fn list(path: &str) -> Result<Vec<Entry>, Error> {
    let entry = |entry: io::Result<fs::DirEntry>| -> Result<Entry, Error> {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        Ok(Entry { name, kind: kind(entry.file_type()?) })
    };
    let mut entries = fs::read_dir(within(path))?.map(entry).collect::<Result<Vec<_>, _>>()?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

pub fn stat(path: &str) -> Result<Stat, Error> {
    let metadata = fs::metadata(within(path))?;
    let modified = metadata.modified().ok();
    let since = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let modified_ms = since.and_then(|since| since.as_millis().try_into().ok());
    Ok(Stat { kind: kind(metadata.file_type()), size: metadata.len(), modified_ms })
}

/// Makes the directory and those above it.
pub fn make_dir(path: &str) -> Result<(), Error> {
    Ok(fs::create_dir_all(within(path))?)
}

pub fn remove(path: &str, recursive: bool) -> Result<(), Error> {
    let path = within(path);
    match fs::symlink_metadata(&path)?.is_dir() {
        true if recursive => fs::remove_dir_all(path)?,
        true => fs::remove_dir(path)?,
        false => fs::remove_file(path)?,
    }
    Ok(())
}

pub fn rename(from: &str, to: &str) -> Result<(), Error> {
    Ok(fs::rename(within(from), within(to))?)
}

/// A relative path begins in the workspace. The host keeps both kinds inside.
fn within(path: &str) -> PathBuf {
    Path::new(ROOT).join(path)
}

fn kind(kind: fs::FileType) -> &'static str {
    if kind.is_dir() {
        "directory"
    } else if kind.is_symlink() {
        "link"
    } else {
        "file"
    }
}

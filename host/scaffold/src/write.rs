//! Writing a tree: all of it or nothing, and over nothing.
//!
//! It is written into a directory beside the new one, which is renamed when it is complete. The rename is what refuses a
//! directory that is not empty, so nothing that appears in the meantime is lost either.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bulkhead_types::AgentId;

use crate::tree::Tree;

/// Why there is no new directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The language has a rule of its own.
    #[error("{name} cannot be the name: {rule}")]
    Name { name: AgentId, rule: &'static str },
    /// Something has that name.
    #[error("{} is a directory with something in it; nothing was written", .0.display())]
    NotEmpty(PathBuf),
    /// Something has that name.
    #[error("{} exists, and is no directory; nothing was written", .0.display())]
    InTheWay(PathBuf),
    #[error("cannot write {}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
}

impl Refused {
    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Unwritable { .. } => 1,
            Self::Name { .. } | Self::NotEmpty(_) | Self::InTheWay(_) => 2,
        }
    }
}

/// Writes a tree as the directory `name` in `parent`. Returns its path.
pub(crate) fn write(parent: &Path, name: &str, tree: &Tree) -> Result<PathBuf, Refused> {
    let path = parent.join(name);
    // Before anything is written, for the sake of the message.
    refuse_existing(&path)?;
    let beside = tempfile::Builder::new().prefix(&format!(".{name}.")).tempdir_in(parent);
    let beside = beside.map_err(unwritable(&path))?;
    // Inside of it, because the temporary one is for this user alone.
    let complete = beside.path().join(name);
    fs::create_dir(&complete).map_err(unwritable(&path))?;
    for (file, bytes) in tree {
        write_file(&complete.join(file), bytes).map_err(unwritable(&path.join(file)))?;
    }
    match fs::rename(&complete, &path) {
        Ok(()) => Ok(path),
        Err(error) => {
            refuse_existing(&path)?;
            Err(unwritable(&path)(error))
        }
    }
}

fn refuse_existing(path: &Path) -> Result<(), Refused> {
    let Ok(about) = fs::symlink_metadata(path) else { return Ok(()) };
    if !about.is_dir() {
        return Err(Refused::InTheWay(path.to_owned()));
    }
    let is_empty = fs::read_dir(path).map_err(unwritable(path))?.next().is_none();
    if is_empty { Ok(()) } else { Err(Refused::NotEmpty(path.to_owned())) }
}

fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, bytes)
}

fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> Refused {
    let path = path.to_owned();
    move |source| Refused::Unwritable { path, source }
}

//! Small files that are there as a whole, or as they were.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Writes a document for this user in the place of the one before it, by way of `.NAME.new` beside it. It is on the disk then.
pub(crate) fn write(path: &Path, document: &impl Serialize) -> io::Result<()> {
    let (new, file) = prepare(path, document)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// The same, and the disk may have the one before it after a loss of power.
pub(crate) fn write_soon(path: &Path, document: &impl Serialize) -> io::Result<()> {
    fs::rename(prepare(path, document)?.0, path)
}

fn prepare(path: &Path, document: &impl Serialize) -> io::Result<(PathBuf, File)> {
    let new =
        path.with_file_name(format!(".{}.new", path.file_name().unwrap_or_default().display()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&new)?;
    file.write_all(&serde_json::to_vec(document)?)?;
    Ok((new, file))
}

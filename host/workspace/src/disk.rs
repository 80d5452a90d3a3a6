//! The host's own files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::error::Error;

/// Opens a directory, and nothing else.
pub(crate) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Does something on a thread that may wait for the disk. An error names the path.
///
/// It goes on if this future is dropped. What changes anything under a lock is done by [`holding`].
pub(crate) async fn on<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let of_thread: PathBuf = path.to_owned();
    let done = tokio::task::spawn_blocking(move || work(&of_thread)).await;
    done.map_err(io::Error::other).flatten().map_err(|error| Error::disk(path, &error))
}

/// Does something as [`on`], and holds a lock until it is done: also after this future was dropped.
pub(crate) async fn holding<G: Send + Sync + 'static, T: Send + 'static>(
    lock: &Arc<G>,
    path: &Path,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let lock = Arc::clone(lock);
    on(path, move |path| {
        let done = work(path);
        drop(lock);
        done
    })
    .await
}

/// Writes a file whole or not at all.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let file = tempfile::NamedTempFile::new_in(folder)?;
    std::fs::write(file.path(), bytes)?;
    file.persist(path)?;
    Ok(())
}

/// Whether this is a directory, and no link to one.
pub(crate) fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// Moves a directory out of the way, if it is there, and removes it with everything in it. A program that was killed a
/// moment ago may still write to it. What is left then is in nobody's way, and the next call removes it.
pub(crate) fn set_aside(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let old = format!("{}.old-", path.file_name().unwrap_or_default().display());
    match std::fs::rename(path, folder.join(format!("{old}{:016x}", fastrand::u64(..)))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(old.as_bytes()) {
            let _ = remove(&entry.path());
        }
    }
    Ok(())
}

/// Removes a directory with everything in it, if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod gate;

//! An archive as a tree again. What is in it is believed as little as what an agent sends: each step is relative to a directory
//! that is open, nothing that is there is replaced, and no link is followed.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use flate2::read::GzDecoder;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, fchmod, mkdirat, openat, symlinkat, syncfs,
    utimensat,
};
use sha2::{Digest as _, Sha256};
use tar::{Archive, Entry, EntryType};
use tokio::sync::mpsc::Receiver;

use super::walk::{DIRECTORY, Seen};
use super::{ArchiveError, Limits};

/// What an entry may take in an archive beside its contents: two headers, a long name and a long target.
const ENTRY_BYTES: u64 = 12 * 1024;

/// What a new file is opened with.
const NEW: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Unpacks the parts of an archive into a directory that is empty and nobody else's. Returns with the digest of what was read.
/// Blocks until the parts are there, and all of it is on the disk.
pub(super) fn unpack(
    parts: Receiver<Bytes>,
    into: &Path,
    limits: Limits,
) -> Result<(Seen, String), ArchiveError> {
    let top = openat(CWD, into, DIRECTORY, Mode::empty());
    let top = top.map_err(|error| ArchiveError::disk("open", into, &error.into()))?;
    let most = limits.bytes.saturating_add(limits.entries.saturating_mul(ENTRY_BYTES));
    let reader = Parts { parts, part: Bytes::new(), digest: Sha256::new() };
    let mut archive = Archive::new(GzDecoder::new(reader).take(most.saturating_add(ENTRY_BYTES)));
    let mut tree = Tree { top, limits, seen: Seen::default(), directories: Vec::new() };
    for entry in archive.entries().map_err(|error| damaged(&error))? {
        tree.add(entry.map_err(|error| damaged(&error))?)?;
    }
    let mut reader = archive.into_inner().into_inner().into_inner();
    // Behind the end of the archive is nothing that matters but to its digest.
    io::copy(&mut reader, &mut io::sink()).map_err(|error| damaged(&error))?;
    let seen = tree.finish(into)?;
    Ok((seen, crate::segment::hex(&reader.digest.finalize())))
}

fn damaged(error: &dyn std::fmt::Display) -> ArchiveError {
    ArchiveError::Damaged(error.to_string())
}

struct Tree {
    top: OwnedFd,
    limits: Limits,
    seen: Seen,
    /// They get their permissions and times when all is in them.
    directories: Vec<(PathBuf, Mode, Timestamps)>,
}

impl Tree {
    fn add(&mut self, mut entry: Entry<'_, impl Read>) -> Result<(), ArchiveError> {
        let path = entry.path().map_err(|error| damaged(&error))?.into_owned();
        let wrong = |what: &str| ArchiveError::Damaged(format!("{}: {what}", path.display()));
        let names: Option<Vec<_>> = path.components().map(only_normal).collect();
        let names = names.filter(|names| !names.is_empty());
        let names = names.ok_or_else(|| wrong("it leads out of the workspace"))?;
        self.seen.entries += 1;
        self.seen.bytes = self.seen.bytes.saturating_add(entry.size());
        let Seen { bytes, entries, .. } = self.seen;
        if bytes > self.limits.bytes || entries > self.limits.entries {
            return Err(ArchiveError::TooLarge { bytes, entries, limits: self.limits });
        }
        let header = entry.header();
        let (kind, mode) = (header.entry_type(), header.mode().unwrap_or(0o600));
        let mode = Mode::from_raw_mode(mode & 0o777);
        let times = times(header.mtime().unwrap_or(0));
        let failed = |error: rustix::io::Errno| wrong(&error.to_string());
        let (name, parents) = names.split_last().ok_or_else(|| wrong("it has no name"))?;
        let mut below = self.top.try_clone().map_err(|error| damaged(&error))?;
        for parent in parents {
            below = openat(&below, *parent, DIRECTORY, Mode::empty()).map_err(failed)?;
        }
        match kind {
            EntryType::Directory => {
                mkdirat(&below, *name, Mode::RWXU).map_err(failed)?;
                self.directories.push((path.clone(), mode, times));
            }
            EntryType::Regular => {
                let file = openat(&below, *name, NEW, Mode::RUSR | Mode::WUSR).map_err(failed)?;
                let mut file = std::fs::File::from(file);
                let disk = |error: io::Error| ArchiveError::disk("write", &path, &error);
                copy(&mut entry, &mut file, &path)?;
                fchmod(&file, mode).map_err(|error| disk(error.into()))?;
                rustix::fs::futimens(&file, &times).map_err(|error| disk(error.into()))?;
            }
            EntryType::Symlink => {
                let target = entry.link_name().map_err(|error| damaged(&error))?;
                let target = target.ok_or_else(|| wrong("it is a link to nothing"))?;
                symlinkat(&*target, &below, *name).map_err(failed)?;
                let set = utimensat(&below, *name, &times, AtFlags::SYMLINK_NOFOLLOW);
                set.map_err(failed)?;
            }
            _ => return Err(wrong("it is no file, directory or link")),
        }
        Ok(())
    }

    fn finish(mut self, into: &Path) -> Result<Seen, ArchiveError> {
        // What is inside comes later in an archive.
        for (path, mode, times) in std::mem::take(&mut self.directories).into_iter().rev() {
            let set = || {
                let mut below = self.top.try_clone()?;
                for name in path.components() {
                    below = openat(&below, name.as_os_str(), DIRECTORY, Mode::empty())?;
                }
                rustix::fs::futimens(&below, &times)?;
                fchmod(&below, mode)?;
                Ok(())
            };
            set().map_err(|error: io::Error| ArchiveError::disk("write", &path, &error))?;
        }
        syncfs(&self.top).map_err(|error| ArchiveError::disk("sync", into, &error.into()))?;
        Ok(self.seen)
    }
}

/// An error of the archive is not one of the disk.
fn copy(from: &mut impl Read, to: &mut impl Write, path: &Path) -> Result<(), ArchiveError> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) => return Err(damaged(&error)),
        };
        let written = to.write_all(&buffer[..count]);
        written.map_err(|error| ArchiveError::disk("write", path, &error))?;
    }
}

fn only_normal(component: Component<'_>) -> Option<&OsStr> {
    match component {
        Component::Normal(name) => Some(name),
        _ => None,
    }
}

fn times(seconds: u64) -> Timestamps {
    let tv_sec = i64::try_from(seconds).unwrap_or(0);
    let time = Timespec { tv_sec, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Reads the parts in their order.
struct Parts {
    parts: Receiver<Bytes>,
    part: Bytes,
    digest: Sha256,
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            let Some(part) = self.parts.blocking_recv() else { return Ok(0) };
            self.digest.update(&part);
            self.part = part;
        }
        let count = buffer.len().min(self.part.len());
        buffer[..count].copy_from_slice(&self.part.split_to(count));
        Ok(count)
    }
}

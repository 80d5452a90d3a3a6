//! What one agent may have on disk: bytes and entries of its workspace.
//!
//! Everything that makes a workspace larger or smaller goes through [`Quota`], one step at a time: what an operation
//! will add is taken first, so that two who grow at once cannot both have the last bytes, and given back when it fails.
//! The tree is counted once for each incarnation, by its first operation of that kind. All of it may block.
//!
//! | what | counts as |
//! | --- | --- |
//! | a file | its size in blocks of 4 KiB, holes included, and an entry |
//! | a directory | a block and an entry |
//! | a symbolic link | its text in blocks and an entry |
//! | a further hard link | an entry |
//! | a file that was deleted and is still open, by a stream for example | as before, until nobody has it open |
//!
//! Below the agent's own limits lies the [`Disk`]'s floor, which all agents have in common.

mod count;
mod disk;
mod open;

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bulkhead_types::Limits;
use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{FileType, Stat, fstat};
use rustix::io::Errno;

pub(crate) use disk::Disk;
pub use disk::{DiskFigures, DiskFloor};
use open::{DeletedFiles, OpenFiles};

use crate::descriptors::{NoneLeft, Taken};

/// File systems give space by blocks. 4 KiB is what most of them have.
const BLOCK_BYTES: u64 = 4096;

/// What a file of this size takes.
pub(crate) fn blocks(size: u64) -> u64 {
    size.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)
}

/// Bytes and entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Space {
    pub bytes: u64,
    pub entries: u64,
}

impl Space {
    /// A name more for something that is there.
    pub(crate) const NAME: Self = Self { bytes: 0, entries: 1 };

    /// A directory.
    pub(crate) const DIRECTORY: Self = Self { bytes: BLOCK_BYTES, entries: 1 };

    /// Something of that size, with its entry.
    pub(crate) fn entry(size: u64) -> Self {
        Self { bytes: blocks(size), entries: 1 }
    }

    fn bytes(bytes: u64) -> Self {
        Self { bytes, entries: 0 }
    }

    fn plus(self, other: Self) -> Self {
        let Self { bytes, entries } = other;
        Self {
            bytes: self.bytes.saturating_add(bytes),
            entries: self.entries.saturating_add(entries),
        }
    }

    fn minus(self, other: Self) -> Self {
        let Self { bytes, entries } = other;
        Self {
            bytes: self.bytes.saturating_sub(bytes),
            entries: self.entries.saturating_sub(entries),
        }
    }

    fn is_within(self, limit: Self) -> bool {
        self.bytes <= limit.bytes && self.entries <= limit.entries
    }
}

/// Where a piece is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Position(u64),
    End,
}

/// An agent's workspace, as far as its size goes.
pub(crate) struct Quota {
    limit: Space,
    disk: Arc<Disk>,
    /// `None` where there is no workspace, and so no file.
    root: Option<File>,
    /// Others have written in it: it is to be counted again.
    is_stale: AtomicBool,
    /// Apart from what is held, which waits for the disk.
    open: OpenFiles,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// `None` before the tree was counted.
    space: Option<Counted>,
    deleted: DeletedFiles,
}

struct Counted {
    space: Space,
    /// The tree has more entries than are allowed, and was not counted to its end.
    is_cut_short: bool,
    /// Something went since it was counted.
    has_shrunk: bool,
}

impl Quota {
    /// Of the tree below `root`, whose open files are `descriptors`.
    pub(crate) fn new(
        limits: &Limits,
        disk: Arc<Disk>,
        root: Option<File>,
        descriptors: Taken,
    ) -> Self {
        let limit = Space { bytes: limits.workspace_bytes, entries: limits.workspace_entries };
        let (is_stale, open) = (AtomicBool::new(false), OpenFiles::new(descriptors));
        Self { limit, disk, root, is_stale, open, held: Mutex::default() }
    }

    /// Waits for its turn, and counts the tree when that was not done.
    pub(crate) fn begin(&self) -> io::Result<Step<'_>> {
        let mut step = Step { quota: self, held: self.held.lock() };
        if self.is_stale.swap(false, Relaxed) || step.held.space.is_none() {
            step.count()?;
        }
        Ok(step)
    }

    /// Programs have written to the workspace: the next operation counts it again.
    pub(crate) fn recount(&self) {
        self.is_stale.store(true, Relaxed);
    }

    /// Whether the agent may open one file more.
    pub(crate) fn may_open(&self) -> bool {
        self.open.may_open()
    }

    /// Takes the descriptor of what is about to be opened from those of all guests.
    pub(crate) fn take_descriptor(&self) -> Result<(), NoneLeft> {
        self.open.take_descriptor()
    }

    /// A file or directory was opened.
    pub(crate) fn opened(&self, file: &Arc<File>) {
        self.open.add(file);
    }

    /// Gives the descriptors of what is closed back.
    pub(crate) fn count_open(&self) {
        self.open.count();
    }

    /// Those that are open.
    pub(crate) fn open_files(&self) -> Vec<Arc<File>> {
        self.open.files()
    }

    /// Writes a piece of a file, or as much of it as the system takes at once.
    pub(crate) fn write(&self, file: &File, at: At, bytes: &[u8]) -> io::Result<usize> {
        let mut step = self.begin()?;
        let Some(is) = regular(file)? else {
            // A pipe, for example, which may hang for as long as its reader likes.
            drop(step);
            return file.write_at(bytes, 0);
        };
        let begin = match at {
            At::Position(position) => position,
            At::End => is.size,
        };
        let grown_by = |written: usize| {
            let end = begin.saturating_add(written as u64);
            Space::bytes(blocks(end.max(is.size)) - blocks(is.size))
        };
        let asked = grown_by(bytes.len());
        step.take(asked)?;
        let written = file.write_at(bytes, begin);
        let grown = written.as_ref().map_or(Space::default(), |written| grown_by(*written));
        step.give(asked.minus(grown));
        step.held.deleted.grew(&is, grown);
        written
    }

    /// Makes a file as long as that.
    pub(crate) fn resize(&self, file: &File, size: u64) -> io::Result<()> {
        let mut step = self.begin()?;
        let Some(is) = regular(file)? else { return file.set_len(size) };
        let (before, after) = (blocks(is.size), blocks(size));
        let grown = Space::bytes(after.saturating_sub(before));
        step.take(grown)?;
        if let Err(error) = file.set_len(size) {
            step.give(grown);
            return Err(error);
        }
        step.give(Space::bytes(before.saturating_sub(after)));
        step.held.deleted.grew(&is, grown);
        Ok(())
    }

    /// Empties a file that was opened for that. Anything but a file stays as it is.
    pub(crate) fn empty(&self, file: &File) -> io::Result<()> {
        match regular(file)? {
            Some(is) if is.size > 0 => self.resize(file, 0),
            _ => Ok(()),
        }
    }
}

/// Something of the agent's that has `handle`s of files, and may be the last that has: when it is dropped, what is
/// closed by that is others'.
///
/// A thread that may block drops it at its leisure, and an idle agent makes no call in which somebody would count.
#[derive(Clone)]
pub(crate) struct Open<T> {
    handle: T,
    /// Dropped after it.
    count: CountOpen,
}

impl<T> Open<T> {
    pub(crate) fn new(handle: T, quota: &Arc<Quota>) -> Self {
        Self { handle, count: CountOpen(Arc::clone(quota)) }
    }

    /// That of the agent.
    pub(crate) fn quota(&self) -> &Quota {
        &self.count.0
    }
}

impl<T> Deref for Open<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.handle
    }
}

/// Counts what is open when it is dropped.
#[derive(Clone)]
struct CountOpen(Arc<Quota>);

impl Drop for CountOpen {
    fn drop(&mut self) {
        self.0.count_open();
    }
}

/// Size and identity of a regular file. `None` for anything else.
fn regular(file: &File) -> io::Result<Option<Identity>> {
    let stat = fstat(file)?;
    let is_regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(is_regular.then(|| Identity::of(&stat)))
}

/// Which file it is, and how large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    number: u64,
    size: u64,
    links: u64,
}

impl Identity {
    #[allow(clippy::useless_conversion, reason = "the kernel's count is narrower on some machines")]
    fn of(stat: &Stat) -> Self {
        Self {
            number: stat.st_ino,
            size: stat.st_size.unsigned_abs(),
            links: u64::from(stat.st_nlink),
        }
    }
}

/// What has to be removed, as it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Removed {
    pub is_directory: bool,
    pub links: u64,
    pub size: u64,
}

impl Removed {
    pub(crate) fn of(stat: &Stat) -> Self {
        let Identity { size, links, .. } = Identity::of(stat);
        let kind = FileType::from_raw_mode(stat.st_mode);
        Self { is_directory: kind == FileType::Directory, links, size }
    }
}

/// One operation on the workspace: the others wait until it is dropped.
pub(crate) struct Step<'a> {
    quota: &'a Quota,
    held: MutexGuard<'a, Held>,
}

impl Step<'_> {
    /// Takes room for what is about to be made, or fails as a full disk does.
    pub(crate) fn take(&mut self, space: Space) -> io::Result<()> {
        if space == Space::default() {
            return Ok(());
        }
        let (root, disk) = (&self.quota.root, &self.quota.disk);
        if !self.fits(space)? {
            disk.refused_by_quota();
            return Err(Errno::NOSPC.into());
        }
        if let Some(root) = root
            && !disk.take(root, space)?
        {
            return Err(Errno::NOSPC.into());
        }
        if let Some(counted) = &mut self.held.space {
            counted.space = counted.space.plus(space);
        }
        Ok(())
    }

    /// Gives back what failed, or is gone.
    pub(crate) fn give(&mut self, space: Space) {
        if let Some(counted) = &mut self.held.space
            && space != Space::default()
        {
            counted.space = counted.space.minus(space);
            counted.has_shrunk = true;
        }
    }

    /// A name is gone. What is still open stays counted.
    pub(crate) fn removed(&mut self, removed: Removed) {
        if removed.is_directory {
            return self.give(Space::DIRECTORY);
        }
        if removed.links > 1 {
            return self.give(Space::NAME);
        }
        let space = Space::entry(removed.size);
        if !self.held.deleted.add(space, &self.quota.open) {
            self.give(space);
        }
    }

    fn fits(&mut self, space: Space) -> io::Result<bool> {
        if self.would_fit(space) {
            return Ok(true);
        }
        let closed = self.held.deleted.closed();
        self.give(closed);
        let recount = self.held.space.as_ref().is_some_and(|it| it.is_cut_short && it.has_shrunk);
        if recount {
            self.count()?;
        }
        Ok(self.would_fit(space))
    }

    fn would_fit(&self, space: Space) -> bool {
        let Some(counted) = &self.held.space else { return false };
        !counted.is_cut_short && counted.space.plus(space).is_within(self.quota.limit)
    }

    fn count(&mut self) -> io::Result<()> {
        let most = self.quota.limit.entries;
        let root = self.quota.root.as_ref();
        let counted = root.map(|root| count::tree(root, most)).transpose()?.unwrap_or_default();
        let space = counted.space.plus(self.held.deleted.held());
        let is_cut_short = counted.is_cut_short;
        self.held.space = Some(Counted { space, is_cut_short, has_shrunk: false });
        Ok(())
    }
}

#[cfg(test)]
mod tests;

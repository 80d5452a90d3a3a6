//! Copying a tree of files with their times, modes and owners.
//!
//! Each step is relative to a directory that is open, and follows no link: names and targets of links are a repository's.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chownat,
    fchmod, fchown, fstat, futimens, mkdirat, open, openat, readlinkat, statat, symlinkat,
    utimensat,
};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

use crate::disk::DIRECTORY;

/// Depth of directories that are copied. Two of each are open.
const MAX_DEPTH: usize = 128;

/// What the kernel says of each file that was copied, by its path.
pub(crate) type Copied = HashMap<Vec<u8>, Stat>;

/// Copies all that is in a directory into another one, but for one name.
pub(crate) fn tree(from: &Path, to: &Path, but: &str, copied: &mut Copied) -> io::Result<()> {
    let from = openat(CWD, from, DIRECTORY, Mode::empty())?;
    let to = openat(CWD, to, DIRECTORY, Mode::empty())?;
    let mut copy = Copy { path: Vec::new(), copied };
    Ok(copy.directory(from.as_fd(), to.as_fd(), Some(but.as_bytes()), 0)?)
}

/// Gives a file the mode and the owner of another one.
pub(crate) fn attributes(from: &Path, to: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
    let (from, to) = (open(from, flags, Mode::empty())?, open(to, flags, Mode::empty())?);
    Ok(like(to.as_fd(), &fstat(from)?)?)
}

struct Copy<'a> {
    /// Of the directory that is being copied, from the top, with a slash at its end.
    path: Vec<u8>,
    copied: &'a mut Copied,
}

impl Copy<'_> {
    fn directory(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        but: Option<&[u8]>,
        depth: usize,
    ) -> rustix::io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(Errno::NAMETOOLONG);
        }
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name();
            let bytes = name.to_bytes();
            if matches!(bytes, b"." | b"..") || Some(bytes) == but {
                continue;
            }
            let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    mkdirat(to, name, Mode::RWXU)?;
                    let from = openat(from, name, DIRECTORY, Mode::empty())?;
                    let to = openat(to, name, DIRECTORY, Mode::empty())?;
                    // At once: what is copied in part, git completes.
                    like(to.as_fd(), &stat)?;
                    let before = self.path.len();
                    self.path.extend_from_slice(bytes);
                    self.path.push(b'/');
                    self.directory(from.as_fd(), to.as_fd(), None, depth + 1)?;
                    self.path.truncate(before);
                    continue;
                }
                FileType::RegularFile => file(from, to, name, &stat)?,
                FileType::Symlink => link(from, to, name, &stat)?,
                _ => return Err(Errno::INVAL),
            }
            let stat = statat(to, name, AtFlags::SYMLINK_NOFOLLOW)?;
            self.copied.insert([&self.path, bytes].concat(), stat);
        }
        Ok(())
    }
}

fn file(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
) -> rustix::io::Result<()> {
    let flags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);
    let mut from = File::from(openat(from, name, flags.union(OFlags::RDONLY), Mode::empty())?);
    let new = flags.union(OFlags::WRONLY).union(OFlags::CREATE).union(OFlags::EXCL);
    let mut to = File::from(openat(to, name, new, Mode::RUSR.union(Mode::WUSR))?);
    // In the kernel, which shares the blocks where the file system can.
    io::copy(&mut from, &mut to)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    like(to.as_fd(), stat)?;
    futimens(&to, &times(stat))
}

fn link(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
) -> rustix::io::Result<()> {
    symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
    if let Some((owner, group)) = owner(stat) {
        chownat(to, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

/// Mode and owner.
fn like(to: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<()> {
    if let Some((owner, group)) = owner(stat) {
        fchown(to, Some(owner), Some(group))?;
    }
    fchmod(to, Mode::from_raw_mode(stat.st_mode))
}

/// Whose it is, if it is another's: of a user of the sandbox.
fn owner(stat: &Stat) -> Option<(Uid, Gid)> {
    let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    (owner != geteuid() || group != getegid()).then_some((owner, group))
}

#[allow(clippy::unnecessary_cast, reason = "the kernel's types differ between machines")]
fn times(stat: &Stat) -> Timestamps {
    let modified = Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ };
    Timestamps { last_access: modified, last_modification: modified }
}

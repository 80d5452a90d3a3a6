//! What a directory of an agent takes on disk.
//!
//! The agent may exchange a directory for a link at any time, so each step is relative to a directory that is open, and
//! follows no link.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, Stat, openat, statat};
use rustix::io::Errno;

use crate::disk::DIRECTORY;

/// Entries that are counted at most.
const MAX_ENTRIES: u64 = 250_000;

/// Depth of directories that are counted. Each one that is being read is open.
const MAX_DEPTH: usize = 256;

/// Bytes of a block of [`Stat`], whatever the file system has.
const BLOCK_BYTES: u64 = 512;

/// What a directory takes on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub bytes: u64,
    pub entries: u64,
    /// There is more: too many entries, too deep, not readable, or on another file system.
    pub truncated: bool,
}

/// What a file has on disk: without holes, and each of its names has its part of it. So neither a huge hole nor many
/// names for one file look like more than there is.
#[allow(clippy::useless_conversion, reason = "the kernel's count is narrower on some machines")]
pub(crate) fn share(stat: &Stat) -> u64 {
    let bytes = stat.st_blocks.unsigned_abs().saturating_mul(BLOCK_BYTES);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => bytes,
        _ => bytes / u64::from(stat.st_nlink).max(1),
    }
}

/// Counts a directory with everything below it.
pub(crate) fn measure(folder: &Path) -> io::Result<Size> {
    measure_up_to(folder, MAX_ENTRIES)
}

fn measure_up_to(folder: &Path, max_entries: u64) -> io::Result<Size> {
    let top = openat(CWD, folder, DIRECTORY, Mode::empty())?;
    let stat = rustix::fs::fstat(&top)?;
    let size = Size { bytes: share(&stat), ..Size::default() };
    let open = vec![Dir::new(top)?];
    let mut count = Count { device: stat.st_dev, size, max_entries, open };
    while count.step().is_some() {}
    Ok(count.size)
}

struct Count {
    device: u64,
    size: Size,
    max_entries: u64,
    /// The directories from the top down to the one that is being read.
    open: Vec<Dir>,
}

impl Count {
    /// Takes the next entry. Returns none after the last one.
    fn step(&mut self) -> Option<()> {
        let dir = self.open.last_mut()?;
        match dir.read() {
            Some(Ok(entry)) => {
                if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                    self.take(entry.file_name());
                }
            }
            Some(Err(_)) => self.leave(true),
            None => self.leave(false),
        }
        Some(())
    }

    fn leave(&mut self, truncated: bool) {
        self.size.truncated |= truncated;
        self.open.pop();
    }

    fn take(&mut self, name: &CStr) {
        if self.size.entries >= self.max_entries {
            self.size.truncated = true;
            return self.open.clear();
        }
        match self.count(name) {
            Ok(Some(below)) => self.open.push(below),
            // It is gone.
            Ok(None) | Err(Errno::NOENT) => {}
            Err(_) => self.size.truncated = true,
        }
    }

    /// Counts an entry, and opens it if it is a directory.
    fn count(&mut self, name: &CStr) -> rustix::io::Result<Option<Dir>> {
        let Some(dir) = self.open.last() else { return Ok(None) };
        let stat = statat(dir.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)?;
        self.size.entries += 1;
        if stat.st_dev != self.device {
            return Err(Errno::XDEV);
        }
        self.size.bytes = self.size.bytes.saturating_add(share(&stat));
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(None);
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(Errno::NAMETOOLONG);
        }
        let below: OwnedFd = openat(dir.fd()?, name, DIRECTORY, Mode::empty())?;
        Dir::new(below).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn holes_names_and_links_look_like_no_more_than_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let (top, elsewhere) = (folder.path().join("top"), folder.path().join("elsewhere"));
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        let empty = measure(&top).unwrap();
        assert_eq!((empty.entries, empty.truncated), (2, false));
        fs::write(elsewhere.join("large"), vec![1; 1 << 20]).unwrap();
        fs::File::create(top.join("hole")).unwrap().set_len(1 << 40).unwrap();
        symlink(&elsewhere, top.join("link")).unwrap();
        symlink(".", top.join("loop")).unwrap();
        symlink("absent", top.join("a/absent")).unwrap();
        fs::write(top.join("file"), vec![1; 1 << 16]).unwrap();
        for n in 0..30 {
            fs::hard_link(top.join("file"), top.join(format!("a/b/name{n}"))).unwrap();
        }
        let full = measure(&top).unwrap();
        assert_eq!((full.entries, full.truncated), (2 + 5 + 30, false));
        let more = full.bytes - empty.bytes;
        assert!(((1 << 16) - 31..1 << 17).contains(&more), "{more}");
        assert!(measure(&top.join("link")).is_err(), "a link is no directory");
    }

    #[test]
    fn what_is_too_much_is_not_counted_and_said() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/c"), "").unwrap();
        for (max_entries, expected) in [(2, (2, true)), (3, (3, false))] {
            let size = measure_up_to(folder.path(), max_entries).unwrap();
            assert_eq!((size.entries, size.truncated), expected);
        }
    }

    #[test]
    fn what_is_too_deep_is_not_counted_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let deep = vec!["d"; MAX_DEPTH].join("/");
        fs::create_dir_all(folder.path().join(&deep)).unwrap();
        let size = measure(folder.path()).unwrap();
        assert_eq!((size.entries, size.truncated), (MAX_DEPTH as u64, true));
        fs::remove_dir(folder.path().join(deep)).unwrap();
        assert!(!measure(folder.path()).unwrap().truncated);
    }
}

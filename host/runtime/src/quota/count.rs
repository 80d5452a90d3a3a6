//! Counts a workspace.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use std::collections::HashSet;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};

use super::Space;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub space: Space,
    /// There is more.
    pub is_cut_short: bool,
}

/// Counts what lies below `root`, up to more than `most` entries. Follows no links. Has one directory open at a time,
/// and goes back up by `..`, so neither depth nor the length of a path is a bound. What cannot be read counts as
/// an entry.
pub(super) fn tree(root: &File, most: u64) -> io::Result<Found> {
    let mut count = Count { found: Found::default(), linked: HashSet::new(), most };
    let mut here = open(root.as_fd(), c".")?;
    let mut pending = vec![count.directory(&here)];
    while let Some(level) = pending.last_mut() {
        if count.found.is_cut_short {
            break;
        }
        match level.pop() {
            Some(name) => {
                if let Ok(child) = open(here.as_fd(), &name) {
                    pending.push(count.directory(&child));
                    here = child;
                }
            }
            None => {
                pending.pop();
                if !pending.is_empty() {
                    here = open(here.as_fd(), c"..")?;
                }
            }
        }
    }
    Ok(count.found)
}

fn open(dir: impl AsFd, name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, name, flags, Mode::empty())?)
}

struct Count {
    found: Found,
    /// Files with more than one name that were counted.
    linked: HashSet<u64>,
    most: u64,
}

impl Count {
    /// Counts what a directory holds. Returns the directories in it.
    fn directory(&mut self, dir: &OwnedFd) -> Vec<CString> {
        let mut directories = Vec::new();
        let Ok(mut entries) = Dir::read_from(dir) else { return directories };
        while let Some(Ok(entry)) = entries.read() {
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if self.found.space.entries > self.most {
                self.found.is_cut_short = true;
                break;
            }
            let space = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(_) => Space::NAME,
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    directories.push(name.to_owned());
                    Space::DIRECTORY
                }
                Ok(stat) if stat.st_nlink > 1 && !self.linked.insert(stat.st_ino) => Space::NAME,
                Ok(stat) => Space::entry(stat.st_size.unsigned_abs()),
            };
            self.found.space = self.found.space.plus(space);
        }
        directories
    }
}

//! How much lies in a tool's writable binds: walks through them, a little at a time, between which the init does its
//! other work.
//!
//! | what | counts as |
//! | --- | --- |
//! | a file | its size in blocks of 4 KiB, holes included, and an entry |
//! | a directory below the bind's own | a block and an entry |
//! | a symbolic link | its text in blocks and an entry |
//! | a further hard link, another mount | an entry |
//! | a file that was deleted and is still open | nothing: no walk sees it. It ends with its tool, at the latest |
//!
//! A tool moves things while they are counted, so that a walk may meet one twice. What counts is that two walks in a
//! row find too much.

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, StatxAttributes, StatxFlags, open, openat, statx,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::failure::{During, Failure};
use crate::command::{BLOCK_BYTES, DiskLimit};

/// From the start of a tool to the first walk, and the least time between two.
const FIRST: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_secs(1);
/// Walks take at most this part of the time.
const SHARE: u32 = 10;
/// Signals wait as long as a step takes: well below a millisecond.
const STEP_ENTRIES: usize = 64;
/// Each level costs a descriptor and some 9 KiB. What is deeper is above every limit.
const DEPTH: usize = 256;
/// Files with several names that are remembered. One more is counted under each of its names.
const LINKED: usize = 1 << 18;

/// How the root of a tree is opened.
const ROOT: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Walks through trees for as long as the tool runs.
pub struct Watch {
    trees: Vec<Tree>,
    current: usize,
    walk: Option<Walk>,
    /// The walk before found too much.
    is_suspect: bool,
    /// The current round began then, or will begin.
    begins: Instant,
}

struct Tree {
    root: OwnedFd,
    limit: DiskLimit,
}

/// Whether a tree of files is above a limit, as for a tool. It reads the whole tree, or as much of it as the limit allows,
/// and may block. Where something moves meanwhile, two walks in a row have to find too much.
///
/// # Errors
///
/// If the tree cannot be opened.
pub fn exceeds(root: &Path, limit: DiskLimit) -> io::Result<bool> {
    let tree = Tree { root: open(root, ROOT, Mode::empty())?, limit };
    let is_above = || {
        let mut walk = Walk::new(&tree);
        loop {
            match walk.step() {
                Step::Unfinished => {}
                ended => return ended == Step::Above,
            }
        }
    };
    Ok(is_above() && is_above())
}

/// One walk through one tree.
struct Walk {
    /// From the root to where it is.
    dirs: Vec<Dir>,
    tally: Tally,
    limit: DiskLimit,
}

/// What a walk found so far.
#[derive(Default)]
struct Tally {
    bytes: u64,
    entries: u64,
    linked: HashSet<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Unfinished,
    Within,
    Above,
}

impl Watch {
    /// Of these files or directories. They are found now, whatever the tool makes of their paths.
    pub fn new(trees: impl Iterator<Item = (PathBuf, DiskLimit)>) -> Result<Self, Failure> {
        let trees = trees.map(|(path, limit)| {
            let root = open(&path, ROOT, Mode::empty());
            Ok(Tree { root: root.during(format!("open {}", path.display()))?, limit })
        });
        let begins = Instant::now() + FIRST;
        let trees = trees.collect::<Result<_, _>>()?;
        Ok(Self { trees, current: 0, walk: None, is_suspect: false, begins })
    }

    /// Until [`Watch::step`] has something to do. `None` if it never has.
    pub fn pause(&self) -> Option<Duration> {
        let left = self.begins.saturating_duration_since(Instant::now());
        (!self.trees.is_empty()).then_some(left)
    }

    /// Walks on for a moment, if it is time. True, once, if a tree is above its limit.
    pub fn step(&mut self) -> bool {
        if self.pause() != Some(Duration::ZERO) {
            return false;
        }
        let tree = &self.trees[self.current];
        match self.walk.get_or_insert_with(|| Walk::new(tree)).step() {
            Step::Unfinished => false,
            Step::Within => {
                self.finish_tree();
                false
            }
            Step::Above => self.suspect(),
        }
    }

    fn suspect(&mut self) -> bool {
        self.walk = None;
        let is_sure = std::mem::replace(&mut self.is_suspect, true);
        if is_sure {
            self.trees.clear();
        }
        is_sure
    }

    fn finish_tree(&mut self) {
        self.walk = None;
        self.is_suspect = false;
        self.current += 1;
        if self.current == self.trees.len() {
            self.current = 0;
            let took = self.begins.elapsed();
            self.begins = Instant::now() + PAUSE.max(took * SHARE);
        }
    }
}

impl Walk {
    fn new(Tree { root, limit }: &Tree) -> Self {
        let mut walk = Self { dirs: Vec::new(), tally: Tally::default(), limit: *limit };
        match open_dir(root.as_fd(), c".") {
            Ok(dir) => walk.dirs.push(dir),
            // A bind may be a file.
            Err(_) => drop(walk.tally.add(root.as_fd(), c"")),
        }
        walk
    }

    /// Counts some entries.
    fn step(&mut self) -> Step {
        for _ in 0..STEP_ENTRIES {
            if self.tally.bytes > self.limit.bytes || self.tally.entries > self.limit.entries {
                return Step::Above;
            }
            let Some(dir) = self.dirs.last_mut() else { return Step::Within };
            // One that cannot be read on was removed.
            let Some(Ok(entry)) = dir.read() else {
                self.dirs.pop();
                continue;
            };
            match self.tally.enter(dir, entry.file_name()) {
                Ok(None) => {}
                Ok(Some(dir)) if self.dirs.len() < DEPTH => self.dirs.push(dir),
                Ok(Some(_)) | Err(Hidden) => return Step::Above,
            }
        }
        Step::Unfinished
    }
}

/// A directory that its tool made unreadable, where the init has no capability to read it all the same.
struct Hidden;

impl Tally {
    /// Counts an entry. If it is a directory, opens it.
    fn enter(&mut self, dir: &Dir, name: &CStr) -> Result<Option<Dir>, Hidden> {
        let Ok(dir) = dir.fd() else { return Ok(None) };
        let is_own = matches!(name.to_bytes(), b"." | b"..");
        let Some(owner) = (!is_own).then(|| self.add(dir, name)).flatten() else { return Ok(None) };
        match open_dir(dir, name) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::ACCESS) if owner == geteuid().as_raw() => Err(Hidden),
            // It was removed or replaced.
            Err(_) => Ok(None),
        }
    }

    /// Counts an entry. Returns the owner of a directory that is to be entered.
    fn add(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Option<u32> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
        let found = statx(dir, name, flags, StatxFlags::BASIC_STATS);
        if matches!(found, Err(Errno::NOENT)) {
            return None;
        }
        self.entries += 1;
        let found = found.ok()?;
        // The bind's own root is one as well, and has no name.
        if !name.is_empty() && found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            return None;
        }
        if FileType::from_raw_mode(found.stx_mode.into()) == FileType::Directory {
            self.bytes += BLOCK_BYTES;
            return Some(found.stx_uid);
        }
        if found.stx_nlink < 2 || self.is_new(found.stx_ino) {
            let size = found.stx_size.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES);
            self.bytes = self.bytes.saturating_add(size);
        }
        None
    }

    fn is_new(&mut self, file: u64) -> bool {
        self.linked.len() >= LINKED || self.linked.insert(file)
    }
}

/// Opens nothing that is not a directory, and follows no link.
fn open_dir(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Dir::new(openat(dir, name, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Steps until the first round is over, and once moves what was counted. Whether it found too much.
    fn is_above(move_at: u64, limit: DiskLimit) -> bool {
        let dir = tempfile::tempdir().unwrap();
        ["a", "b"].iter().for_each(|name| fs::create_dir(dir.path().join(name)).unwrap());
        let order = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let order: Vec<PathBuf> = order.collect();
        (0..500).for_each(|it| fs::write(order[0].join(it.to_string()), "").unwrap());
        let mut watch = Watch::new([(dir.path().to_owned(), limit)].into_iter()).unwrap();
        watch.begins = Instant::now();
        let mut move_at = Some(move_at);
        while watch.pause() == Some(Duration::ZERO) {
            if watch.step() {
                return true;
            }
            let entries = watch.walk.as_ref().map_or(0, |walk| walk.tally.entries);
            if move_at.take_if(|at| entries >= *at).is_some() {
                (0..500).for_each(|it| {
                    let name = it.to_string();
                    fs::rename(order[0].join(&name), order[1].join(&name)).unwrap();
                });
            }
        }
        assert_eq!(move_at.filter(|at| *at < 500), None, "nothing was moved");
        false
    }

    #[test]
    fn what_is_met_twice_because_it_moves_ends_no_tool() {
        let limit = DiskLimit { bytes: 2 * BLOCK_BYTES, entries: 502 };
        assert!(!is_above(u64::MAX, limit));
        assert!(!is_above(400, limit));
        assert!(is_above(u64::MAX, DiskLimit { entries: 501, ..limit }));
        assert!(is_above(u64::MAX, DiskLimit { bytes: BLOCK_BYTES, ..limit }));
    }
}

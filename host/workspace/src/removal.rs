//! Deleting a directory of an agent, whatever the agent made of it.
//!
//! Each step is relative to a directory that is open, follows no link, and stays on one file system. A tree may be
//! deeper than a path can be or directories can be open: what is too deep moves up and is deleted there.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, chmod, fstat, openat, renameat, statat,
    unlinkat,
};
use rustix::io::Errno;

use crate::disk::DIRECTORY;
use crate::size::share;

/// Depth from which directories move up.
const MAX_DEPTH: usize = 64;

/// What was freed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freed {
    /// Bytes on disk.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// Why something is left; the first reason.
    pub left: Option<String>,
}

impl Freed {
    pub(crate) fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.entries = self.entries.saturating_add(other.entries);
        self.left = self.left.take().or(other.left);
    }
}

/// Deletes a directory of the host with all that is in it. One that is gone frees nothing.
pub(crate) fn delete(folder: &Path) -> io::Result<Freed> {
    let top = match openat(CWD, folder, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(Freed::default()),
        top => top?,
    };
    let device = fstat(&top)?.st_dev;
    let mut deletion = Deletion { top, device, freed: Freed::default(), moved: 0 };
    let top = deletion.top.try_clone()?;
    deletion.empty(top.as_fd(), 0)?;
    let mut freed = deletion.freed;
    match fs::remove_dir(folder) {
        Ok(()) => freed.left = None,
        Err(error) => drop(freed.left.get_or_insert_with(|| error.to_string())),
    }
    Ok(freed)
}

struct Deletion {
    /// Where directories move to that are too deep.
    top: OwnedFd,
    device: u64,
    freed: Freed,
    moved: u64,
}

impl Deletion {
    /// Empties a directory in passes, as long as each one gets on: what moves up comes up for the next one, and a
    /// directory that shrinks need not show all it has in one.
    fn empty(&mut self, dir: BorrowedFd<'_>, depth: usize) -> rustix::io::Result<()> {
        loop {
            let before = (self.freed.entries, self.moved);
            for entry in Dir::read_from(dir)? {
                let entry = entry?;
                if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                    self.take(dir, entry.file_name(), depth);
                }
            }
            if before == (self.freed.entries, self.moved) {
                return Ok(());
            }
        }
    }

    fn take(&mut self, dir: BorrowedFd<'_>, name: &CStr, depth: usize) {
        match self.remove(dir, name, depth) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => {
                let reason = || format!("{}: {error}", name.to_string_lossy());
                self.freed.left.get_or_insert_with(reason);
            }
        }
    }

    fn remove(&mut self, dir: BorrowedFd<'_>, name: &CStr, depth: usize) -> rustix::io::Result<()> {
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if stat.st_dev != self.device {
            return Err(Errno::XDEV);
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            unlinkat(dir, name, AtFlags::empty())?;
            // The last name frees the file.
            self.count(if stat.st_nlink == 1 { share(&stat) } else { 0 });
            return Ok(());
        }
        let below = open(dir, name, &stat)?;
        if depth >= MAX_DEPTH {
            return self.move_up(dir, name);
        }
        self.empty(below.as_fd(), depth + 1)?;
        unlinkat(dir, name, AtFlags::REMOVEDIR)?;
        self.count(share(&stat));
        Ok(())
    }

    fn move_up(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
        renameat(dir, name, &self.top, format!("{:016x}", fastrand::u64(..)))?;
        self.moved += 1;
        Ok(())
    }

    fn count(&mut self, bytes: u64) {
        self.freed.entries += 1;
        self.freed.bytes = self.freed.bytes.saturating_add(bytes);
    }
}

/// Opens a directory, and makes it one that can be emptied and moved.
fn open(dir: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> rustix::io::Result<OwnedFd> {
    if !Mode::from_raw_mode(stat.st_mode).contains(Mode::RWXU) {
        let below = openat(dir, name, DIRECTORY.union(OFlags::PATH), Mode::empty())?;
        // By the descriptor, for a name may be a link by now.
        chmod(format!("/proc/self/fd/{}", below.as_raw_fd()), Mode::RWXU)?;
    }
    openat(dir, name, DIRECTORY, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use rustix::fs::mkdirat;
    use rustix::process::{Gid, Uid, geteuid};

    use support::{Need, skip};

    use super::*;
    use crate::size::measure;

    /// A tree with a bit of everything, and what lies outside.
    fn tree(folder: &Path) -> (PathBuf, PathBuf) {
        let (top, outside) = (folder.join("top"), folder.join("outside"));
        fs::create_dir_all(top.join("a/closed/b")).unwrap();
        fs::create_dir_all(outside.join("kept")).unwrap();
        fs::write(top.join("a/closed/b/file"), vec![1; 10_000]).unwrap();
        fs::write(outside.join("kept/file"), "x").unwrap();
        symlink(&outside, top.join("link")).unwrap();
        symlink("..", top.join("a/loop")).unwrap();
        for mode in [0o000, 0o555] {
            let closed = top.join(format!("a/mode{mode}"));
            fs::create_dir_all(closed.join("below")).unwrap();
            fs::set_permissions(&closed, PermissionsExt::from_mode(mode)).unwrap();
        }
        (top, outside)
    }

    #[test]
    fn everything_goes_and_nothing_outside() {
        let folder = tempfile::tempdir().unwrap();
        let (top, outside) = tree(folder.path());
        let size = measure(&top).unwrap();
        let freed = delete(&top).unwrap();
        assert!(!top.exists() && outside.join("kept/file").exists());
        assert_eq!(freed.left, None);
        assert!(freed.entries >= 10 && freed.bytes >= 10_000, "{freed:?}");
        // One who is not root cannot count what is closed.
        assert!(size.truncated || size.entries == freed.entries, "{size:?} {freed:?}");
        assert_eq!(delete(&top).unwrap(), Freed::default());
    }

    #[test]
    fn an_owner_who_is_not_root_removes_closed_directories() {
        if !geteuid().is_root() {
            return; // Then the other test shows it.
        }
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let path = folder.path().to_owned();
        // The identity is that of the thread alone.
        let thread = std::thread::spawn(move || {
            let (uid, gid) = (Uid::from_raw(65_534), Gid::from_raw(65_534));
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            let (top, _) = tree(&path);
            assert!(fs::read_dir(top.join("a/mode0")).is_err(), "it is closed");
            (delete(&top).unwrap(), top.exists())
        });
        let (freed, is_there) = thread.join().unwrap();
        assert!(freed.left.is_none() && !is_there, "{freed:?}");
    }

    #[test]
    fn a_tree_may_be_deeper_than_a_path() {
        const DEPTH: usize = 6000;
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("top");
        fs::create_dir(&top).unwrap();
        let mut dir = openat(CWD, &top, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..DEPTH {
            mkdirat(&dir, "d", Mode::RWXU).unwrap();
            mkdirat(&dir, "e", Mode::RWXU).unwrap();
            dir = openat(&dir, "d", DIRECTORY, Mode::empty()).unwrap();
        }
        drop(dir);
        let freed = delete(&top).unwrap();
        assert_eq!((freed.entries, freed.left), (2 * DEPTH as u64, None));
        assert!(!top.exists());
    }

    #[test]
    fn what_cannot_go_is_named_and_the_rest_goes() {
        use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("top");
        fs::create_dir_all(top.join("mounted")).unwrap();
        fs::write(top.join("file"), "x").unwrap();
        if mount("none", top.join("mounted"), "tmpfs", MountFlags::empty(), None).is_err() {
            return skip(Need::Mount, "nothing can be mounted here");
        }
        fs::write(top.join("mounted/file"), "x").unwrap();
        let freed = delete(&top);
        let is_kept = top.join("mounted/file").exists();
        unmount(top.join("mounted"), UnmountFlags::empty()).unwrap();
        let freed = freed.unwrap();
        assert!(is_kept && !top.join("file").exists());
        assert!(freed.left.unwrap().starts_with("mounted: "));
        assert_eq!(delete(&top).unwrap().entries, 1);
    }
}

//! Lock files that a killed git left behind.
//!
//! A repository of an agent may hold links to anywhere, and the agent can exchange a directory for a link at any time.
//! So each step is relative to a directory that is open, and follows no link.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, openat, unlinkat};

use crate::disk::DIRECTORY;

/// Entries that are visited at most.
const MAX_ENTRIES: usize = 100_000;

/// Depth of directories below `refs`.
const MAX_DEPTH: usize = 64;

/// Removes the locks of the index, the configuration and all refs of a git directory below `folder`. No git of the
/// host runs there. What is not there or is no directory is none of this function's business.
pub(crate) fn remove(folder: &Path, git_dir: &str) -> io::Result<()> {
    let folder = openat(CWD, folder, DIRECTORY, Mode::empty())?;
    let Ok(git_dir) = openat(&folder, git_dir, DIRECTORY, Mode::empty()) else { return Ok(()) };
    let mut left = MAX_ENTRIES;
    remove_in(git_dir.as_fd(), &mut left)?;
    for name in ["refs", "logs"] {
        if let Ok(refs) = openat(&git_dir, name, DIRECTORY, Mode::empty()) {
            descend(refs, MAX_DEPTH, &mut left)?;
        }
    }
    Ok(())
}

fn descend(folder: OwnedFd, depth: usize, left: &mut usize) -> io::Result<()> {
    for name in remove_in(folder.as_fd(), left)? {
        match openat(&folder, &*name, DIRECTORY, Mode::empty()) {
            Ok(below) if depth > 0 => descend(below, depth - 1, left)?,
            _ => {}
        }
    }
    Ok(())
}

/// Removes the locks in one directory, and returns the names of the directories in it.
fn remove_in(folder: BorrowedFd<'_>, left: &mut usize) -> io::Result<Vec<std::ffi::CString>> {
    let mut folders = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        *left = left.checked_sub(1).ok_or_else(|| io::Error::other("too many refs"))?;
        match entry.file_type() {
            FileType::Directory => folders.push(name.to_owned()),
            _ if name.to_bytes().ends_with(b".lock") => unlinkat(folder, name, AtFlags::empty())?,
            _ => {}
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn locks_are_removed_here_and_not_where_links_lead() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let git = folder.path().join(".git");
        fs::create_dir_all(git.join("refs/heads/a")).unwrap();
        for path in
            [git.join("index.lock"), git.join("refs/heads/a/b.lock"), git.join("refs/heads/a/b")]
        {
            fs::write(path, "").unwrap();
        }
        fs::write(elsewhere.path().join("index.lock"), "").unwrap();
        symlink(elsewhere.path(), git.join("refs/link")).unwrap();
        symlink(elsewhere.path(), folder.path().join("linked.git")).unwrap();
        remove(folder.path(), ".git").unwrap();
        remove(folder.path(), "linked.git").unwrap();
        remove(folder.path(), "absent").unwrap();
        assert!(!git.join("index.lock").exists() && !git.join("refs/heads/a/b.lock").exists());
        assert!(git.join("refs/heads/a/b").exists());
        assert!(elsewhere.path().join("index.lock").exists());
    }
}

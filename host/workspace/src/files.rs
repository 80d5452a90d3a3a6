//! Looking at the files of a workspace from outside: read-only, within bounds, and never through a link.
//!
//! An agent and its programs put what they like into a workspace, and may change it while somebody looks. So each part
//! of a path is opened from the one before, links are shown and not followed, and a pipe or a device is not opened.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use bulkhead_types::Timestamp;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::disk;
use crate::error::Error;

/// Entries of a directory that are shown at most, in the order of their names.
pub const MAX_ENTRIES: usize = 1000;

/// Names of a directory that are read to find those.
const MAX_NAMES: usize = 100_000;

/// Of a link, its target in bytes.
const MAX_TARGET: usize = 4096;

/// What is at a path of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A directory.
    Directory {
        /// What is in it, by name.
        entries: Vec<Entry>,
        /// There is more.
        truncated: bool,
    },
    /// A file.
    File {
        /// Its length.
        bytes: u64,
        /// The part that was asked for.
        contents: Vec<u8>,
        /// There is more behind that part.
        truncated: bool,
    },
    /// A symbolic link. It is not followed.
    Link {
        /// Where it leads, as bytes.
        target: Vec<u8>,
    },
    /// A pipe, a socket or a device. It is not opened.
    Other,
}

/// What is in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, as bytes: it need not be UTF-8.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Length of a file.
    pub bytes: u64,
    /// When it was changed.
    pub modified: Timestamp,
}

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A file.
    File,
    /// A symbolic link.
    Link,
    /// A pipe, a socket or a device.
    Other,
}

/// Shows what is at `path`, relative to the workspace; of a file the part from `offset` on, at most `max_bytes`. `None`:
/// nothing is there.
///
/// Fails if the path leads out of the workspace or through a link, and if the disk fails.
pub async fn look(
    workspace: &Path,
    path: &Path,
    offset: u64,
    max_bytes: usize,
) -> Result<Option<Seen>, Error> {
    let parts = parts(path)?;
    let see = move |workspace: &Path| Ok(see(workspace, &parts, offset, max_bytes));
    outcome(path, disk::on(workspace, see).await?)
}

/// Errors name the path that was asked for, and not the host's own.
fn outcome(path: &Path, seen: Found<Seen>) -> Result<Option<Seen>, Error> {
    let invalid = |why| Err(Error::invalid("path", format!("{} {why}", path.display())));
    match seen {
        Ok(seen) => Ok(Some(seen)),
        Err(Errno::NOENT) => Ok(None),
        // A link in the middle, or a file.
        Err(Errno::LOOP | Errno::NOTDIR) => invalid("leads through what is no directory"),
        Err(Errno::NAMETOOLONG) => invalid("is too long"),
        Err(error) => Err(Error::disk(path, &error.into())),
    }
}

/// The names that lead to a path, if it stays inside.
fn parts(path: &Path) -> Result<Vec<Box<OsStr>>, Error> {
    let invalid = |why| Some(Err(Error::invalid("path", format!("{} {why}", path.display()))));
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(Error::invalid("path", "contains a zero byte"));
    }
    let part = |part| match part {
        Component::CurDir => None,
        Component::Normal(name) => Some(Ok(name.into())),
        Component::ParentDir => invalid("contains .., which is not taken"),
        Component::RootDir | Component::Prefix(_) => {
            invalid("is absolute, and has to be relative to the workspace")
        }
    };
    path.components().filter_map(part).collect()
}

type Found<T> = Result<T, Errno>;

fn see(workspace: &Path, parts: &[Box<OsStr>], offset: u64, max_bytes: usize) -> Found<Seen> {
    let root = rustix::fs::open(workspace, DIRECTORY, Mode::empty())?;
    let Some((last, before)) = parts.split_last() else { return directory(root) };
    let folder = before.iter().try_fold(root, |at, name| open(&at, name, DIRECTORY))?;
    let stat = rustix::fs::statat(&folder, &**last, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => directory(open(&folder, last, DIRECTORY)?),
        FileType::RegularFile => file(open(&folder, last, FILE)?, offset, max_bytes),
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&folder, &**last, Vec::new())?;
            let mut target = target.into_bytes();
            target.truncate(MAX_TARGET);
            Ok(Seen::Link { target })
        }
        _ => Ok(Seen::Other),
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A file that became a pipe meanwhile must not block.
const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn open(folder: &OwnedFd, name: &OsStr, flags: OFlags) -> Found<OwnedFd> {
    rustix::fs::openat(folder, name, flags, Mode::empty())
}

fn file(file: OwnedFd, offset: u64, max_bytes: usize) -> Found<Seen> {
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(Seen::Other);
    }
    let bytes = length(&stat);
    if offset >= bytes {
        return Ok(Seen::File { bytes, contents: Vec::new(), truncated: false });
    }
    let mut contents = Vec::new();
    let read = || {
        let mut file = File::from(file);
        file.seek(SeekFrom::Start(offset))?;
        file.take(max_bytes as u64).read_to_end(&mut contents)
    };
    read().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    // One that became shorter meanwhile has nothing there.
    let truncated = !contents.is_empty() && offset.saturating_add(contents.len() as u64) < bytes;
    Ok(Seen::File { bytes, contents, truncated })
}

fn directory(folder: OwnedFd) -> Found<Seen> {
    let mut names = Vec::new();
    let mut truncated = false;
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        truncated = names.len() >= MAX_NAMES;
        if truncated {
            break;
        }
        names.push(name.to_vec());
    }
    names.sort_unstable();
    truncated |= names.len() > MAX_ENTRIES;
    names.truncate(MAX_ENTRIES);
    // What is gone meanwhile is not there.
    let entries = names.into_iter().filter_map(|name| entry(&folder, name)).collect();
    Ok(Seen::Directory { entries, truncated })
}

fn entry(folder: &OwnedFd, name: Vec<u8>) -> Option<Entry> {
    let path = OsStr::from_bytes(&name);
    let stat = rustix::fs::statat(folder, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => EntryKind::Directory,
        FileType::RegularFile => EntryKind::File,
        FileType::Symlink => EntryKind::Link,
        _ => EntryKind::Other,
    };
    let bytes = if kind == EntryKind::File { length(&stat) } else { 0 };
    Some(Entry { name, kind, bytes, modified: modified(&stat) })
}

fn length(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}

fn modified(stat: &Stat) -> Timestamp {
    let ms = i64::try_from(stat.st_mtime_nsec / 1_000_000).unwrap_or_default();
    Timestamp(stat.st_mtime.saturating_mul(1000).saturating_add(ms))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::CWD;

    use super::*;

    async fn at(workspace: &Path, path: &str) -> Result<Option<Seen>, Error> {
        look(workspace, Path::new(path), 0, 100).await
    }

    #[tokio::test]
    async fn files_and_directories_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("src/deep")).unwrap();
        fs::write(dir.path().join("src/b.rs"), "fn b() {}\n").unwrap();
        fs::write(dir.path().join("src/a.rs"), "").unwrap();
        symlink("/etc/passwd", dir.path().join("src/link")).unwrap();
        let Some(Seen::Directory { entries, truncated }) = at(dir.path(), "./src/").await.unwrap()
        else {
            panic!("src is a directory")
        };
        let shown: Vec<_> = entries.iter().map(|it| (&it.name[..], it.kind, it.bytes)).collect();
        let expected: [(&[u8], EntryKind, u64); 4] = [
            (b"a.rs", EntryKind::File, 0),
            (b"b.rs", EntryKind::File, 10),
            (b"deep", EntryKind::Directory, 0),
            (b"link", EntryKind::Link, 0),
        ];
        assert_eq!((shown.as_slice(), truncated), (&expected[..], false));
        assert!(entries[0].modified > Timestamp(0));
        let file = at(dir.path(), "src/b.rs").await.unwrap();
        let contents = b"fn b() {}\n".to_vec();
        assert_eq!(file, Some(Seen::File { bytes: 10, contents, truncated: false }));
        assert_eq!(at(dir.path(), "src/none").await, Ok(None));
        assert!(matches!(at(dir.path(), "").await, Ok(Some(Seen::Directory { .. }))));
    }

    #[tokio::test]
    async fn a_part_of_a_file_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "0123456789").unwrap();
        for (offset, most, contents, truncated) in [
            (0, 3, "012", true),
            (7, 3, "789", false),
            (8, 100, "89", false),
            (10, 5, "", false),
            (1 << 44, 5, "", false),
            (i64::MAX as u64, 5, "", false),
        ] {
            let seen = look(dir.path(), Path::new("a"), offset, most).await.unwrap();
            let contents = contents.as_bytes().to_vec();
            assert_eq!(seen, Some(Seen::File { bytes: 10, contents, truncated }), "{offset}");
        }
    }

    #[tokio::test]
    async fn nothing_outside_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("inside");
        fs::create_dir_all(&inside).unwrap();
        fs::write(dir.path().join("secret"), "hush").unwrap();
        symlink("..", inside.join("up")).unwrap();
        symlink("../secret", inside.join("link")).unwrap();
        for path in ["../secret", "a/../../secret", "/etc/passwd", "a\0"] {
            assert!(matches!(at(&inside, path).await, Err(Error::Invalid { .. })), "{path}");
        }
        assert!(matches!(at(&inside, "up/secret").await, Err(Error::Invalid { .. })));
        let target = b"../secret".to_vec();
        assert_eq!(at(&inside, "link").await, Ok(Some(Seen::Link { target })));
    }

    #[tokio::test]
    async fn an_error_names_the_path_that_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let said = async |path: &str| at(dir.path(), path).await.unwrap_err().to_string();
        assert!(said(&"n".repeat(300)).await.ends_with("n is too long"));
        assert_eq!(
            said("./d/../d").await,
            "invalid path: ./d/../d contains .., which is not taken"
        );
        assert!(said("/d").await.contains("/d is absolute"));
        let failed = outcome(Path::new("a/b"), Err(Errno::ACCESS)).unwrap_err();
        assert!(matches!(failed, Error::Disk(text) if text.starts_with("a/b: ")));
    }

    #[tokio::test]
    async fn a_pipe_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(at(dir.path(), "pipe").await, Ok(Some(Seen::Other)));
    }

    #[tokio::test]
    async fn a_large_directory_is_shown_in_part() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..=MAX_ENTRIES {
            fs::write(dir.path().join(format!("{number:05}")), "").unwrap();
        }
        let Some(Seen::Directory { entries, truncated }) = at(dir.path(), ".").await.unwrap()
        else {
            panic!("it is a directory")
        };
        assert_eq!((entries.len(), truncated), (MAX_ENTRIES, true));
    }
}

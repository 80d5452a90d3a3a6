//! The tree of an agent, entry by entry.
//!
//! The agent, or a program that it left behind, may exchange a directory for a link at any time. So each step is relative to a
//! directory that is open, and follows no link.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat,
};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::{ArchiveError, Limits};

/// Opens a directory, and nothing else.
pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A pipe in the place of a file must not hold the reader.
const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Directories in each other. Each one that is being read is open.
const MAX_DEPTH: usize = 128;

/// What is at a path.
pub(super) enum Found {
    Directory,
    /// Open. Its size is that of `stat`.
    File(OwnedFd),
    Link(PathBuf),
}

/// What a walk has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Of files.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// What is none of them, what the host may not read, what is too deep or on another file system.
    pub skipped: u64,
}

/// A tree at one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Survey {
    pub seen: Seen,
    /// Of names, kinds, sizes and times. Contents are not read.
    pub fingerprint: String,
}

/// Looks at a tree without opening its files. `None`: it is not there.
pub(super) fn survey(top: &Path, limits: Limits) -> Result<Option<Survey>, ArchiveError> {
    let mut print = Sha256::new();
    let mut walk = Walk { seen: Seen::default(), limits, device: 0, opens: false };
    let walked = walk.begin(top, &mut |path, stat, _| {
        print.update(path.as_os_str().as_bytes());
        // It is in no path.
        print.update([0]);
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        print.update(u64::from(stat.st_mode).to_le_bytes());
        if !is_directory {
            // What changes a directory are its entries. The time of a change of an inode is not for the agent to set.
            print.update(stat.st_size.to_le_bytes());
            print.update(stat.st_mtime.to_le_bytes());
            print.update(stat.st_mtime_nsec.to_le_bytes());
            print.update(stat.st_ctime.to_le_bytes());
            print.update(stat.st_ctime_nsec.to_le_bytes());
        }
        Ok(())
    });
    match walked {
        Ok(false) => Ok(None),
        Ok(true) => {
            let fingerprint = crate::segment::hex(&print.finalize());
            Ok(Some(Survey { seen: walk.seen, fingerprint }))
        }
        Err(error) => Err(error),
    }
}

/// Calls `each` for all that is in a tree, a directory before what is in it. Files are open.
pub(super) fn walk(top: &Path, limits: Limits, each: &mut Each<'_>) -> Result<Seen, ArchiveError> {
    let mut walk = Walk { seen: Seen::default(), limits, device: 0, opens: true };
    walk.begin(top, each)?;
    Ok(walk.seen)
}

type Each<'a> = dyn FnMut(&Path, &Stat, Option<Found>) -> Result<(), ArchiveError> + 'a;

struct Walk {
    seen: Seen,
    limits: Limits,
    device: u64,
    /// Whether `each` gets what is there.
    opens: bool,
}

impl Walk {
    /// Whether there is such a directory.
    fn begin(&mut self, top: &Path, each: &mut Each<'_>) -> Result<bool, ArchiveError> {
        let opened = match openat(CWD, top, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
            opened => opened.map_err(|error| ArchiveError::disk("open", top, &error.into()))?,
        };
        let stat = fstat(&opened);
        self.device = stat.map_err(|error| ArchiveError::disk("open", top, &error.into()))?.st_dev;
        let mut path = PathBuf::new();
        self.descend(&opened, &mut path, 0, each)?;
        if self.seen.bytes > self.limits.bytes {
            return Err(self.too_large());
        }
        Ok(true)
    }

    fn too_large(&self) -> ArchiveError {
        let Seen { bytes, entries, .. } = self.seen;
        ArchiveError::TooLarge { bytes, entries, limits: self.limits }
    }

    fn descend(
        &mut self,
        dir: &OwnedFd,
        path: &mut PathBuf,
        depth: usize,
        each: &mut Each<'_>,
    ) -> Result<(), ArchiveError> {
        let names = match self.names(dir.as_fd()) {
            // It is gone by now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            names => names.map_err(|error| ArchiveError::disk("read", path, &error))?,
        };
        for name in names {
            self.seen.entries += 1;
            if self.seen.entries > self.limits.entries {
                return Err(self.too_large());
            }
            path.push(OsStr::from_bytes(name.to_bytes()));
            let taken = self.take(dir.as_fd(), &name, path, depth, each);
            path.pop();
            match taken {
                Ok(()) => {}
                Err(Step::Gone) => self.seen.entries -= 1,
                Err(Step::LeftOut) => {
                    self.seen.entries -= 1;
                    self.seen.skipped += 1;
                }
                // A part of it would be taken for all of it.
                Err(Step::Errno(errno)) => {
                    let path = path.join(OsStr::from_bytes(name.to_bytes()));
                    return Err(ArchiveError::disk("read", &path, &errno.into()));
                }
                Err(Step::Ends(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// The names in a directory, sorted: what is the same is packed in the same order.
    fn names(&self, dir: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
            // There are too many already.
            if names.len() as u64 > self.limits.entries {
                break;
            }
        }
        names.sort();
        Ok(names)
    }

    fn take(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &mut PathBuf,
        depth: usize,
        each: &mut Each<'_>,
    ) -> Result<(), Step> {
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if stat.st_dev != self.device {
            return Err(Step::LeftOut);
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if depth >= MAX_DEPTH => Err(Step::LeftOut),
            FileType::Directory => {
                let below = openat(dir, name, DIRECTORY, Mode::empty())?;
                each(path, &stat, Some(Found::Directory))?;
                Ok(self.descend(&below, path, depth + 1, each)?)
            }
            FileType::RegularFile if !self.opens => {
                self.seen.bytes = self.seen.bytes.saturating_add(stat.st_size.cast_unsigned());
                Ok(each(path, &stat, None)?)
            }
            FileType::RegularFile => {
                let file = openat(dir, name, FILE, Mode::empty())?;
                let stat = fstat(&file)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(Step::Gone);
                }
                self.seen.bytes = self.seen.bytes.saturating_add(stat.st_size.cast_unsigned());
                if self.seen.bytes > self.limits.bytes {
                    return Err(Step::Ends(self.too_large()));
                }
                Ok(each(path, &stat, Some(Found::File(file)))?)
            }
            FileType::Symlink => {
                let target = readlinkat(dir, name, Vec::new())?;
                let target = PathBuf::from(OsStr::from_bytes(target.to_bytes()));
                Ok(each(path, &stat, Some(Found::Link(target)))?)
            }
            // Sockets, pipes, devices.
            _ => Err(Step::LeftOut),
        }
    }
}

/// Why an entry was not taken.
enum Step {
    /// It is gone, or something else by now.
    Gone,
    /// It is nothing that is packed, or the host may not read it.
    LeftOut,
    Errno(Errno),
    /// Of the whole walk.
    Ends(ArchiveError),
}

impl From<Errno> for Step {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::LOOP | Errno::NOTDIR => Self::Gone,
            // A link that is none any more, and a pipe or socket in the place of a file.
            Errno::INVAL | Errno::NXIO => Self::Gone,
            Errno::ACCESS | Errno::PERM => Self::LeftOut,
            errno => Self::Errno(errno),
        }
    }
}

impl From<ArchiveError> for Step {
    fn from(error: ArchiveError) -> Self {
        Self::Ends(error)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const LIMITS: Limits = Limits { bytes: 1000, entries: 10 };

    #[test]
    fn what_is_exchanged_for_a_link_meanwhile_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let (top, outside) = (folder.path().join("top"), folder.path().join("outside"));
        fs::create_dir_all(top.join("directory")).unwrap();
        fs::create_dir(&outside).unwrap();
        for path in [top.join("a"), top.join("file"), outside.join("secret")] {
            fs::write(path, "x").unwrap();
        }
        let mut found = Vec::new();
        walk(&top, LIMITS, &mut |path, _, what| {
            if path == Path::new("a") {
                fs::remove_dir(top.join("directory")).unwrap();
                symlink(&outside, top.join("directory")).unwrap();
                fs::remove_file(top.join("file")).unwrap();
                symlink(outside.join("secret"), top.join("file")).unwrap();
            }
            let kind = match what {
                Some(Found::Directory) => "directory",
                Some(Found::File(_)) => "file",
                Some(Found::Link(_)) => "link",
                None => "nothing",
            };
            found.push((path.display().to_string(), kind));
            Ok(())
        })
        .unwrap();
        let expected = [("a", "file"), ("directory", "link"), ("file", "link")];
        assert_eq!(found, expected.map(|(path, kind)| (path.to_owned(), kind)));
    }

    #[test]
    fn a_tree_has_bounds_and_a_print_of_what_changes() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("top");
        assert_eq!(survey(&top, LIMITS), Ok(None));
        fs::create_dir(&top).unwrap();
        for name in 0..10 {
            fs::write(top.join(format!("{name}")), [b'x'; 100]).unwrap();
        }
        let before = survey(&top, LIMITS).unwrap().unwrap();
        assert_eq!(before.seen, Seen { bytes: 1000, entries: 10, skipped: 0 });
        assert_eq!(survey(&top, LIMITS), Ok(Some(before.clone())));
        fs::rename(top.join("1"), top.join("one")).unwrap();
        assert_ne!(survey(&top, LIMITS).unwrap().unwrap().fingerprint, before.fingerprint);
        fs::write(top.join("2"), [b'x'; 101]).unwrap();
        let larger = survey(&top, LIMITS).unwrap_err();
        assert_eq!(larger, ArchiveError::TooLarge { bytes: 1001, entries: 10, limits: LIMITS });
        fs::write(top.join("11"), "").unwrap();
        assert!(matches!(survey(&top, LIMITS), Err(ArchiveError::TooLarge { entries: 11, .. })));
        assert!(walk(&top, LIMITS, &mut |_, _, _| Ok(())).is_err());
    }

    #[test]
    fn only_what_may_not_be_read_is_left_out_and_what_cannot_be_ends_the_walk() {
        let left_out = [Errno::ACCESS, Errno::PERM];
        assert!(left_out.into_iter().all(|errno| matches!(Step::from(errno), Step::LeftOut)));
        let gone = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
        assert!(gone.into_iter().all(|errno| matches!(Step::from(errno), Step::Gone)));
        let ends = [Errno::IO, Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::STALE];
        assert!(ends.into_iter().all(|errno| matches!(Step::from(errno), Step::Errno(_))));
    }

    #[test]
    fn what_is_too_deep_is_counted_and_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut path = folder.path().to_owned();
        path.extend((0..MAX_DEPTH + 5).map(|_| "d"));
        fs::create_dir_all(&path).unwrap();
        let limits = Limits { bytes: 0, entries: 1000 };
        let seen = survey(folder.path(), limits).unwrap().unwrap().seen;
        assert_eq!((seen.entries, seen.skipped), (MAX_DEPTH as u64, 1));
    }
}

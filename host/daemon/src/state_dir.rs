//! The state directory: one host at a time, and nobody else's.
//!
//! What lies in it decides what the host does: compiled code is run, records are believed. So it is for this user
//! alone, and one that somebody else owns, or has put something into, is refused. Root may own it: a volume often is
//! root's, and nothing can be kept from root in any case.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use bulkhead_store::ownership::{Ownership, explain};
use rustix::fs::{Access, FlockOperation, OFlags, access, flock};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::exit::Exit;
use crate::failure::Failure;

/// The lock's name in the directory.
const LOCK: &str = "lock";

/// Where the kernel lists who holds a lock.
const LOCKS: &str = "/proc/locks";

/// Holds the state directory until it is dropped, or until the process ends in whatever way.
pub struct StateDir {
    /// Absent when nothing can be written there.
    lock: Option<File>,
    unusable: Option<String>,
}

/// Why the state directory is not this host's.
#[derive(Debug)]
pub enum Refused {
    /// Another host has it. It may be gone in a moment.
    InUse(String),
    /// It is not for this process.
    Unfit(String),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let (Refused::InUse(text) | Refused::Unfit(text)) = refused;
        Self::new(Exit::CannotRun, text)
    }
}

impl StateDir {
    /// Makes the directory and takes its lock. A disk that takes nothing is no reason to refuse: then the host keeps
    /// nothing, see [`unusable`](Self::unusable).
    pub fn take(dir: &Path) -> Result<Self, Refused> {
        let failed = |what: &str, error: &io::Error| {
            format!("cannot {what} the state directory {}: {}", dir.display(), explain(error, dir))
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        match made.and_then(|()| dir.metadata()) {
            Ok(meta) => be_alone(dir, &meta).map_err(Refused::Unfit)?,
            Err(error) if takes_nothing(&error) => {
                return Ok(Self { lock: None, unusable: Some(failed("make", &error)) });
            }
            Err(error) => return Err(Refused::Unfit(failed("make", &error))),
        }
        match lock(&dir.join(LOCK)) {
            Ok(Some(lock)) => Ok(Self { lock: Some(lock), unusable: None }),
            Ok(None) => Err(Refused::InUse(format!(
                "cannot take the state directory {}: {} uses it; stop that one, or set BULKHEAD_STATE_DIR",
                dir.display(),
                holder(&dir.join(LOCK))
            ))),
            // One that this process may write to and whose lock it may not is somebody else's in part.
            Err(error) if takes_nothing(&error) && access(dir, Access::WRITE_OK).is_err() => {
                Ok(Self { lock: None, unusable: Some(failed("lock", &error)) })
            }
            Err(error) => Err(Refused::Unfit(failed("take", &error))),
        }
    }

    /// Why nothing can be kept in it: nobody could be kept out of it, so this host stays out itself.
    pub fn unusable(&self) -> Option<&str> {
        self.unusable.as_deref().filter(|_| self.lock.is_none())
    }
}

/// Whether an error is about a disk or a directory that this process may not write to.
fn takes_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
}

/// Makes the directory this user's alone, or says who else has a hand in it.
fn be_alone(dir: &Path, meta: &Metadata) -> Result<(), String> {
    let own = geteuid().as_raw();
    let whose = || Ownership::of(dir).map_or_else(String::new, |it| it.to_string());
    let advice = "make it this user's with mode 0700, or set BULKHEAD_STATE_DIR to a directory that can be made so";
    if !meta.is_dir() {
        return Err(format!("the state directory {} is not a directory", dir.display()));
    }
    if meta.uid() != own && meta.uid() != 0 {
        return Err(format!("the state directory belongs to another user: {}; {advice}", whose()));
    }
    let shared = meta.mode() & 0o077;
    if shared != 0 && meta.uid() == own {
        match fs::set_permissions(dir, Permissions::from_mode(0o700)) {
            Err(error) if error.kind() != ErrorKind::ReadOnlyFilesystem => {
                return Err(format!(
                    "cannot make the state directory private: {error}: {}; {advice}",
                    whose()
                ));
            }
            _ => {}
        }
    } else if shared & 0o002 != 0 {
        return Err(format!(
            "the state directory is writable for everybody: {}; {advice}",
            whose()
        ));
    }
    // What it was open for before is still in it.
    let planted = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .find(|entry| entry.metadata().is_ok_and(|meta| meta.uid() != own && meta.uid() != 0));
    match planted.map(|entry| entry.path()) {
        None => Ok(()),
        Some(path) => {
            let uid = fs::symlink_metadata(&path).map_or(0, |meta| meta.uid());
            Err(format!(
                "{} in the state directory belongs to uid {uid}, and this process has uid {own}: another user created it; check and remove it",
                path.display()
            ))
        }
    }
}

/// Takes the lock. Nothing: another process has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    // Never through a link, and a pipe in its place must hold nobody.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    options.read(true).mode(0o600).custom_flags(flags);
    let mut lock = match options.clone().write(true).create(true).truncate(false).open(path) {
        // One that is there can be locked on a disk that takes nothing.
        Err(error) if takes_nothing(&error) => options.open(path).map_err(|_| error)?,
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            return Err(io::Error::new(ErrorKind::InvalidInput, "its lock is a symbolic link"));
        }
        opened => opened?,
    };
    if !lock.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "its lock is not a regular file"));
    }
    let _ = lock.set_permissions(Permissions::from_mode(0o600));
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(None);
    }
    // For the one who is refused. A full disk does not take it, and is no reason to refuse this one.
    let _ = lock.rewind();
    let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
    Ok(Some(lock))
}

/// Who holds the lock: as the kernel says it, else as it stands in the file.
fn holder(path: &Path) -> String {
    let inode = fs::symlink_metadata(path).map(|meta| meta.ino());
    let locks = fs::read_to_string(LOCKS).unwrap_or_default();
    let listed = inode.ok().and_then(|inode| holder_of(&locks, inode));
    let pid = listed.or_else(|| {
        let mut text = String::new();
        File::open(path).ok()?.take(32).read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    });
    let Some(pid) = pid else { return "process (unknown)".into() };
    match fs::metadata(format!("/proc/{pid}")) {
        Ok(meta) if meta.uid() != geteuid().as_raw() => {
            format!("process {pid} of uid {}", meta.uid())
        }
        _ => format!("process {pid}"),
    }
}

/// The process that holds a lock on the file with this inode: `1: FLOCK  ADVISORY  WRITE 4242 fe:01:1835 0 EOF`.
fn holder_of(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = fields[..] else { return None };
        let is_it = file.rsplit(':').next()?.parse() == Ok(inode);
        pid.parse().ok().filter(|_| is_it)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn refused(dir: &Path) -> String {
        match StateDir::take(dir) {
            Ok(_) => panic!("it was taken"),
            Err(Refused::InUse(text) | Refused::Unfit(text)) => text,
        }
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o777
    }

    #[test]
    fn a_second_host_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::take(dir.path()).unwrap();
        let error = refused(dir.path());
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        StateDir::take(dir.path()).unwrap();
    }

    #[test]
    fn it_is_for_this_user_alone_also_when_it_was_not() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("a/b");
        StateDir::take(&new).unwrap();
        assert_eq!((mode(&new), mode(&new.join(LOCK))), (0o700, 0o600));
        let old = dir.path().join("old");
        fs::create_dir(&old).unwrap();
        fs::write(old.join(LOCK), "7").unwrap();
        for path in [&old, &old.join(LOCK)] {
            fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
        }
        StateDir::take(&old).unwrap();
        assert_eq!((mode(&old), mode(&old.join(LOCK))), (0o700, 0o600));
    }

    #[test]
    fn a_link_in_the_locks_place_truncates_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        symlink(&victim, state.join(LOCK)).unwrap();
        refused(&state);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        fs::remove_file(state.join(LOCK)).unwrap();
        fs::create_dir(state.join(LOCK)).unwrap();
        refused(&state);
    }

    #[test]
    fn somebody_elses_is_refused_with_owner_and_mode() {
        let own = geteuid().as_raw();
        if own != 0 {
            println!("skipped: it takes root to give a directory away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let give = |path: &Path| std::os::unix::fs::lchown(path, Some(65_534), None).unwrap();
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, Permissions::from_mode(0o755)).unwrap();
        give(&state);
        let error = refused(&state);
        for part in ["owner 65534", "mode 0755", "uid 0"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        // And one that somebody left something in while it was open for all.
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        symlink(dir.path(), open.join("aot")).unwrap();
        give(&open.join("aot"));
        let error = refused(&open);
        assert!(error.contains("aot") && error.contains("uid 65534"), "{error}");
    }

    #[test]
    fn the_kernels_list_of_locks_names_who_holds_one() {
        let locks = "1: POSIX  ADVISORY  READ 11 fe:01:99 0 EOF\n2: FLOCK  ADVISORY  WRITE 4242 00:2a:99 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 5 00:2a:99 0 EOF\n";
        assert_eq!(holder_of(locks, 99), Some(4242));
        assert_eq!(holder_of(locks, 9), None);
        assert_eq!(holder_of("nonsense", 9), None);
    }
}

//! The state directory: one host at a time, and nobody else's.
//!
//! What lies in it decides what the host does: compiled code is run, records are believed. So it is for this user
//! alone, and one that somebody else owns, or has put something into, is refused. Root may own it: a volume often is
//! root's, and nothing can be kept from root in any case. One that has been used for something else is refused as well,
//! before anything in it is changed ([`foreign`]).
//!
//! A lock that others could open may be held by them, and a mode that was tightened takes nothing back from those that
//! have it open. It is replaced by one that nobody else ever could open: at once when this process gets it, and also when
//! a process of somebody else holds it, which is no host.
//!
//! ```text
//!  lock: ours alone ── free ─▶ taken            held ─▶ in use, or replaced when its holder is another user
//!        open to others ── free ─▶ replaced     held ─▶ in use, or replaced when its holder is another user
//!
//!  replaced: lock.new, made and locked by this process ── rename ─▶ lock
//! ```

pub mod foreign;

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

/// What takes the lock's place.
const NEW_LOCK: &str = "lock.new";

/// Tries to take a lock that others replace meanwhile.
const LOCK_TRIES: usize = 8;

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
        foreign::refuse(dir).map_err(Refused::Unfit)?;
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

/// The process that uses the directory now, where the kernel says so. Takes nothing.
pub fn in_use_by(dir: &Path) -> Option<String> {
    let lock = dir.join(LOCK);
    let signed = fs::read_to_string(&lock).ok().and_then(|text| text.trim().parse::<u32>().ok());
    // Inodes of several disks have one number. The host signs its lock, unless the disk is full.
    listed_holder(&lock).filter(|pid| signed.is_none_or(|it| it == *pid)).map(|_| holder(&lock))
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

/// Takes the lock. Nothing: another host has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    for _ in 0..LOCK_TRIES {
        let lock = open_lock(path)?;
        let was_private = lock.metadata()?.mode() & 0o077 == 0;
        let is_taken = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        if !is_taken && !is_held_by_another_user(path) {
            return Ok(None);
        }
        if is_taken && !is_at(&lock, path) {
            // The process that replaced it has the new one.
            continue;
        }
        if is_taken && was_private {
            return Ok(Some(signed(lock)));
        }
        // The old one is kept until the new one is in its place.
        match replace(path) {
            // On a disk that takes nothing there is nothing to be kept from anybody.
            Err(error) if is_taken && takes_nothing(&error) => return Ok(Some(signed(lock))),
            Ok(Replaced::ByOther) => {}
            Ok(Replaced::By(lock)) => return Ok(Some(signed(lock))),
            Ok(Replaced::Not) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// What became of a lock that others can hold.
enum Replaced {
    /// This process has the new one.
    By(File),
    /// Another process was faster.
    ByOther,
    /// Another process is at it.
    Not,
}

/// Puts a lock in the place of one that others can hold. Who has `lock.new` may do so, so only one process does.
fn replace(path: &Path) -> io::Result<Replaced> {
    let new = path.with_file_name(NEW_LOCK);
    let lock = open_lock(&new)?;
    if lock.metadata()?.mode() & 0o077 != 0 {
        let text = format!("{NEW_LOCK} in it is open to other users; remove it");
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() || !is_at(&lock, &new) {
        return Ok(Replaced::Not);
    }
    let old = fs::symlink_metadata(path)?;
    if old.mode() & 0o077 == 0 && !is_held_by_another_user(path) {
        fs::remove_file(&new)?;
        return Ok(Replaced::ByOther);
    }
    fs::rename(&new, path)?;
    Ok(Replaced::By(lock))
}

/// Opens a lock, or makes it.
fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Never through a link, and a pipe in its place must hold nobody.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    options.read(true).mode(0o600).custom_flags(flags);
    let lock = match options.clone().write(true).create(true).truncate(false).open(path) {
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
    Ok(lock)
}

/// Whether this is the file that lies there now.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(there)) = (file.metadata(), fs::symlink_metadata(path)) else { return false };
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

/// With this process's id in it, for the one who is refused. A full disk does not take it, and is no reason to refuse
/// this one.
fn signed(mut lock: File) -> File {
    let _ = lock.rewind();
    let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
    lock
}

/// Whether a process of neither this user nor root holds the lock: that is no host of this directory. One whose holder
/// the kernel does not name may be that of a host in another container.
fn is_held_by_another_user(path: &Path) -> bool {
    let Some(pid) = listed_holder(path) else { return false };
    match real_user(pid) {
        Some(user) => user != 0 && user != geteuid().as_raw(),
        // It left the lock to a child, which a host does not do. Looked up once more: it may have ended just now.
        None => listed_holder(path) == Some(pid),
    }
}

/// Who began a process, whatever rights it has now.
fn real_user(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().next()?.parse().ok()
}

/// Who holds the lock: as the kernel says it, else as it stands in the file.
fn holder(path: &Path) -> String {
    let pid = listed_holder(path).or_else(|| {
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

/// Who holds the lock, as the kernel says it.
fn listed_holder(path: &Path) -> Option<u32> {
    let inode = fs::symlink_metadata(path).ok()?.ino();
    holder_of(&fs::read_to_string(LOCKS).ok()?, inode)
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
    fn the_error_of_a_second_host_names_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::take(dir.path()).unwrap();
        let error = refused(dir.path());
        let this = format!("process {}", std::process::id());
        assert!(error.contains(&this), "{error}");
        assert_eq!(in_use_by(dir.path()), Some(this));
        drop(first);
        assert_eq!(in_use_by(dir.path()), None);
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
    fn a_directory_of_others_is_refused_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("notes.txt"), "").unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let error = refused(dir.path());
        assert!(error.contains("notes.txt"), "{error}");
        assert_eq!((mode(dir.path()), fs::read_dir(dir.path()).unwrap().count()), (0o755, 1));
    }

    #[test]
    fn a_lock_that_others_could_open_is_replaced_and_one_that_nobody_could_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOCK);
        fs::write(&path, "7").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let inode = || path.metadata().unwrap().ino();
        let (theirs, before) = (File::open(&path).unwrap(), inode());
        drop(StateDir::take(dir.path()).unwrap());
        let after = inode();
        assert_ne!(before, after);
        assert_eq!(mode(&path), 0o600);
        // Who had it open holds nothing that matters.
        flock(&theirs, FlockOperation::NonBlockingLockExclusive).unwrap();
        drop(StateDir::take(dir.path()).unwrap());
        assert_eq!(inode(), after);
        assert!(!dir.path().join(NEW_LOCK).exists());
    }

    #[test]
    fn a_host_that_holds_an_open_lock_is_not_pushed_aside() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::take(dir.path()).unwrap();
        // As `chmod -R` leaves it.
        fs::set_permissions(dir.path().join(LOCK), Permissions::from_mode(0o644)).unwrap();
        let error = refused(dir.path());
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
    }

    #[test]
    fn of_many_that_replace_a_lock_at_once_one_has_it() {
        for _ in 0..50 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(LOCK);
            fs::write(&path, "7").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
            let taken: Vec<_> = std::thread::scope(|scope| {
                let takers: Vec<_> = (0..6).map(|_| scope.spawn(|| lock(&path).unwrap())).collect();
                takers.into_iter().filter_map(|taker| taker.join().unwrap()).collect()
            });
            // Each may find another one at it; two never have it.
            assert!(taken.len() <= 1, "{} have it", taken.len());
            assert!(taken.iter().all(|lock| is_at(lock, &path)));
            drop(taken);
            assert!(lock(&path).unwrap().is_some());
        }
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
            return support::skip(support::Need::Root, "nobody else can give a directory away");
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

//! The directory of a run: apart from the state of the author's own host, with one run at a time, and empty but for what was
//! compiled.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::failure::Failure;

/// In the state directory.
pub const NAME: &str = "test";

/// Held while a run goes on, with its process id in it.
const LOCK: &str = "test.lock";

/// What a run keeps of those before it: what was compiled, and what is locked.
const KEPT: [&str; 3] = ["aot", LOCK, "lock"];

/// A directory that this run has to itself, until it is dropped.
#[derive(Debug)]
pub(super) struct State {
    path: PathBuf,
    _lock: File,
}

impl State {
    /// Makes the directory below that of the author's host, or empties it. The error names it.
    pub(super) fn take(state_dir: &Path) -> Result<Self, Failure> {
        let path = state_dir.join(NAME);
        let cannot = |error: std::io::Error| {
            Failure::NoAnswer(format!("cannot use {} for the run: {error}", path.display()))
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(cannot)?;
        let mut lock = open(&path.join(LOCK)).map_err(cannot)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Failure::NoAnswer(format!(
                "another `bulkhead test`{} uses {}: wait for its end",
                holder(&mut lock),
                path.display()
            )));
        }
        // For a test that begins while it runs. A full disk shows itself elsewhere.
        let _ = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
        empty(&path).map_err(cannot)?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(0o600).custom_flags(flags).open(path)
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    let pid = lock.take(20).read_to_string(&mut text).ok().and_then(|_| text.parse::<u32>().ok());
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

fn empty(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if KEPT.iter().any(|kept| entry.file_name() == *kept) {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_empty_but_for_what_was_compiled() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join(".bulkhead");
        drop(State::take(&state_dir).unwrap());
        let path = state_dir.join(NAME);
        fs::write(state_dir.join("bulkhead.db"), "the author's").unwrap();
        for name in ["aot", "workspaces/a"] {
            fs::create_dir_all(path.join(name)).unwrap();
            fs::write(path.join(name).join("file"), "").unwrap();
        }
        fs::write(path.join("bulkhead.db"), "").unwrap();
        let state = State::take(&state_dir).unwrap();
        assert_eq!(state.path(), path);
        let mut left: Vec<_> =
            fs::read_dir(&path).unwrap().map(|it| it.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["aot", LOCK]);
        assert!(path.join("aot/file").exists() && state_dir.join("bulkhead.db").exists());
    }

    #[test]
    fn a_second_run_is_refused_and_names_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = State::take(dir.path()).unwrap();
        fs::write(first.path().join("bulkhead.db"), "").unwrap();
        let words = State::take(dir.path()).unwrap_err().words().unwrap();
        let expected = format!("another `bulkhead test` (process {}) uses ", std::process::id());
        assert!(words.starts_with(&expected), "{words}");
        assert!(first.path().join("bulkhead.db").exists(), "nothing of the first is removed");
        drop(first);
        State::take(dir.path()).unwrap();
    }

    #[test]
    fn one_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let words = State::take(&dir.path().join("file")).unwrap_err().words().unwrap();
        assert!(words.starts_with("cannot use ") && words.contains("file/test"), "{words}");
    }
}

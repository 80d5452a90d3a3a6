//! The state directory: one host at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::failure::Failure;

/// Holds the state directory until it is dropped, or until the process ends in whatever way.
pub struct StateDir {
    _lock: File,
}

impl StateDir {
    /// Makes the directory and takes its lock.
    pub fn take(dir: &Path) -> Result<Self, Failure> {
        let context = |what: &str| format!("{what} the state directory {}", dir.display());
        fs::create_dir_all(dir).map_err(|e| Failure::cannot_run(&context("cannot make"), &e))?;
        let lock = Self::lock(dir).map_err(|e| Failure::cannot_run(&context("cannot take"), &e))?;
        Ok(Self { _lock: lock })
    }

    fn lock(dir: &Path) -> io::Result<File> {
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("lock"))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut owner = String::new();
            let _ = lock.read_to_string(&mut owner);
            let owner = owner.trim();
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!(
                    "process {} uses it; stop that one, or set BULKHEAD_STATE_DIR",
                    if owner.is_empty() { "(unknown)" } else { owner }
                ),
            ));
        }
        // For the one who is refused. A full disk does not take it, and is no reason to refuse this one.
        let _ = lock.rewind();
        let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(lock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_host_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::take(dir.path()).unwrap();
        let error = StateDir::take(dir.path()).err().unwrap().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        StateDir::take(dir.path()).unwrap();
    }
}

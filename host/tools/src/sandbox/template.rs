//! Roots that are made once, each in a mount namespace that holds nothing else. The init of a tool enters a copy and adds
//! what is the tool's alone. Nothing can be written to what copies share.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::Mode;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitOptions, pidfd_send_signal, umask, waitpid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::failure::{During, Failure};
use super::identity::Owner;
use super::mounts::{Base, Point, build, stamp};
use super::report::{read_failure, write_failure};
use crate::settings::SLOTS;
use crate::system::{Cloned, LeaveOnPanic, Process, clone, leave};

/// What changes on the host is seen after this time.
const FRESH: Duration = Duration::from_secs(1);

/// A root for each user, and for each set of places where something will be mounted.
#[derive(Debug)]
pub struct Templates {
    read_only: Vec<PathBuf>,
    made: HashMap<(Owner, Vec<Point>), OwnedFd>,
    stamp: Vec<Option<(u64, u64, i64, i64)>>,
    checked: Instant,
}

impl Templates {
    /// None yet. `read_only`: as [`Settings`](crate::Settings) have it.
    pub fn new(read_only: &[PathBuf]) -> Self {
        let (made, stamp) = (HashMap::new(), stamp(read_only));
        Self { read_only: read_only.to_vec(), made, stamp, checked: Instant::now() }
    }

    /// The namespace of such a root.
    pub fn of(&mut self, owner: Owner, points: Vec<Point>) -> Result<BorrowedFd<'_>, Failure> {
        self.forget_stale();
        let namespace = match self.made.entry((owner, points)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let (owner, points) = entry.key();
                let made = make(&Base { read_only: &self.read_only, points, owner: *owner })?;
                entry.insert(made)
            }
        };
        Ok(OwnedFd::as_fd(namespace))
    }

    fn forget_stale(&mut self) {
        if self.made.len() >= SLOTS as usize {
            self.made.clear();
        }
        if self.checked.elapsed() < FRESH {
            return;
        }
        let now = stamp(&self.read_only);
        if now != self.stamp {
            self.made.clear();
            self.stamp = now;
        }
        self.checked = Instant::now();
    }
}

/// Enters a copy of the namespace that is this process's alone.
pub fn enter(namespace: BorrowedFd<'_>) -> Result<(), Failure> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount))
        .during("enter the root")?;
    #[expect(unsafe_code, reason = "unsharing descriptors would be unsound")]
    // SAFETY: only the mount namespace is unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.during("copy the root")
}

/// By a process that builds it and ends.
fn make(base: &Base<'_>) -> Result<OwnedFd, Failure> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).during("make a pipe");
    let ((said, says), (waits, hold)) = (pipe()?, pipe()?);
    let process = match clone(libc::CLONE_NEWNS, None).during("fork")? {
        Cloned::Parent(process) => process,
        Cloned::Child => {
            let _guard = LeaveOnPanic;
            drop((said, hold));
            // Whatever the mask of the host's files: everybody may pass.
            umask(Mode::WGRP | Mode::WOTH);
            if let Err(failure) = build(base) {
                write_failure(File::from(says), &failure);
                leave(1)
            }
            drop(says);
            let _ = rustix::io::read(&waits, &mut [0; 1]);
            leave(0)
        }
    };
    drop(says);
    let made = namespace_of(&process, said);
    let _ = pidfd_send_signal(&process.descriptor, Signal::KILL);
    let _ = waitpid(Some(process.pid), WaitOptions::empty());
    made
}

fn namespace_of(process: &Process, said: OwnedFd) -> Result<OwnedFd, Failure> {
    if let Some(failure) = read_failure(said).during("wait for a root")? {
        return Err(failure);
    }
    let path = format!("/proc/{}/ns/mnt", process.pid.as_raw_nonzero());
    let opened: io::Result<File> = File::open(path);
    opened.map(OwnedFd::from).during("open the namespace of a root")
}

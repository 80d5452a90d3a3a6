//! The supervisor as a child, and the reaping of orphaned processes.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use bulkhead_memory::Kernel;
use bulkhead_types::previous::MemoryFigures;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::permit::{KEEPER, KeeperOrder, LeasePermit};
use super::{Handover, InitMessage, ProcessEnd};
use crate::dispositions::Dispositions;
use crate::notify;

/// This program with the arguments that it was called with.
pub struct Program {
    args: Vec<OsString>,
}

/// Whatever became of the file since: a restart is the same program.
const THIS: &str = "/proc/self/exe";

impl Program {
    /// As this process was called.
    pub fn this() -> Self {
        Self { args: std::env::args_os().collect() }
    }

    /// Starts it, with a way back to this process as its stdin. To be called on the main thread: the child ends with
    /// the thread that started it.
    pub fn spawn(&self, handover: &Handover) -> io::Result<Child> {
        let (name, value) = handover.to_variable();
        let (words, way_back) = UnixStream::pair()?;
        // A process that inherited the other end may live longer than the child.
        words.set_nonblocking(true)?;
        let mut command = self.command();
        command.env(name, value).stdin(Stdio::from(OwnedFd::from(way_back)));
        let child = command.spawn()?;
        Ok(Child {
            pid: Pid::from_child(&child),
            run_id: handover.run_id.clone(),
            counters_before: handover.counters.clone(),
            words,
            is_silent: Cell::new(false),
        })
    }

    /// Starts the keeper of the lease, and yields its id, what it says, and its stdin.
    pub fn spawn_keeper(&self, order: KeeperOrder) -> io::Result<(Pid, PipeReader, PipeWriter)> {
        let (words, stdout) = io::pipe()?;
        let (stdin, hold) = io::pipe()?;
        rustix::io::ioctl_fionbio(&words, true)?;
        let mut command = self.command();
        command.env(KEEPER, order.to_value()).stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout));
        // Its end is taken with those of orphans.
        let keeper = command.spawn()?;
        Ok((Pid::from_child(&keeper), words, hold))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(THIS);
        if let Some((name, args)) = self.args.split_first() {
            command.arg0(name).args(args);
        }
        // The service manager listens to this process alone.
        for name in notify::VARIABLES {
            command.env_remove(name);
        }
        command.process_group(0);
        command
    }
}

/// A supervisor that was started and whose end was not yet taken.
pub struct Child {
    pid: Pid,
    run_id: String,
    counters_before: MemoryFigures,
    /// What the child says, and what it is told.
    words: UnixStream,
    /// It has closed its end.
    is_silent: Cell<bool>,
}

impl Child {
    /// What it said since this was last asked. More than fits is there the next time.
    pub fn messages(&self) -> Vec<InitMessage> {
        let mut bytes = [0; 64];
        let read = (&self.words).read(&mut bytes);
        self.is_silent.set(matches!(read, Ok(0)));
        let length = read.unwrap_or(0);
        bytes[..length].iter().filter_map(|byte| InitMessage::of(*byte)).collect()
    }

    /// Where it says it. Nowhere any more after it closed its end: its process is about to end.
    pub fn words(&self) -> Option<BorrowedFd<'_>> {
        (!self.is_silent.get()).then(|| self.words.as_fd())
    }

    /// The lease was renewed.
    pub fn renew(&self, permit: LeasePermit) {
        permit.send(&self.words);
    }

    /// Sends it a signal. Its id is its own until [`reap`] took its end, so nobody else gets it.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(self.pid, signal);
    }

    /// Whether it has a handler for a signal: one without would kill it.
    pub fn catches(&self, signal: Signal) -> bool {
        Dispositions::of(self.pid).catches(signal.as_raw())
    }
}

/// Takes the end of every process that ended, and returns the child's if it is among them.
pub fn reap(child: Option<&Child>, kernel: &Kernel) -> Option<ProcessEnd> {
    let mut ended = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if let Some(child) = child.filter(|child| child.pid == pid) {
                    ended = Some(ProcessEnd {
                        run_id: child.run_id.clone(),
                        pid: pid.as_raw_nonzero().get(),
                        code: status.exit_status(),
                        signal: status.terminating_signal(),
                        counters_before: child.counters_before.clone(),
                        counters_after: kernel.counters(),
                        lease_lost: false,
                    });
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            // None that ended, or none at all.
            Ok(None) | Err(_) => return ended,
        }
    }
}

//! The host's end of the way to the launcher.

use std::os::fd::OwnedFd;
use std::process::Child;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Longer than the launcher waits for its worker.
const END_PATIENCE: Timespec = Timespec { tv_sec: 8, tv_nsec: 0 };

/// The host's end.
#[derive(Debug)]
pub struct Link {
    /// Dropped before the process: its end is what ends that.
    pub socket: OwnedFd,
    pub process: Process,
}

/// The launcher's process.
#[derive(Debug)]
pub struct Process(pub Child);

impl Drop for Process {
    /// Waits for the launcher, which ends within seconds after its socket closed, or is killed, all tools with it.
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.0.id().cast_signed());
        let descriptor = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let wait = |it: &OwnedFd| poll(&mut [PollFd::new(it, PollFlags::IN)], Some(&END_PATIENCE));
        if descriptor.as_ref().map(wait) != Some(Ok(1)) {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

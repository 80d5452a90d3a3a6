//! Starts a worker, and a new one when it dies or is stopped. The host could not: it is confined by then.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{
    Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, getpid, pidfd_send_signal,
    set_child_subreaper, waitid, waitpid,
};
use rustix::stdio::{dup2_stdin, stdin};

use super::worker;
use crate::cgroup::{Cgroups, Owner};
use crate::sandbox::kill_orphans;
use crate::settings::Settings;
use crate::system::{Cloned, HeldSignals, LeaveOnPanic, Process, clone, leave};
use crate::wire::{Request, receive};

/// Until the worker cleaned up behind a host that is gone.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// Between two checks whether the worker is stopped: nobody would hold deadlines then.
const CHECK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// A worker that lived shorter than this failed.
const SHORT: Duration = Duration::from_secs(1);
/// Failures in a row.
const FAILURES: u32 = 10;

pub fn run() -> Result<(), String> {
    let threads = fs::read_dir("/proc/self/task").map(Iterator::count);
    if threads.is_ok_and(|count| count > 1) {
        return Err("it has more than one thread".to_owned());
    }
    // The host ends it, when its agents are through: a supervisor of services may ask all processes at once.
    let _held = HeldSignals::hold(&[Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP]);
    let socket = take_socket().map_err(|error| format!("take the socket: {error}"))?;
    let Some(settings) = first_message(&socket)? else { return Ok(()) };
    // What a dead worker leaves falls to this process.
    let _ = set_child_subreaper(Some(getpid()));
    let owner = Owner::of(getpid()).ok_or("/proc does not show this process")?;
    let result = watch(&socket, &settings, &owner);
    kill_orphans(&[]);
    if let Ok(cgroups) = Cgroups::find(&owner, false) {
        cgroups.remove();
    }
    result
}

fn take_socket() -> io::Result<OwnedFd> {
    let socket = fcntl_dupfd_cloexec(stdin(), 3)?;
    dup2_stdin(fs::File::open("/dev/null")?)?;
    Ok(socket)
}

/// `None` if the host is gone.
fn first_message(socket: &OwnedFd) -> Result<Option<Settings>, String> {
    let mut ready = [PollFd::new(socket, PollFlags::IN)];
    poll(&mut ready, None).map_err(|error| error.to_string())?;
    match receive(socket) {
        Ok(None) => Ok(None),
        Ok(Some((Request::Settings(settings), _))) => Ok(Some(settings)),
        Ok(Some(_)) => Err("the first message is not settings".to_owned()),
        Err(error) => Err(format!("read settings: {error}")),
    }
}

fn watch(socket: &OwnedFd, settings: &Settings, owner: &Owner) -> Result<(), String> {
    let mut failures = 0;
    for number in 1.. {
        let begun = Instant::now();
        let worker = start(socket, settings, owner, number)
            .map_err(|error| format!("start a worker: {error}"))?;
        let is_done = wait(&worker, socket);
        // Before the next one reports that all are dead.
        kill_orphans(&[]);
        if is_done {
            return Ok(());
        }
        failures = if begun.elapsed() < SHORT { failures + 1 } else { 0 };
        if failures >= FAILURES {
            break;
        }
    }
    Err(format!("its worker died {FAILURES} times in a row"))
}

fn start(socket: &OwnedFd, settings: &Settings, owner: &Owner, number: u64) -> io::Result<Process> {
    match clone(0, None)? {
        Cloned::Parent(process) => Ok(process),
        Cloned::Child => {
            let _guard = LeaveOnPanic;
            let code = i32::from(worker::run(socket, settings, owner, number).is_err());
            leave(code)
        }
    }
}

/// Whether the host is gone. Otherwise the worker died.
fn wait(worker: &Process, socket: &OwnedFd) -> bool {
    let is_gone = loop {
        let mut ready = [
            PollFd::new(&worker.descriptor, PollFlags::IN),
            PollFd::new(socket, PollFlags::empty()),
        ];
        match poll(&mut ready, Some(&CHECK)) {
            Ok(0) => kill_if_stopped(worker),
            Ok(_) => break !ready[1].revents().is_empty(),
            Err(Errno::INTR) => {}
            Err(_) => break true,
        }
    };
    if is_gone
        && poll(&mut [PollFd::new(&worker.descriptor, PollFlags::IN)], Some(&PATIENCE)) != Ok(1)
    {
        let _ = pidfd_send_signal(worker.descriptor.as_fd(), Signal::KILL);
    }
    let status = waitpid(Some(worker.pid), WaitOptions::empty());
    is_gone || matches!(status, Ok(Some((_, status))) if is_success(status))
}

fn kill_if_stopped(worker: &Process) {
    let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if let Ok(Some(_)) = waitid(WaitId::PidFd(worker.descriptor.as_fd()), options) {
        let _ = pidfd_send_signal(&worker.descriptor, Signal::KILL);
    }
}

fn is_success(status: WaitStatus) -> bool {
    status.exit_status() == Some(0)
}

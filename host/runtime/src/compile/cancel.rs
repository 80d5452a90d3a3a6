//! Ends a compile from outside.

use std::io;
use std::process::{Child, ExitStatus};

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Why a compile is not carried through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// No start waits for it any more.
    Unwanted,
    /// The container is going away.
    Draining,
    /// Memory is short.
    MemoryShort,
}

/// One compile, as those see it who may end it. Once it is cancelled it stays so.
#[derive(Default)]
pub(crate) struct Cancel(Mutex<State>);

#[derive(Default)]
enum State {
    /// Not begun, or between two tries.
    #[default]
    Waits,
    /// A process does it. It is there, perhaps as a zombie, as long as it stands here: its id is its own.
    Runs(Child),
    /// With the process that was killed, until its end is taken.
    Cancelled(Stopped, Option<Child>),
}

impl Cancel {
    /// Kills the process that compiles, if there is one, and lets none begin. The first reason stays. Does not wait: the
    /// thread that runs it takes its end.
    pub(crate) fn cancel(&self, why: Stopped) {
        let mut state = self.0.lock();
        *state = match std::mem::take(&mut *state) {
            State::Waits => State::Cancelled(why, None),
            State::Runs(mut child) => {
                let _ = child.kill();
                State::Cancelled(why, Some(child))
            }
            cancelled @ State::Cancelled(..) => cancelled,
        }
    }

    /// Why it is not to be carried through.
    pub(crate) fn is_cancelled(&self) -> Option<Stopped> {
        match *self.0.lock() {
            State::Cancelled(why, _) => Some(why),
            State::Waits | State::Runs(_) => None,
        }
    }

    /// This process does it from now on, unless it was cancelled.
    pub(super) fn runs(&self, mut child: Child) -> Result<Pid, Stopped> {
        let mut state = self.0.lock();
        if let State::Cancelled(why, _) = *state {
            let _ = child.kill();
            let _ = child.wait();
            return Err(why);
        }
        let pid = Pid::from_child(&child);
        *state = State::Runs(child);
        Ok(pid)
    }

    /// Waits for the end of the process, and takes it.
    pub(super) fn ended(&self, pid: Pid) -> Result<io::Result<ExitStatus>, Stopped> {
        // Without the lock, so that it can be killed meanwhile, and without taking its end, so that nobody else gets
        // its id.
        let look = || waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        while matches!(look(), Err(Errno::INTR)) {}
        let mut state = self.0.lock();
        match &mut *state {
            State::Cancelled(why, child) => {
                if let Some(mut child) = child.take() {
                    let _ = child.wait();
                }
                Err(*why)
            }
            State::Runs(child) => {
                let status = child.wait();
                *state = State::Waits;
                Ok(status)
            }
            State::Waits => Ok(Err(io::Error::other("nobody runs"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("1000").spawn().unwrap()
    }

    #[test]
    fn what_runs_is_killed_and_its_end_is_taken() {
        let cancel = Cancel::default();
        let pid = cancel.runs(sleeper()).unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| cancel.ended(pid).unwrap_err());
            cancel.cancel(Stopped::Draining);
            cancel.cancel(Stopped::Unwanted);
            assert_eq!(waits.join().unwrap(), Stopped::Draining);
        });
        assert!(!std::path::Path::new(&format!("/proc/{}", pid.as_raw_nonzero())).exists());
    }

    #[test]
    fn nothing_runs_after_it_was_cancelled() {
        let cancel = Cancel::default();
        cancel.cancel(Stopped::Unwanted);
        let child = sleeper();
        let pid = child.id();
        assert_eq!(cancel.runs(child).unwrap_err(), Stopped::Unwanted);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn one_that_ends_by_itself_can_be_followed_by_another() {
        let cancel = Cancel::default();
        for _ in 0..2 {
            let pid = cancel.runs(Command::new("false").spawn().unwrap()).unwrap();
            assert_eq!(cancel.ended(pid).unwrap().unwrap().code(), Some(1));
        }
        assert_eq!(cancel.is_cancelled(), None);
    }
}

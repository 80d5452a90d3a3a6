//! Waiting for pressure: the kernel's trigger where it can be had, and time.
//!
//! A trigger is asked for by writing `some <stall µs> <window µs>` into the file that reports pressure, and is
//! there as long as that file is open: `poll` then returns with `POLLPRI` when tasks waited that long within
//! the window. The kernel refuses where the file may not be written. Then the readings have to do.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// 300 ms of 2 s: 15 %. A window of other than whole two seconds is for the privileged.
const TRIGGER: &[u8] = b"some 300000 2000000\0";

/// Waits for pressure, for a call, or until time is up.
#[derive(Debug)]
pub struct PressureWait {
    trigger: Option<File>,
    call: Arc<OwnedFd>,
}

/// Ends a wait, from any thread.
#[derive(Debug, Clone)]
pub struct Caller(Arc<OwnedFd>);

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The time is up.
    Time,
    /// Somebody called.
    Called,
    /// Tasks wait for memory.
    Pressure,
}

impl PressureWait {
    /// Asks for a trigger on `pressure_file`. Without one, waits end by time and calls alone.
    pub fn new(pressure_file: &Path) -> io::Result<Self> {
        let call = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { trigger: trigger(pressure_file).ok(), call: Arc::new(call) })
    }

    /// Whether the kernel reports pressure by itself.
    pub fn has_trigger(&self) -> bool {
        self.trigger.is_some()
    }

    /// Ends the waits of this one.
    pub fn caller(&self) -> Caller {
        Caller(Arc::clone(&self.call))
    }

    /// Waits for at most `patience`. Calls that came since the last wait count.
    pub fn wait(&mut self, patience: Duration) -> Woken {
        let until = std::time::Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            match self.poll(left) {
                Ok(Some(woken)) => return woken,
                Ok(None) => {}
                // Waiting itself fails: time has to do.
                Err(_) => {
                    std::thread::park_timeout(left);
                    return Woken::Time;
                }
            }
        }
    }

    /// `None`: check again.
    fn poll(&mut self, left: Duration) -> Result<Option<Woken>, Errno> {
        let mut fds = vec![PollFd::new(&*self.call, PollFlags::IN)];
        fds.extend(self.trigger.as_ref().map(|file| PollFd::new(file, PollFlags::PRI)));
        let left = Timespec::try_from(left).ok();
        match poll(&mut fds, left.as_ref()) {
            Ok(0) => return Ok(Some(Woken::Time)),
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(None),
            Err(error) => return Err(error),
        }
        let called = fds[0].revents().contains(PollFlags::IN);
        let events = fds.get(1).map_or(PollFlags::empty(), PollFd::revents);
        drop(fds);
        if called {
            let mut count = [0; 8];
            let _ = rustix::io::read(&*self.call, &mut count);
            return Ok(Some(Woken::Called));
        }
        // The group of the trigger is gone.
        if events.intersects(PollFlags::ERR | PollFlags::NVAL) {
            self.trigger = None;
            return Ok(None);
        }
        Ok(Some(Woken::Pressure))
    }
}

impl Caller {
    /// Ends the wait under way, or the next one.
    pub fn call(&self) {
        // It can only fail when as many calls wait already as a counter holds.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

fn trigger(pressure_file: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).open(pressure_file)?;
    // A recorded file is no pressure file, and must not become one.
    if file.metadata()?.len() > 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    file.write_all(TRIGGER)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn without_trigger() -> PressureWait {
        let wait = PressureWait::new(Path::new("/nonexistent/pressure")).unwrap();
        assert!(!wait.has_trigger());
        wait
    }

    #[test]
    fn a_wait_ends_when_its_time_is_up() {
        let (mut wait, began) = (without_trigger(), Instant::now());
        assert_eq!(wait.wait(Duration::from_millis(20)), Woken::Time);
        assert!(began.elapsed() >= Duration::from_millis(20));
        assert_eq!(wait.wait(Duration::ZERO), Woken::Time);
    }

    #[test]
    fn a_call_ends_it_at_once_and_counts_when_it_came_before() {
        let mut wait = without_trigger();
        let caller = wait.caller();
        caller.call();
        caller.call();
        assert_eq!(wait.wait(Duration::from_secs(600)), Woken::Called);
        assert_eq!(wait.wait(Duration::ZERO), Woken::Time, "two calls, one end");
        let calling = std::thread::spawn(move || caller.call());
        assert_eq!(wait.wait(Duration::from_secs(600)), Woken::Called);
        calling.join().unwrap();
    }

    #[test]
    fn a_call_reaches_a_wait_that_has_a_trigger() {
        // Where this kernel gives one; a wait without one is tested above.
        let mut wait = PressureWait::new(Path::new("/proc/pressure/memory")).unwrap();
        wait.caller().call();
        assert_eq!(wait.wait(Duration::from_secs(600)), Woken::Called);
    }

    #[test]
    fn a_file_that_only_looks_like_one_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory.pressure");
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        std::fs::write(&path, text).unwrap();
        assert!(!PressureWait::new(&path).unwrap().has_trigger());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

//! A supervisor under a lease: it ends at the fence that its init process moves on with each renewal.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::init::{Handover, InitMessage, LeasePermit};

/// A host that needs a lease and has none does not run.
pub fn check(needs_one: bool, handover: Option<&Handover>) -> Result<(), Failure> {
    if !needs_one || handover.is_some_and(|handover| handover.lease.is_some()) {
        return Ok(());
    }
    let message = "the configuration has a [lease] that no init process holds: it has to be a regular file, as it is read \
                   more than once. If it is one, it has changed: start the host again";
    Err(Failure::new(Exit::CannotRun, message.to_owned()))
}

/// Puts the fence where the init process wants it, moves it on with each renewal, and ends this process at it when none comes:
/// also when the init process hangs. To be called after this process was confined, as its thread would not be otherwise, and
/// before anything is done that others can see.
pub fn follow(handover: Option<&Handover>) -> Result<(), Failure> {
    let Some(permit) = handover.and_then(|handover| handover.lease) else { return Ok(()) };
    let cannot = |error: io::Error| Failure::cannot_run("cannot follow the lease", &error);
    let renewals = io::stdin().as_fd().try_clone_to_owned().map_err(cannot)?;
    let mut renewals = Renewals { from: UnixStream::from(renewals), begun: Vec::new() };
    bulkhead_fence::announce(|| Handover::say(InitMessage::Fenced));
    // Renewals have come while this process waited for its state directory.
    let newest = renewals.waiting().map_err(cannot)?.unwrap_or(permit);
    bulkhead_fence::put(newest.epoch, newest.fence_at);
    let spawned = std::thread::Builder::new().name("bulkhead-lease".into());
    spawned.spawn(move || renewals.take()).map(drop).map_err(cannot)
}

struct Renewals {
    from: UnixStream,
    /// The beginning of a frame.
    begun: Vec<u8>,
}

impl Renewals {
    /// The newest of those that are there already.
    fn waiting(&mut self) -> io::Result<Option<LeasePermit>> {
        let mut newest = None;
        while rustix::io::ioctl_fionread(&self.from)? > 0 {
            newest = self.read()?.or(newest);
        }
        Ok(newest)
    }

    /// Reads once. The newest one of what came, if one is whole.
    fn read(&mut self) -> io::Result<Option<LeasePermit>> {
        let mut bytes = [0; 4 * LeasePermit::FRAME_BYTES];
        let length = self.from.read(&mut bytes)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.begun.extend(&bytes[..length]);
        let (frames, rest) = self.begun.as_chunks();
        let newest = frames.last().map(|frame| LeasePermit::of_frame(*frame));
        self.begun = rest.to_vec();
        Ok(newest)
    }

    fn take(mut self) {
        loop {
            bulkhead_fence::pass();
            let left = Duration::from_nanos(bulkhead_fence::left().unwrap_or(u64::MAX));
            // None at all would be for ever.
            let _ = self.from.set_read_timeout(Some(left.max(Duration::from_millis(1))));
            match self.read() {
                Ok(Some(permit)) => bulkhead_fence::put(permit.epoch, permit.fence_at),
                // Nobody renews it any more: the rest of the time is for what runs.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    std::thread::sleep(left);
                }
                Ok(None) | Err(_) => {}
            }
        }
    }
}

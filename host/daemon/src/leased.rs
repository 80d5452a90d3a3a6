//! A supervisor under a lease: it ends at the fence that its init process moves on with each renewal.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::init::{Handover, LeasePermit};

/// Puts the fence where the init process wants it. A host that needs a lease and has none does not run.
pub fn obey(needs_one: bool, handover: Option<&Handover>) -> Result<(), Failure> {
    match handover.and_then(|handover| handover.lease) {
        Some(LeasePermit { epoch, fence_at }) => {
            bulkhead_fence::put(epoch, fence_at);
            Ok(())
        }
        None if needs_one => {
            let message = "the configuration has a [lease], and the init process holds none: restart the container";
            Err(Failure::new(Exit::CannotRun, message.to_owned()))
        }
        None => Ok(()),
    }
}

/// Moves the fence on with each renewal, and ends this process at it when none comes: also when the init process hangs. To
/// be called after this process was confined, as its thread would not be otherwise.
pub fn follow(handover: Option<&Handover>) -> Result<(), Failure> {
    if handover.is_none_or(|handover| handover.lease.is_none()) {
        return Ok(());
    }
    let cannot = |error: io::Error| Failure::cannot_run("cannot follow the lease", &error);
    let renewals = io::stdin().as_fd().try_clone_to_owned().map_err(cannot)?;
    let renewals = UnixStream::from(renewals);
    let spawned =
        std::thread::Builder::new().name("bulkhead-lease".into()).spawn(move || take(&renewals));
    spawned.map(drop).map_err(cannot)
}

fn take(mut renewals: &UnixStream) {
    let mut frame = [0; LeasePermit::FRAME_BYTES];
    let mut filled = 0;
    loop {
        bulkhead_fence::pass();
        let left = Duration::from_nanos(bulkhead_fence::left().unwrap_or(u64::MAX));
        // None at all would be for ever.
        let _ = renewals.set_read_timeout(Some(left.max(Duration::from_millis(1))));
        match renewals.read(&mut frame[filled..]) {
            // Nobody renews it any more: the rest of the time is for what runs.
            Ok(0) => std::thread::sleep(left),
            Ok(length) => filled += length,
            Err(_) => {}
        }
        if filled == frame.len() {
            let LeasePermit { epoch, fence_at } = LeasePermit::of_frame(frame);
            bulkhead_fence::put(epoch, fence_at);
            filled = 0;
        }
    }
}

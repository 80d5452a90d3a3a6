//! The network of a tool that has none: a loopback interface of its own.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::failure::{During, Failure};
use crate::system::bring_up_loopback;

/// This thread's, and so this process's: it has no other.
const OWN: &str = "/proc/thread-self/ns/net";

/// A new one. Nothing is in it but the interface.
pub fn new_network() -> io::Result<OwnedFd> {
    let own = File::open(OWN)?;
    #[expect(unsafe_code, reason = "unsharing descriptors would be unsound")]
    // SAFETY: only the network namespace is unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    let made = bring_up_loopback().and_then(|()| File::open(OWN));
    // Without it, this process would give its own to a tool with an open network.
    enter(own.as_fd()).expect("a process returns to where it was");
    made.map(OwnedFd::from)
}

/// Enters it, or brings the interface of the current one up.
pub fn connect(network: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
    match network {
        Some(network) => enter(network).during("enter its network"),
        None => bring_up_loopback().during("bring up the loopback interface"),
    }
}

fn enter(network: BorrowedFd<'_>) -> rustix::io::Result<()> {
    move_into_link_name_space(network, Some(LinkNameSpaceType::Network))
}

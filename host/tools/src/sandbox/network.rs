//! The network of a tool that has none: a loopback interface of its own.
//!
//! The kernel takes a millisecond to make one and, on threads that nobody can make nicer, a third of one to remove it. So
//! another tool gets it when the one before ended, if nothing is left in it. What stays are the counters of the kernel.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::failure::{During, Failure};
use crate::system::bring_up_loopback;

/// This thread's, and so this process's: it has no other.
const OWN: &str = "/proc/thread-self/ns/net";
const SOCKETS: &str = "/proc/thread-self/net/sockstat";

/// A new one. Nothing is in it but the interface.
pub fn new_network() -> io::Result<OwnedFd> {
    and_back(|| {
        #[expect(unsafe_code, reason = "unsharing descriptors would be unsound")]
        // SAFETY: only the network namespace is unshared.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
        bring_up_loopback()?;
        Ok(File::open(OWN)?.into())
    })
}

/// Whether nothing is left in it of the processes that were there.
pub fn is_clean(network: BorrowedFd<'_>) -> bool {
    let sockets = and_back(|| {
        enter(network)?;
        fs::read_to_string(SOCKETS)
    });
    sockets.is_ok_and(|text| has_none(&text))
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

/// Does something elsewhere. A process that cannot return ends: it would give the network of a tool to others as the host's.
fn and_back<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = File::open(OWN)?;
    let done = work();
    enter(own.as_fd()).expect("a process returns to where it was");
    done
}

/// No socket of any family, closed ones that TCP keeps among them, and no fragment.
fn has_none(sockets: &str) -> bool {
    let is_zero = |kind: &str, what: &str| {
        let line = sockets.lines().find_map(|line| line.strip_prefix(kind));
        let mut words = line.unwrap_or_default().split_whitespace();
        words.find(|word| *word == what).and_then(|_| words.next()) == Some("0")
    };
    is_zero("sockets:", "used") && is_zero("TCP:", "tw") && is_zero("FRAG:", "inuse")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_clean_when_every_count_is_zero() {
        let text = |used, tw, fragments| {
            format!(
                "sockets: used {used}\nTCP: inuse 0 orphan 3 tw {tw} alloc 5 mem 294\nUDP: inuse 0 mem 0\n\
                 FRAG: inuse {fragments} memory 0\n"
            )
        };
        assert!(has_none(&text(0, 0, 0)));
        assert!(
            !has_none(&text(1, 0, 0)) && !has_none(&text(0, 1, 0)) && !has_none(&text(0, 0, 1))
        );
        assert!(!has_none("") && !has_none("sockets: used 0\n"));
    }
}

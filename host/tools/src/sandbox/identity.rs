//! As whom a tool runs, and how files are made its own.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Signal, Uid, WaitOptions, pidfd_send_signal, waitpid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::failure::{During, Failure};
use crate::system::{Cloned, LeaveOnPanic, Process, clone, leave};

/// Behind the ids that systemd gives to its containers, and before those of foreign systems.
pub const FIRST_UID: u32 = 0x7100_0000;

/// Capabilities have numbers below this.
const CAPABILITIES: u32 = 64;

/// Whose a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    /// Of a file or directory.
    pub fn of(path: &Path) -> io::Result<Self> {
        let it = fs::metadata(path)?;
        Ok(Self { uid: it.uid(), gid: it.gid() })
    }
}

/// The first of `count` user ids that this process may give away: see `/proc/self/uid_map`.
pub fn uids(count: u32) -> Option<u32> {
    let last_of = |file: &str| {
        let text = fs::read_to_string(file).ok()?;
        let ranges = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let first: u32 = words.next()?.parse().ok()?;
            let length: u32 = words.nth(1)?.parse().ok()?;
            (length > count * 2).then_some((first, first.saturating_add(length)))
        });
        ranges.max()
    };
    let (first, end) = last_of("/proc/self/uid_map")?;
    let (gid_first, gid_end) = last_of("/proc/self/gid_map")?;
    let (first, end) = (first.max(gid_first), end.min(gid_end));
    let is_in = |it: u32| first <= it && it.saturating_add(count) <= end;
    // 65534 and 65535 mean nobody in most systems, and the last of a small range often is that.
    [FIRST_UID, end.checked_sub(count + 16)?].into_iter().find(|it| is_in(*it))
}

/// A user namespace that makes files of `owner` those of `uid`.
pub fn mapping(owner: Owner, uid: u32) -> io::Result<OwnedFd> {
    let (waits, hold) = pipe_with(PipeFlags::CLOEXEC)?;
    let process = match clone(libc::CLONE_NEWUSER, None)? {
        Cloned::Parent(process) => process,
        Cloned::Child => {
            let _guard = LeaveOnPanic;
            drop(hold);
            let _ = rustix::io::read(&waits, &mut [0; 1]);
            leave(0)
        }
    };
    let namespace = write_maps(&process, owner, uid);
    let _ = pidfd_send_signal(&process.descriptor, Signal::KILL);
    let _ = waitpid(Some(process.pid), WaitOptions::empty());
    namespace
}

fn write_maps(process: &Process, owner: Owner, uid: u32) -> io::Result<OwnedFd> {
    let dir = format!("/proc/{}", process.pid.as_raw_nonzero());
    fs::write(format!("{dir}/uid_map"), format!("{} {uid} 1", owner.uid))?;
    fs::write(format!("{dir}/gid_map"), format!("{} {uid} 1", owner.gid))?;
    Ok(fs::File::open(format!("{dir}/ns/user"))?.into())
}

/// In a new user namespace: this user is `inside` there.
pub fn map_self(outside: Owner, inside: u32) -> Result<(), Failure> {
    let write = |file: &str, text: String| {
        fs::write(format!("/proc/self/{file}"), text).during(format!("write {file}"))
    };
    write("setgroups", "deny".to_owned())?;
    write("gid_map", format!("{inside} {} 1", outside.gid))?;
    write("uid_map", format!("{inside} {} 1", outside.uid))
}

/// Becomes this user, in no other group. Capabilities are left, but not in effect.
pub fn become_user(owner: Owner) -> Result<(), Failure> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    set_thread_groups(&[]).during("leave all groups")?;
    set_keep_capabilities(true).during("keep capabilities")?;
    set_thread_res_gid(gid, gid, gid).during(format!("become group {}", owner.gid))?;
    set_thread_res_uid(uid, uid, uid).during(format!("become user {}", owner.uid))
}

/// Nothing that this process runs has one again.
pub fn drop_bounding_set() {
    let one = |bit: u32| CapabilitySet::from_bits_retain(1 << bit);
    for capability in (0..CAPABILITIES).map(one) {
        // Until the last that the kernel knows. Without the right to do so there is none to lose.
        if remove_capability_from_bounding_set(capability).is_err() {
            return;
        }
    }
}

/// This process has none left.
pub fn drop_capabilities() -> Result<(), Failure> {
    keep(CapabilitySet::empty())
}

/// This process may read all directories that it sees, and can do nothing else. Without that right it has none left.
pub fn keep_reading() -> Result<(), Failure> {
    let permitted = capabilities(None).during("get capabilities")?.permitted;
    keep(permitted & CapabilitySet::DAC_READ_SEARCH)
}

fn keep(kept: CapabilitySet) -> Result<(), Failure> {
    // Kernels before 4.3 have none.
    let _ = clear_ambient_capability_set();
    let inheritable = CapabilitySet::empty();
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable };
    set_capabilities(None, sets).during("drop capabilities")
}

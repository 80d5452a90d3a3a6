//! Which system calls may be made: seccomp.
//!
//! A list of what no host needs and what breaks out of confinement are made of, and not one of what may be done: that
//! would end a host when a library is updated. What is on it fails with EPERM, which every program knows.

use std::collections::BTreeMap;

use bulkhead_tools::{CALLS_INTO_PROCESSES, REFUSED_CALLS};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};

/// What no host needs, beside what neither tools nor hosts do.
const REFUSED: [libc::c_long; 8] = [
    libc::SYS_personality,
    // Somebody else.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
];

/// Families of sockets that there may be: the network, names on this machine, and the kernel's list of addresses, which
/// looking up a name asks for.
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Confines every thread of this process.
pub fn confine() -> Result<&'static str, String> {
    let program = filter().map_err(|error| error.to_string())?;
    apply_filter_all_threads(&program).map_err(|error| error.to_string())?;
    Ok("full")
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let all = REFUSED.iter().chain(REFUSED_CALLS).chain(CALLS_INTO_PROCESSES);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = all.map(|call| (*call, Vec::new())).collect();
    let other = |family: libc::c_int| {
        let family = u64::from(family.unsigned_abs());
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)
    };
    let other_family = FAMILIES.into_iter().map(other).collect::<Result<Vec<_>, _>>()?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(other_family)?]);
    let arch = std::env::consts::ARCH.try_into()?;
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_is_on_the_list_fails_and_the_rest_goes_on() {
        if let Err(problem) = confine() {
            return support::skip(support::Need::Confinement, &format!("no seccomp: {problem}"));
        }
        // Root may, otherwise.
        assert_eq!(rustix::process::chroot("/"), Err(Errno::PERM));
        #[expect(unsafe_code, reason = "families that rustix does not name")]
        let socket = |family: i32| {
            // SAFETY: a descriptor or an error is returned, and nothing is passed by address.
            let fd = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
            (fd < 0).then(|| std::io::Error::last_os_error().raw_os_error()).flatten()
        };
        assert_eq!(socket(libc::AF_VSOCK), Some(libc::EPERM));
        assert_eq!(socket(libc::AF_INET), None);
        assert!(std::net::TcpListener::bind("127.0.0.1:0").is_ok());
        assert!(std::fs::read("/proc/self/status").is_ok());
        let child = std::process::Command::new("/bin/true").status();
        assert!(child.is_ok_and(|status| status.success()));
    }
}

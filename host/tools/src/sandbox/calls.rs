//! Which system calls a tool may make: seccomp.
//!
//! A list of what no tool needs and what breaks out of confinement are made of: it fails with EPERM. `clone3` fails with
//! ENOSYS, because a filter cannot read its flags, and C libraries go back to `clone`.

use std::collections::BTreeMap;

use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, sock_filter,
};

/// System calls that neither a tool nor a host has use for: parts of the kernel that are known for their faults, another
/// view of the system, the machine.
pub const REFUSED_CALLS: &[libc::c_long] = &[
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_fanotify_init,
    libc::SYS_vmsplice,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
];

/// System calls that reach into other processes. Refused to tools that see processes that are not theirs.
pub const CALLS_INTO_PROCESSES: &[libc::c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
];

/// Families of sockets that there may be.
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541C;
/// Typing for others at their terminal.
const INPUT: [u64; 2] = [TIOCSTI, TIOCLINUX];

/// Numbers from here on are the x32 ABI's, a second way to most calls.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

const LOAD: u16 = 0x20;
const JUMP_AT: u16 = 0x15;
#[cfg(target_arch = "x86_64")]
const JUMP_FROM: u16 = 0x35;
const RETURN: u16 = 0x06;

/// A program for the kernel. Made once.
#[derive(Debug)]
pub struct Filter(BpfProgram);

impl Filter {
    /// `alone`: the tool sees no processes but its own.
    pub fn new(alone: bool) -> Result<Self, String> {
        Self::build(alone).map_err(|error| error.to_string())
    }

    fn build(alone: bool) -> Result<Self, BackendError> {
        let others = if alone { &[] } else { CALLS_INTO_PROCESSES };
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            REFUSED_CALLS.iter().chain(others).map(|call| (*call, Vec::new())).collect();
        let family = |it: libc::c_int| condition(0, Dword, Ne, u64::from(it.unsigned_abs()));
        let families = FAMILIES.into_iter().map(family).collect::<Result<Vec<_>, _>>()?;
        rules.insert(libc::SYS_socket, vec![SeccompRule::new(families)?]);
        let namespace = |flag: libc::c_int| {
            let flag = u64::from(flag.cast_unsigned());
            SeccompRule::new(vec![condition(0, Qword, MaskedEq(flag), flag)?])
        };
        let clones = NAMESPACES.into_iter().map(namespace).collect::<Result<Vec<_>, _>>()?;
        rules.insert(libc::SYS_clone, clones);
        let input = |request| SeccompRule::new(vec![condition(1, Dword, Eq, request)?]);
        let inputs = INPUT.into_iter().map(input).collect::<Result<Vec<_>, _>>()?;
        rules.insert(libc::SYS_ioctl, inputs);
        let (arch, refuse) = (std::env::consts::ARCH.try_into()?, libc::EPERM.unsigned_abs());
        let refuse = SeccompAction::Errno(refuse);
        let filter: BpfProgram =
            SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()?;
        Ok(Self([unknown_calls(), filter].concat()))
    }

    /// Confines this thread, which may not gain privileges.
    pub fn apply(&self) -> Result<(), String> {
        seccompiler::apply_filter(&self.0).map_err(|error| error.to_string())
    }
}

fn condition(
    argument: u8,
    width: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, width, operator, value)
}

/// What comes first: calls that seem not to be there, with another error than those that are refused. A program of its own
/// would say the same, but the kernel takes a tenth of a millisecond to compile one. What is behind stays as it is: its
/// jumps are relative.
fn unknown_calls() -> BpfProgram {
    let no_such_call = 0x0005_0000 | libc::ENOSYS.cast_unsigned();
    let is_clone3 = equals(u32::try_from(libc::SYS_clone3).expect("it is a small number"));
    let mut program = vec![sock_filter { code: LOAD, jt: 0, jf: 0, k: 0 }];
    #[cfg(target_arch = "x86_64")]
    program.push(sock_filter { code: JUMP_FROM, jt: 1, jf: 0, k: X32 });
    program.extend([is_clone3, sock_filter { code: RETURN, jt: 0, jf: 0, k: no_such_call }]);
    program
}

/// Goes on with the next instruction, or leaves it out.
fn equals(call: u32) -> sock_filter {
    sock_filter { code: JUMP_AT, jt: 0, jf: 1, k: call }
}

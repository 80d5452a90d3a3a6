//! System calls that no library here makes safe. Each is called from one thread: the launcher has no other.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal};

/// A process that was cloned, or this one if it is the clone.
pub enum Cloned {
    /// In the new process.
    Child,
    /// In the one that called.
    Parent(Process),
}

/// A child: killed and reaped by its descriptor, so never mistaken for another one.
#[derive(Debug)]
pub struct Process {
    /// In the namespace of the caller.
    pub pid: Pid,
    /// Readable when it ended.
    pub descriptor: OwnedFd,
}

/// Ends this process without running what is above on its stack: a clone shares none of it with its parent.
pub fn leave(code: i32) -> ! {
    #[expect(unsafe_code, reason = "std runs destructors and exit handlers")]
    // SAFETY: ends the process at once.
    unsafe {
        libc::_exit(code)
    }
}

/// Ends the process that is a clone when its code panics.
pub struct LeaveOnPanic;

impl Drop for LeaveOnPanic {
    fn drop(&mut self) {
        leave(101);
    }
}

/// Clones this process, with its memory, into namespaces named by `flags`, in the cgroup (of version 2) that
/// `cgroup` is.
pub fn clone(flags: libc::c_int, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut descriptor: RawFd = -1;
    let into = if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    let arguments = CloneArguments {
        flags: u64::from((flags | libc::CLONE_PIDFD).cast_unsigned()) | into,
        pidfd: (&raw mut descriptor).addr() as u64,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup.map_or(0, |it| it.as_raw_fd() as u64),
        ..CloneArguments::default()
    };
    #[expect(unsafe_code, reason = "no library clones into namespaces")]
    // SAFETY: without CLONE_VM the child has a copy of all memory, and this process has one thread, so no lock is held
    // in the copy. The kernel writes one descriptor to where `pidfd` points.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArguments>())
    };
    match i32::try_from(pid) {
        Ok(0) => Ok(Cloned::Child),
        Ok(pid) if pid > 0 => {
            #[expect(unsafe_code, reason = "the kernel made the descriptor")]
            // SAFETY: it is open and nobody else's.
            let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
            let pid = Pid::from_raw(pid).expect("it is above zero");
            Ok(Cloned::Parent(Process { pid, descriptor }))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Sends a signal to all processes that this one sees and may signal, itself and process 1 excepted. Refused unless
/// this is process 1 of a namespace: it would reach the host's.
pub fn kill_all_others(signal: Signal) -> io::Result<()> {
    if !rustix::process::getpid().is_init() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    #[expect(unsafe_code, reason = "rustix signals one process or group")]
    // SAFETY: sends a signal.
    let result = unsafe { libc::kill(-1, signal.as_raw()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets attributes of a mount, and of those below it. It clears none.
pub fn set_mount_attributes(mount: impl AsFd, set: u64, recursive: bool) -> io::Result<()> {
    set_attributes(mount.as_fd(), MountAttributes { set, ..MountAttributes::default() }, recursive)
}

/// Maps the owners of a detached mount's files as the user namespace says.
pub fn map_owners(mount: impl AsFd, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let namespace = namespace.as_raw_fd() as u64;
    let attributes =
        MountAttributes { set: MOUNT_ATTR_IDMAP, namespace, ..MountAttributes::default() };
    set_attributes(mount.as_fd(), attributes, false)
}

const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;

/// `struct mount_attr`.
#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    namespace: u64,
}

fn set_attributes(
    mount: BorrowedFd<'_>,
    attributes: MountAttributes,
    recursive: bool,
) -> io::Result<()> {
    let below = if recursive { libc::AT_RECURSIVE } else { 0 };
    #[expect(unsafe_code, reason = "rustix does not have mount_setattr")]
    // SAFETY: the kernel reads a string and a struct, whose size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | below,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Switches on the loopback interface of this network namespace.
pub fn bring_up_loopback() -> io::Result<()> {
    let family = rustix::net::AddressFamily::INET;
    let socket = rustix::net::socket(family, rustix::net::SocketType::DGRAM, None)?;
    #[expect(unsafe_code, reason = "an ioctl that rustix does not have")]
    // SAFETY: the request is a plain struct of integers, filled with zeros but for a name and the flags, which the
    // kernel reads.
    let result = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &raw const request)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes all descriptors from 3 on but these.
pub fn close_all_but(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for descriptor in kept {
        if descriptor > first {
            close_range(first, descriptor - 1)?;
        }
        first = first.max(descriptor + 1);
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "descriptors that other owners know")]
    // SAFETY: only a clone calls this, which never uses what these owners are, nor runs their destructors.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Signals that wait until they are taken.
pub struct HeldSignals(libc::sigset_t);

impl HeldSignals {
    /// Holds these.
    pub fn hold(signals: &[Signal]) -> Self {
        #[expect(unsafe_code, reason = "a set of signals")]
        // SAFETY: the set is a plain struct that `sigemptyset` fills, and all calls read or write only that.
        let set = unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in signals {
                libc::sigaddset(&raw mut set, signal.as_raw());
            }
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            set
        };
        Self(set)
    }

    /// Lets these through, and all that somebody held before, and ends this process at a pipe that nobody reads, as
    /// programs expect it.
    pub fn release(&self) {
        #[expect(unsafe_code, reason = "a set of signals, and what happens at one")]
        // SAFETY: the set is a plain struct that `sigemptyset` fills, and no handler of this program's is set or lost.
        unsafe {
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        }
    }

    /// Waits for the next one, for no longer than `patience`. Of others than the kernel only this process's parent counts.
    pub fn take(&self, patience: Option<Duration>) -> Option<i32> {
        let patience = patience.map(|it| libc::timespec {
            tv_sec: i32::try_from(it.as_secs()).unwrap_or(i32::MAX).into(),
            tv_nsec: it.subsec_nanos().into(),
        });
        let patience = patience.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        #[expect(unsafe_code, reason = "waits for a signal")]
        // SAFETY: reads the set, and a time if there is one; fills a plain struct, in which these signals have a sender.
        let (signal, sender) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let signal = libc::sigtimedwait(&raw const self.0, &raw mut info, patience);
            (signal, info.si_pid())
        };
        // Of a parent outside of the namespace both numbers are 0.
        let parent = rustix::process::Pid::as_raw(rustix::process::getppid());
        (signal == libc::SIGCHLD || signal > 0 && sender == parent).then_some(signal)
    }
}

/// Becomes this program, or returns why not. Unlike std and the C library it gives no shell what the kernel does not
/// know. Variables are `NAME=value`.
pub fn become_program(program: &Path, args: &[OsString], variables: &[OsString]) -> io::Error {
    let text = |it: &OsStr| CString::new(it.as_bytes()).map_err(io::Error::from);
    let all = |texts: &[OsString]| texts.iter().map(|it| text(it)).collect::<Result<Vec<_>, _>>();
    let prepared = text(program.as_os_str()).and_then(|it| Ok((it, all(args)?, all(variables)?)));
    let (program, args, variables) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return error,
    };
    let end = || [std::ptr::null()].into_iter();
    let pointers = |it: &[CString]| it.iter().map(|it| it.as_ptr()).collect::<Vec<_>>();
    let args: Vec<_> = [program.as_ptr()].into_iter().chain(pointers(&args)).chain(end()).collect();
    let variables: Vec<_> = pointers(&variables).into_iter().chain(end()).collect();
    #[expect(unsafe_code, reason = "std tries a shell")]
    // SAFETY: both lists end with a null pointer, and the strings live until the call returns.
    unsafe {
        libc::execve(program.as_ptr(), args.as_ptr(), variables.as_ptr());
    }
    io::Error::last_os_error()
}

/// Processor time of all children that were reaped, and the most memory that one of them had, in bytes.
pub fn usage_of_children() -> (Duration, u64) {
    #[expect(unsafe_code, reason = "rustix does not have getrusage")]
    // SAFETY: the kernel fills a plain struct.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let time = |it: libc::timeval| {
        Duration::from_secs(it.tv_sec.unsigned_abs())
            + Duration::from_micros(it.tv_usec.unsigned_abs())
    };
    (time(usage.ru_utime) + time(usage.ru_stime), usage.ru_maxrss.unsigned_abs() * 1024)
}

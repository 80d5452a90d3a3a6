//! How soon a thread that wakes has a core.
//!
//! A thread that wakes beside one that computes waits until that one has had its slice, milliseconds, also where
//! niceness gives it ten times the share. From Linux 6.12 on a thread may ask for slices of its own: one that wakes with a
//! shorter slice than the running thread's interrupts it. Its share stays what niceness says. Older kernels ignore it.

use std::io;
use std::mem::size_of;

/// The shortest slice that the kernel gives, in nanoseconds.
const SLICE_NS: u64 = 100_000;

/// Asks for the shortest slices for the calling thread. For threads that much waits for and that do little at a time. A
/// refusal (seccomp) costs promptness, not correctness.
#[expect(unsafe_code, reason = "rustix does not set slices")]
pub fn ask_for_short_slices() -> io::Result<()> {
    let mut attributes = scheduling()?;
    if attributes.sched_policy == libc::SCHED_OTHER as u32 {
        attributes.sched_runtime = SLICE_NS;
        // Threads that it makes have ordinary slices.
        attributes.sched_flags |= libc::SCHED_FLAG_RESET_ON_FORK as u64;
        // SAFETY: the kernel reads `size` bytes of what the pointer points at, and thread 0 is the calling one.
        done(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })?;
    }
    Ok(())
}

/// How the calling thread is scheduled.
#[expect(unsafe_code, reason = "rustix does not read slices")]
fn scheduling() -> io::Result<libc::sched_attr> {
    let size = size_of::<libc::sched_attr>() as u32;
    let mut attributes = libc::sched_attr {
        size,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel writes at most `size` bytes, which the structure has, and thread 0 is the calling one.
    done(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) })?;
    Ok(attributes)
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_slices_change_nothing_else_of_a_thread() {
        let thread = || {
            let before = scheduling().unwrap();
            ask_for_short_slices().unwrap();
            let child = std::thread::spawn(|| scheduling().unwrap());
            (before, scheduling().unwrap(), child.join().unwrap())
        };
        let (before, after, child) = std::thread::spawn(thread).join().unwrap();
        assert_eq!(
            (after.sched_policy, after.sched_nice),
            (before.sched_policy, before.sched_nice)
        );
        // 0 where the kernel has one slice for all.
        assert!([0, SLICE_NS].contains(&after.sched_runtime), "{}", after.sched_runtime);
        assert_eq!(child.sched_runtime, before.sched_runtime);
    }
}

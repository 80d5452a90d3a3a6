//! The process as the kernel sees it.
//!
//! Read on the control server's only thread: `/proc` is memory of the kernel and waits for no disk.

use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Figures of this process. What could not be read is absent, which is not the same as 0.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Process {
    pub(crate) open_fds: Option<u64>,
    pub(crate) max_fds: Option<u64>,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) cpu_seconds: Option<f64>,
}

impl Process {
    pub(crate) fn read() -> Self {
        Self {
            open_fds: open_fds(),
            max_fds: getrlimit(Resource::Nofile).current,
            resident_bytes: resident_bytes(),
            cpu_seconds: Some(cpu_seconds()),
        }
    }
}

fn open_fds() -> Option<u64> {
    let listed = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    // The look itself has one open.
    Some(listed.saturating_sub(1))
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * page_size() as u64)
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let process = Process::read();
        assert!(process.open_fds >= Some(3), "{process:?}");
        assert!(process.max_fds >= process.open_fds, "{process:?}");
        assert!(process.resident_bytes > Some(1 << 20), "{process:?}");
        assert!(process.cpu_seconds > Some(0.0), "{process:?}");
    }
}

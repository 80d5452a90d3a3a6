//! What a process does with its signals, as `/proc` shows it. Reading it needs nothing unsafe, and it is the only
//! way to learn it of another process.

use rustix::process::Pid;

/// Which signals a process ignores and which it has a handler for. Where `/proc` says nothing: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dispositions {
    ignored: u64,
    caught: u64,
}

impl Dispositions {
    /// Of this process.
    pub fn of_this_process() -> Self {
        Self::read("/proc/self/status")
    }

    /// Of a process that this one may look at.
    pub fn of(pid: Pid) -> Self {
        Self::read(&format!("/proc/{}/status", pid.as_raw_nonzero()))
    }

    fn read(path: &str) -> Self {
        std::fs::read_to_string(path).map(|status| Self::parse(&status)).unwrap_or_default()
    }

    fn parse(status: &str) -> Self {
        let mask = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
        };
        Self { ignored: mask("SigIgn:"), caught: mask("SigCgt:") }
    }

    /// Whether a signal, by its number, does nothing to it.
    pub fn ignores(self, signal: i32) -> bool {
        self.ignored & bit(signal) != 0
    }

    /// Whether it has a handler for a signal, by its number.
    pub fn catches(self, signal: i32) -> bool {
        self.caught & bit(signal) != 0
    }
}

/// Numbers count from 1. One that there is not has no bit.
fn bit(signal: i32) -> u64 {
    u32::try_from(signal - 1).ok().and_then(|shift| 1_u64.checked_shl(shift)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masks_of_a_status_are_read() {
        let status = "Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000004002\n";
        let it = Dispositions::parse(status);
        assert!(it.ignores(1) && it.ignores(13) && !it.ignores(15));
        assert!(it.catches(2) && it.catches(15) && !it.catches(1));
        for none in [0, -1, 65, i32::MAX, i32::MIN + 1] {
            assert!(!it.ignores(none) && !it.catches(none), "{none}");
        }
        assert_eq!(Dispositions::parse("SigIgn: nothing"), Dispositions::default());
    }

    #[test]
    fn this_process_ignores_broken_pipes() {
        const SIGPIPE: i32 = 13;
        let it = Dispositions::of_this_process();
        assert!(it.ignores(SIGPIPE) && !it.catches(SIGPIPE), "{it:?}");
        assert_eq!(
            it.ignores(SIGPIPE),
            Dispositions::of(rustix::process::getpid()).ignores(SIGPIPE)
        );
    }
}

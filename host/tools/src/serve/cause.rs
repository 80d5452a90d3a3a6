//! Why a tool ended. Pure.

use crate::end::{End, KillReason};

/// What is known of a tool's end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Evidence {
    /// The first reason for which it was killed from here.
    pub killed: Option<End>,
    /// As `wait` has it; `None` if its init died before it.
    pub status: Option<i32>,
    /// A file that would be larger than a limit of disk is what SIGXFSZ means.
    pub disk_limits_files: bool,
    /// Processes of it that the kernel killed for want of memory.
    pub oom_kills: u64,
    /// It had all that it may have. Otherwise it was killed because all tools together had too much.
    pub is_at_limit: bool,
    pub refused_forks: u64,
    /// Of its largest process, where each is limited by itself.
    pub memory_by_process: Option<MemoryUse>,
}

/// In bytes.
#[derive(Debug, Clone, Copy)]
pub struct MemoryUse {
    pub peak: u64,
    pub limit: u64,
}

/// The first cause.
pub fn end_of(evidence: &Evidence) -> End {
    let status = evidence.status.unwrap_or(libc::SIGKILL);
    let own = own_end(status);
    let has_failed = own != End::Exited(0);
    if let Some(killed) = evidence.killed {
        killed
    } else if has_failed && evidence.oom_kills > 0 {
        oom_end(evidence)
    } else if own == End::Signalled(libc::SIGXCPU) {
        End::CpuDeadline
    } else if own == End::Signalled(libc::SIGXFSZ) && evidence.disk_limits_files {
        End::DiskLimit
    } else if has_failed && evidence.refused_forks > 0 {
        End::PidsLimit
    } else if has_failed && evidence.memory_by_process.is_some_and(MemoryUse::is_at_limit) {
        End::MemoryLimit
    } else {
        own
    }
}

/// The end of a tool of which the kernel killed a process for want of memory.
pub fn oom_end(evidence: &Evidence) -> End {
    if evidence.is_at_limit { End::MemoryLimit } else { End::Shed }
}

/// What a caller's reason makes of it.
pub fn end_by(why: KillReason) -> End {
    match why {
        KillReason::Cancelled => End::Cancelled,
        KillReason::OutputLimit => End::OutputLimit,
        KillReason::Shed => End::Shed,
    }
}

/// Whether a tool with this reason may clean up behind itself first.
pub fn is_gentle(end: End) -> bool {
    matches!(end, End::WallDeadline | End::CpuDeadline | End::Cancelled)
}

fn own_end(status: i32) -> End {
    if libc::WIFSIGNALED(status) {
        End::Signalled(libc::WTERMSIG(status))
    } else {
        End::Exited(libc::WEXITSTATUS(status))
    }
}

impl MemoryUse {
    /// A process that is refused memory has a little less than its limit.
    fn is_at_limit(self) -> bool {
        self.peak >= self.limit / 10 * 9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn exited(code: i32) -> Option<i32> {
        Some(code << 8)
    }

    #[test]
    fn the_first_cause_wins() {
        let killed = Some(End::WallDeadline);
        let all = Evidence {
            killed,
            status: Some(9),
            oom_kills: 1,
            is_at_limit: true,
            refused_forks: 1,
            ..Evidence::default()
        };
        assert_eq!(end_of(&all), End::WallDeadline);
        assert_eq!(end_of(&Evidence { killed: None, ..all }), End::MemoryLimit);
        assert_eq!(end_of(&Evidence { killed: None, oom_kills: 0, ..all }), End::PidsLimit);
        let of_others = Evidence { killed: None, is_at_limit: false, ..all };
        assert_eq!(end_of(&of_others), End::Shed);
    }

    #[test]
    fn a_tool_that_succeeds_in_spite_of_a_limit_exits() {
        let usage = MemoryUse { peak: 100, limit: 100 };
        let succeeded = Evidence {
            status: exited(0),
            oom_kills: 1,
            refused_forks: 1,
            memory_by_process: Some(usage),
            ..Evidence::default()
        };
        assert_eq!(end_of(&succeeded), End::Exited(0));
    }

    #[test]
    fn an_end_of_its_own_is_its_own() {
        let with = |status| end_of(&Evidence { status, ..Evidence::default() });
        assert_eq!(with(exited(3)), End::Exited(3));
        assert_eq!(with(Some(libc::SIGSEGV)), End::Signalled(libc::SIGSEGV));
        assert_eq!(with(Some(libc::SIGXCPU)), End::CpuDeadline);
        assert_eq!(with(None), End::Signalled(libc::SIGKILL));
    }

    #[test]
    fn a_file_that_is_too_large_is_the_disks_if_the_disk_limits_files() {
        let with = |disk_limits_files| Evidence {
            status: Some(libc::SIGXFSZ),
            disk_limits_files,
            ..Evidence::default()
        };
        assert_eq!(end_of(&with(true)), End::DiskLimit);
        assert_eq!(end_of(&with(false)), End::Signalled(libc::SIGXFSZ));
    }

    #[test]
    fn without_cgroups_a_failure_near_the_limit_is_for_want_of_memory() {
        let with = |peak| Evidence {
            status: exited(1),
            memory_by_process: Some(MemoryUse { peak, limit: 100 }),
            ..Evidence::default()
        };
        assert_eq!(end_of(&with(95)), End::MemoryLimit);
        assert_eq!(end_of(&with(50)), End::Exited(1));
    }
}

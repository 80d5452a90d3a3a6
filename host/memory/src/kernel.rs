//! What the kernel counts and says about memory, of this machine and of the group of processes that this
//! one belongs to.
//!
//! | figure | own group, v2 | own group, v1 | machine |
//! | --- | --- | --- | --- |
//! | kills for want of memory | `memory.events` `oom_kill` | `memory.oom_control` `oom_kill` | `/proc/vmstat` `oom_kill` |
//! | hits of the limit | `memory.events` `max` | `memory.failcnt` | |
//! | limit | `memory.max` | `memory.limit_in_bytes`, `hierarchical_memory_limit` | `MemTotal` |
//! | bytes that only swapping frees | `memory.stat` `anon` + `shmem` | `memory.stat` `total_rss` + `total_shmem` | `MemTotal - MemAvailable` |
//! | pressure | `memory.pressure` | `memory.pressure` of version 2 beside it | `/proc/pressure/memory` |
//!
//! A limit holds for everything below it, so the groups above this process's are read as well, as far as they
//! can be seen, and the smallest limit counts, the machine's memory among them. Use is judged in the group
//! that has that limit.
//!
//! A file that is not there is a figure that is absent, and no error: no kernel has all of them. A file that
//! is there and cannot be read, or says something else than it should, is a [`Fault`].

mod file;
mod group;
mod meminfo;
mod open;
mod process;
mod psi;
mod v1;
mod v2;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_types::memory::Psi;
use bulkhead_types::previous::MemoryFigures;

pub use file::{Fault, Faults};
use group::Group;

use crate::reading::{Limit, LimitSource, Reading};

/// What a group counts.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    oom_kills: Option<u64>,
    limit_hits: Option<u64>,
}

/// Where this process stands among the groups. Read once: processes are not moved as a rule.
#[derive(Debug, Clone)]
pub struct Kernel {
    root: PathBuf,
    group: Option<Group>,
    /// Of this process's cgroup, if it reports pressure.
    pressure: Option<PathBuf>,
}

/// A limit, and what is used of it. One of the group, of a group above it, or of the machine.
#[derive(Debug, Clone, Copy)]
struct Ceiling {
    limit: Limit,
    used_bytes: Option<u64>,
}

impl Kernel {
    /// Of this machine.
    pub fn here() -> Self {
        Self::at(Path::new("/"))
    }

    /// With `proc/` and `sys/` below `root`: recorded files in the place of the kernel's.
    pub fn at(root: &Path) -> Self {
        let (group, pressure) = (Group::find(root), group::pressure_file(root));
        Self { root: root.to_owned(), group, pressure }
    }

    /// Names the time since the machine booted.
    pub fn boot_id(&self) -> Option<String> {
        let path = self.root.join("proc/sys/kernel/random/boot_id");
        let text = Faults::ignored().text(&path)?;
        Some(text.trim().to_owned())
    }

    /// Only what counts upward, for all readers.
    pub fn counters(&self) -> MemoryFigures {
        let mut reading = Reading::default();
        self.count(&mut reading, &mut Faults::ignored());
        reading.figures()
    }

    /// Everything: between eight and a dozen small files, a tenth of a millisecond. What was wrong with
    /// them is noted in `faults`.
    pub fn read(&self, faults: &mut Faults) -> Reading {
        let process = process::read(&self.root, faults);
        let mut reading = Reading {
            rss_bytes: process.rss_bytes,
            process_anon_bytes: process.anon_bytes,
            ..Reading::default()
        };
        if let Some((psi, stalled)) = self.psi(faults) {
            (reading.psi, reading.stalled) = (Some(psi), Some(stalled));
        }
        self.count(&mut reading, faults);
        self.judge(&mut reading, faults);
        reading
    }

    /// Where pressure is reported: a file of this process's cgroup, else the machine's. It need not be there.
    pub fn pressure_file(&self) -> PathBuf {
        self.pressure.clone().unwrap_or_else(|| self.root.join("proc/pressure/memory"))
    }

    fn count(&self, reading: &mut Reading, faults: &mut Faults) {
        let counted = self.group.as_ref().map(|group| group.count(faults)).unwrap_or_default();
        reading.group_oom_kills = counted.oom_kills;
        reading.limit_hits = counted.limit_hits;
        let vmstat = self.root.join("proc/vmstat");
        reading.oom_kills = faults.text(&vmstat).and_then(|text| {
            // Kernels before 4.13 do not count.
            faults.word_if_any(&vmstat, &text, "oom_kill")
        });
    }

    fn judge(&self, reading: &mut Reading, faults: &mut Faults) {
        let machine = meminfo::read(&self.root, faults);
        let total = machine.map_or(u64::MAX, |machine| machine.limit.bytes);
        let groups = self.group.as_ref().map(|group| group.ceilings(total, faults));
        let all: Vec<Ceiling> = machine.into_iter().chain(groups.into_iter().flatten()).collect();
        // Of equal ones the first: the machine's, then that of this process's cgroup.
        let effective = all.iter().min_by_key(|ceiling| ceiling.limit.bytes);
        reading.limit = effective.map(|ceiling| ceiling.limit);
        reading.used_bytes = effective.and_then(|ceiling| ceiling.used_bytes);
        let available = all.iter().filter_map(Ceiling::available_bytes).min();
        // Where the use of the smallest limit is not known, another one may leave more than that.
        let most = effective.map_or(u64::MAX, |ceiling| ceiling.limit.bytes);
        reading.available_bytes = available.map(|available| available.min(most));
    }

    fn psi(&self, faults: &mut Faults) -> Option<(Psi, Duration)> {
        let of_group = self.pressure.as_ref().and_then(|path| psi::read(path, faults));
        of_group.or_else(|| psi::read(&self.root.join("proc/pressure/memory"), faults))
    }
}

impl Ceiling {
    fn new(bytes: u64, source: LimitSource, used_bytes: Option<u64>) -> Self {
        Self { limit: Limit { bytes, source }, used_bytes }
    }

    fn available_bytes(&self) -> Option<u64> {
        Some(self.limit.bytes.saturating_sub(self.used_bytes?))
    }
}

#[cfg(test)]
mod tests;

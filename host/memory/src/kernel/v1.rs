//! Control groups, version 1.

use std::path::Path;

use super::file::Faults;
use super::{Ceiling, Counted};
use crate::reading::LimitSource;

pub(super) fn count(own: &Path, faults: &mut Faults) -> Counted {
    let path = own.join("memory.oom_control");
    // Kernels before 4.13 do not count kills.
    let oom_kills =
        faults.text(&path).and_then(|text| faults.word_if_any(&path, &text, "oom_kill"));
    Counted { oom_kills, limit_hits: faults.number(&own.join("memory.failcnt")) }
}

/// The limit of one group when it is below `total`, which "no limit" is not: that is the largest number of
/// pages. Statistics of a group with `total_` count those below it in.
pub(super) fn ceiling(
    dir: &Path,
    source: LimitSource,
    total: u64,
    faults: &mut Faults,
) -> Option<Ceiling> {
    let limit = faults.number(&dir.join("memory.limit_in_bytes")).filter(|limit| *limit < total)?;
    Some(Ceiling::new(limit, source, used(dir, faults)))
}

/// The smallest limit of a group and of those above it, whether they can be seen or not, when it is below
/// `total`. Of a group that cannot be seen nobody knows the use: it is at least that of this one.
pub(super) fn smallest(dir: &Path, total: u64, faults: &mut Faults) -> Option<Ceiling> {
    let path = dir.join("memory.stat");
    let text = faults.text(&path)?;
    let limit = faults.word_if_any(&path, &text, "hierarchical_memory_limit")?;
    let used = (limit < total).then(|| used(dir, faults))?;
    Some(Ceiling::new(limit, LimitSource::Cgroup1Above, used))
}

/// What only swapping frees: memory of processes, and files in memory (tmpfs).
fn used(dir: &Path, faults: &mut Faults) -> Option<u64> {
    let path = dir.join("memory.stat");
    let text = faults.text(&path)?;
    let shared = faults.word_if_any(&path, &text, "total_shmem").unwrap_or(0);
    Some(faults.word(&path, &text, "total_rss")?.saturating_add(shared))
}

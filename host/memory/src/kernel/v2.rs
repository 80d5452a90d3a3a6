//! Control groups, version 2.

use std::path::Path;

use super::file::Faults;
use super::{Ceiling, Counted};
use crate::reading::LimitSource;

pub(super) fn count(own: &Path, faults: &mut Faults) -> Counted {
    // The root of all groups has none.
    let path = own.join("memory.events");
    let Some(text) = faults.text(&path) else { return Counted::default() };
    Counted {
        oom_kills: faults.word_if_any(&path, &text, "oom_kill"),
        limit_hits: faults.word(&path, &text, "max"),
    }
}

/// The limit of one group when it is below `total`. Statistics of a group count those below it in.
pub(super) fn ceiling(
    dir: &Path,
    source: LimitSource,
    total: u64,
    faults: &mut Faults,
) -> Option<Ceiling> {
    let limit = limit(&dir.join("memory.max"), faults).filter(|limit| *limit < total)?;
    Some(Ceiling::new(limit, source, used(dir, faults)))
}

/// What only swapping frees: memory of processes, and files in memory (tmpfs).
fn used(dir: &Path, faults: &mut Faults) -> Option<u64> {
    let path = dir.join("memory.stat");
    let text = faults.text(&path)?;
    let shared = faults.word_if_any(&path, &text, "shmem").unwrap_or(0);
    Some(faults.word(&path, &text, "anon")?.saturating_add(shared))
}

/// The number in the file, or none for `max`.
fn limit(path: &Path, faults: &mut Faults) -> Option<u64> {
    let text = faults.text(path)?;
    let text = text.trim();
    (text != "max").then(|| faults.parsed(path, "it", text)).flatten()
}

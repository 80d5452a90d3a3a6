//! The machine's memory.

use std::path::Path;

use super::Ceiling;
use super::file::Faults;
use crate::reading::LimitSource;

/// All of it, and what programs could not have of it.
pub(super) fn read(root: &Path, faults: &mut Faults) -> Option<Ceiling> {
    let path = root.join("proc/meminfo");
    let text = faults.text(&path)?;
    let mut bytes = |key| faults.word(&path, &text, key).map(|kib: u64| kib.saturating_mul(1024));
    let total = bytes("MemTotal:")?;
    let used = bytes("MemAvailable:").map(|available| total.saturating_sub(available));
    Some(Ceiling::new(total, LimitSource::Meminfo, used))
}

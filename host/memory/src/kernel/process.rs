//! This process.

use std::path::Path;

use super::file::Faults;

/// What this process has in memory.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Process {
    pub(super) rss_bytes: Option<u64>,
    /// Without what it shares with files.
    pub(super) anon_bytes: Option<u64>,
}

pub(super) fn read(root: &Path, faults: &mut Faults) -> Process {
    let path = root.join("proc/self/statm");
    let Some(text) = faults.text(&path) else { return Process::default() };
    let mut words = text.split_whitespace();
    let mut bytes = |what: &str, at: usize| {
        let pages: u64 = faults.parsed(&path, what, words.nth(at).unwrap_or_default())?;
        Some(pages.saturating_mul(rustix::param::page_size() as u64))
    };
    let rss_bytes = bytes("resident", 1);
    let anon_bytes = rss_bytes.and_then(|rss| Some(rss.saturating_sub(bytes("shared", 0)?)));
    Process { rss_bytes, anon_bytes }
}

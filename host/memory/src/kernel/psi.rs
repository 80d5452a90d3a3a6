//! Pressure stall information: how much time goes by waiting for memory.

use std::path::Path;
use std::time::Duration;

use bulkhead_types::memory::Psi;

use super::file::Faults;

/// The shares of the last 10 s, and all the time in which some task waited. `None` when the kernel does not
/// report it.
pub(super) fn read(path: &Path, faults: &mut Faults) -> Option<(Psi, Duration)> {
    let text = faults.text(path)?;
    let some_avg10 = share(path, &text, "some", faults);
    let full_avg10 = share(path, &text, "full", faults);
    let total: Option<u64> = word(path, &text, "some", "total", faults)
        .and_then(|total| faults.parsed(path, "total of some", total));
    let psi = Psi { some_avg10: some_avg10?, full_avg10: full_avg10? };
    Some((psi, Duration::from_micros(total?)))
}

/// Percentage of the last 10 s.
fn share(path: &Path, text: &str, who: &str, faults: &mut Faults) -> Option<f64> {
    let share = word(path, text, who, "avg10", faults)?;
    let share = share.parse::<f64>().ok().filter(|share| (0.0..=100.0).contains(share));
    if share.is_none() {
        faults.note(path, format!("avg10 of {who} is no percentage"));
    }
    share
}

fn word<'a>(
    path: &Path,
    text: &'a str,
    who: &str,
    key: &str,
    faults: &mut Faults,
) -> Option<&'a str> {
    let line = text.lines().find(|line| line.split(' ').next() == Some(who));
    let mut words = line.unwrap_or_default().split(' ').filter_map(|word| word.split_once('='));
    let found = words.find_map(|(name, value)| (name == key).then_some(value));
    if found.is_none() {
        faults.note(path, format!("it does not say {key} of {who}"));
    }
    found
}

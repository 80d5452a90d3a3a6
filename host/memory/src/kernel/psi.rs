//! Pressure stall information: how much time goes by waiting for memory.

use std::path::Path;

use bulkhead_model::memory::Psi;

use super::file::Faults;

/// `None` when the kernel does not tell it.
pub(super) fn read(path: &Path, faults: &mut Faults) -> Option<Psi> {
    let text = faults.text(path)?;
    let some_avg10 = share(path, &text, "some", faults);
    let full_avg10 = share(path, &text, "full", faults);
    Some(Psi { some_avg10: some_avg10?, full_avg10: full_avg10? })
}

/// Percentage of the last 10 s.
fn share(path: &Path, text: &str, who: &str, faults: &mut Faults) -> Option<f64> {
    let line = text.lines().find(|line| line.split(' ').next() == Some(who));
    let share = line.and_then(|line| line.split(' ').find_map(|part| part.strip_prefix("avg10=")));
    let Some(share) = share else {
        faults.note(path, format!("it does not say avg10 of {who}"));
        return None;
    };
    let share = share.parse::<f64>().ok().filter(|share| (0.0..=100.0).contains(share));
    if share.is_none() {
        faults.note(path, format!("avg10 of {who} is no percentage"));
    }
    share
}

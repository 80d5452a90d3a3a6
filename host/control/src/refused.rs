//! One log line for each refused request, and a bound on how many.

use std::time::Instant;

use bulkhead_log::{Budget, SharedSink};
use bulkhead_types::{Event, Level};
use parking_lot::Mutex;

/// Lines that may come at once. A misconfigured client shows up in full.
const BURST: u32 = 50;
/// Lines a second after that: a flood of bad requests must not push other lines out of the log.
const PER_SECOND: u32 = 20;
/// Longest path in a line, in characters. Ids have at most 128.
const PATH_CHARS: usize = 256;
/// Longest error text in a line, in characters. A guest's words may be much longer.
const ERROR_CHARS: usize = 1024;

/// Writes the lines.
pub(crate) struct Refusals {
    sink: SharedSink,
    budget: Mutex<Budget>,
}

impl Refusals {
    pub(crate) fn new(sink: SharedSink) -> Self {
        let budget = Budget::new(BURST, PER_SECOND, Instant::now());
        Self { sink, budget: Mutex::new(budget) }
    }

    /// Writes a line, or holds it back and counts it for the next one.
    pub(crate) fn record(&self, method: &str, path: &str, status: u16, error: &str) {
        let Ok(suppressed) = self.budget.lock().take(Instant::now()) else { return };
        self.sink.record(Event::RequestRefused {
            method: truncated(method, PATH_CHARS),
            path: truncated(path, PATH_CHARS),
            status,
            error: truncated(error, ERROR_CHARS),
            suppressed,
        });
    }

    /// Logs what was held back and is in no later line.
    pub(crate) fn settle(&self) {
        let held_back = self.budget.lock().settle();
        if held_back > 0 {
            self.sink.record(Event::HostLog {
                level: Level::Warn,
                target: module_path!().to_owned(),
                message: format!("{held_back} lines of refused requests were held back"),
                fields: Default::default(),
            });
        }
    }
}

/// The first `chars` characters of `text`.
pub(crate) fn truncated(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_keeps_whole_characters() {
        assert_eq!(truncated("äöü", 2), "äö");
    }
}

//! One log line for each refused request, and a bound on how many.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bulkhead_events::SharedSink;
use bulkhead_model::{Event, Level};

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
    budget: Mutex<LineBudget>,
}

impl Refusals {
    pub(crate) fn new(sink: SharedSink) -> Self {
        let budget = LineBudget::new(BURST, PER_SECOND, Instant::now());
        Self { sink, budget: Mutex::new(budget) }
    }

    /// Writes a line, or holds it back and counts it for the next one.
    pub(crate) fn record(&self, method: &str, path: &str, status: u16, error: &str) {
        let Some(suppressed) = self.budget().take(Instant::now()) else { return };
        self.sink.record(Event::RequestRefused {
            method: cut(method, PATH_CHARS),
            path: cut(path, PATH_CHARS),
            status,
            error: cut(error, ERROR_CHARS),
            suppressed,
        });
    }

    /// Tells what was held back and that no later line has told.
    pub(crate) fn settle(&self) {
        let held_back = std::mem::take(&mut self.budget().held_back);
        if held_back > 0 {
            self.sink.record(Event::HostLog {
                level: Level::Warn,
                target: module_path!().to_owned(),
                message: format!("{held_back} lines of refused requests were held back"),
                fields: Default::default(),
            });
        }
    }

    fn budget(&self) -> MutexGuard<'_, LineBudget> {
        self.budget.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The first `chars` characters of `text`.
pub(crate) fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

/// A token bucket that counts what it refuses.
pub(crate) struct LineBudget {
    burst: u32,
    per_second: u32,
    tokens: f64,
    filled_at: Instant,
    held_back: u64,
}

impl LineBudget {
    pub(crate) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Self { burst, per_second, tokens: f64::from(burst), filled_at: now, held_back: 0 }
    }

    /// May a line be written now? If so, says how many were held back since the last one.
    pub(crate) fn take(&mut self, now: Instant) -> Option<u64> {
        let passed: Duration = now.saturating_duration_since(self.filled_at);
        let filled = self.tokens + passed.as_secs_f64() * f64::from(self.per_second);
        self.tokens = filled.min(f64::from(self.burst));
        self.filled_at = now;
        if self.tokens < 1.0 {
            self.held_back += 1;
            return None;
        }
        self.tokens -= 1.0;
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_the_rest_is_counted_and_the_next_line_tells() {
        let start = Instant::now();
        let mut budget = LineBudget::new(3, 2, start);
        for _ in 0..3 {
            assert_eq!(budget.take(start), Some(0));
        }
        for _ in 0..5 {
            assert_eq!(budget.take(start), None);
        }
        assert_eq!(budget.take(start + Duration::from_millis(500)), Some(5));
        assert_eq!(budget.take(start + Duration::from_millis(500)), None);
    }

    #[test]
    fn quiet_times_save_up_no_more_than_a_burst() {
        let start = Instant::now();
        let mut budget = LineBudget::new(3, 2, start);
        let later = start + Duration::from_secs(3600);
        let passed = (0..10).filter(|_| budget.take(later).is_some()).count();
        assert_eq!(passed, 3);
    }

    #[test]
    fn a_cut_keeps_whole_characters() {
        assert_eq!(cut("äöü", 2), "äö");
    }
}

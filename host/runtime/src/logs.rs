//! Lines of one incarnation: its log calls, its stdout and its stderr.
//!
//! A line gets through while the agent has tokens, one for each KiB begun that it takes in the log; the rest is dropped
//! and counted, and the next line that gets through says how many. The last lines are kept in any case: a crash record
//! shows them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_exception::{Evidence, Scanner};
use bulkhead_log::Budget;
use bulkhead_types::Level;
use parking_lot::Mutex;

use crate::port::Port;

/// Longest line, in bytes. A longer one of the guest's log is cut; of one that is printed, the rest is another line.
pub(crate) const MAX_LINE_BYTES: usize = 8 * 1024;

/// Lines kept for the crash record.
const TAIL_LINES: usize = 20;

/// What one token pays for, as JSON writes it: a text of control characters takes six times its own size.
const TOKEN_BYTES: usize = 1024;

/// Seconds' worth of lines that may come at once.
const BURST_SECONDS: u32 = 10;

/// The lines of one incarnation.
pub struct Logs {
    port: Arc<dyn Port>,
    /// Shared with the incarnations before and after.
    budget: Arc<Mutex<Budget>>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    lost: u64,
    tail: VecDeque<String>,
    scanner: Scanner,
}

impl Logs {
    pub(crate) fn new(port: Arc<dyn Port>, budget: Arc<Mutex<Budget>>) -> Self {
        Self { port, budget, inner: Mutex::default() }
    }

    /// How much an agent may say that has this many lines a second, with a burst of ten times as many. A line of more
    /// than a KiB counts as one for each KiB begun.
    pub fn budget(lines_per_second: u32) -> Budget {
        let burst = lines_per_second.saturating_mul(BURST_SECONDS);
        Budget::new(burst, lines_per_second, Instant::now())
    }

    /// Takes a line.
    pub(crate) fn line(
        &self,
        level: Level,
        stream: &'static str,
        text: &str,
        fields: BTreeMap<String, String>,
    ) {
        let text = truncated(text);
        let cost = cost(text, &fields);
        let mut inner = self.inner.lock();
        inner.keep(stream, text);
        let Ok(dropped) = self.take_tokens(cost) else {
            inner.lost += 1;
            return;
        };
        drop(inner);
        self.port.log_line(level, stream, text.to_owned(), fields, dropped);
    }

    /// Whether a fact of so many bytes gets through that is none of the guest's lines: the number of those dropped
    /// before it, or none if it is dropped as well.
    pub(crate) fn admit(&self, bytes: usize) -> Option<u64> {
        let cost = u32::try_from(bytes.div_ceil(TOKEN_BYTES)).unwrap_or(u32::MAX).max(1);
        let taken = self.take_tokens(cost);
        if taken.is_err() {
            self.inner.lock().lost += 1;
        }
        taken.ok()
    }

    /// Whether there is room for a text of the guest in a line of the host's, which is written in any case.
    pub fn affords(&self, text: &str) -> bool {
        let cost = cost(text, &BTreeMap::new());
        self.budget.lock().spend(cost, Instant::now())
    }

    /// The last lines, oldest first.
    pub fn tail(&self) -> Vec<String> {
        self.inner.lock().tail.iter().cloned().collect()
    }

    /// A call into the guest begins: what was said before is no cause of its end.
    pub(crate) fn begin_call(&self) {
        self.inner.lock().scanner.clear();
    }

    /// What stderr said last in the call under way, as far as it names a cause.
    pub(crate) fn evidence(&self) -> Evidence {
        self.inner.lock().scanner.evidence()
    }

    /// Lines that did not get through in this incarnation.
    pub fn lost(&self) -> u64 {
        self.inner.lock().lost
    }

    /// The incarnation ended and its end is reported: its last lines are nobody's any more.
    pub fn forget(&self) {
        let mut inner = self.inner.lock();
        (inner.tail, inner.scanner) = (VecDeque::new(), Scanner::default());
    }

    fn take_tokens(&self, cost: u32) -> Result<u64, Duration> {
        self.budget.lock().take_cost(cost, Instant::now())
    }
}

impl Inner {
    fn keep(&mut self, stream: &'static str, text: &str) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        if stream == "stderr" {
            self.scanner.line(text);
        }
        // The tail is for reading; a kilobyte of a line is enough.
        let text = text.get(..floor(text, 1024)).unwrap_or_default().to_owned();
        self.tail.push_back(text);
    }
}

/// The tokens of a line. A rate of bytes, or an agent with few long lines could fill a disk within the rate of lines.
fn cost(text: &str, fields: &BTreeMap<String, String>) -> u32 {
    let size = bulkhead_printable::json_bytes;
    let fields = fields.iter().map(|(key, value)| size(key) + size(value)).sum::<usize>();
    u32::try_from((size(text) + fields).div_ceil(TOKEN_BYTES)).unwrap_or(u32::MAX)
}

fn truncated(text: &str) -> &str {
    text.get(..floor(text, MAX_LINE_BYTES)).unwrap_or_default()
}

/// The largest character boundary at or below `at`.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::fake::FakePort;

    #[test]
    fn a_flood_is_cut_and_counted_and_its_last_lines_are_kept() {
        let port = Arc::new(FakePort::default());
        let logs =
            Logs::new(Arc::clone(&port) as Arc<dyn Port>, Arc::new(Mutex::new(Logs::budget(1))));
        for n in 0..1000 {
            logs.line(Level::Info, "stdout", &n.to_string(), BTreeMap::new());
        }
        let through = port.lines.lock().len() as u64;
        assert!((10..20).contains(&through), "{through} got through");
        assert_eq!(through + logs.lost(), 1000);
        assert_eq!(logs.tail().last().map(String::as_str), Some("999"));
        assert_eq!(logs.tail().len(), TAIL_LINES);
    }

    #[test]
    fn what_gets_through_is_counted_in_bytes_as_they_are_written() {
        let port = Arc::new(FakePort::default());
        let logs =
            Logs::new(Arc::clone(&port) as Arc<dyn Port>, Arc::new(Mutex::new(Logs::budget(50))));
        let fields: BTreeMap<_, _> =
            (0..32).map(|n| (format!("guest.{n}"), "\u{1}".repeat(1024))).collect();
        for _ in 0..1000 {
            logs.line(Level::Info, "log", &"\u{1}".repeat(MAX_LINE_BYTES), fields.clone());
        }
        let (through, bytes) = (port.lines.lock().len(), 6 * (MAX_LINE_BYTES + 32 * 1024));
        let burst = 50 * BURST_SECONDS as usize * TOKEN_BYTES;
        assert!(through >= 1 && through * bytes <= burst + bytes, "{through} lines of {bytes}");
        assert_eq!(through as u64 + logs.lost(), 1000);
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let port = Arc::new(FakePort::default());
        let logs =
            Logs::new(Arc::clone(&port) as Arc<dyn Port>, Arc::new(Mutex::new(Logs::budget(10))));
        logs.line(Level::Info, "stdout", &"ä".repeat(MAX_LINE_BYTES), BTreeMap::new());
        assert_eq!(port.lines.lock()[0].0.len(), MAX_LINE_BYTES);
    }
}

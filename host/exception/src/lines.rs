//! The lines of one report, within bounds.

use std::collections::VecDeque;

/// Lines that are kept of one report.
const MAX_LINES: usize = 64;

/// Bytes that are kept of one line. QuickJS writes an exception with its whole stack in one.
pub(crate) const MAX_LINE_BYTES: usize = 4 * 1024;

/// Bytes that are kept of one report.
const MAX_BYTES: usize = 64 * 1024;

/// Which lines stay of a report that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Beginning,
    End,
}

/// Lines of one report, oldest first.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    keep: Keep,
    bytes: usize,
    lines: VecDeque<String>,
}

impl Lines {
    pub(crate) fn new(keep: Keep) -> Self {
        Self { keep, bytes: 0, lines: VecDeque::new() }
    }

    /// Takes a line, or drops one.
    pub(crate) fn push(&mut self, line: &str) {
        let line = cut(line, MAX_LINE_BYTES);
        while self.is_full(line.len()) {
            match self.keep {
                Keep::Beginning => return,
                Keep::End => self.pop(),
            }
        }
        self.bytes += line.len();
        self.lines.push_back(line.to_owned());
    }

    /// The last line that is not empty.
    pub(crate) fn last(&self) -> &str {
        let mut lines = self.lines.iter().rev().map(String::as_str);
        lines.find(|line| !line.trim().is_empty()).unwrap_or_default()
    }

    pub(crate) fn all(&self) -> Vec<&str> {
        self.lines.iter().map(String::as_str).collect()
    }

    fn is_full(&self, more: usize) -> bool {
        self.lines.len() == MAX_LINES || self.bytes + more > MAX_BYTES
    }

    fn pop(&mut self) {
        self.bytes -= self.lines.pop_front().map_or(0, |line| line.len());
    }
}

/// The beginning of a text, cut at a character.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(keep: Keep) -> Vec<String> {
        let mut lines = Lines::new(keep);
        (0..1000).for_each(|n| lines.push(&n.to_string()));
        lines.all().into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_long_report_keeps_its_beginning_or_its_end() {
        let [beginning, end] = [Keep::Beginning, Keep::End].map(numbers);
        assert_eq!((beginning.len(), beginning[0].as_str()), (MAX_LINES, "0"));
        assert_eq!((end.len(), end[MAX_LINES - 1].as_str()), (MAX_LINES, "999"));
    }

    #[test]
    fn long_lines_are_cut_and_together_within_a_bound() {
        for keep in [Keep::Beginning, Keep::End] {
            let mut lines = Lines::new(keep);
            (0..100).for_each(|_| lines.push(&"ä".repeat(MAX_LINE_BYTES)));
            let sizes: Vec<usize> = lines.all().iter().map(|line| line.len()).collect();
            assert_eq!((sizes[0], sizes.iter().sum()), (MAX_LINE_BYTES, MAX_BYTES));
        }
    }
}

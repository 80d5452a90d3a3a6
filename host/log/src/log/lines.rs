//! Lines on their way into an output that may take a part of them and refuse the rest.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};

use bulkhead_types::Level;

/// Bytes from which on lines are worth a write.
const WRITE_BYTES: usize = 256 * 1024;

/// Writes lines, and knows which of them the output took.
///
/// A full disk or a closed pipe may take half a line. Nothing is written before the other half of it: the line
/// is whole as soon as the output takes bytes again. Lines of which nothing was taken are lost.
pub(super) struct LineWriter<W> {
    output: W,
    text: String,
    /// Where each line of the text ends, and its level.
    ends: VecDeque<(usize, Level)>,
    /// The text begins in the middle of a line.
    in_line: bool,
}

impl<W: Write> LineWriter<W> {
    pub fn new(output: W) -> Self {
        Self { output, text: String::new(), ends: VecDeque::new(), in_line: false }
    }

    /// Adds a line, its newline included.
    pub fn add(&mut self, line: &str, level: Level) {
        self.text.push_str(line);
        self.ends.push_back((self.text.len(), level));
    }

    /// Whether there is enough for a write.
    pub fn is_full(&self) -> bool {
        self.text.len() >= WRITE_BYTES
    }

    /// Writes everything, and passes the level of each line that is lost to `lose`. There is nowhere to report
    /// an output to that takes nothing; the count shows it.
    pub fn write(&mut self, lose: impl FnMut(Level)) {
        let written = self.write_what_fits();
        let unwritten = self.ends.partition_point(|(end, _)| *end <= written);
        let before = unwritten.checked_sub(1).map_or(0, |last| self.ends[last].0);
        let is_cut =
            unwritten < self.ends.len() && (written > before || (self.in_line && written == 0));
        let lost = self.ends.split_off((unwritten + usize::from(is_cut)).min(self.ends.len()));
        lost.into_iter().map(|(_, level)| level).for_each(lose);
        self.ends.drain(..unwritten);
        let end = self.ends.back().map_or(written, |(end, _)| *end);
        self.text.truncate(end);
        self.text.drain(..written);
        self.ends.iter_mut().for_each(|(end, _)| *end -= written);
        self.in_line = is_cut;
    }

    fn write_what_fits(&mut self) -> usize {
        bulkhead_fence::pass();
        let (bytes, mut written) = (self.text.as_bytes(), 0);
        while written < bytes.len() {
            match self.output.write(&bytes[written..]) {
                Ok(0) => return written,
                Ok(more) => written += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return written,
            }
        }
        // What it took, it took: an output that fails here is asked again with the next line.
        let _ = self.output.flush();
        written
    }
}

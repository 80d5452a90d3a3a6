//! Reads stderr line by line.
//!
//! ```text
//!            a report begins            Python's, then a Rust panic
//!   nothing ----------------> thrown ------------------------------> thrown, and the panic
//!      ^  ^                     |  ^                                      |
//!      |  +------- clear -------+  +------- another report begins --------+
//!      +-- a line that belongs to no report
//! ```
//!
//! Only the last report counts: an earlier one was survived. Python's is kept behind a Rust panic, because
//! `componentize-py` prints a traceback and then panics over it.

use bulkhead_types::exception::Exception;

use crate::format::Format;
use crate::lines::{Lines, MAX_LINE_BYTES, cut};
use crate::rust::{self, Panic};
use crate::{library, python};

/// What the lines of one call name as the cause of its end. It keeps two reports at most, each of 64 lines and 64 KiB.
#[derive(Debug, Clone, Default)]
pub struct Scanner {
    thrown: Option<Report>,
    panic: Option<Lines>,
    failed_allocation: Option<u64>,
    previous: String,
}

/// What a [`Scanner`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// What the last report names.
    pub cause: Option<Cause>,
    /// Size of the allocation over which a Rust program gave up, when it said so after any other report.
    pub failed_allocation: Option<u64>,
}

/// What a report names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The outermost exception first, then its causes, all within the bounds of [`Exception`]; never empty.
    Exceptions(Vec<Exception>),
    /// A panic of the program's own Rust code.
    Panic(Panic),
}

#[derive(Debug, Clone)]
struct Report {
    format: Format,
    lines: Lines,
}

impl Scanner {
    /// Takes the next line, without its line break. Of a longer one than 4 KiB the beginning counts.
    pub fn line(&mut self, line: &str) {
        let line = cut(line.trim_end_matches(['\r', '\n']), MAX_LINE_BYTES);
        match self.begins(line) {
            Some(format) => self.begin(format, line),
            None => self.go_on(line),
        }
        self.previous.clear();
        self.previous.push_str(line);
    }

    /// Another call begins: what was printed before is no cause of its end.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// What the lines say so far.
    pub fn evidence(&self) -> Evidence {
        Evidence { cause: self.cause(), failed_allocation: self.failed_allocation }
    }

    fn begins(&self, line: &str) -> Option<Format> {
        let format = Format::of(&self.previous, line)?;
        let open = self.thrown.as_ref().filter(|open| open.format == format);
        let goes_on =
            self.panic.is_none() && open.is_some_and(|open| open.format.goes_on(&open.lines, line));
        let is_ignored = format == Format::Python && python::is_ignored(&self.previous);
        (!goes_on && !is_ignored).then_some(format)
    }

    fn begin(&mut self, format: Format, line: &str) {
        self.failed_allocation = None;
        let mut lines = Lines::new(format.keep());
        if format == Format::Rust {
            lines.push(line);
            self.thrown.take_if(|thrown| thrown.format != Format::Python);
            self.panic = Some(lines);
            return;
        }
        if format.is_known_by_its_second(line) {
            lines.push(&self.previous);
        }
        lines.push(line);
        (self.thrown, self.panic) = (Some(Report { format, lines }), None);
    }

    fn go_on(&mut self, line: &str) {
        self.failed_allocation = rust::failed_allocation(line).or(self.failed_allocation);
        let thrown = self.thrown.as_mut().map(|report| &mut report.lines);
        if let Some(lines) = self.panic.as_mut().or(thrown) {
            lines.push(line);
        }
    }

    fn cause(&self) -> Option<Cause> {
        let Some(panic) = &self.panic else { return self.exceptions().map(Cause::Exceptions) };
        let panic = Panic::of(&panic.all())?;
        if let Some(exception) = panic.exception() {
            return Some(Cause::Exceptions(finished(vec![exception])));
        }
        match self.exceptions().filter(|_| python::is_panic_over_exception(&panic.message)) {
            Some(exceptions) => Some(Cause::Exceptions(exceptions)),
            None => Some(Cause::Panic(panic)),
        }
    }

    fn exceptions(&self) -> Option<Vec<Exception>> {
        let report = self.thrown.as_ref()?;
        let exceptions = report.format.exceptions(&report.lines.all());
        (!exceptions.is_empty()).then(|| finished(exceptions))
    }
}

fn finished(mut exceptions: Vec<Exception>) -> Vec<Exception> {
    library::keep_own_frames(&mut exceptions);
    Exception::bounded(exceptions)
}

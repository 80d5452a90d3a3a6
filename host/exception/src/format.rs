//! Whose report a line begins.

use bulkhead_types::exception::Exception;

use crate::lines::{Keep, Lines};
use crate::{assemblyscript, go, javascript, native, python, rust};

/// What writes a report in a form of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Rust,
    Python,
    Go,
    Native,
    AssemblyScript,
    JavaScript,
}

impl Format {
    /// Which report begins with a line. `JavaScript` is last: its heading is known by the stack below it only.
    pub(crate) fn of(previous: &str, line: &str) -> Option<Self> {
        let begins = [
            (Self::Rust, rust::begins(line)),
            (Self::Python, python::begins(line)),
            (Self::Go, go::begins(line)),
            (Self::Native, native::begins(line)),
            (Self::AssemblyScript, assemblyscript::begins(line)),
            (Self::JavaScript, javascript::begins(previous, line)),
        ];
        begins.into_iter().find(|(_, begins)| *begins).map(|(format, _)| format)
    }

    /// Whether a line that may begin a report goes on with one of this format.
    pub(crate) fn goes_on(self, lines: &Lines, line: &str) -> bool {
        match self {
            Self::Python => python::goes_on(lines.last(), line),
            Self::JavaScript => javascript::goes_on(line),
            Self::Rust | Self::Go | Self::Native | Self::AssemblyScript => false,
        }
    }

    /// Whether the line before the one that was recognized belongs to the report: the heading above a stack.
    pub(crate) fn is_known_by_its_second(self, line: &str) -> bool {
        self == Self::JavaScript && !javascript::is_headed(line)
    }

    /// Which lines of a long report say most.
    pub(crate) fn keep(self) -> Keep {
        match self {
            // The exception and the innermost frames come last.
            Self::Python => Keep::End,
            _ => Keep::Beginning,
        }
    }

    /// What a report names: the outermost exception first, then its causes. Nothing when it is of no use. A Rust
    /// panic is none: see [`rust::Panic`].
    pub(crate) fn exceptions(self, lines: &[&str]) -> Vec<Exception> {
        match self {
            Self::Rust => Vec::new(),
            Self::Python => python::exceptions(lines),
            Self::Go => go::exceptions(lines),
            Self::Native => native::exception(lines).into_iter().collect(),
            Self::AssemblyScript => assemblyscript::exception(lines).into_iter().collect(),
            Self::JavaScript => javascript::exceptions(lines),
        }
    }
}

//! CPython: tracebacks.
//!
//! ```text
//! Traceback (most recent call last):
//!   File "agent.py", line 12, in handle        the outermost frame first
//!     return s.get("docs")                     the source, when it is at hand
//!            ^^^^^^^^^^^^^
//! KeyError: 'docs'                             the first line that is not indented
//!                                              a cause stands above, a phrase between
//! ```

use bulkhead_types::exception::{Exception, SourceFrame};

use crate::place;

const HEAD: &str = "Traceback (most recent call last):";
const HEAD_OF_A_GROUP: &str = "  + Exception Group Traceback (most recent call last):";

/// What stands between a cause and what it led to.
const LINKS: [&str; 2] = [
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
];

/// How the line above begins when nobody was there to catch an exception, and the program goes on.
const IGNORED: &str = "Exception ignored ";

pub(crate) fn begins(line: &str) -> bool {
    // A file that cannot be parsed has no traceback.
    line == HEAD || line == HEAD_OF_A_GROUP || frame(line).is_some()
}

pub(crate) fn goes_on(last: &str, line: &str) -> bool {
    frame(line).is_some() || is_link(last)
}

pub(crate) fn is_ignored(previous: &str) -> bool {
    previous.starts_with(IGNORED)
}

/// Whether a panic of `componentize-py` only says that there was an exception. It stands above.
pub(crate) fn is_panic_over_exception(message: &str) -> bool {
    message.starts_with("Python function threw an unexpected exception")
}

/// The outermost first, then its causes.
pub(crate) fn exceptions(lines: &[&str]) -> Vec<Exception> {
    let lines: Vec<&str> = lines.iter().filter_map(|line| without_margin(line)).collect();
    lines.split(|line| is_link(line)).rev().filter_map(exception).collect()
}

fn is_link(line: &str) -> bool {
    LINKS.contains(&line.trim())
}

/// A line of a group without the group's margin. `None` for what is about the members of the group.
fn without_margin(line: &str) -> Option<&str> {
    if ["    |", "    +", "  +-"].iter().any(|margin| line.starts_with(margin)) {
        return None;
    }
    let margins = ["  | ", "  + ", "  |"];
    Some(margins.iter().find_map(|margin| line.strip_prefix(margin)).unwrap_or(line))
}

fn exception(lines: &[&str]) -> Option<Exception> {
    let is_heading =
        |line: &&str| !line.starts_with("Traceback ") && place::heading(line).is_some();
    let at = lines.iter().position(is_heading)?;
    let (kind, said) = place::heading(lines[at])?;
    let mut message = vec![said];
    let is_of_it = |line: &&&str| !line.trim().is_empty() && !line.starts_with(IGNORED);
    message.extend(lines[at + 1..].iter().take_while(is_of_it));
    let frames = lines[..at].iter().rev().filter_map(|line| frame(line)).collect();
    let message = message.join("\n").trim().to_owned();
    Some(Exception { kind: kind.to_owned(), message, frames })
}

/// `  File "agent.py", line 12, in handle`. No function: the place of a syntax error.
fn frame(line: &str) -> Option<SourceFrame> {
    let (file, rest) = line.strip_prefix("  File \"")?.rsplit_once("\", line ")?;
    let (line, function) = rest.split_once(", in ").unwrap_or((rest, ""));
    let frame = place::frame(file, line.trim().parse().ok()?, None)?;
    Some(SourceFrame { function: place::function(function), ..frame })
}

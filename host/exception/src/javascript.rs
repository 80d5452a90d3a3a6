//! JavaScript: errors with the stacks of V8, QuickJS and SpiderMonkey.
//!
//! ```text
//! Uncaught exception: TypeError: x is undefined      StarlingMonkey; others print the error alone
//! Stack:
//!     at step (agent.js:4:33)                        V8, QuickJS
//!   step@agent.js:4:33                               SpiderMonkey
//!   [cause]: SyntaxError: ...                        Node.js
//! ```

use bulkhead_types::exception::{Exception, SourceFrame};

use crate::place;

/// What runtimes print before an error that nobody caught.
const HEADS: [&str; 8] = [
    "Uncaught exception: ",
    "Uncaught (in promise) ",
    "Uncaught ",
    "Promise rejected but never handled: ",
    "Unhandled promise rejection: ",
    "Exception while evaluating top-level script",
    "Error while evaluating top-level script",
    "Exception while evaluating script: ",
];

/// What stands before a cause.
const CAUSES: [&str; 2] = ["[cause]: ", "Caused by: "];

/// What stands before the errors of an `AggregateError`.
const MEMBERS: &str = "[errors]: [";

/// What StarlingMonkey prints below an error, and below a value that is no error.
const STACK: &str = "Stack:";
const ABORT: &str = "Redirecting call to abort()";

/// Whether an error is announced, or the line above is known for one by what stands below it.
pub(crate) fn begins(previous: &str, line: &str) -> bool {
    is_headed(line) || !is_headed(previous) && is_below(previous, line)
}

fn is_below(previous: &str, line: &str) -> bool {
    match line == STACK || line.starts_with(ABORT) {
        true => !previous.trim().is_empty(),
        false => is_call(line) && is_error(previous),
    }
}

/// Whether a line announces an error.
pub(crate) fn is_headed(line: &str) -> bool {
    HEADS.iter().any(|head| line.starts_with(head))
}

/// What StarlingMonkey adds to an error of the top level.
pub(crate) fn goes_on(line: &str) -> bool {
    line.starts_with("Promise rejected but never handled: ")
}

/// The outermost first, then its causes.
pub(crate) fn exceptions(lines: &[&str]) -> Vec<Exception> {
    let begins = (0..lines.len()).filter(|at| *at == 0 || cause(lines[*at]).is_some());
    let begins: Vec<usize> = begins.chain([lines.len()]).collect();
    begins.windows(2).filter_map(|pair| exception(&lines[pair[0]..pair[1]])).collect()
}

/// The frames of a stack, innermost first, without what is in no file.
pub fn frames(stack: &str) -> Vec<SourceFrame> {
    stack.lines().filter_map(frame).collect()
}

fn cause(line: &str) -> Option<&str> {
    CAUSES.iter().find_map(|cause| line.trim_start().strip_prefix(cause))
}

fn exception(lines: &[&str]) -> Option<Exception> {
    let mut below = lines.iter().copied();
    let first = without_head(below.next()?);
    let first = if first.is_empty() { below.next()? } else { first };
    let (place, first) = placed(first);
    let mut text = vec![first];
    text.extend(below.take_while(|line| is_said(line)));
    let text = text.join("\n");
    let (kind, message) = kind_and_message(text.trim());
    let stack = lines.iter().take_while(|line| !line.trim_start().starts_with(MEMBERS));
    let mut frames: Vec<SourceFrame> = stack.filter_map(|line| frame(line)).collect();
    if frames.is_empty() {
        frames.extend(place);
    }
    Some(Exception { kind: kind.to_owned(), message: message.to_owned(), frames })
}

/// StarlingMonkey leaves the class out, and writes a text that was thrown in quotes.
fn kind_and_message(text: &str) -> (&str, &str) {
    let thrown_text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let thrown_text = thrown_text.map(|text| ("string", text));
    thrown_text.or_else(|| place::heading(text)).unwrap_or(("Error", text))
}

fn without_head(line: &str) -> &str {
    let head = HEADS.iter().find_map(|head| line.strip_prefix(head));
    head.or_else(|| cause(line)).unwrap_or(line)
}

/// StarlingMonkey's `agent.js:1:7 TypeError: at top`.
fn placed(line: &str) -> (Option<SourceFrame>, &str) {
    let read = line.split_once(' ').and_then(|(place, rest)| Some((place::colons(place)?, rest)));
    read.map_or((None, line), |(place, rest)| (Some(place), rest))
}

/// Whether a line belongs to the message, and not to the stack below.
fn is_said(line: &str) -> bool {
    let ends = [STACK, ABORT, "Additionally, "];
    let ends = line.trim().is_empty() || ends.iter().any(|end| line.trim().starts_with(end));
    !ends && !is_call(line) && frame(line).is_none()
}

/// A line of a stack of V8 or QuickJS. That of a native function has no place.
fn is_call(line: &str) -> bool {
    let call = line.trim_start().strip_prefix("at ");
    call.is_some_and(|call| {
        call.trim_end().ends_with(')') || place::colons(call.trim_end()).is_some()
    })
}

/// Whether a line may stand above a stack.
fn is_error(line: &str) -> bool {
    line.starts_with(char::is_uppercase) && place::heading(line).is_some()
}

fn frame(line: &str) -> Option<SourceFrame> {
    // Node.js shows the properties of an error behind its last frame.
    let line = line.trim().trim_end_matches(['{', ',', ' ']);
    let (function, place) = match line.strip_prefix("at ") {
        Some(call) => called(call.strip_prefix("async ").unwrap_or(call)),
        None => line.strip_prefix("async*").unwrap_or(line).split_once('@')?,
    };
    let frame = place::colons(place.rsplit(", ").next()?)?;
    Some(SourceFrame { function: place::function(function), ..frame })
}

/// `step (agent.js:4:33)` or a place alone.
fn called(call: &str) -> (&str, &str) {
    call.strip_suffix(')').and_then(|call| call.split_once(" (")).unwrap_or(("", call))
}

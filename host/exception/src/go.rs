//! Go: panics and fatal errors.
//!
//! ```text
//! panic: first [recovered]
//!         panic: second                        what came of it while the stack was unwound
//!
//! goroutine 1 [running]:
//! main.(*T).step(0x2906110ec068?, {0x7ffe1aa83af6?, 0x56b598?})
//!         /src/agent.go:7 +0x2af
//! ```

use bulkhead_types::exception::{Exception, SourceFrame};

use crate::place;

const PANIC: &str = "panic: ";
const FATAL: &str = "fatal error: ";
const RUNTIME: &str = "runtime error: ";

pub(crate) fn begins(line: &str) -> bool {
    line.starts_with(PANIC) || line.starts_with(FATAL)
}

/// The last panic first, then those that it came of.
pub(crate) fn exceptions(lines: &[&str]) -> Vec<Exception> {
    let mut exceptions: Vec<Exception> = Vec::new();
    for line in lines.iter().take_while(|line| is_said(line)) {
        match (panic(line), exceptions.last_mut()) {
            (Some(panic), _) => exceptions.push(panic),
            (None, Some(before)) => before.message += &format!("\n{}", line.trim()),
            (None, None) => {}
        }
    }
    exceptions.reverse();
    if let Some(last) = exceptions.first_mut() {
        last.frames = frames(lines);
    }
    exceptions
}

/// Whether a line belongs to what a panic says.
fn is_said(line: &str) -> bool {
    let ends = ["[signal ", "goroutine ", "runtime stack:"];
    !line.trim().is_empty() && !ends.iter().any(|end| line.starts_with(end))
}

fn panic(line: &str) -> Option<Exception> {
    let line = line.trim_start();
    let (kind, said) = match (line.strip_prefix(PANIC), line.strip_prefix(FATAL)) {
        (Some(said), _) => ("panic", without_recovery(said)),
        (_, Some(said)) => ("fatal error", said),
        (None, None) => return None,
    };
    let (kind, said) =
        said.strip_prefix(RUNTIME).map_or((kind, said), |said| ("runtime error", said));
    Some(Exception { kind: kind.to_owned(), message: said.trim().to_owned(), frames: Vec::new() })
}

/// ` [recovered]`, ` [recovered, repanicked]`.
fn without_recovery(said: &str) -> &str {
    said.rsplit_once(" [recovered")
        .filter(|(_, rest)| rest.ends_with(']'))
        .map_or(said, |(said, _)| said)
}

/// The calls of the first goroutine, which is the one that panicked.
fn frames(lines: &[&str]) -> Vec<SourceFrame> {
    let is_head = |line: &&str| line.starts_with("goroutine ") && line.ends_with(':');
    let Some(head) = lines.iter().position(is_head) else { return Vec::new() };
    let is_call = |line: &&&str| !line.is_empty() && !line.starts_with("created by ");
    let calls: Vec<&str> = lines[head + 1..].iter().take_while(is_call).copied().collect();
    calls.windows(2).filter_map(|pair| frame(pair[0], pair[1])).collect()
}

/// `main.f(0x1)` and, indented, `/src/x.go:12 +0x1d`.
fn frame(call: &str, at: &str) -> Option<SourceFrame> {
    let at = at.strip_prefix('\t')?;
    let frame = place::colons(at.split(" +0x").next()?.trim())?;
    let function = call.rsplit_once('(').map_or(call, |(function, _)| function);
    Some(SourceFrame { function: place::function(function), ..frame })
}

//! C and C++: assertions and uncaught exceptions.

use bulkhead_types::exception::{Exception, SourceFrame};

use crate::place;

/// wasi-libc and musl: `Assertion failed: n > 0 (agent.c: step: 28)`.
const ASSERTION: &str = "Assertion failed: ";

/// glibc: `agent: agent.c:28: step: Assertion `n > 0' failed.`
const ASSERTION_OF_GLIBC: &str = ": Assertion `";

/// libstdc++: `terminate called after throwing an instance of 'std::runtime_error'`, and what it says below.
const TERMINATE: &str = "terminate called ";

/// libc++: `libc++abi: terminating due to uncaught exception of type std::runtime_error: no rig`.
const LIBCXX: &str = "libc++abi: ";

pub(crate) fn begins(line: &str) -> bool {
    line.contains(ASSERTION_OF_GLIBC) && line.ends_with("failed.")
        || [ASSERTION, TERMINATE, LIBCXX].iter().any(|head| line.starts_with(head))
}

pub(crate) fn exception(lines: &[&str]) -> Option<Exception> {
    let line = lines.first()?;
    if let Some(rest) = line.strip_prefix(ASSERTION) {
        return Some(assertion(rest));
    }
    if let Some(rest) = line.strip_prefix(LIBCXX) {
        return Some(libcxx(rest));
    }
    match line.strip_prefix(TERMINATE) {
        Some(rest) => Some(terminate(rest, lines.get(1).copied().unwrap_or_default())),
        None => assertion_of_glibc(line),
    }
}

fn assertion(text: &str) -> Exception {
    let (said, frame) = text
        .rsplit_once(" (")
        .and_then(|(said, place)| Some((said, assertion_place(place.strip_suffix(')')?)?)))
        .map_or((text, None), |(said, frame)| (said, Some(frame)));
    failed_assertion(said, frame)
}

/// `agent.c: step: 28`.
fn assertion_place(place: &str) -> Option<SourceFrame> {
    let mut parts = place.rsplitn(3, ": ");
    let line = parts.next()?.parse().ok()?;
    let function = parts.next()?;
    let frame = place::frame(parts.next()?, line, None)?;
    Some(SourceFrame { function: place::function(function), ..frame })
}

fn assertion_of_glibc(line: &str) -> Option<Exception> {
    let (place, said) = line.split_once(ASSERTION_OF_GLIBC)?;
    let said = said.strip_suffix("' failed.")?;
    let mut parts = place.splitn(3, ": ").skip(1);
    let frame = parts.next().and_then(place::colons);
    let function = parts.next().and_then(|signature| place::function(name_in(signature)));
    Some(failed_assertion(said, frame.map(|frame| SourceFrame { function, ..frame })))
}

/// `step` in `int step(int, char**)`, as C++ writes it.
fn name_in(signature: &str) -> &str {
    let before = signature.split('(').next().unwrap_or_default();
    before.rsplit([' ', '*', '&']).next().unwrap_or_default()
}

fn failed_assertion(said: &str, frame: Option<SourceFrame>) -> Exception {
    let frames = frame.into_iter().collect();
    Exception { kind: "Assertion failed".into(), message: said.to_owned(), frames }
}

fn terminate(rest: &str, below: &str) -> Exception {
    let class = rest.strip_prefix("after throwing an instance of '");
    let said = below.trim_start().strip_prefix("what():").map(str::trim);
    match class {
        Some(class) => thrown(class.trim_end_matches('\''), said.unwrap_or_default()),
        None => thrown("terminate", rest),
    }
}

fn libcxx(rest: &str) -> Exception {
    match rest.split_once("uncaught exception of type ") {
        Some((_, thrown_text)) => {
            let (class, said) = thrown_text.split_once(": ").unwrap_or((thrown_text, ""));
            thrown(class, said)
        }
        None => thrown("terminate", rest),
    }
}

fn thrown(kind: &str, message: &str) -> Exception {
    Exception { kind: kind.to_owned(), message: message.to_owned(), frames: Vec::new() }
}

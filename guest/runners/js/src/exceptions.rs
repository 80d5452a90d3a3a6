//! What was thrown, as the contract's records.

use serde::Deserialize;

use crate::bindings::bulkhead::agent::agent_types::{AgentError, Exception, SourceFrame};

/// The code of an error that the author did not choose.
const CODE: &str = "exception";

/// As many as a host keeps.
const MAX_FRAMES: usize = 64;

/// An exception as the SDK writes it.
#[derive(Deserialize)]
pub struct Thrown {
    kind: String,
    message: String,
    /// As QuickJS writes it.
    stack: String,
}

impl Thrown {
    /// A promise that nothing settles.
    pub fn unsettled(what: &str) -> Self {
        let message =
            format!("{what} waits for a promise that nothing settles: no job and no timer is left");
        Self { kind: "UnsettledPromise".to_owned(), message, stack: String::new() }
    }

    /// With those of its frames that are in the author's files.
    pub fn into_exception(self, is_author: impl Fn(&str) -> bool) -> Exception {
        let frames = frames(&self.stack, is_author);
        Exception { kind: self.kind, message: self.message, frames }
    }
}

/// Frames of a stack, as QuickJS writes it, that are in the author's files.
pub fn frames(stack: &str, is_author: impl Fn(&str) -> bool) -> Vec<SourceFrame> {
    let frames = stack.lines().filter_map(frame).filter(|frame| is_author(&frame.file));
    frames.take(MAX_FRAMES).collect()
}

/// The error that ends the incarnation.
pub fn fatal(exceptions: Vec<Exception>) -> AgentError {
    let message = exceptions.first().map_or_else(String::new, summary);
    AgentError { code: CODE.to_owned(), message, fatal: true, exceptions }
}

/// `TypeError: x is undefined (message at agent.js:7:3)`.
pub fn summary(exception: &Exception) -> String {
    let Exception { kind, message, frames } = exception;
    let place = frames.first().map(|SourceFrame { function, file, line, column }| {
        let function = function.as_deref().map(|name| format!("{name} at ")).unwrap_or_default();
        let column = column.map(|column| format!(":{column}")).unwrap_or_default();
        format!(" ({function}{file}:{line}{column})")
    });
    format!("{kind}: {message}{}", place.unwrap_or_default())
}

/// Reads `at name (file:line:column)` or `at file:line:column`.
fn frame(line: &str) -> Option<SourceFrame> {
    let text = line.trim().strip_prefix("at ")?;
    let (function, place) = match text.strip_suffix(')').and_then(|text| text.rsplit_once(" (")) {
        Some((function, place)) => (Some(function), place),
        None => (None, text),
    };
    let (file, line, column) = place_of(place)?;
    let function = function.filter(|name| !name.starts_with('<')).map(str::to_owned);
    Some(SourceFrame { function, file: file.to_owned(), line, column })
}

/// Splits `file:line:column`, or `file:line`.
fn place_of(place: &str) -> Option<(&str, u32, Option<u32>)> {
    let (rest, last) = place.rsplit_once(':')?;
    let last = last.parse().ok()?;
    match rest.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?))) {
        Some((file, line)) => Some((file, line, Some(last))),
        None => Some((rest, last, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stack: &str) -> Vec<(Option<String>, String, u32, Option<u32>)> {
        let thrown = Thrown { kind: "TypeError".into(), message: "no".into(), stack: stack.into() };
        let exception = thrown.into_exception(|file| file.ends_with(".js"));
        exception.frames.into_iter().map(|f| (f.function, f.file, f.line, f.column)).collect()
    }

    #[test]
    fn only_the_authors_frames_are_kept() {
        let stack = "    at helper (lib/x.js:3:9)\n    at map (native)\n    at <anonymous> (agent.js:7:45)\n    \
            at handle (bulkhead:agent:12:3)\n";
        let helper = (Some("helper".to_owned()), "lib/x.js".to_owned(), 3, Some(9));
        assert_eq!(read(stack), [helper, (None, "agent.js".to_owned(), 7, Some(45))]);
    }

    #[test]
    fn a_syntax_error_has_a_place_without_a_function() {
        assert_eq!(read("    at agent.js:4:11\n"), [(None, "agent.js".to_owned(), 4, Some(11))]);
        assert_eq!(read("    at agent.js:4\n"), [(None, "agent.js".to_owned(), 4, None)]);
    }

    #[test]
    fn the_summary_names_the_first_frame() {
        let frame =
            SourceFrame { function: Some("f".into()), file: "a.js".into(), line: 1, column: None };
        let exception = |frames| Exception { kind: "Error".into(), message: "m".into(), frames };
        assert_eq!(summary(&exception(vec![frame])), "Error: m (f at a.js:1)");
        assert_eq!(summary(&exception(Vec::new())), "Error: m");
    }
}

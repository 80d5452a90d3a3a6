//! Places as runtimes write them.

use bulkhead_types::exception::SourceFrame;

/// Names of code outside of functions.
const NO_FUNCTIONS: [&str; 6] =
    ["", "?", "<module>", "<anonymous>", "<eval>", "Object.<anonymous>"];

/// `file:line:column` or `file:line`.
pub(crate) fn colons(text: &str) -> Option<SourceFrame> {
    let (rest, last) = text.rsplit_once(':')?;
    let last = last.parse().ok()?;
    let middle = rest.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?)));
    match middle {
        Some((file, line)) => frame(file, line, Some(last)),
        None => frame(rest, last, None),
    }
}

/// A frame whose numbers count from 1. A place without a line is none.
pub(crate) fn frame(file: &str, line: u32, column: Option<u32>) -> Option<SourceFrame> {
    let column = column.filter(|column| *column > 0);
    let is_one = line > 0 && !file.is_empty();
    is_one.then(|| SourceFrame { function: None, file: file.to_owned(), line, column })
}

/// A function, unless it is code outside of any.
pub(crate) fn function(name: &str) -> Option<String> {
    let name = name.trim();
    (!NO_FUNCTIONS.contains(&name)).then(|| name.to_owned())
}

/// `Kind: what it says` or `Kind`, where a kind is a name that may have dots.
pub(crate) fn heading(text: &str) -> Option<(&str, &str)> {
    let (kind, message) = text.split_once(':').unwrap_or((text, ""));
    let is_said = message.is_empty() || message.starts_with([' ', '\t']);
    (is_name(kind) && is_said).then_some((kind, message.trim()))
}

fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.');
    text.starts_with(|c: char| c.is_alphabetic() || c == '_') && text.chars().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_others_are_not() {
        let read = |text| colons(text).map(|frame| (frame.file, frame.line, frame.column));
        assert_eq!(read("agent.js:4:33"), Some(("agent.js".into(), 4, Some(33))));
        assert_eq!(read("/src/x.go:12"), Some(("/src/x.go".into(), 12, None)));
        assert_eq!(read("C:\\a.js:4:0"), Some(("C:\\a.js".into(), 4, None)));
        for none in ["", ":1:2", "agent.js", "agent.js:0:1", "a.js:x", "a.js:99999999999"] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn a_heading_is_a_name_and_what_it_says() {
        assert_eq!(heading("KeyError: 'docs'"), Some(("KeyError", "'docs'")));
        assert_eq!(
            heading("json.decoder.JSONDecodeError: a: b"),
            Some(("json.decoder.JSONDecodeError", "a: b"))
        );
        assert_eq!(heading("NoRig"), Some(("NoRig", "")));
        for none in ["", "two words: x", "http://x", ": x", "std::bad_alloc"] {
            assert_eq!(heading(none), None, "{none}");
        }
    }
}

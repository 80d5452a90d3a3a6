//! Rust: `thread 'main' panicked at src/lib.rs:12:18:` and the lines below.

use bulkhead_types::exception::Exception;

use crate::javascript;
use crate::lines::cut;

/// What leads into a panic's place.
const PANICKED: &str = "panicked at ";

/// A Rust panic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panic {
    /// What it says, or its place when it says nothing. At most 64 KiB.
    pub message: String,
    /// As its compiler wrote it.
    pub place: Option<Place>,
}

/// Where Rust code panicked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As the compiler wrote it, with the paths of the build machine.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

pub(crate) fn begins(line: &str) -> bool {
    line.contains(PANICKED)
}

/// Size of the allocation over which a Rust program gives up. It may be one that no growth could satisfy.
pub(crate) fn failed_allocation(line: &str) -> Option<u64> {
    let bytes = line.strip_prefix("memory allocation of ")?.strip_suffix(" bytes failed")?;
    bytes.parse().ok()
}

impl Panic {
    /// What the first line and the lines below it say.
    pub(crate) fn of(lines: &[&str]) -> Option<Self> {
        let (first, below) = lines.split_first()?;
        let (_, place) = first.split_once(PANICKED)?;
        let is_of_it = |line: &&&str| !line.starts_with("note: run with");
        let text: Vec<&str> = below.iter().take_while(is_of_it).copied().collect();
        let text = text.join("\n");
        let message = if text.trim().is_empty() { place } else { text.trim() };
        Some(Self { message: message.to_owned(), place: Place::of(place) })
    }

    /// The exception of an interpreter that the panic is about: the runtime of the interpreter is written in Rust,
    /// and puts what was thrown into its message.
    pub(crate) fn exception(&self) -> Option<Exception> {
        python_error(&self.message).or_else(|| quickjs_error(&self.message))
    }
}

impl Place {
    fn of(place: &str) -> Option<Self> {
        let mut parts = place.trim_end_matches(':').rsplitn(3, ':');
        let column = parts.next()?.parse().ok()?;
        let line = parts.next()?.parse().ok()?;
        Some(Self { file: parts.next()?.to_owned(), line, column })
    }
}

/// PyO3's: `PyErr { type: <class 'TypeError'>, value: TypeError("..."), traceback: None }`.
fn python_error(text: &str) -> Option<Exception> {
    let (_, error) = text.split_once("PyErr { type: <class '")?;
    let (kind, rest) = error.split_once("'>")?;
    let (_, value) = rest.split_once("value: ")?;
    let value = value.split(", traceback: ").next()?;
    let said = value.split_once('(').map_or("", |(_, said)| said);
    let said = said.strip_suffix(')').unwrap_or(said);
    let message = unquoted(said).unwrap_or_else(|| said.to_owned());
    Some(Exception { kind: kind.to_owned(), message, frames: Vec::new() })
}

/// What is between the quotes of Python's `repr`, when it is one text.
fn unquoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    Some(string(&text[1..], quote))
}

/// rquickjs's: `Exception { message: Some("..."), stack: Some("...") }`. It does not say the class.
fn quickjs_error(text: &str) -> Option<Exception> {
    let Some((_, exception)) = text.split_once("Exception { message: ") else {
        return quickjs_value(text).or_else(|| quickjs_conversion(text));
    };
    let message = exception.strip_prefix("Some(\"").map(|rest| string(rest, '"'));
    let is_one = message.is_some() || exception.starts_with("None");
    let stack = exception.split_once(", stack: Some(\"").map(|(_, rest)| string(rest, '"'));
    let frames = javascript::frames(&stack.unwrap_or_default());
    is_one.then(|| Exception { kind: "Error".into(), message: message.unwrap_or_default(), frames })
}

/// What `componentize-qjs` says of a thrown value that is no error: `Value(String(Ok("...")))`. Its kind is what `typeof`
/// says.
fn quickjs_value(text: &str) -> Option<Exception> {
    let (_, value) = text.strip_prefix("Failed to call '")?.split_once("': Value(")?;
    let kind = cut(value.split(['(', ')']).next()?, 32).to_lowercase();
    let message = value.split_once("(Ok(\"").map(|(_, rest)| string(rest, '"'));
    Some(Exception { kind, message: message.unwrap_or_default(), frames: Vec::new() })
}

/// A result of the wrong type: `FromJs { from: "int", to: "string", message: None }`.
fn quickjs_conversion(text: &str) -> Option<Exception> {
    let (_, from) = text.split_once("FromJs { from: \"")?;
    let (from, rest) = from.split_once("\", to: \"")?;
    let to = string(rest, '"');
    let message = format!("cannot convert {from} to {to}");
    Some(Exception { kind: "TypeError".into(), message, frames: Vec::new() })
}

/// A string up to its quote, without its escapes. A text that was cut ends it as well.
fn string(text: &str, quote: char) -> String {
    let mut string = String::new();
    let mut chars = text.chars();
    while let Some(found) = chars.next().filter(|found| *found != quote) {
        match found {
            '\\' => string.extend(escape(&mut chars)),
            _ => string.push(found),
        }
    }
    string
}

/// What an escape stands for, behind its backslash.
fn escape(chars: &mut std::str::Chars<'_>) -> Option<char> {
    Some(match chars.next()? {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        '0' => '\0',
        'u' => return unicode(chars),
        other => other,
    })
}

/// `{1b}`.
fn unicode(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let (digits, rest) = chars.as_str().strip_prefix('{')?.split_once('}')?;
    let found = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
    *chars = rest.chars();
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panic(text: &str) -> Option<Panic> {
        Panic::of(&text.lines().collect::<Vec<_>>())
    }

    #[test]
    fn a_panic_has_a_message_of_several_lines_and_a_place() {
        let panic = panic(
            "thread 'main' panicked at src/lib.rs:12:18:\ncalled `Option::unwrap()`\non a `None` value\n\
             note: run with `RUST_BACKTRACE=1`\nmore",
        );
        let panic = panic.unwrap();
        assert_eq!(panic.message, "called `Option::unwrap()`\non a `None` value");
        assert_eq!(panic.place, Some(Place { file: "src/lib.rs".into(), line: 12, column: 18 }));
        assert_eq!(panic.exception(), None);
    }

    #[test]
    fn a_message_and_a_place_may_be_missing() {
        let silent = panic("panicked at C:\\x\\b.rs:2:3:").unwrap();
        assert_eq!(silent.message, "C:\\x\\b.rs:2:3:");
        assert_eq!(silent.place.unwrap().file, "C:\\x\\b.rs");
        let old = panic("thread panicked at 'no rig', lib.rs").unwrap();
        assert_eq!((old.message.as_str(), old.place), ("'no rig', lib.rs", None));
    }

    #[test]
    fn debug_texts_of_other_rust_code_are_no_exceptions() {
        for text in [
            "called `Result::unwrap()` on an `Err` value: Value(String(Ok(\"text\")))",
            "called `Result::unwrap()` on an `Err` value: Exception { message: \"own\" }",
            "PyErr",
        ] {
            assert_eq!(Panic { message: text.into(), place: None }.exception(), None, "{text}");
        }
    }

    #[test]
    fn escapes_of_debug_texts_are_undone_and_cut_ones_end() {
        assert_eq!(string(r#"a\n\"b\" \u{e4}\\" rest"#, '"'), "a\n\"b\" ä\\");
        for (cut, read) in [("", ""), (r"a\", "a"), (r"a\u{", "a{"), (r"a\u{zz}b", "a{zz}b")] {
            assert_eq!(string(cut, '"'), read);
        }
    }

    #[test]
    fn a_failed_allocation_has_its_size() {
        assert_eq!(failed_allocation("memory allocation of 4096 bytes failed"), Some(4096));
        assert_eq!(failed_allocation("memory allocation of -1 bytes failed"), None);
        assert_eq!(failed_allocation("a memory allocation of 1 bytes failed"), None);
    }
}

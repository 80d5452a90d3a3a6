//! Texts from the host, made safe for a terminal.
//!
//! A guest chooses its own messages, event names and data, so a text may hold escape sequences that
//! move the cursor, rename the window or hide a line. Nothing reaches the terminal but characters that
//! can be seen.

use std::borrow::Cow;
use std::fmt::Write as _;

/// One line: every control character is shown as what it is, a line break as well.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escape(text, false)
}

/// Several lines: line breaks stay.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escape(text, true)
}

/// The first line of a text.
pub(crate) fn first_line(text: &str) -> Cow<'_, str> {
    line(text.lines().next().unwrap_or_default())
}

/// JSON as it came. Its parser let no control character of ASCII through but white space; the others
/// may stand in a text and are written as JSON writes them.
pub(crate) fn json(document: &str) -> String {
    let mut safe = String::with_capacity(document.len());
    for found in document.trim().chars() {
        match found {
            '\n' | '\t' => safe.push(found),
            // White space, or the document would not have been read.
            '\r' => {}
            found if is_hidden(found) => {
                let _ = write!(safe, "\\u{:04x}", u32::from(found));
            }
            found => safe.push(found),
        }
    }
    safe
}

fn escape(text: &str, keep_line_breaks: bool) -> Cow<'_, str> {
    let stays = |found: char| !is_hidden(found) || (keep_line_breaks && found == '\n');
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for found in text.chars() {
        if stays(found) { safe.push(found) } else { safe.extend(found.escape_default()) }
    }
    Cow::Owned(safe)
}

/// What a terminal acts upon: control characters, line separators, and what turns the direction of
/// writing around.
fn is_hidden(found: char) -> bool {
    found.is_control()
        || matches!(found, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_upon_comes_through() {
        assert_eq!(line("\x1b[2J\x07a\nb\r\t"), r"\u{1b}[2J\u{7}a\nb\r\t");
        assert_eq!(line("\u{9b}31m\u{7f}\u{202e}"), r"\u{9b}31m\u{7f}\u{202e}");
        assert_eq!(lines("a\n\x1b]0;title\x07"), "a\n\\u{1b}]0;title\\u{7}");
        assert_eq!(first_line("one\ntwo"), "one");
    }

    #[test]
    fn what_can_be_seen_stays() {
        assert!(matches!(line("grüße 世界 👩\u{200d}🚀"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_stays_the_same_document() {
        let text = "a\u{9b}b\u{7f}c\u{202e}d\u{1b}";
        let document = format!(" {{\"x\":\r\n\t{}}}\n", serde_json::to_string(text).unwrap());
        let safe = json(&document);
        assert!(!safe.chars().any(|found| is_hidden(found) && found != '\n' && found != '\t'));
        let read = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(read(&safe), read(&document));
    }
}

//! Texts of others, made safe for a terminal.
//!
//! Guests, logs, files and other hosts choose their own texts, which may hold escape sequences that move the cursor
//! or rename the window, marks that turn the direction of writing around, and characters without a width that make two
//! names look the same. Whatever a person sees goes through here as the last step, and only characters that can be
//! seen come out: the others are shown as `\u{1b}`. What is for programs (JSON) stays the same document. The host's log
//! goes through here too, whether it is JSON or for a person: one rule says which characters are shown as what they are.

use std::borrow::Cow;
use std::fmt::Write as _;

/// One line: line breaks are shown as what they are, like every other character that cannot be seen.
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, false)
}

/// Several lines: line breaks stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    escape(text, true)
}

/// The first line of a text.
pub fn first_line(text: &str) -> Cow<'_, str> {
    line(text.lines().next().unwrap_or_default())
}

/// Several lines that come in pieces, as they come: together they are what [`lines`] makes of the whole.
#[derive(Debug, Clone, Default)]
pub struct Pieces {
    before: Option<char>,
    /// A joiner at the end: what follows decides whether it stays.
    held: Option<char>,
}

impl Pieces {
    /// What the next piece shows. All of it but a joiner at its end.
    pub fn push(&mut self, piece: &str) -> String {
        let last = piece.chars().next_back();
        let held = last.filter(|last| is_joiner(*last));
        let piece = &piece[..piece.len() - held.map_or(0, char::len_utf8)];
        if last.is_none() {
            return String::new();
        }
        let text: String = self.held.take().into_iter().chain(piece.chars()).collect();
        self.held = held;
        let safe = rewrite_between(&text, self.before, held, |found| found == '\n', write_escape);
        self.before = text.chars().next_back().or(self.before);
        safe.into_owned()
    }

    /// What is left of it. The next piece begins another text.
    pub fn end(&mut self) -> String {
        let held = self.held.take().map(String::from).unwrap_or_default();
        let before = self.before.take();
        rewrite_between(&held, before, None, |_| false, write_escape).into_owned()
    }
}

/// JSON as it came, without white space around it and without carriage returns. Its parser let no control character
/// of ASCII through but white space; the others may stand in a text and are written as JSON writes them.
pub fn json(document: &str) -> Cow<'_, str> {
    rewrite(document.trim(), |found| matches!(found, '\n' | '\t'), write_json_escape)
}

/// Bytes that a text takes as a string of JSON that went through [`json`], at most; without characters that may or may
/// not stay (`is_joiner`) as good as exactly.
pub fn json_bytes(text: &str) -> usize {
    let of = |found: char| match found {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        found if is_hidden(found) || is_joiner(found) => JSON_ESCAPE_BYTES * found.len_utf16(),
        found => found.len_utf8(),
    };
    2 + text.chars().map(of).sum::<usize>()
}

/// `\u001b`
const JSON_ESCAPE_BYTES: usize = 6;

fn escape(text: &str, keep_line_breaks: bool) -> Cow<'_, str> {
    let keep = |found| keep_line_breaks && found == '\n';
    rewrite(text, keep, write_escape)
}

fn write_escape(safe: &mut String, found: char) {
    safe.extend(found.escape_default());
}

fn write_json_escape(safe: &mut String, found: char) {
    // White space of the document, or it would not have been read.
    if found == '\r' {
        return;
    }
    for unit in found.encode_utf16(&mut [0; 2]) {
        let _ = write!(safe, "\\u{unit:04x}");
    }
}

/// Writes `text` with `write` in place of each character that cannot be seen and is not one that `keep` wants.
fn rewrite(
    text: &str,
    keep: impl Fn(char) -> bool,
    write: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    rewrite_between(text, None, None, keep, write)
}

/// The same for a part of a text, with the characters that stand around it.
fn rewrite_between(
    text: &str,
    mut before: Option<char>,
    after: Option<char>,
    keep: impl Fn(char) -> bool,
    write: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte) || keep(char::from(byte))) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    let (mut characters, mut same) = (text.chars().peekable(), true);
    while let Some(found) = characters.next() {
        let stays = match found {
            found if keep(found) => true,
            found if is_joiner(found) => joins(found, before, characters.peek().copied().or(after)),
            found => !is_hidden(found),
        };
        if stays {
            safe.push(found);
        } else {
            same = false;
            write(&mut safe, found);
        }
        before = Some(found);
    }
    if same { Cow::Borrowed(text) } else { Cow::Owned(safe) }
}

/// Whether `found` belongs where it stands: a joiner between two letters of a script that needs it or between two
/// pictures, a selector behind a picture.
fn joins(found: char, before: Option<char>, after: Option<char>) -> bool {
    let is_letter =
        |one: char| !one.is_ascii() && !one.is_whitespace() && !is_hidden(one) && !is_joiner(one);
    let (letter_before, letter_after) =
        (before.is_some_and(is_letter), after.is_some_and(is_letter));
    match found {
        '\u{fe0e}' | '\u{fe0f}' => {
            let ends =
                after.is_none_or(|after| after == '\u{200d}' || !after.is_ascii_alphanumeric());
            letter_before && (letter_after || ends)
        }
        _ => (letter_before || matches!(before, Some('\u{fe0e}' | '\u{fe0f}'))) && letter_after,
    }
}

/// Characters without a width that belong to a text: of Persian, of scripts of India, of pictures.
fn is_joiner(found: char) -> bool {
    matches!(found, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}')
}

/// What a terminal acts upon, or does not show: control characters, line separators, what turns the direction of
/// writing around, and what has no width and no place in a text.
fn is_hidden(found: char) -> bool {
    found.is_control()
        || matches!(found,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0d}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
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
    fn characters_without_a_width_are_shown() {
        for hidden in [
            '\u{200b}',
            '\u{2060}',
            '\u{feff}',
            '\u{ad}',
            '\u{180e}',
            '\u{2063}',
            '\u{e0041}',
            '\u{3164}',
            '\u{85}',
            '\u{61c}',
            '\u{2066}',
            '\u{2028}',
            '\u{fe01}',
            '\u{e0100}',
        ] {
            let text = format!("ma{hidden}yor");
            assert_eq!(line(&text), format!("ma{}yor", hidden.escape_default()), "{hidden:?}");
        }
        // Joiners between letters that need none, in a row, or at an end.
        for (text, shown) in [
            ("ad\u{200d}min", r"ad\u{200d}min"),
            ("admin\u{200c}", r"admin\u{200c}"),
            ("\u{200d}é", r"\u{200d}é"),
            ("é\u{200d}\u{200d}é", "é\\u{200d}\\u{200d}é"),
            ("a\u{fe0f}", r"a\u{fe0f}"),
        ] {
            assert_eq!(line(text), shown, "{text:?}");
        }
    }

    #[test]
    fn what_can_be_seen_stays() {
        for text in [
            "grüße 世界 👩\u{200d}🚀",
            "می\u{200c}خواهم",
            "❤\u{fe0f} x",
            "❤\u{fe0f}\u{200d}🔥",
            "e\u{301}",
            "",
        ] {
            assert!(matches!(line(text), Cow::Borrowed(_)), "{text:?}");
        }
    }

    #[test]
    fn pieces_show_what_the_whole_shows_wherever_it_is_cut() {
        for text in [
            "\x1b[2J\x1b]0;title\x07a\nb\r\t",
            "grüße 世界 👩\u{200d}🚀 ❤\u{fe0f}\u{200d}🔥 ❤\u{fe0f}",
            "می\u{200c}خواهم ad\u{200d}min é\u{200d}\u{200d}é a\u{fe0f} ❤\u{fe0f}x admin\u{200c}",
        ] {
            let places: Vec<_> =
                text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            for (first, second) in
                places.iter().flat_map(|one| places.iter().map(move |other| (*one, *other)))
            {
                if first > second {
                    continue;
                }
                let mut pieces = Pieces::default();
                let mut shown = pieces.push(&text[..first]);
                shown += &pieces.push(&text[first..second]);
                shown += &pieces.push(&text[second..]);
                shown += &pieces.end();
                assert_eq!(shown, lines(text), "{first} {second}");
            }
        }
    }

    #[test]
    fn json_stays_the_same_document() {
        let text = "a\u{9b}b\u{7f}c\u{202e}d\u{1b}\u{200b}\u{e0041}\u{200d}";
        let document = format!(" {{\"x\":\r\n\t{}}}\n", serde_json::to_string(text).unwrap());
        let safe = json(&document);
        let may_stay = |found| matches!(found, '\n' | '\t');
        assert!(!safe.chars().any(|found| is_hidden(found) && !may_stay(found)), "{safe}");
        let read = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(read(&safe), read(&document));
    }

    #[test]
    fn texts_and_json_show_the_same_characters_as_what_they_are() {
        for text in
            ["a\u{1b}[2J", "me\u{202e}gnp", "می\u{200c}خواهم", "ad\u{200d}min", "👩\u{200d}🚀"]
        {
            let quoted = serde_json::to_string(text).unwrap();
            let hides = |shown: &str| shown.contains("\\u");
            assert_eq!(hides(&json(&quoted)), hides(&line(text)), "{text:?}");
        }
    }

    #[test]
    fn the_size_of_a_string_is_known_before_it_is_written() {
        let size = |text: &str| json(&serde_json::to_string(text).unwrap()).len();
        for text in
            ["", "plain", "\"\\\n\r\t\u{8}\u{c}\u{1}\u{7f}", "ä世👩", "\u{202e}\u{e0041}\u{9b}"]
        {
            assert_eq!(json_bytes(text), size(text), "{text:?}");
        }
        let joined = "می\u{200c}خواهم";
        assert!(json_bytes(joined) >= size(joined));
    }
}

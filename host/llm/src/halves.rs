//! Characters of which one chunk has the first half and a later one the second.
//!
//! Beyond the first 65,536 characters JSON escapes a character as a pair of surrogates. Servers that cut text into
//! UTF-16 units send `"\ud83d"` in one chunk and `"\udea7"` in the next. Each is no JSON text by itself.

use std::borrow::Cow;
use std::ops::Range;

use crate::problem::Problem;

/// The bytes of an escape.
const ESCAPE: usize = 6;

/// The first half of a character that waits for its second.
#[derive(Debug, Default)]
pub(crate) struct Halves {
    first: Option<String>,
}

/// An escape of half a character.
struct Half {
    at: Range<usize>,
    is_first: bool,
    /// At the beginning of its string, and at the end.
    begins: bool,
    ends: bool,
}

impl Halves {
    /// Moves a first half at the end of a string to the second half that begins a later one.
    pub(crate) fn mend<'a>(&mut self, json: &'a str) -> Result<Cow<'a, str>, Problem> {
        if !json.contains(r"\ud") && !json.contains(r"\uD") {
            return Ok(json.into());
        }
        let mut mended = String::new();
        let mut taken = 0;
        for half in lone(json) {
            mended.push_str(&json[taken..half.at.start]);
            taken = half.at.end;
            let escape = &json[half.at];
            match (half.is_first, self.first.take()) {
                (true, None) if half.ends => self.first = Some(escape.to_owned()),
                (false, Some(first)) if half.begins => {
                    mended.push_str(&first);
                    mended.push_str(escape);
                }
                (_, other) => return Err(without_the_other(other.as_deref().unwrap_or(escape))),
            }
        }
        if taken == 0 {
            return Ok(json.into());
        }
        mended.push_str(&json[taken..]);
        Ok(mended.into())
    }

    /// Nothing more comes.
    pub(crate) fn finish(&self) -> Result<(), Problem> {
        self.first.as_deref().map_or(Ok(()), |first| Err(without_the_other(first)))
    }
}

fn without_the_other(half: &str) -> Problem {
    Problem::Malformed(format!("half of a surrogate pair ({half}) without the other"))
}

/// Halves that do not stand beside their others.
fn lone(json: &str) -> Vec<Half> {
    let bytes = json.as_bytes();
    let mut halves: Vec<Half> = Vec::new();
    let (mut at, mut in_string, mut begins) = (0, false, false);
    while at < bytes.len() {
        let is_begin = std::mem::take(&mut begins);
        match bytes[at] {
            b'"' => {
                in_string = !in_string;
                begins = in_string;
            }
            b'\\' if in_string => {
                let Some(unit) = unit(&bytes[at..]) else {
                    at += 2;
                    continue;
                };
                let (is_first, is_second) = (unit & 0xfc00 == 0xd800, unit & 0xfc00 == 0xdc00);
                let next = at + ESCAPE;
                match halves.last() {
                    Some(half) if is_second && half.is_first && half.at.end == at => {
                        halves.pop();
                    }
                    _ if is_first || is_second => {
                        let ends = bytes.get(next) == Some(&b'"');
                        halves.push(Half { at: at..next, is_first, begins: is_begin, ends });
                    }
                    _ => {}
                }
                at = next;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    halves
}

/// The UTF-16 unit of an escape that begins here.
fn unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(br"\u")?.get(..4)?;
    // Signs are no digits.
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mended(chunks: &[&str]) -> Result<Vec<String>, Problem> {
        let mut halves = Halves::default();
        let all: Result<Vec<_>, _> =
            chunks.iter().map(|chunk| halves.mend(chunk).map(Cow::into_owned)).collect();
        halves.finish().and(all)
    }

    #[test]
    fn halves_come_together_and_whole_ones_stay() {
        for (chunks, expected) in [
            (&[r#""a\ud83d""#, r#""\uDEA7b""#][..], &[r#""a""#, r#""\ud83d\uDEA7b""#][..]),
            (&[r#""\ud83d\udea7""#], &[r#""\ud83d\udea7""#]),
            (&[r#""\\ud83d""#], &[r#""\\ud83d""#]),
            (
                &[r#"["\ud83d","\udea7\ud83d"]"#, r#""\udea7""#],
                &[r#"["","\ud83d\udea7"]"#, r#""\ud83d\udea7""#],
            ),
            (&[r#""\ud7ff\ue000\u00e4""#], &[r#""\ud7ff\ue000\u00e4""#]),
            // No JSON, which somebody else says.
            (
                &[r#"\ud83d"#, r#""\ud8"#, r#""\ud"#, r#""\"#],
                &[r#"\ud83d"#, r#""\ud8"#, r#""\ud"#, r#""\"#],
            ),
        ] {
            assert_eq!(mended(chunks).unwrap(), expected, "{chunks:?}");
        }
    }

    #[test]
    fn a_half_that_stays_alone_is_an_error_that_shows_it() {
        for (chunks, half) in [
            (&[r#""\ud83d""#][..], r"\ud83d"),
            (&[r#""\udea7""#], r"\udea7"),
            (&[r#""\ud83da""#], r"\ud83d"),
            (&[r#""\ud83d""#, r#""a\udea7""#], r"\ud83d"),
            (&[r#""\ud83d""#, r#""\ud83e""#], r"\ud83d"),
            (&[r#""\ud83d\ud83d\udea7""#], r"\ud83d"),
        ] {
            let Err(Problem::Malformed(text)) = mended(chunks) else { panic!("{chunks:?}") };
            assert!(text.contains(half), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_means_the_same_wherever_its_units_are_cut(text in ".{0,12}", at in 0..30_usize) {
            let units: Vec<u16> = text.encode_utf16().collect();
            let at = at.min(units.len());
            let escaped = |units: &[u16]| {
                let escapes: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
                format!("\"{escapes}\"")
            };
            let (one, other) = (escaped(&units[..at]), escaped(&units[at..]));
            let texts = mended(&[&one, &other]).unwrap();
            let joined: String =
                texts.iter().map(|text| serde_json::from_str::<String>(text).unwrap()).collect();
            prop_assert_eq!(joined, text);
        }
    }
}

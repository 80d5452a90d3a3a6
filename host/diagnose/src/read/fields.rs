//! The fields of a JSON line, also of one that was truncated.

use std::borrow::Cow;
use std::fmt;

use memchr::memmem;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Fields that are read; a line has no more than some thirty.
const MAX_FIELDS: usize = 256;

/// The top level of an object.
pub enum Fields<'a> {
    /// All of it could be read.
    Whole(Vec<(Cow<'a, str>, &'a RawValue)>),
    /// The line is no JSON, because it ends early or something is in the middle of it: what is there is looked
    /// for by name.
    Cut(&'a str),
    /// The line begins with an object and goes on behind it within another one or within a list: it is the end of another
    /// line, and the object is a value in that, which anybody may have chosen.
    Tail,
}

/// What a field holds.
pub enum Inner<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// An object, as it is written.
    Object(&'a str),
    /// The items of a list.
    List(Vec<&'a RawValue>),
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fill;
        impl<'de> Visitor<'de> for Fill {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::with_capacity(24);
                while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    if fields.len() < MAX_FIELDS {
                        fields.push((key, value));
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Fill).map(Object)
    }
}

impl<'a> Fields<'a> {
    /// Reads an object. `text` begins with its brace.
    pub fn read(text: &'a str) -> Self {
        match serde_json::from_str::<Object<'a>>(text) {
            Ok(Object(fields)) => Self::Whole(fields),
            Err(_) if is_tail(text) => Self::Tail,
            Err(_) => Self::Cut(text),
        }
    }

    /// The value of a field that may hold a line or a record.
    pub fn inner(&self, name: &str) -> Option<Inner<'a>> {
        match self {
            Self::Whole(fields) => Inner::read(find(fields, name)?.get()),
            // What is cut at its beginning as well may be a value of an object that guests chose.
            Self::Cut(_) | Self::Tail => None,
        }
    }

    /// Whether there is a field of this name.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Whole(fields) => find(fields, name).is_some(),
            Self::Cut(text) => {
                memmem::find(text.as_bytes(), format!("\"{name}\":").as_bytes()).is_some()
            }
            Self::Tail => false,
        }
    }

    /// The text of a value: of a string what it says, of everything else how it is written. A dot in the path
    /// goes one object down.
    pub fn get(&self, path: &str) -> Option<Cow<'a, str>> {
        match (self, path.split_once('.')) {
            (Self::Whole(fields), None) => plain(find(fields, path)?.get()),
            (Self::Whole(fields), Some((outer, inner))) => {
                Fields::read(find(fields, outer)?.get()).get(inner)
            }
            (Self::Tail, _) => None,
            (Self::Cut(text), None) => scavenge(text, path),
            (Self::Cut(text), Some((outer, inner))) => {
                let at = memmem::find(text.as_bytes(), format!("\"{outer}\":{{").as_bytes())?;
                scavenge(text.get(at..)?, inner)
            }
        }
    }

    /// A value that is a number.
    pub fn number(&self, path: &str) -> Option<f64> {
        self.get(path)?.parse().ok()
    }

    /// Whether the whole object could be read.
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(_))
    }
}

impl<'a> Inner<'a> {
    /// A value, as it is written. Numbers and the like hold nothing.
    pub fn read(raw: &'a str) -> Option<Self> {
        match raw.as_bytes().first()? {
            b'"' => plain(raw).map(Self::Text),
            b'{' => Some(Self::Object(raw)),
            b'[' => serde_json::from_str(raw).ok().map(Self::List),
            _ => None,
        }
    }
}

fn is_tail(text: &str) -> bool {
    let mut objects = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let is_whole = matches!(objects.next(), Some(Ok(_)));
    is_whole && text[objects.byte_offset()..].trim_ascii_start().starts_with([',', ']', '}'])
}

fn find<'a>(fields: &[(Cow<'a, str>, &'a RawValue)], name: &str) -> Option<&'a RawValue> {
    fields.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
}

fn plain(raw: &str) -> Option<Cow<'_, str>> {
    if raw == "null" {
        return None;
    }
    if !raw.starts_with('"') {
        return Some(Cow::Borrowed(raw));
    }
    serde_json::from_str::<Key<'_>>(raw).ok().map(|Key(text)| text)
}

/// The value behind `"name":` in a line that is no JSON, when all of it is there.
fn scavenge<'a>(text: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let at = memmem::find(text.as_bytes(), format!("\"{name}\":").as_bytes())?;
    let value = text.get(at + name.len() + 3..)?;
    let end = if value.starts_with('"') {
        let mut escaped = false;
        1 + value.bytes().skip(1).position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })? + 1
    } else {
        value.bytes().position(|byte| matches!(byte, b',' | b'}' | b']'))?
    };
    plain(value.get(..end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"ts":"t","n":3,"s":"a \"b\"","o":{"c":"oom_kill","d":null},"x":true}"#;

    #[test]
    fn fields_are_found_by_name_and_path() {
        let fields = Fields::read(LINE);
        assert!(fields.is_whole());
        assert_eq!(fields.get("s").as_deref(), Some("a \"b\""));
        assert_eq!(fields.number("n"), Some(3.0));
        assert_eq!(fields.get("o.c").as_deref(), Some("oom_kill"));
        assert_eq!(fields.get("o.d"), None);
        assert_eq!(fields.get("x").as_deref(), Some("true"));
        assert_eq!(fields.get("y"), None);
    }

    #[test]
    fn the_end_of_another_line_says_nothing() {
        let tail = r#"{"event":"container.stop_intent"},"schema":1,"seq":5}"#;
        let fields = Fields::read(tail);
        assert!(matches!(fields, Fields::Tail) && !fields.is_whole());
        assert_eq!(fields.get("event"), None);
        let glued = r#"{"event":"container.stop_intent"}{"event":"x"}"#;
        assert!(matches!(Fields::read(glued), Fields::Cut(_)), "a line break is missing");
    }

    #[test]
    fn a_line_that_is_cut_anywhere_says_what_is_left() {
        let whole = Fields::read(LINE);
        for end in 1..LINE.len() {
            let cut = Fields::read(&LINE[..end]);
            assert!(!cut.is_whole());
            for path in ["ts", "n", "s", "o.c"] {
                assert!(
                    cut.get(path).is_none() || cut.get(path) == whole.get(path),
                    "{path} {end}"
                );
            }
        }
        assert_eq!(Fields::read(&LINE[..50]).get("s").as_deref(), Some("a \"b\""));
    }
}

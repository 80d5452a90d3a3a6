//! Text in TOML, and what is wrong with it in words of the file: line and key, and nothing that was found there, which may be
//! a secret.

use std::ops::Range;

use bulkhead_api::unknown::nearest;
use bulkhead_types::error::expected_kind;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

/// A value that is not as it should be.
#[derive(Debug)]
pub struct TomlError {
    /// Where in the text, in bytes. Empty where the parser does not say.
    pub span: Range<usize>,
    /// For example `roles.mayor.cpu_ms`. Empty where the path says nothing.
    pub key: String,
    /// What the parser says. It may repeat what was found: see [`plain`].
    pub message: String,
}

/// Parses a whole text.
///
/// # Errors
///
/// It is no TOML, or not of this shape.
pub fn parse_toml<T: DeserializeOwned>(text: &str) -> Result<T, TomlError> {
    let wrong = |error: &toml::de::Error, key| TomlError {
        span: error.span().unwrap_or_default(),
        key,
        message: error.message().to_owned(),
    };
    let parse = |text: &str| -> Result<T, TomlError> {
        let document =
            toml::Deserializer::parse(text).map_err(|error| wrong(&error, String::new()))?;
        serde_path_to_error::deserialize(document)
            .map_err(|error| wrong(error.inner(), key(error.path())))
    };
    parse(text).map_err(|error| match error.message == "wanted string or table" {
        true => with_the_words(error, text, |text| parse(text).err()),
        false => error,
    })
}

/// Where one of a few words belongs and no text is, the parser does not say which words. It does for a text that is none of
/// them.
fn with_the_words(
    error: TomlError,
    text: &str,
    parse: impl FnOnce(&str) -> Option<TomlError>,
) -> TomlError {
    let Range { start, end } = error.span.clone();
    let asked = text.get(..start).zip(text.get(end..));
    let asked = asked.and_then(|(before, after)| parse(&format!("{before}\"?\"{after}")));
    let words = asked.filter(|other| other.key == error.key).and_then(|other| {
        let (_, words) = other.message.split_once("unknown variant `?`, expected ")?;
        Some(format!("expected {words}"))
    });
    TomlError { message: words.unwrap_or_else(|| "expected a text or a table".into()), ..error }
}

/// The key that an error is about.
fn key(path: &serde_path_to_error::Path) -> String {
    let mut key = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => key.push_str(&format!("[{index}]")),
            // What the parser's own types are made of.
            Segment::Map { key: name } if name.starts_with("$__") => {}
            Segment::Map { key: name } | Segment::Enum { variant: name } => {
                key.push_str(if key.is_empty() { "" } else { "." });
                key.push_str(name);
            }
            Segment::Unknown => {}
        }
    }
    key
}

/// The number of the line that a byte is in, from 1.
pub fn line_of(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or_default().matches('\n').count() + 1
}

/// The message without a text that was found in the wrong place, which may be a secret, and without names of types.
pub fn plain(message: &str) -> String {
    let rest = ["invalid type: ", "invalid value: "].iter().find_map(|it| message.strip_prefix(it));
    // A text that was found may hold anything.
    let parts = rest.and_then(|rest| rest.rsplit_once(", expected "));
    match parts {
        Some((found, expected)) => format!(
            "expected {}, found {}",
            expected_kind(expected, "a list", "a table"),
            there(found)
        ),
        None => with_the_near_one(message).unwrap_or_else(|| message.to_owned()),
    }
}

/// Of a name that is not known among many, the one that is most like it comes first.
fn with_the_near_one(message: &str) -> Option<String> {
    let (unknown, known) = message.split_once(", expected one of ")?;
    let name = unknown.split('`').nth(1)?;
    let names: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let near = nearest(name, &names)?;
    Some(format!("{unknown}, did you mean `{near}`? expected one of {known}"))
}

fn there(found: &str) -> &str {
    let quoted = |kind: &str| {
        let value = found.strip_prefix(kind)?.strip_prefix(" `")?;
        value.strip_suffix('`')
    };
    let number = ["integer", "floating point", "boolean"].iter().find_map(|kind| quoted(kind));
    if let Some(number) = number {
        return number;
    }
    match found {
        "map" => "a table",
        "sequence" => "a list",
        found if found.starts_with("string ") => "a text",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_named_in_words_of_the_file() {
        for (message, expected) in [
            (
                "invalid type: floating point `1.5`, expected u32",
                "expected a whole number of at least 0, found 1.5",
            ),
            ("invalid value: integer `-1`, expected f64", "expected a number, found -1"),
            ("invalid type: map, expected a boolean", "expected true or false, found a table"),
            ("invalid type: integer `7`, expected a string", "expected a string, found 7"),
            ("invalid type: sequence, expected struct Role", "expected a table, found a list"),
            ("unknown field `a`, expected `b`", "unknown field `a`, expected `b`"),
            (
                "unknown field `lissten`, expected one of `listen`, `token`, `mcp`",
                "unknown field `lissten`, did you mean `listen`? expected one of `listen`, `token`, `mcp`",
            ),
            (
                "unknown field `far`, expected one of `listen`, `token`, `mcp`",
                "unknown field `far`, expected one of `listen`, `token`, `mcp`",
            ),
        ] {
            assert_eq!(plain(message), expected);
        }
    }

    #[test]
    fn where_a_word_belongs_the_words_are_named() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Access {
            Off,
            Read,
            Change,
        }
        #[derive(Debug, serde::Deserialize)]
        struct File {
            #[serde(default)]
            _some: Vec<Access>,
            _mcp: Access,
        }
        let wrong = |text: &str| {
            let TomlError { key, message, span } = parse_toml::<File>(text).unwrap_err();
            (key, message, text[span].to_owned())
        };
        let words = "expected one of `off`, `read`, `change`".to_owned();
        assert_eq!(wrong("_mcp = true"), ("_mcp".into(), words.clone(), "true".into()));
        let (_, message, found) = wrong("_some = [\"off\", 3]\n_mcp = \"read\"");
        assert_eq!((message, &*found), (words, "3"));
        // As where a text is.
        let (_, message, _) = wrong("_mcp = \"all\"");
        assert!(message.ends_with("expected one of `off`, `read`, `change`"), "{message}");
        let file: File = parse_toml("_mcp = \"change\"").unwrap();
        assert!(matches!((file._mcp, &file._some[..]), (Access::Change, [])));
    }

    #[test]
    fn a_text_in_the_wrong_place_is_not_shown() {
        let message = "invalid type: string \"hunter2, expected x\", expected u64";
        assert_eq!(plain(message), "expected a whole number of at least 0, found a text");
    }
}

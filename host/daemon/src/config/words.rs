//! Values that a text stands for, and what the parser says of wrong ones in words of the file.

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, I64Deserializer, StrDeserializer};

/// The message without a text that was found in the wrong place, which may be a secret, and without names of types.
pub fn plain(message: &str) -> String {
    let rest = ["invalid type: ", "invalid value: "].iter().find_map(|it| message.strip_prefix(it));
    // A text that was found may hold anything.
    let parts = rest.and_then(|rest| rest.rsplit_once(", expected "));
    match parts {
        Some((found, expected)) => format!("expected {}, found {}", wanted(expected), there(found)),
        None => message.to_owned(),
    }
}

/// What is written instead of a key that there is no more.
pub fn replaced(key: &str, message: &str) -> Option<&'static str> {
    if !message.starts_with("unknown field `model`") {
        return None;
    }
    // Depending on where the parser stops, the key itself is in the path or not.
    let table = key.strip_suffix("model").unwrap_or(key).trim_end_matches('.');
    match table.split('.').collect::<Vec<_>>()[..] {
        [""] => Some(
            "[model] is now [models.default], with `model` in place of `name`; the roles that may use it have \
             models = [\"default\"]",
        ),
        ["roles", _] => Some(
            "`model` is now a list of endpoints: models = [\"default\"] allows [models.default]; without it \
             none is allowed",
        ),
        _ => None,
    }
}

fn wanted(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        expected if expected.starts_with("struct ") => "a table",
        expected => expected,
    }
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

/// Reads one of the words that the file would accept.
pub fn word<'de, T: Deserialize<'de>>(value: &'de str) -> Result<T, String> {
    let deserializer: StrDeserializer<'_, Error> = value.into_deserializer();
    T::deserialize(deserializer).map_err(|error| error.to_string())
}

/// Reads a number that the file would accept.
pub fn number<'de, T: Deserialize<'de>>(value: &str) -> Result<T, String> {
    let number: i64 =
        value.trim().parse().map_err(|_| format!("{value:?} is not a whole number"))?;
    let deserializer: I64Deserializer<Error> = number.into_deserializer();
    T::deserialize(deserializer).map_err(|error| plain(&error.to_string()))
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
        ] {
            assert_eq!(plain(message), expected);
        }
    }

    #[test]
    fn a_text_in_the_wrong_place_is_not_shown() {
        let message = "invalid type: string \"hunter2, expected x\", expected u64";
        assert_eq!(plain(message), "expected a whole number of at least 0, found a text");
    }
}

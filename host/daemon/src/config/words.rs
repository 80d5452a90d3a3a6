//! Values that a text stands for, and what the parser says of wrong ones in words of the file.

use bulkhead_client::plain;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, I64Deserializer, StrDeserializer};

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

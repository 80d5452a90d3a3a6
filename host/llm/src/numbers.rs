//! Numbers that JSON does not have. Python writes them, for example for the probability of a token.

use std::borrow::Cow;

const NAMES: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// The same text with `null` in their place.
pub(crate) fn finite(json: &str) -> Cow<'_, str> {
    if !json.contains(NAMES[0]) && !json.contains(NAMES[1]) {
        return json.into();
    }
    let mut finite = String::new();
    let (mut taken, mut at, mut in_string) = (0, 0, false);
    let bytes = json.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'N' | b'I' | b'-' if !in_string => {
                let rest = &bytes[at..];
                if let Some(name) = NAMES.iter().find(|name| rest.starts_with(name.as_bytes())) {
                    finite.push_str(&json[taken..at]);
                    finite.push_str("null");
                    taken = at + name.len();
                    at = taken;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    finite.push_str(&json[taken..]);
    finite.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_nothing() {
        for (json, expected) in [
            ("[NaN,-Infinity, Infinity]", "[null,null, null]"),
            (r#"{"NaN":"Infinity \" NaN","a":NaN}"#, r#"{"NaN":"Infinity \" NaN","a":null}"#),
            (r#"["\\",NaN,-1]"#, r#"["\\",null,-1]"#),
            ("[-1]", "[-1]"),
            ("grün NaN", "grün null"),
        ] {
            assert_eq!(finite(json), expected);
        }
    }
}

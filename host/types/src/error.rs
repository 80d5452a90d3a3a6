//! An error as one line.

use std::error::Error;

/// An error and everything behind it, parted by colons. What a cause only repeats is left out.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    causes_of(error).fold(error.to_string(), |mut text, cause| {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        text
    })
}

/// What is behind an error, as [`chain`] says it, without the error itself.
pub fn causes(error: &(dyn Error + 'static)) -> Option<String> {
    error.source().map(chain)
}

/// What serde expected, in words for people; `sequence` and `map` are what the format calls these.
pub fn expected_kind<'a>(expected: &'a str, sequence: &'a str, map: &'a str) -> &'a str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => sequence,
        "a map" => map,
        expected if expected.starts_with("struct ") => map,
        expected => expected,
    }
}

fn causes_of<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    fn layers(texts: &[&'static str]) -> Layer {
        let (first, rest) = texts.split_first().unwrap();
        Layer(first, (!rest.is_empty()).then(|| Box::new(layers(rest))))
    }

    #[test]
    fn every_cause_is_there_once() {
        assert_eq!(chain(&layers(&["a"])), "a");
        assert_eq!(chain(&layers(&["read x", "open x", "denied"])), "read x: open x: denied");
        assert_eq!(chain(&layers(&["read: denied", "denied"])), "read: denied");
        assert_eq!(causes(&layers(&["a"])), None);
        assert_eq!(causes(&layers(&["a", "b", "c"])).as_deref(), Some("b: c"));
    }
}

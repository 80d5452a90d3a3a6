//! Whether a JSON value has all that is expected of it.

use serde_json::Value;

/// Objects may have more fields than are expected; all else is the same. A number is the same whether it is written with
/// a point or without.
pub(super) fn is_subset(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => expected
            .iter()
            .all(|(key, value)| found.get(key).is_some_and(|found| is_subset(value, found))),
        (Value::Array(expected), Value::Array(found)) => {
            expected.len() == found.len()
                && expected.iter().zip(found).all(|(expected, found)| is_subset(expected, found))
        }
        (Value::Number(expected), Value::Number(found)) => {
            expected == found || expected.as_f64() == found.as_f64()
        }
        (expected, found) => expected == found,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_may_have_more_and_lists_may_not() {
        let found = json!({"a": {"b": [1, {"c": "x", "d": null}], "e": true}, "f": 2});
        for expected in [
            json!({}),
            json!({"f": 2}),
            json!({"f": 2.0}),
            json!({"a": {"e": true}}),
            json!({"a": {"b": [1, {"c": "x"}]}}),
        ] {
            assert!(is_subset(&expected, &found), "{expected}");
        }
        for expected in [
            json!({"g": 1}),
            json!({"f": "2"}),
            json!({"a": {"b": [1]}}),
            json!({"a": {"b": [{"c": "x"}, 1]}}),
            json!({"a": {"b": {}}}),
            json!([]),
        ] {
            assert!(!is_subset(&expected, &found), "{expected}");
        }
    }
}

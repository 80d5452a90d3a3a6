//! The schema of an answer, as servers want it that guarantee its form: every object is closed, by
//! `additionalProperties` of false.

use serde_json::{Map, Value};

/// Keywords by which several schemas hold for one object: closing one of them forbids what another one wants.
const COMBINING: [&str; 8] = [
    "allOf",
    "if",
    "then",
    "else",
    "not",
    "dependentSchemas",
    "patternProperties",
    "unevaluatedProperties",
];

/// The schema with all its objects closed, so that what fits it fits the schema as it was. None: that cannot be said.
pub(crate) fn closed(schema: &Value) -> Option<Value> {
    let mut schema = schema.clone();
    close(&mut schema).then_some(schema)
}

fn close(schema: &mut Value) -> bool {
    let Value::Object(fields) = schema else { return true };
    if COMBINING.iter().any(|name| fields.contains_key(*name)) {
        return false;
    }
    // What fits two of them is wrong, and would be right if closing one excludes it.
    if let Some(Value::Array(listed)) = fields.get("oneOf")
        && listed.iter().filter(|it| !is_scalar(it)).count() > 1
    {
        return false;
    }
    if is_object(fields) {
        let is_choice = ["anyOf", "oneOf", "$ref"].iter().any(|name| fields.contains_key(*name));
        let is_open = fields.get("additionalProperties").is_some_and(|it| *it != false);
        if is_choice || is_open || !fields.get("properties").is_some_and(Value::is_object) {
            return false;
        }
        fields.insert("additionalProperties".into(), false.into());
    }
    parts(fields).into_iter().all(close)
}

fn is_object(fields: &Map<String, Value>) -> bool {
    let is_named = match fields.get("type") {
        Some(Value::Array(names)) => names.iter().any(|name| name == "object"),
        name => name.is_some_and(|name| name == "object"),
    };
    is_named || fields.contains_key("properties")
}

/// Whether no object and no list fits a schema.
fn is_scalar(schema: &Value) -> bool {
    let is_plain = |value: &Value| !value.is_object() && !value.is_array();
    let is_named = |name: &Value| name.as_str().is_some_and(|it| it != "object" && it != "array");
    let is_all = |field: &str, of: &dyn Fn(&Value) -> bool| match schema.get(field) {
        Some(Value::Array(listed)) => listed.iter().all(of),
        value => value.is_some_and(of),
    };
    schema.get("const").is_some_and(is_plain)
        || is_all("enum", &is_plain)
        || is_all("type", &is_named)
}

/// The schemas in a schema.
fn parts(fields: &mut Map<String, Value>) -> Vec<&mut Value> {
    let mut parts = Vec::new();
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("properties" | "$defs" | "definitions", Value::Object(named)) => {
                parts.extend(named.values_mut());
            }
            ("anyOf" | "oneOf" | "prefixItems" | "items", Value::Array(listed)) => {
                parts.extend(listed);
            }
            ("items", item) => parts.push(item),
            _ => {}
        }
    }
    parts
}

/// Whether every object of a closed schema requires all its properties. OpenAI refuses it otherwise where it is strict.
pub(crate) fn requires_all(schema: &mut Value) -> bool {
    let Value::Object(fields) = schema else { return true };
    let required = fields.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let named = fields.get("properties").and_then(Value::as_object);
    let mut names = named.into_iter().flat_map(Map::keys);
    names.all(|name| required.iter().any(|it| it == name))
        && parts(fields).into_iter().all(requires_all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_closed_wherever_they_stand() {
        let open = json!({"type": "object", "properties": {
            "a": {"type": ["object", "null"], "properties": {"properties": {"type": "string"}}},
            "b": {"type": "array", "items": {"$ref": "#/$defs/c"}},
            "d": {"oneOf": [{"properties": {}}, {"type": "null"}, {"const": "x"}, {"enum": [1, 2]}]},
        }, "$defs": {"c": {"anyOf": [{"properties": {}}, {"type": "null"}]}}});
        let mut expected = open.clone();
        expected["additionalProperties"] = json!(false);
        expected["properties"]["a"]["additionalProperties"] = json!(false);
        expected["properties"]["d"]["oneOf"][0]["additionalProperties"] = json!(false);
        expected["$defs"]["c"]["anyOf"][0]["additionalProperties"] = json!(false);
        assert_eq!(closed(&open), Some(expected.clone()));
        assert_eq!(closed(&expected), Some(expected));
    }

    #[test]
    fn what_would_mean_something_else_is_not_closed() {
        let part = json!({"properties": {"a": {}}});
        for schema in [
            json!({"type": "object"}),
            json!({"properties": {}, "additionalProperties": {"type": "string"}}),
            json!({"properties": {}, "additionalProperties": true}),
            json!({"allOf": [part, part]}),
            json!({"properties": {}, "anyOf": [part, part]}),
            json!({"properties": {}, "$ref": "#/$defs/a", "$defs": {"a": part}}),
            json!({"oneOf": [part, part]}),
            json!({"oneOf": [{"$ref": "#/$defs/a"}, part], "$defs": {"a": part}}),
            json!({"items": {"type": "object"}}),
        ] {
            assert_eq!(closed(&schema), None, "{schema}");
        }
    }

    #[test]
    fn all_properties_may_be_required() {
        let mut schema =
            json!({"items": {"properties": {"a": {}, "b": {}}, "required": ["b", "a"]}});
        assert!(requires_all(&mut schema));
        schema["items"]["required"] = json!(["a"]);
        assert!(!requires_all(&mut schema));
        assert!(!requires_all(&mut json!({"properties": {"a": {}}})));
    }
}

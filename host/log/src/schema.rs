//! The JSON Schema of the log's lines, made from the types that the lines are made from.

use bulkhead_types::event::SCHEMA;
use bulkhead_types::{Event, Level, Timestamp};
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// The fields that every line has, and those that every line may have.
pub const COMMON: [&str; 10] =
    ["ts", "level", "event", "schema", "townId", "runId", "uptimeMs", "seq", "part", "parts"];

/// The schema of one line. A field that it does not name is an error: the names are a contract.
pub fn line_schema() -> Value {
    // As lines are written: a field that is left out when it is empty is not required.
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let common = common(&generator.subschema_for::<Timestamp>().to_value());
    let mut schema = generator.into_root_schema_for::<Event>().to_value();
    absent_is_not_null(&mut schema);
    for line in schema["oneOf"].as_array_mut().into_iter().flatten() {
        line["properties"]["event"]["description"] = "Which kind of line.".into();
        let common = common.as_object().into_iter().flatten();
        for (name, field) in common {
            line["properties"][name] = field.clone();
            if !["part", "parts"].contains(&name.as_str())
                && let Some(required) = line["required"].as_array_mut()
            {
                required.push(name.as_str().into());
            }
        }
        line["unevaluatedProperties"] = false.into();
    }
    schema["title"] = "A line of the log of Bulkhead".into();
    schema["description"] = "Made from the program's types. One JSON object a line.".into();
    schema
}

/// A field that is left out when it is empty is never null: takes that away, wherever it stands.
fn absent_is_not_null(schema: &mut Value) {
    if let Value::Array(items) = schema {
        items.iter_mut().for_each(absent_is_not_null);
    }
    let Some(object) = schema.as_object_mut() else { return };
    let required = object.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let fields = object.get_mut("properties").and_then(Value::as_object_mut);
    for (name, field) in fields.into_iter().flatten() {
        if required.iter().any(|required| required == name) {
            continue;
        }
        if let Some(kinds) = field.get_mut("type").and_then(Value::as_array_mut) {
            kinds.retain(|kind| kind != "null");
        }
        if let Some(kind) = field["type"].as_array().filter(|kinds| kinds.len() == 1) {
            field["type"] = kind[0].clone();
        }
        if let Some(choices) = field.get_mut("anyOf").and_then(Value::as_array_mut) {
            choices.retain(|choice| choice["type"] != "null");
        }
    }
    object.values_mut().for_each(absent_is_not_null);
}

/// What `line` adds to an event.
fn common(timestamp: &Value) -> Value {
    let mut ts = timestamp.clone();
    ts["description"] = "When the line was written, in UTC.".into();
    json!({
        "ts": ts,
        "level": { "enum": Level::NAMES, "description": "How much it matters." },
        "schema": { "const": SCHEMA, "description": "Version of the lines' shape." },
        "townId": {
            "type": ["string", "null"],
            "description": "The town that the container serves; null until it is known.",
        },
        "runId": { "type": "string", "description": "Names this run of the host." },
        "seq": {
            "type": "integer",
            "minimum": 0,
            "description": "Counts the lines of a run from 0, parts of records among them. A gap is a loss.",
        },
        "uptimeMs": {
            "type": "integer",
            "minimum": 0,
            "description": "How long this run of the host has lasted.",
        },
        "part": {
            "type": "integer",
            "minimum": 1,
            "description": "Which part of a record this line is, of one that is longer than a line may be. The first part has the record's event and its fields, the long ones shortened; the others are `container.line_part`. The number of the first is `seq` - `part` + 1.",
        },
        "parts": {
            "type": "integer",
            "minimum": 2,
            "description": "How many parts there are.",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_what_the_types_say() {
        // Beside `docs/events.md`, for programs that read the log.
        let text = format!("{:#}\n", line_schema());
        expect_test::expect_file!["../log.schema.json"].assert_eq(&text);
    }

    #[test]
    fn every_line_has_an_alternative_with_its_name() {
        let schema = line_schema();
        let lines = schema["oneOf"].as_array().unwrap();
        let mut names: Vec<_> =
            lines.iter().filter_map(|line| line["properties"]["event"]["const"].as_str()).collect();
        let mut expected = Event::NAMES.to_vec();
        names.sort_unstable();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }
}

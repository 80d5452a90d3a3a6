//! The JSON Schema of the log's lines, made from the types that the lines are made from.

use bulkhead_model::event::SCHEMA;
use bulkhead_model::{Event, Level, Timestamp};
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// The schema of one line. A field that it does not name is an error: the names are a contract.
pub fn line_schema() -> Value {
    // As lines are written: a field that is left out when it is empty is not required.
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let timestamp = generator.subschema_for::<Timestamp>();
    let common = json!({
        "ts": timestamp,
        "level": { "enum": Level::NAMES },
        "schema": { "const": SCHEMA },
        "townId": { "type": ["string", "null"] },
        "runId": { "type": "string" },
        "seq": { "type": "integer", "minimum": 0 },
        "uptimeMs": { "type": "integer", "minimum": 0 },
    });
    let mut schema = generator.into_root_schema_for::<Event>().to_value();
    for line in schema["oneOf"].as_array_mut().into_iter().flatten() {
        let common = common.as_object().into_iter().flatten();
        for (name, field) in common {
            line["properties"][name] = field.clone();
            if let Some(required) = line["required"].as_array_mut() {
                required.push(name.as_str().into());
            }
        }
        line["unevaluatedProperties"] = false.into();
    }
    schema["title"] = "A line of the log of Bulkhead".into();
    schema["description"] = "Made from the program's types. One JSON object a line.".into();
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beside `EVENTS.md`, for those who read the log with programs.
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/log.schema.json");

    #[test]
    fn the_file_is_what_the_types_say() {
        let text = format!("{:#}\n", line_schema());
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(FILE, &text).unwrap();
        }
        let file = std::fs::read_to_string(FILE).unwrap_or_default();
        assert!(
            file == text,
            "{FILE} is old; make it anew with UPDATE_SCHEMA=1 cargo test -p bulkhead-events"
        );
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

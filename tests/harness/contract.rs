//! The contract of a log's lines: `host/log/log.schema.json`.

use std::collections::HashMap;
use std::sync::OnceLock;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

/// The file as it is now, in the tests as they were built.
const SCHEMA: &str = include_str!("../../host/log/log.schema.json");

/// Names the schema to the validator. Nothing is loaded from there.
const URL: &str = "mem:///log.schema.json";

/// One validator for each event: a line is checked against its own alternative only, which is quick and
/// makes the reason of a failure readable.
struct Contract {
    compiled: Schemas,
    validators: HashMap<String, SchemaIndex>,
}

/// Checks a line against the alternative of its event.
pub fn check(line: &Value) -> Result<(), String> {
    static CONTRACT: OnceLock<Contract> = OnceLock::new();
    CONTRACT.get_or_init(Contract::new).check(line)
}

impl Contract {
    fn new() -> Self {
        let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
        let lines = schema["oneOf"].as_array().into_iter().flatten();
        let events: Vec<_> = lines
            .map(|line| {
                line["properties"]["event"]["const"].as_str().unwrap_or_default().to_owned()
            })
            .collect();
        let (mut compiler, mut compiled) = (Compiler::new(), Schemas::new());
        compiler.add_resource(URL, schema).expect("the schema is one");
        let mut validator = |(place, event)| {
            let validator = compiler.compile(&format!("{URL}#/oneOf/{place}"), &mut compiled);
            (event, validator.expect("the alternative is a schema"))
        };
        let validators = events.into_iter().enumerate().map(&mut validator).collect();
        Self { compiled, validators }
    }

    fn check(&self, line: &Value) -> Result<(), String> {
        let event = line["event"].as_str().unwrap_or_default();
        let validator = self.validators.get(event);
        let validator = validator.ok_or_else(|| format!("the schema has no event {event:?}"))?;
        self.compiled.validate(line, *validator).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line() -> Value {
        json!({
            "ts": "2026-01-01T00:00:00.000Z", "level": "info", "event": "container.stop_intent",
            "schema": 1, "townId": null, "runId": "r", "uptimeMs": 0, "seq": 0,
            "by": "SIGTERM", "reason": "a signal asked for it",
        })
    }

    fn with(field: &str, value: Value) -> String {
        let mut line = line();
        line[field] = value;
        check(&line).expect_err("it is wrong")
    }

    #[test]
    fn a_line_of_the_contract_is_right() {
        assert_eq!(check(&line()), Ok(()));
    }

    #[test]
    fn a_line_that_breaks_the_contract_is_reported_with_the_reason() {
        assert!(with("extra", 1.into()).contains("extra"), "a field that no event has");
        assert!(with("by", 1.into()).contains("/by"), "a type that is wrong");
        assert!(with("event", "container.unknown".into()).contains("container.unknown"));
        let mut short = line();
        short.as_object_mut().unwrap().remove("reason");
        assert!(check(&short).unwrap_err().contains("reason"), "a field that is missing");
    }
}

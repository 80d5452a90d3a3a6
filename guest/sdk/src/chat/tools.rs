//! What a model may call.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::AgentError;
use crate::model::{self, ToolCall};

type Run<A> = Box<dyn Fn(&mut A, &ToolCall) -> Result<String, AgentError>>;

/// What a model may call: functions of the agent by name.
pub struct Tools<A> {
    offered: Vec<model::Tool>,
    run: BTreeMap<String, Run<A>>,
}

impl<A> Default for Tools<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A> fmt::Debug for Tools<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.run.keys()).finish()
    }
}

impl<A> Tools<A> {
    /// None.
    pub fn new() -> Self {
        Self { offered: Vec::new(), run: BTreeMap::new() }
    }

    /// Adds one. Of two with the same name the last counts.
    ///
    /// `parameters` is an object of types by name: `"string"`, `"string?"` if it may be missing, `"string[]"` for a list, or
    /// a JSON Schema; or it is a whole JSON Schema of an object. The model reads what `run` returns: a text as it is, nothing
    /// as `done`, anything else as JSON. An error that is not fatal is told to the model, as are arguments that do not fit; a
    /// fatal one ends the incarnation.
    ///
    /// # Panics
    ///
    /// If a type is none of these.
    #[must_use]
    pub fn with<T: DeserializeOwned, R: Serialize>(
        mut self,
        name: &str,
        description: &str,
        parameters: Value,
        run: impl Fn(&mut A, T) -> Result<R, AgentError> + 'static,
    ) -> Self {
        self.offered.retain(|tool| tool.name != name);
        self.offered.push(model::Tool::new(name, description, schema(parameters)));
        let run = move |agent: &mut A, call: &ToolCall| match call.arguments() {
            Ok(arguments) => run(agent, arguments).and_then(|result| readable(&result)),
            Err(problem) => Ok(format!("error: {problem}")),
        };
        self.run.insert(name.to_owned(), Box::new(run));
        self
    }

    pub(super) fn offered(&self) -> &[model::Tool] {
        &self.offered
    }

    /// What the model reads of a call.
    pub(super) fn result(&self, agent: &mut A, call: &ToolCall) -> Result<String, AgentError> {
        match self.run.get(&call.name) {
            Some(run) => run(agent, call),
            None => Ok(format!("error: there is no tool `{}`", call.name)),
        }
    }
}

fn readable(result: &impl Serialize) -> Result<String, AgentError> {
    match serde_json::to_value(result) {
        Ok(Value::String(text)) => Ok(text),
        Ok(Value::Null) => Ok("done".to_owned()),
        Ok(value) => Ok(value.to_string()),
        Err(error) => {
            Err(AgentError::failed("bad-tool-result", format!("the result is not JSON: {error}")))
        }
    }
}

/// A JSON Schema of an object.
fn schema(parameters: Value) -> Value {
    let Value::Object(parameters) = parameters else {
        panic!("the parameters of a tool are an object, and not {parameters}");
    };
    if parameters.get("type") == Some(&json!("object"))
        && parameters.get("properties").is_some_and(Value::is_object)
    {
        return Value::Object(parameters);
    }
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for (name, of) in parameters {
        let (of, is_required) = match of {
            Value::String(word) => (schema_of(&name, &word), !word.ends_with('?')),
            schema => (schema, true),
        };
        if is_required {
            required.push(name.clone());
        }
        properties.insert(name, of);
    }
    json!({ "type": "object", "properties": properties, "required": required })
}

fn schema_of(name: &str, word: &str) -> Value {
    let base = word.strip_suffix('?').unwrap_or(word);
    let (item, is_list) = base.strip_suffix("[]").map_or((base, false), |item| (item, true));
    let is_known = matches!(item, "string" | "number" | "integer" | "boolean" | "object" | "array");
    assert!(is_known, "`{word}` is no type for the parameter `{name}`");
    match is_list {
        true => json!({ "type": "array", "items": { "type": item } }),
        false => json!({ "type": item }),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Note {
        text: String,
    }

    fn tools() -> Tools<Vec<String>> {
        let text = || json!({ "text": "string" });
        Tools::new()
            .with("note", "Write it down", text(), |notes: &mut Vec<String>, note: Note| {
                notes.push(note.text);
                Ok(())
            })
            .with("count", "Count", json!({}), |notes: &mut Vec<String>, _: Value| Ok(notes.len()))
            .with("last", "The last", json!({}), |notes: &mut Vec<String>, _: Value| {
                notes
                    .last()
                    .cloned()
                    .ok_or_else(|| AgentError::failed("no-note", "there is no note"))
            })
    }

    fn call(name: &str, arguments: &str) -> ToolCall {
        ToolCall { id: "c".into(), name: name.into(), arguments: arguments.into() }
    }

    #[test]
    fn a_model_reads_results_and_errors() {
        let (tools, mut notes) = (tools(), Vec::new());
        let mut result = |name, arguments| {
            let result = tools.result(&mut notes, &call(name, arguments));
            result.unwrap_or_else(|error| error.code)
        };
        assert_eq!(result("last", "{}"), "no-note");
        assert_eq!(result("note", r#"{"text":"bread"}"#), "done");
        assert_eq!(result("last", ""), "bread");
        assert_eq!(result("count", "{}"), "1");
        assert!(result("note", r#"{"text":3}"#).starts_with("error: arguments of `note`"));
        assert_eq!(result("nothing", "{}"), "error: there is no tool `nothing`");
    }

    #[test]
    fn types_by_name_are_a_schema() {
        let made = schema(json!({ "a": "string", "b": "integer[]?", "c": { "enum": [1, 2] } }));
        let expected = json!({
            "type": "object",
            "properties": {
                "a": { "type": "string" },
                "b": { "type": "array", "items": { "type": "integer" } },
                "c": { "enum": [1, 2] },
            },
            "required": ["a", "c"],
        });
        assert_eq!(made, expected);
        assert_eq!(schema(expected.clone()), expected);
    }

    #[test]
    #[should_panic(expected = "`text` is no type for the parameter `a`")]
    fn a_type_that_is_none_is_named() {
        schema(json!({ "a": "text" }));
    }
}

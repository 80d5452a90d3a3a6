//! Schemas as tables for people.

use std::fmt::Write;

use serde_json::Value;

/// What `$ref` points to, or the schema itself. A reference beside other words adds to them and is not
/// followed; of "this or null", this.
pub(super) fn resolve<'a>(root: &'a Value, at: &'a Value) -> &'a Value {
    let at = at["anyOf"].get(0).unwrap_or(at);
    let target = at["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/"));
    match target {
        Some(name) if at.get("properties").is_none() => &root["$defs"][name],
        _ => at,
    }
}

/// The description on one line, without the links that only rustdoc follows.
pub(super) fn description(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.replace('\n', " ").replace('|', "\\|").replace("[`", "`").replace("`]", "`")
}

/// The wanted fields of an object. Empty text when there are none.
pub(super) fn table(object: &Value, wanted: impl Fn(&str) -> bool) -> String {
    let fields = object["properties"].as_object().into_iter().flatten();
    let mut rows = String::new();
    for (name, field) in fields.filter(|(name, _)| wanted(name)) {
        let mut kind = kind(field);
        let required = object["required"].as_array().into_iter().flatten();
        if !required.into_iter().any(|required| required == name) {
            kind.push_str("; may be absent");
        }
        let unit = unit(name, field).unwrap_or_default();
        let _ = writeln!(rows, "| `{name}` | {kind} | {unit} | {} |", description(field));
    }
    if rows.is_empty() {
        return "No fields of its own.\n".to_owned();
    }
    format!("| field | type | unit | meaning |\n| --- | --- | --- | --- |\n{rows}")
}

/// One of the schema's definitions.
pub(super) fn definition(name: &str, schema: &Value) -> String {
    let mut text = format!("\n### {name}\n\n");
    let about = description(schema);
    if !about.is_empty() {
        let _ = writeln!(text, "{about}\n");
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        choices.iter().for_each(|choice| text.push_str(&one_of(choice)));
    } else if schema.get("properties").is_some() {
        text.push_str(&table(schema, |_| true));
    } else {
        let _ = writeln!(text, "{}.", sentence(&kind(schema)));
        if let Some(pattern) = schema["pattern"].as_str() {
            let _ = writeln!(text, "\n```text\n{pattern}\n```");
        }
    }
    text
}

/// A word, or an object with its fields.
fn one_of(choice: &Value) -> String {
    let about = description(choice);
    if choice.get("const").is_some() {
        return format!("- {}: {about}\n", kind(choice));
    }
    let fields = choice["properties"].as_object().into_iter().flatten();
    let fields: Vec<_> = fields
        .map(|(name, field)| match description(field) {
            about if about.is_empty() => format!("`{name}` ({})", kind(field)),
            about => format!("`{name}` ({}): {about}", kind(field)),
        })
        .collect();
    format!("- an object: {about} {}\n", fields.join(" "))
}

/// What a value is.
fn kind(schema: &Value) -> String {
    if let Some(target) = schema["$ref"].as_str() {
        let name = target.rsplit('/').next().unwrap_or_default();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(word) = schema.get("const") {
        return format!("`{}`", word.as_str().map_or_else(|| word.to_string(), str::to_owned));
    }
    if let Some(words) = schema["enum"].as_array() {
        let words = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`"));
        return words.collect::<Vec<_>>().join(", ");
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    match &schema["type"] {
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or ")
        }
        Value::String(kind_name) if kind_name == "array" => {
            format!("array of {}", kind(&schema["items"]))
        }
        Value::String(kind_name) if schema.get("additionalProperties").is_some() => {
            format!("{kind_name} with values of type {}", kind(&schema["additionalProperties"]))
        }
        Value::String(kind_name) => kind_name.clone(),
        _ => "any".to_owned(),
    }
}

fn unit(name: &str, field: &Value) -> Option<&'static str> {
    let is_number = |kind: &Value| kind == "integer" || kind == "number";
    let number = match &field["type"] {
        Value::Array(kinds) => kinds.iter().any(is_number),
        kind => is_number(kind),
    };
    let units = [("Ms", "ms"), ("MB", "MiB"), ("Us", "µs"), ("Bytes", "bytes"), ("bytes", "bytes")];
    let named = units.iter().find(|(end, _)| name.ends_with(end))?;
    number.then_some(named.1)
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + letters.as_str()
    })
}

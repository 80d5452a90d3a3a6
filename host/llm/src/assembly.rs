//! Assembles an answer from the events of a stream or from one document.
//!
//! Servers differ in everything but the outline, so it reads JSON values and not types: what is there in a form that
//! can be understood counts, and the rest is ignored. Which dialect a value is in is known from the value.

use serde_json::{Map, Value};

use crate::draft::Draft;
use crate::numbers::finite;
use crate::problem::{Problem, error_in, not_json, reported};
use crate::{blocks, plain};

/// Takes the data of one server-sent event of this name.
pub(crate) fn event(draft: &mut Draft, name: &str, data: &str) -> Result<(), Problem> {
    let data = data.trim();
    if data.trim_matches('"') == "[DONE]" {
        draft.complete();
        return Ok(());
    }
    let is_error = name == "error";
    if !data.starts_with(['{', '[']) {
        if is_error {
            return Err(reported(&data.into()));
        }
        draft.note(data);
        return Ok(());
    }
    let data = &*draft.mend(data)?;
    if !is_error && let Some((index, text)) = plain::text(data) {
        if draft.takes_choice(index) {
            draft.add_text(&text);
        }
        return Ok(());
    }
    for value in serde_json::Deserializer::from_str(&finite(data)).into_iter::<Value>() {
        let json = value.map_err(|error| not_json(&error))?;
        if is_error {
            return Err(reported(json.get("error").unwrap_or(&json)));
        }
        value_of(draft, &json)?;
    }
    Ok(())
}

/// Takes a JSON value: a chunk, a whole answer, an error, or a list of them.
pub(crate) fn value_of(draft: &mut Draft, value: &Value) -> Result<(), Problem> {
    match value {
        Value::Object(_) => chunk(draft, value),
        Value::Array(values) => values.iter().try_for_each(|value| chunk(draft, value)),
        _ => Err(Problem::Malformed("not a completion: no object".into())),
    }
}

/// What has one of them belongs to a stream, also where it says nothing.
const KNOWN: [&str; 5] = ["choices", "usage", "x_groq", "object", "type"];

fn chunk(draft: &mut Draft, chunk: &Value) -> Result<(), Problem> {
    if let Some(problem) = error_in(chunk) {
        return Err(problem);
    }
    if blocks::is_one(chunk) {
        return blocks::take(draft, chunk);
    }
    let choice = match &chunk["choices"] {
        Value::Array(choices) => choices.iter().find(|choice| is_taken(draft, choice)),
        choice @ Value::Object(_) => Some(choice),
        _ => None,
    };
    if let Some(choice) = choice {
        take(draft, choice)?;
    }
    let is_known = |fields: &Map<String, Value>| {
        fields.is_empty() || KNOWN.iter().any(|name| fields.contains_key(*name))
    };
    if chunk.as_object().is_some_and(|fields| !is_known(fields)) {
        draft.note(&chunk.to_string());
    }
    for usage in [&chunk["x_groq"]["usage"], &chunk["usage"]] {
        draft.count(usage);
    }
    Ok(())
}

/// Whether a choice is the one that came first.
fn is_taken(draft: &mut Draft, choice: &Value) -> bool {
    choice.is_object() && draft.takes_choice(choice["index"].as_u64().unwrap_or(0))
}

fn take(draft: &mut Draft, choice: &Value) -> Result<(), Problem> {
    if let Some(problem) = error_in(choice) {
        return Err(problem);
    }
    let said = draft.said();
    delta(draft, choice)?;
    draft.end(&choice["finish_reason"])?;
    // A document is whole where its reason is.
    if choice["delta"].is_object() {
        draft.said_beside_reason(said);
    }
    draft.count(&choice["usage"]);
    Ok(())
}

/// The name is `delta` in a stream, and `message` in a document. Some streams have both: pieces, and at the end the
/// whole again.
fn delta(draft: &mut Draft, choice: &Value) -> Result<(), Problem> {
    let (delta, message) = (&choice["delta"], &choice["message"]);
    let is_empty = delta.as_object().is_none_or(Map::is_empty);
    let is_repeated = draft.has_begun()
        && (delta.is_object() || draft.has_text(&words(&message["content"], Kind::Text)));
    let delta = if is_empty && message.is_object() && !is_repeated { message } else { delta };
    draft.reasoned.message(delta);
    // Some servers send both names with the same text.
    let reasoning = ["reasoning_content", "reasoning"].map(|name| words(&delta[name], Kind::Text));
    let reasoning = reasoning.iter().find(|text| !text.is_empty());
    draft.add_reasoning(reasoning.map_or("", String::as_str));
    draft.add_reasoning(&words(&delta["content"], Kind::Reasoning));
    if delta.is_null() {
        // The form of completions before there was chat.
        draft.add_text(&words(&choice["text"], Kind::Text));
    } else {
        draft.add_text(&words(&delta["content"], Kind::Text));
    }
    draft.add_refusal(delta["refusal"].as_str().unwrap_or_default());
    match &delta["tool_calls"] {
        Value::Array(calls) if !calls.is_empty() => {
            calls.iter().try_for_each(|call| draft.add_call(call))
        }
        call @ Value::Object(_) => draft.add_call(call),
        // The older name. Some servers send the same call by both.
        _ if delta["function_call"].is_object() => draft.add_call(&delta["function_call"]),
        _ => Ok(()),
    }
}

/// Which text of a content.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Reasoning,
}

/// The text of a content, in the forms that servers give it.
fn words(content: &Value, kind: Kind) -> String {
    match content {
        Value::String(text) if kind == Kind::Text => text.clone(),
        Value::Array(parts) => parts.iter().map(|part| part_of(part, kind)).collect(),
        Value::Object(_) => part_of(content, kind),
        _ => String::new(),
    }
}

fn part_of(part: &Value, wanted: Kind) -> String {
    let name = part["type"].as_str().unwrap_or_default();
    let kind = match name.contains("thinking") || name.contains("reasoning") {
        true => Kind::Reasoning,
        false => Kind::Text,
    };
    if kind != wanted {
        return String::new();
    }
    let text = match part {
        Value::String(_) => part,
        _ if part["thinking"].is_null() => &part["text"],
        _ => &part["thinking"],
    };
    match text {
        Value::Object(_) => text["value"].as_str().unwrap_or_default().to_owned(),
        Value::Array(_) => words(text, Kind::Text),
        _ => text.as_str().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests;

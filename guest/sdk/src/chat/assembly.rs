//! Puts an answer together, from the pieces of a stream or from one document.
//!
//! Servers differ in everything but the outline, so it reads JSON values and not types: what is there in a form that
//! can be understood counts, and the rest is as if it were not there.

use std::fmt;

use serde_json::Value;

use super::calls::Calls;
use super::{Message, Reply, Role, Usage};

/// What is wrong with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The server reports an error in place of an answer, and with it a status, if it names one.
    Reported(String, Option<u16>),
    /// The answer ends in the middle.
    CutOff,
    /// It is not what a completion looks like.
    Malformed(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reported(message, Some(status)) => write!(f, "status {status}: {message}"),
            Self::Reported(message, None) | Self::Malformed(message) => f.write_str(message),
            Self::CutOff => f.write_str("it is cut off in the middle"),
        }
    }
}

/// An answer that is coming in.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    text: String,
    /// What the model says in place of an answer.
    refusal: String,
    calls: Calls,
    /// The choice that counts: only one is ever asked for.
    choice: Option<u64>,
    finish_reason: Option<String>,
    usage: Option<Usage>,
    complete: bool,
}

impl Assembly {
    /// Takes the data of one server-sent event of this name. Returns the text that it added.
    pub(super) fn event(&mut self, name: &str, data: &str) -> Result<String, Problem> {
        let data = data.trim();
        if data.trim_matches('"') == "[DONE]" {
            self.complete = true;
            return Ok(String::new());
        }
        let is_error = name == "error";
        // Words that keep a connection busy.
        if !data.starts_with(['{', '[']) {
            return if is_error { Err(reported(&data.into())) } else { Ok(String::new()) };
        }
        let mut text = String::new();
        for value in serde_json::Deserializer::from_str(data).into_iter::<Value>() {
            let value = value.map_err(|error| not_json(&error))?;
            if is_error {
                return Err(reported(value.get("error").unwrap_or(&value)));
            }
            text += &self.value(value)?;
        }
        Ok(text)
    }

    /// Takes a JSON value: a chunk, a whole answer, an error, or a list of them. Returns the text that it added.
    pub(super) fn value(&mut self, value: Value) -> Result<String, Problem> {
        let chunk = match value {
            Value::Object(_) => value,
            Value::Array(values) => {
                let mut text = String::new();
                for value in values {
                    text += &self.chunk(&value)?;
                }
                return Ok(text);
            }
            _ => return Err(Problem::Malformed("not a completion: no object".into())),
        };
        self.chunk(&chunk)
    }

    fn chunk(&mut self, chunk: &Value) -> Result<String, Problem> {
        if let Some(problem) = error_in(chunk) {
            return Err(problem);
        }
        self.count(&chunk["usage"]);
        let choice = match &chunk["choices"] {
            Value::Array(choices) => choices.iter().find(|choice| self.is_ours(choice)),
            choice @ Value::Object(_) => Some(choice),
            _ => None,
        };
        choice.map_or_else(|| Ok(String::new()), |choice| self.take(choice))
    }

    /// Whether a choice is the one that came first.
    fn is_ours(&mut self, choice: &Value) -> bool {
        let index = choice["index"].as_u64().unwrap_or(0);
        choice.is_object() && *self.choice.get_or_insert(index) == index
    }

    fn take(&mut self, choice: &Value) -> Result<String, Problem> {
        if let Some(problem) = error_in(choice) {
            return Err(problem);
        }
        self.count(&choice["usage"]);
        let text = self.delta(choice)?;
        let reason = choice["finish_reason"].as_str().map(str::trim).unwrap_or_default();
        if reason == "error" {
            return Err(Problem::Reported("the answer ends with an error".into(), None));
        }
        if !matches!(reason, "" | "null" | "none") {
            self.finish_reason = Some(reason.to_owned());
        }
        Ok(text)
    }

    /// The name is `delta` in a stream, and `message` in a document. Some streams have both: pieces, and at the end the
    /// whole again.
    fn delta(&mut self, choice: &Value) -> Result<String, Problem> {
        let (delta, message) = (&choice["delta"], &choice["message"]);
        let is_empty = delta.as_object().is_none_or(serde_json::Map::is_empty);
        let is_repeated =
            self.has_begun() && (delta.is_object() || words(&message["content"]) == self.text);
        let delta = if is_empty && message.is_object() && !is_repeated { message } else { delta };
        match &delta["tool_calls"] {
            Value::Array(calls) => calls.iter().try_for_each(|call| self.calls.piece(call))?,
            call @ Value::Object(_) => self.calls.piece(call)?,
            _ => {}
        }
        if delta["function_call"].is_object() {
            self.calls.piece(&delta["function_call"])?;
        }
        self.refusal += delta["refusal"].as_str().unwrap_or_default();
        let mut text = words(&delta["content"]);
        if delta.is_null() {
            // The form of completions before there was chat.
            text = words(&choice["text"]);
        }
        self.text += &text;
        Ok(text)
    }

    fn count(&mut self, usage: &Value) {
        let known = self.usage.unwrap_or_default();
        let read = number(usage, &["prompt_tokens", "input_tokens"]);
        let written = number(usage, &["completion_tokens", "output_tokens"]);
        if read.is_some() || written.is_some() {
            self.usage = Some(Usage {
                prompt_tokens: read.unwrap_or(known.prompt_tokens),
                completion_tokens: written.unwrap_or(known.completion_tokens),
            });
        }
    }

    /// Nothing that could still come belongs to the answer.
    pub(super) fn is_complete(&self) -> bool {
        self.complete || (self.finish_reason.is_some() && self.usage.is_some())
    }

    /// All of the answer is here; what it cost may still come.
    pub(super) fn is_answered(&self) -> bool {
        self.complete || self.finish_reason.is_some()
    }

    /// Something of the answer is here.
    pub(super) fn has_begun(&self) -> bool {
        !self.text.is_empty() || !self.calls.is_empty() || self.is_answered()
    }

    /// The end of what was sent is the end of the answer.
    pub(super) fn complete(&mut self) {
        self.complete = true;
    }

    /// The whole answer. One without a word is an answer if the model `may_be_silent`.
    pub(super) fn finish(self, may_be_silent: bool) -> Result<Reply, Problem> {
        if !self.is_answered() {
            return Err(Problem::CutOff);
        }
        let reason = self.finish_reason.as_deref();
        let cut = reason.and_then(cut_by);
        let tool_calls = self.calls.finish(cut.is_some());
        let text = if self.text.is_empty() { self.refusal } else { self.text };
        if text.is_empty() && tool_calls.is_empty() {
            let is_over = matches!(reason, Some("stop" | "end_turn" | "eos"));
            if !may_be_silent || !is_over {
                let cut = cut.map_or_else(String::new, |by| format!("; cut off: {by}"));
                let reason = reason.unwrap_or("none");
                return Err(Problem::Malformed(format!(
                    "empty answer, finish reason: {reason}{cut}"
                )));
            }
        }
        let content = (!text.is_empty() || tool_calls.is_empty()).then_some(text);
        let message = Message { role: Role::Assistant, content, tool_calls, tool_call_id: None };
        Ok(Reply { message, finish_reason: self.finish_reason, cut, usage: self.usage })
    }
}

/// What ended an answer before its end, if something did.
fn cut_by(finish_reason: &str) -> Option<&'static str> {
    match finish_reason.to_ascii_lowercase().as_str() {
        "length" | "max_tokens" | "max_output_tokens" | "model_length" | "token_limit"
        | "incomplete" => Some("the model reached its length limit"),
        "model_context_window_exceeded" | "context_length_exceeded" => {
            Some("the conversation fills the model's context")
        }
        "content_filter" | "safety" | "recitation" | "sensitive" => {
            Some("a content filter stopped the model")
        }
        _ => None,
    }
}

/// The text of a content, in the forms that servers give it. What the model thinks is no part of its answer.
fn words(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(part).collect(),
        Value::Object(_) => part(content),
        _ => String::new(),
    }
}

fn part(part: &Value) -> String {
    let kind = part["type"].as_str().unwrap_or_default();
    if kind.contains("thinking") || kind.contains("reasoning") {
        return String::new();
    }
    let text = if part.is_string() { part } else { &part["text"] };
    let text = if text.is_object() { &text["value"] } else { text };
    text.as_str().unwrap_or_default().to_owned()
}

/// The first of these fields that is a count.
fn number(object: &Value, names: &[&str]) -> Option<u64> {
    names.iter().find_map(|name| match &object[*name] {
        Value::Number(number) => {
            number.as_u64().or_else(|| number.as_f64().map(|number| number as u64))
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    })
}

/// What an object that stands for an error says, in the forms that servers use.
fn error_in(object: &Value) -> Option<Problem> {
    let is_nothing = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    let error = &object["error"];
    if !is_nothing(error) {
        // Some put the status beside the text.
        let status = status_of(error).or_else(|| status_of(object));
        return Some(Problem::Reported(error_text(error), status));
    }
    if object["object"] == "error" || object["type"] == "error" {
        return Some(reported(object));
    }
    const TEXTS: [&str; 5] = ["detail", "message", "errors", "error_msg", "error_message"];
    let is_answer = object.get("choices").is_some() || object.get("delta").is_some();
    if is_answer || object["message"].is_object() || object["finish_reason"].is_string() {
        return None;
    }
    let said = TEXTS.iter().map(|name| &object[*name]).find(|text| !is_nothing(text))?;
    Some(Problem::Reported(error_text(said), status_of(object)))
}

fn reported(error: &Value) -> Problem {
    Problem::Reported(error_text(error), status_of(error))
}

/// The HTTP status that an error object names, or means.
fn status_of(error: &Value) -> Option<u16> {
    let named = number(error, &["code", "status", "status_code"]);
    if let Some(status) = named.and_then(|status| u16::try_from(status).ok()) {
        return (400..600).contains(&status).then_some(status);
    }
    const WRONG: [&str; 7] = [
        "invalid_request",
        "context_length",
        "authentication",
        "permission",
        "not_found",
        "invalid_api_key",
        "insufficient_quota",
    ];
    let words = ["code", "type", "status"].map(|name| error[name].as_str().unwrap_or_default());
    let is_wrong = |word: &str| WRONG.iter().any(|wrong| word.to_lowercase().contains(wrong));
    words.into_iter().any(is_wrong).then_some(400)
}

/// A piece of JSON that ends too early was truncated.
pub(super) fn not_json(error: &serde_json::Error) -> Problem {
    match error.is_eof() {
        true => Problem::CutOff,
        false => Problem::Malformed(format!("not a completion: {error}")),
    }
}

/// The sentence in an error object, in the forms that servers use.
pub(super) fn error_text(error: &Value) -> String {
    let message = ["message", "detail", "error_msg", "msg"].iter().find_map(|name| error.get(name));
    let message = message.unwrap_or(error);
    match message.as_str() {
        Some(text) => text.to_owned(),
        None => message.to_string(),
    }
}

#[cfg(test)]
mod tests;

//! The log for a person at a terminal.

use std::fmt::Write;

use bulkhead_printable::{json as shown, line as plain};
use serde_json::Value;

/// Fields that a person does not look for.
const COMMON: [&str; 6] = ["schema", "townId", "runId", "uptimeMs", "seq", "part"];

/// What a person looks for first.
const FIRST: [&str; 4] = ["reason", "location", "phase", "hostCall"];

const RESET: &str = "\x1b[0m";

/// The same line for a person at a terminal: time, level, event, agent, then what is left. Texts stand as JSON writes
/// them, so that none looks like another field or another line. No line is longer than `max_bytes`, and of a record in
/// parts the first one is all.
pub(crate) fn pretty(json: &str, max_bytes: usize) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(json) else {
        return json.to_owned();
    };
    if fields.get("event").is_some_and(|event| event == "container.line_part") {
        return String::new();
    }
    let frames = fields.remove("frames");
    let mut text = head(&mut fields);
    let message = fields.remove("message").or_else(|| fields.remove("error"));
    for key in FIRST {
        fields.remove(key).iter().for_each(|value| field(&mut text, key, value));
    }
    if let Some(message) = message.filter(Value::is_string) {
        let _ = write!(text, " {}", shown(&message.to_string()));
    }
    fields.iter().for_each(|(key, value)| field(&mut text, key, value));
    let mut lines = String::new();
    push(&mut lines, &text, max_bytes);
    for frame in frames.as_ref().and_then(Value::as_array).into_iter().flatten() {
        let function = frame["function"].as_str().unwrap_or("(no name)");
        push(&mut lines, &format!("    at {}", plain(function)), max_bytes);
    }
    lines
}

/// Takes the fields for the beginning of the line.
fn head(fields: &mut serde_json::Map<String, Value>) -> String {
    let mut take = |key: &str| match fields.remove(key) {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let (ts, level, event, agent) = (take("ts"), take("level"), take("event"), take("agentId"));
    for common in COMMON {
        fields.remove(common);
    }
    let time = ts.get(11..23).unwrap_or(&ts);
    let color = color_of(&level);
    let mut text = format!("\x1b[2m{time}{RESET} {color}{level:<5}{RESET} \x1b[1m{event}{RESET}");
    if !agent.is_empty() {
        let _ = write!(text, " \x1b[36m{}{RESET}", plain(&agent));
    }
    text
}

fn field(text: &mut String, key: &str, value: &Value) {
    if !value.is_null() {
        let _ = write!(text, " \x1b[2m{}={RESET}{}", plain(key), shown(&value.to_string()));
    }
}

fn push(lines: &mut String, line: &str, max_bytes: usize) {
    let end = line.floor_char_boundary(max_bytes.saturating_sub(RESET.len() + 1));
    lines.push_str(&line[..end]);
    if end < line.len() {
        lines.push_str(RESET);
    }
    lines.push('\n');
}

fn color_of(level: &str) -> &'static str {
    match level {
        "warn" => "\x1b[33m",
        "error" | "fatal" => "\x1b[31m",
        "info" => "\x1b[32m",
        _ => "\x1b[2m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#"{"ts":"2026-01-15T09:30:00.000Z","level":"info","event":"agent.log","seq":1,"agentId":"a","#;

    fn of(rest: Value) -> String {
        let rest = rest.to_string();
        pretty(&format!("{HEAD}{}", &rest[1..]), 16 * 1024)
    }

    #[test]
    fn the_readable_form_stays_on_one_line() {
        let line = of(serde_json::json!({ "message": "over\nand over", "stream": "log" }));
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.contains("agent.log") && line.contains(r#""over\nand over""#), "{line}");
        assert!(!line.contains("seq"), "{line}");
    }

    #[test]
    fn a_terminal_is_shown_nothing_that_it_would_obey() {
        let text = "a\u{9b}31m\u{202e}b\x1b[2J\u{85}";
        let line =
            of(serde_json::json!({ "message": text, "reason": text, "fields": { text: text } }));
        for hidden in ["\u{9b}", "\u{202e}", "\u{85}", "\x1b[2J"] {
            assert!(!line.contains(hidden), "{line:?}");
        }
    }

    #[test]
    fn no_text_of_a_guest_looks_like_a_field_or_a_line_of_the_host() {
        let forged = r#"x" crashId="c" {"event":"container.stop_intent"}"#;
        let line = of(serde_json::json!({ "message": forged }));
        assert!(!line.contains("{\"event\""), "{line}");
        assert!(line.contains(r#"crashId=\"c\""#), "{line}");
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let line = pretty(&format!("{HEAD}\"message\":\"{}\"}}", "ä".repeat(5000)), 4096);
        assert!((4080..=4096).contains(&line.len()), "{}", line.len());
        assert!(line.ends_with("\x1b[0m\n"));
    }

    #[test]
    fn of_a_record_in_parts_the_first_is_shown() {
        let part = HEAD.replace("agent.log", "container.line_part");
        assert_eq!(pretty(&format!("{part}\"text\":\"x\"}}"), 4096), "");
        let first = of(serde_json::json!({ "message": "m", "part": 1, "parts": 3 }));
        assert!(first.contains("parts=\x1b[0m3"), "{first}");
    }
}

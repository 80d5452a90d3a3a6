//! How a line looks.

use std::fmt::Write;
use std::time::Duration;

use bulkhead_model::event::SCHEMA;
use bulkhead_model::{Event, Timestamp};
use serde_json::Value;

use crate::RunContext;

/// A line without its sequence number, which is given when it is queued.
pub(crate) struct Draft {
    head: String,
}

/// One JSON object. The event's own name comes right after time and level, for people who `tail`.
pub(crate) fn json(event: &Event, at: Timestamp, context: &RunContext) -> Draft {
    json_at(event, at, context.uptime(), context)
}

/// The same at a given time of the run.
pub(crate) fn json_at(
    event: &Event,
    at: Timestamp,
    uptime: Duration,
    context: &RunContext,
) -> Draft {
    let level = event.level();
    let body = serde_json::to_string(event)
        .unwrap_or_else(|error| format!("{{\"event\":\"container.log\",\"message\":\"{error}\"}}"));
    let fields = body.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(&body);
    let own = matches!(event, Event::AgentCrash(_));
    let run = if own { String::new() } else { run_and_town(context) };
    let mut head = String::with_capacity(fields.len() + 192);
    let _ = write!(
        head,
        "{{\"ts\":\"{at}\",\"level\":\"{}\",{fields},\"schema\":{SCHEMA},{run}\"uptimeMs\":{},\"seq\":",
        level.as_str(),
        uptime.as_millis(),
    );
    Draft { head }
}

/// The two common fields that a crash record says itself, because it outlives its line.
fn run_and_town(context: &RunContext) -> String {
    let town = context.town_id().map_or(Value::Null, Value::from);
    format!("\"townId\":{town},\"runId\":\"{}\",", context.run_id())
}

/// Digits of a sequence number and what ends a line, at most.
const TAIL_BYTES: usize = 24;

impl Draft {
    /// What the line takes in memory, as good as exactly.
    pub(crate) fn bytes(&self) -> u64 {
        (self.head.len() + TAIL_BYTES + size_of::<String>()) as u64
    }

    pub(crate) fn finish(mut self, seq: u64) -> String {
        let _ = writeln!(self.head, "{seq}}}");
        self.head
    }
}

/// The same line for a person at a terminal: time, level, event, agent, then what is left.
pub(crate) fn pretty(json: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(json) else {
        return json.to_owned();
    };
    let mut take = |key: &str| match fields.remove(key) {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let (ts, level, event, agent) = (take("ts"), take("level"), take("event"), take("agentId"));
    for common in ["schema", "townId", "runId", "uptimeMs", "seq"] {
        fields.remove(common);
    }
    let message = fields.remove("message").or_else(|| fields.remove("error"));
    let frames = fields.remove("frames");
    let time = ts.get(11..23).unwrap_or(&ts);
    let (color, reset) = (color_of(&level), "\x1b[0m");
    let mut line = format!("\x1b[2m{time}{reset} {color}{level:<5}{reset} \x1b[1m{event}{reset}");
    if !agent.is_empty() {
        let _ = write!(line, " \x1b[36m{}{reset}", bulkhead_printable::line(&agent));
    }
    let first =
        FIRST.iter().filter_map(|key| Some((*key, fields.remove(*key)?))).collect::<Vec<_>>();
    let field = |line: &mut String, key: &str, value: &Value| {
        if !value.is_null() {
            let _ = write!(
                line,
                " \x1b[2m{key}={reset}{}",
                bulkhead_printable::line(&value.to_string())
            );
        }
    };
    first.iter().for_each(|(key, value)| field(&mut line, key, value));
    if let Some(message) = message.as_ref().and_then(Value::as_str) {
        let _ = write!(line, " {}", bulkhead_printable::line(message));
    }
    fields.iter().for_each(|(key, value)| field(&mut line, key, value));
    line.push('\n');
    for frame in frames.as_ref().and_then(Value::as_array).into_iter().flatten() {
        let function = frame["function"].as_str().unwrap_or("(no name)");
        let _ = writeln!(line, "    at {}", bulkhead_printable::line(function));
    }
    line
}

/// What a person looks for first.
const FIRST: [&str; 4] = ["reason", "location", "phase", "hostCall"];

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

    fn event() -> Event {
        Event::StopIntent { by: "a \"test\"".into(), reason: "over\n".into(), drain_ms: None }
    }

    #[test]
    fn a_line_is_one_json_object_with_the_common_fields() {
        let context = RunContext::new("run-1".into(), Some("town".into()));
        let line = json(&event(), Timestamp(0), &context).finish(7);
        assert_eq!(line.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["event"], "container.stop_intent");
        assert_eq!(value["ts"], "1970-01-01T00:00:00.000Z");
        assert_eq!(value["level"], "info");
        assert_eq!(value["townId"], "town");
        assert_eq!(value["runId"], "run-1");
        assert_eq!(value["seq"], 7);
        assert_eq!(value["schema"], 1);
        assert_eq!(value["by"], "a \"test\"");
    }

    #[test]
    fn an_unknown_town_is_null() {
        let context = RunContext::new("run-1".into(), None);
        let line = json(&event(), Timestamp(0), &context).finish(0);
        assert!(serde_json::from_str::<Value>(&line).unwrap()["townId"].is_null());
    }

    #[test]
    fn the_readable_form_stays_on_one_line() {
        let context = RunContext::new("run-1".into(), None);
        let line = pretty(&json(&event(), Timestamp(0), &context).finish(0));
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.contains("container.stop_intent"));
    }

    #[test]
    fn a_terminal_is_shown_nothing_that_it_would_obey() {
        let context = RunContext::new("run-1".into(), None);
        let event = Event::StopIntent {
            by: "a\u{9b}31m\u{202e}".into(),
            reason: "b\x1b[2J\u{85}".into(),
            drain_ms: None,
        };
        let line = pretty(&json(&event, Timestamp(0), &context).finish(0));
        for hidden in ['\u{9b}', '\u{202e}', '\u{85}'] {
            assert!(!line.contains(hidden), "{line:?}");
        }
        assert!(!line.contains("\x1b[2J"));
    }

    #[test]
    fn a_crash_record_names_its_run_and_town_itself_and_once() {
        let record = serde_json::from_value(serde_json::json!({
            "crashId": "c", "agentId": "a", "role": "r", "name": "n", "townId": "town", "runId": "run",
            "incarnation": 1, "startAttempt": 1, "component": "c", "reason": "trap", "message": "m",
            "fingerprint": "f", "deterministic": "unknown", "frames": [], "symbolized": "pending",
            "startedAt": "2026-01-01T00:00:00.000Z", "crashedAt": "2026-01-01T00:00:00.000Z",
            "agentUptimeMs": 1, "phase": "handle", "lastLogLines": [], "activeTools": [],
            "activeAgents": 1, "consequence": { "decision": "none" },
            "resources": {
                "memoryBytes": 1, "memoryPeakBytes": 1, "memoryLimitBytes": 1, "deniedGrowths": 0,
                "softLimitCrossed": false, "cpuUs": 1, "turns": 1, "hostCalls": 1, "mailboxDepth": 0,
            },
        }));
        let event = Event::AgentCrash(std::sync::Arc::new(record.unwrap()));
        let line = json(&event, Timestamp(0), &RunContext::new("run".into(), None)).finish(0);
        for key in ["ts", "level", "event", "schema", "townId", "runId", "uptimeMs", "seq"] {
            assert_eq!(line.matches(&format!("\"{key}\":")).count(), 1, "{key} in {line}");
        }
    }

    #[test]
    fn no_field_of_an_event_hides_a_common_one() {
        let agent = bulkhead_model::event::AgentTag {
            agent_id: bulkhead_model::AgentId::parse("a").unwrap(),
            role: "r".into(),
            incarnation: bulkhead_model::Incarnation(1),
        };
        let event = Event::AgentExit {
            agent,
            reason: bulkhead_model::ExitReason::Stopped,
            phase: bulkhead_model::Phase::Idle,
            message: "m".into(),
            by: None,
            agent_uptime_ms: 1,
            turns: 0,
            cpu_us: 0,
            undelivered: 0,
            dropped_log_lines: 0,
            crash_id: None,
        };
        let line = json(&event, Timestamp(0), &RunContext::new("run".into(), None)).finish(0);
        for key in ["ts", "level", "event", "schema", "townId", "runId", "uptimeMs", "seq"] {
            assert_eq!(line.matches(&format!("\"{key}\":")).count(), 1, "{key} in {line}");
        }
    }
}

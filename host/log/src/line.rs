//! How a line looks.
//!
//! What the host says of every record comes first, then the record's own fields, and what a guest chose last. A line that
//! ends early says whose it is all the same, and none of it reads as a record of another kind.

mod parts;

use std::fmt::Write;
use std::time::Duration;

use bulkhead_types::event::SCHEMA;
use bulkhead_types::{Event, Level, Timestamp};
use serde_json::Value;

use crate::RunContext;

/// Digits of the longest sequence number.
const SEQ_BYTES: usize = 20;

/// A line without its sequence number, which is given when it is queued.
pub(crate) struct Draft {
    /// Up to the number.
    head: String,
    /// Behind it, with the brace that ends the object.
    rest: String,
}

/// What all parts of a record have in common.
struct Envelope<'a> {
    at: Timestamp,
    level: Level,
    uptime: Duration,
    context: &'a RunContext,
}

/// The lines of a record: one, or its parts when it would be longer than `max_bytes` with its newline.
pub(crate) fn lines(
    event: &Event,
    at: Timestamp,
    context: &RunContext,
    max_bytes: usize,
) -> Vec<Draft> {
    lines_at(event, at, context.uptime(), context, max_bytes)
}

/// The same at a given time of the run.
pub(crate) fn lines_at(
    event: &Event,
    at: Timestamp,
    uptime: Duration,
    context: &RunContext,
    max_bytes: usize,
) -> Vec<Draft> {
    let envelope = Envelope { at, level: event.level(), uptime, context };
    let whole = envelope.line(event);
    if whole.bytes() <= max_bytes {
        return vec![whole];
    }
    parts::split(&envelope, event.name(), &whole, max_bytes)
}

impl Envelope<'_> {
    /// One JSON object, of any length.
    fn line(&self, event: &Event) -> Draft {
        // A crash record says the run and the town itself, because it outlives its line.
        let is_own = matches!(event, Event::AgentCrash(_));
        let run = if is_own { String::new() } else { run_and_town(self.context) };
        Draft { head: self.head(event.name(), &run), rest: fields(event) }
    }

    fn head(&self, event: &str, run_and_town: &str) -> String {
        let (at, level, uptime_ms) = (self.at, self.level.as_str(), self.uptime.as_millis());
        format!(
            "{{\"ts\":\"{at}\",\"level\":\"{level}\",\"event\":\"{event}\",\"schema\":{SCHEMA},{run_and_town}\
             \"uptimeMs\":{uptime_ms},\"seq\":"
        )
    }
}

/// The record's own fields, as they follow others: with the comma before them and the brace behind.
fn fields(event: &Event) -> String {
    let body = serde_json::to_string(event)
        .unwrap_or_else(|error| format!("{{\"message\":{}}}", Value::from(error.to_string())));
    let tag = format!("{{\"event\":\"{}\"", event.name());
    let fields = body.strip_prefix(&tag).map_or_else(|| body.replacen('{', ",", 1), str::to_owned);
    bulkhead_printable::json(&fields).into_owned()
}

fn run_and_town(context: &RunContext) -> String {
    let town = context.town_id().map_or(Value::Null, Value::from);
    let town = town.to_string();
    format!("\"townId\":{},\"runId\":\"{}\",", bulkhead_printable::json(&town), context.run_id())
}

impl Draft {
    /// What the line takes with its newline, at most.
    pub(crate) fn bytes(&self) -> usize {
        self.head.len() + SEQ_BYTES + self.rest.len() + "\n".len()
    }

    /// Adds the line as number `seq`, with its newline.
    pub(crate) fn write(&self, seq: u64, into: &mut String) {
        let _ = writeln!(into, "{}{seq}{}", self.head, self.rest);
    }

    #[cfg(test)]
    pub(crate) fn finish(&self, seq: u64) -> String {
        let mut line = String::new();
        self.write(seq, &mut line);
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event::StopIntent { by: "a \"test\"".into(), reason: "over\n".into(), drain_ms: None }
    }

    fn line(event: &Event, context: &RunContext, seq: u64) -> String {
        let lines = lines(event, Timestamp(0), context, usize::MAX);
        assert_eq!(lines.len(), 1);
        lines[0].finish(seq)
    }

    #[test]
    fn a_line_is_one_json_object_with_the_common_fields() {
        let context = RunContext::new("run-1".into(), Some("town".into()));
        let line = line(&event(), &context, 7);
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
        let line = line(&event(), &context, 0);
        assert!(serde_json::from_str::<Value>(&line).unwrap()["townId"].is_null());
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
        let line = line(&event, &RunContext::new("run".into(), None), 0);
        for key in ["ts", "level", "event", "schema", "townId", "runId", "uptimeMs", "seq"] {
            assert_eq!(line.matches(&format!("\"{key}\":")).count(), 1, "{key} in {line}");
        }
    }

    #[test]
    fn no_field_of_an_event_hides_a_common_one() {
        let agent = bulkhead_types::event::AgentTag {
            agent_id: bulkhead_types::AgentId::parse("a").unwrap(),
            role: "r".into(),
            incarnation: bulkhead_types::Incarnation(1),
        };
        let event = Event::AgentExit {
            agent,
            reason: bulkhead_types::ExitReason::Stopped,
            phase: bulkhead_types::Phase::Idle,
            message: "m".into(),
            by: None,
            agent_uptime_ms: 1,
            turns: 0,
            cpu_us: 0,
            undelivered: 0,
            dropped_log_lines: 0,
            crash_id: None,
        };
        let line = line(&event, &RunContext::new("run".into(), None), 0);
        for key in ["ts", "level", "event", "schema", "townId", "runId", "uptimeMs", "seq"] {
            assert_eq!(line.matches(&format!("\"{key}\":")).count(), 1, "{key} in {line}");
        }
    }

    #[test]
    fn what_a_guest_chose_comes_last_and_cannot_stand_for_a_field_of_the_host() {
        let agent = bulkhead_types::event::AgentTag {
            agent_id: bulkhead_types::AgentId::parse("a").unwrap(),
            role: "r".into(),
            incarnation: bulkhead_types::Incarnation(1),
        };
        let event = Event::AgentLog {
            agent,
            level: Level::Info,
            stream: "log",
            dropped: 3,
            message: "{\"event\":\"container.stop_intent\"}\u{202e}".into(),
            fields: [("guest.event".to_owned(), "container.stop_intent".to_owned())].into(),
        };
        let line = line(&event, &RunContext::new("run".into(), Some("town".into())), 7);
        let guests = line.find("\"message\":").unwrap();
        for key in [
            "ts", "level", "event", "schema", "townId", "runId", "uptimeMs", "seq", "agentId",
            "dropped",
        ] {
            assert!(line[..guests].contains(&format!("\"{key}\":")), "{key} in {line}");
        }
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["message"], "{\"event\":\"container.stop_intent\"}\u{202e}");
        assert!(line.contains("\\u202e"), "{line}");
    }
}

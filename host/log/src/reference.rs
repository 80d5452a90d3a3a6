//! Makes `docs/events.md`: from the schema what a line may hold, from the examples how it looks.

mod fields;

use std::fmt::Write;
use std::time::Duration;

use bulkhead_types::event::SCHEMA;
use bulkhead_types::{Event, Level};
use serde_json::{Value, json};

use crate::examples::{self, AT, RUN, TOWN};
use crate::{RunContext, line, schema};
use fields::{definition, table};

/// What stands before the events.
const INTRODUCTION: &str = include_str!("reference/introduction.md");

/// Fields that OpenTelemetry has a name for: event, path of the field, name, what to know.
const OPEN_TELEMETRY: &[[&str; 4]] = &[
    ["*", "ts", "Timestamp", "of the log record"],
    ["*", "level", "SeverityText", "of the log record"],
    ["*", "event", "EventName", "of the log record"],
    ["*", "runId", "service.instance.id", ""],
    ["container.cold_start", "version", "service.version", ""],
    ["container.unhandled_rejection", "name", "exception.type", ""],
    ["container.unhandled_rejection", "message", "exception.message", ""],
    ["container.unhandled_rejection", "stack", "exception.stacktrace", ""],
    ["container.uncaught_exception", "name", "exception.type", ""],
    ["container.uncaught_exception", "message", "exception.message", ""],
    ["container.uncaught_exception", "stack", "exception.stacktrace", ""],
    ["container.request_refused", "method", "http.request.method", ""],
    ["container.request_refused", "path", "url.path", ""],
    ["container.request_refused", "status", "http.response.status_code", ""],
    ["container.log", "message", "Body", "of the log record"],
    ["agent.start_failed", "errorType", "error.type", ""],
    ["agent.crash", "reason", "exception.type", ""],
    ["agent.crash", "message", "exception.message", ""],
    ["agent.crash", "frames", "exception.stacktrace", "as objects, not as one text"],
    ["agent.crash", "frames[].function", "code.function.name", "earlier `code.function`"],
    ["agent.crash", "frames[].file", "code.file.path", "earlier `code.filepath`"],
    ["agent.crash", "frames[].line", "code.line.number", "earlier `code.lineno`"],
    ["agent.crash", "frames[].column", "code.column.number", "earlier `code.column`"],
    ["agent.crash", "location.file", "code.file.path", "earlier `code.filepath`"],
    ["agent.crash", "location.line", "code.line.number", "earlier `code.lineno`"],
    ["agent.crash", "location.column", "code.column.number", "earlier `code.column`"],
    ["agent.crash", "status", "process.exit.code", "of the guest, not of the host"],
    ["agent.log", "message", "Body", "of the log record"],
    ["agent.log", "stream", "log.iostream", "`log` is the guest's own log, not a stream"],
    ["agent.message", "messageId", "messaging.message.id", ""],
    ["agent.message", "bytes", "messaging.message.body.size", ""],
];

/// The whole file.
fn markdown() -> String {
    let schema = schema::line_schema();
    let lines = schema["oneOf"].as_array().unwrap();
    let mut text = INTRODUCTION.replace("{schema}", &SCHEMA.to_string());
    text.push_str("\n## Fields of every line\n\n");
    let mut any = lines[0].clone();
    any["properties"]["event"] = json!({ "type": "string", "description": "Which kind of line." });
    text.push_str(&table(&any, |name| schema::COMMON.contains(&name)));
    text.push_str("\n## Events\n\n| event | level | when |\n| --- | --- | --- |\n");
    for name in Event::NAMES {
        let when = fields::description(alternative(&schema, name));
        let anchor = name.replace('.', "");
        let _ = writeln!(text, "| [`{name}`](#{anchor}) | {} | {when} |", levels(name));
    }
    for name in Event::NAMES {
        text.push_str(&section(&schema, name));
    }
    text.push_str("\n## Types\n");
    for (name, schema) in schema["$defs"].as_object().unwrap() {
        // These are whole lines, and stand there.
        if !["CrashRecord", "MemoryUsage"].contains(&name.as_str()) {
            text.push_str(&definition(name, schema));
        }
    }
    text.push_str("\n## Names in OpenTelemetry\n\n");
    text.push_str("| event | field | OpenTelemetry | |\n| --- | --- | --- | --- |\n");
    for [event, field, name, note] in OPEN_TELEMETRY {
        let event = if *event == "*" { "every" } else { event };
        let _ = writeln!(text, "| {event} | `{field}` | `{name}` | {note} |");
    }
    text
}

fn section(schema: &Value, name: &str) -> String {
    let line = alternative(schema, name);
    let when = fields::description(line);
    let mut text = format!("\n### {name}\n\nLevel {}. {when}\n\n", levels(name));
    // A type of its own. A crash record says two of the common fields itself.
    let whole = line["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/"));
    let body = whole.map_or(line, |name| &schema["$defs"][name]);
    text.push_str(&table(body, |name| !schema::COMMON.contains(&name)));
    let _ = write!(text, "\n```json\n{}```\n", example(name));
    text
}

fn alternative<'a>(schema: &'a Value, name: &str) -> &'a Value {
    let mut lines = schema["oneOf"].as_array().unwrap().iter();
    lines.find(|line| line["properties"]["event"]["const"] == name).unwrap()
}

/// The levels of an event's examples.
fn levels(name: &str) -> String {
    let mut levels: Vec<Level> = of_name(name).iter().map(Event::level).collect();
    levels.sort();
    levels.dedup();
    levels.iter().map(|level| level.as_str()).collect::<Vec<_>>().join(", ")
}

fn of_name(name: &str) -> Vec<Event> {
    examples::all().into_iter().filter(|event| event.name() == name).collect()
}

/// The first example of an event, as it is written.
fn example(name: &str) -> String {
    render(of_name(name).first().expect("an example"))
}

fn render(event: &Event) -> String {
    let context = RunContext::new(RUN.into(), Some(TOWN.into()));
    let seq = event.name_index() as u64;
    // The first line of a run comes at once.
    let uptime_ms = if seq == 0 { 38 } else { 412_345 };
    let uptime = Duration::from_millis(uptime_ms);
    line::lines_at(event, AT, uptime, &context, usize::MAX)[0].finish(seq)
}

/// Whether a schema has a field, `[]` being each item of an array.
fn has_field(root: &Value, at: &Value, path: &str) -> bool {
    let at = fields::resolve(root, at);
    let Some((name, rest)) = path.split_once('.').or(Some((path, ""))) else { return false };
    let (name, is_item) = name.strip_suffix("[]").map_or((name, false), |name| (name, true));
    let own = at["properties"].get(name);
    let whole = at["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/"));
    let field = own.or_else(|| root["$defs"][whole?]["properties"].get(name));
    let Some(field) = field else { return false };
    let field = if is_item { &field["items"] } else { field };
    rest.is_empty() || has_field(root, field, rest)
}

#[cfg(test)]
mod tests {
    use boon::{Compiler, Schemas};

    use super::*;

    #[test]
    fn the_file_is_what_the_types_and_the_examples_say() {
        expect_test::expect_file!["../../../docs/events.md"].assert_eq(&markdown());
    }

    #[test]
    fn every_example_keeps_to_the_schema() {
        let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
        compiler.add_resource("mem:///log", schema::line_schema()).unwrap();
        let index = compiler.compile("mem:///log", &mut schemas).unwrap();
        for event in examples::all() {
            let line = render(&event);
            let value: Value = serde_json::from_str(&line).unwrap();
            let result = schemas.validate(&value, index).map_err(|error| error.to_string());
            assert_eq!(result, Ok(()), "{line}");
        }
    }

    /// Records as long as guests can make them.
    fn long() -> Vec<Event> {
        let text = "\u{1}x".repeat(4096);
        let stretched = |event: Event| match event {
            Event::AgentCrash(record) => {
                let mut record = bulkhead_types::CrashRecord::clone(&record);
                let frames = record.frames.iter().cloned().cycle().take(200).collect::<Vec<_>>();
                (record.frames, record.last_log_lines) = (frames.into(), vec![text.clone(); 20]);
                record.message.clone_from(&text);
                Some(Event::AgentCrash(record.into()))
            }
            Event::AgentLog { agent, level, stream, dropped, .. } => {
                let fields = (0..32).map(|n| (format!("guest.{n}"), text.clone())).collect();
                Some(Event::AgentLog {
                    agent,
                    level,
                    stream,
                    dropped,
                    message: text.clone(),
                    fields,
                })
            }
            _ => None,
        };
        examples::all().into_iter().filter_map(stretched).collect()
    }

    #[test]
    fn every_part_of_a_long_record_keeps_to_the_schema() {
        let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
        compiler.add_resource("mem:///log", schema::line_schema()).unwrap();
        let index = compiler.compile("mem:///log", &mut schemas).unwrap();
        let context = RunContext::new(RUN.into(), Some(TOWN.into()));
        for (event, bound) in long().iter().flat_map(|event| [(event, 4096), (event, 16 * 1024)]) {
            let lines = line::lines_at(event, AT, Duration::ZERO, &context, bound);
            assert!(lines.len() > 10);
            for line in lines.iter().map(|draft| draft.finish(7)) {
                let value: Value = serde_json::from_str(&line).unwrap();
                assert!(schemas.validate(&value, index).is_ok(), "{bound}: {line}");
            }
        }
    }

    #[test]
    fn every_field_with_a_name_in_open_telemetry_is_there() {
        let schema = schema::line_schema();
        for [event, field, ..] in OPEN_TELEMETRY {
            let event = if *event == "*" { Event::NAMES[0] } else { event };
            assert!(has_field(&schema, alternative(&schema, event), field), "{event}: {field}");
        }
    }

    #[test]
    fn every_field_says_what_it_means() {
        let text = markdown();
        let silent = |line: &&str| line.starts_with("| `") && line.ends_with("|  |");
        assert_eq!(text.lines().filter(silent).collect::<Vec<_>>(), Vec::<&str>::new());
    }
}

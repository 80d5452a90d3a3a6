//! Records that are longer than a line may be.
//!
//! Platforms pass a line on whole up to 16 KiB, and cut a longer one into pieces that nobody can read. So a long record
//! is several lines, each of which is JSON and takes a number of its own. The first is the record with its long fields
//! shortened, for a search for the event; the others (`container.line_part`) have all of it as text, in pieces. All
//! of them say which part they are, and the number of the first is `seq - part + 1`.

use std::borrow::Cow;
use std::fmt;

use bulkhead_types::Event;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Draft, Envelope, fields, run_and_town};

/// `,"part":,"parts":` with two numbers of the longest kind, and the braces and the newline.
const FRAME_BYTES: usize = 64;

/// The parts of a record whose one line would be too long.
pub(super) fn split(
    envelope: &Envelope<'_>,
    name: &'static str,
    whole: &Draft,
    max_bytes: usize,
) -> Vec<Draft> {
    let record = without_number(whole);
    let head = envelope.head(LINE_PART, &run_and_town(envelope.context));
    let part = |text: &str| {
        let event = Event::LinePart { level: envelope.level, of: name, text: text.to_owned() };
        fields(&event)
    };
    let empty = Draft { head: head.clone(), rest: part("") };
    let pieces = pieces(&record, max_bytes.saturating_sub(empty.bytes() + FRAME_BYTES));
    let parts = pieces.len() + 1;
    let numbered =
        |part: usize, fields: &str| format!(",\"part\":{part},\"parts\":{parts}{fields}");
    let room = max_bytes.saturating_sub(whole.bytes() - whole.rest.len() + FRAME_BYTES);
    let first = match &*shortened(&whole.rest.replacen(',', "{", 1), room) {
        "{}" => "}".to_owned(),
        object => object.replacen('{', ",", 1),
    };
    let mut drafts = vec![Draft { head: whole.head.clone(), rest: numbered(1, &first) }];
    drafts.extend(
        pieces.iter().zip(2..).map(|(piece, number)| Draft {
            head: head.clone(),
            rest: numbered(number, &part(piece)),
        }),
    );
    drafts
}

const LINE_PART: &str = "container.line_part";

/// The record as one JSON object. Its number is that of its first part, which all parts say.
fn without_number(whole: &Draft) -> String {
    let head = whole.head.strip_suffix(",\"seq\":").unwrap_or(&whole.head);
    format!("{head}{}", whole.rest)
}

/// Cuts a text into pieces each of which takes at most `room` bytes as a string of JSON. The text is JSON itself, so
/// only quotes and backslashes are escaped in it.
fn pieces(text: &str, room: usize) -> Vec<&str> {
    let (mut pieces, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (at, found) in text.char_indices() {
        let size = if matches!(found, '"' | '\\') { 2 } else { found.len_utf8() };
        if bytes + size > room && at > from {
            pieces.push(&text[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += size;
    }
    pieces.push(&text[from..]);
    pieces
}

/// The fields of an object, in their order.
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
        struct Fill;
        impl<'de> Visitor<'de> for Fill {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::new();
                while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    fields.push((key, value));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Fill).map(Object)
    }
}

/// The same value in at most `room` bytes, of the same kind: texts and lists end early, of objects the longest fields
/// are shortened first. What cannot be shortened stays.
fn shortened(value: &str, room: usize) -> String {
    if value.len() <= room {
        return value.to_owned();
    }
    match value.as_bytes().first() {
        Some(b'"') => text(value, room),
        Some(b'[') => list(value, room),
        Some(b'{') => object(value, room),
        _ => value.to_owned(),
    }
}

fn text(value: &str, room: usize) -> String {
    let whole: String = serde_json::from_str(value).unwrap_or_default();
    let (mut end, mut bytes) = (0, 2);
    let mut buffer = [0; 4];
    for found in whole.chars() {
        bytes += bulkhead_printable::json_bytes(found.encode_utf8(&mut buffer)) - 2;
        if bytes > room {
            break;
        }
        end += found.len_utf8();
    }
    let short = serde_json::Value::from(&whole[..end]).to_string();
    bulkhead_printable::json(&short).into_owned()
}

fn list(value: &str, room: usize) -> String {
    let items: Vec<&RawValue> = serde_json::from_str(value).unwrap_or_default();
    let mut short = "[".to_owned();
    for item in items {
        if short.len() + item.get().len() + ",]".len() > room {
            break;
        }
        if short.len() > 1 {
            short.push(',');
        }
        short.push_str(item.get());
    }
    short.push(']');
    short
}

fn object(value: &str, room: usize) -> String {
    let Ok(Object(fields)) = serde_json::from_str(value) else { return "{}".to_owned() };
    let fields: Vec<(String, &str)> = fields
        .iter()
        .map(|(key, value)| (format!("{}:", serde_json::Value::from(&**key)), value.get()))
        .collect();
    let keys: usize = fields.iter().map(|(key, _)| key.len() + ",".len()).sum();
    let most = share(fields.iter().map(|(_, value)| value.len()), room.saturating_sub(keys + 1));
    let mut short = "{".to_owned();
    for (key, value) in &fields {
        let value = shortened(value, most);
        // Of many fields, or of such that cannot be shortened, the last ones go.
        if short.len() + key.len() + value.len() + ",}".len() > room {
            continue;
        }
        if short.len() > 1 {
            short.push(',');
        }
        short.push_str(key);
        short.push_str(&value);
    }
    short.push('}');
    short
}

/// The size at which those that are larger are cut, so that all of them take `room`.
fn share(sizes: impl Iterator<Item = usize>, mut room: usize) -> usize {
    let mut sizes: Vec<usize> = sizes.collect();
    sizes.sort_unstable();
    for (at, size) in sizes.iter().enumerate() {
        let each = room / (sizes.len() - at);
        if *size > each {
            return each;
        }
        room -= size;
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bulkhead_types::event::AgentTag;
    use bulkhead_types::{AgentId, Incarnation, Level, Timestamp};
    use serde_json::Value;

    use super::super::lines;
    use super::*;
    use crate::RunContext;

    const MAX: usize = 16 * 1024;

    fn written(event: &Event, max_bytes: usize) -> Vec<String> {
        let context = RunContext::new("run-1".into(), Some("town".into()));
        let drafts = lines(event, Timestamp(0), &context, max_bytes);
        drafts.iter().zip(u64::MAX - 100..).map(|(draft, seq)| draft.finish(seq)).collect()
    }

    /// Checks what holds for every record in parts, and puts it together.
    fn joined(lines: &[String], max_bytes: usize) -> Value {
        assert!(lines.len() > 1);
        let mut record = String::new();
        for (line, part) in lines.iter().zip(1..) {
            assert!(line.len() <= max_bytes, "{} bytes", line.len());
            assert_eq!(line.matches('\n').count(), 1);
            let line: Value = serde_json::from_str(line).expect("each part is JSON");
            assert_eq!((&line["part"], &line["parts"]), (&part.into(), &lines.len().into()));
            assert_eq!(line["runId"], "run-1");
            record.push_str(line["text"].as_str().unwrap_or_default());
        }
        serde_json::from_str(&record).expect("the parts are the record")
    }

    fn log(message: &str, fields: BTreeMap<String, String>) -> Event {
        let agent = AgentTag {
            agent_id: AgentId::parse("a").unwrap(),
            role: "r".into(),
            incarnation: Incarnation(1),
        };
        Event::AgentLog {
            agent,
            level: Level::Warn,
            stream: "log",
            dropped: 0,
            message: message.into(),
            fields,
        }
    }

    #[test]
    fn a_record_of_any_size_and_kind_comes_in_lines_that_fit_and_nothing_of_it_is_lost() {
        let mut dice = fastrand::Rng::with_seed(3);
        for max_bytes in [4096, 5000, MAX] {
            for _ in 0..60 {
                let mut text = |most: usize| -> String {
                    let kinds = [
                        "x",
                        "\"",
                        "\\",
                        "\u{1}",
                        "ä",
                        "👩\u{200d}🚀",
                        "\u{202e}",
                        "\n",
                        "{\"event\":\"",
                    ];
                    let kind = *dice.choice(kinds.iter()).unwrap();
                    kind.repeat(dice.usize(0..most))
                };
                let message = text(2 * max_bytes);
                let fields =
                    (0..32).map(|n| (format!("guest.{n}{}", text(20)), text(300))).collect();
                let event = log(&message, fields);
                let lines = written(&event, max_bytes);
                if lines.len() == 1 {
                    assert!(lines[0].len() <= max_bytes);
                    continue;
                }
                let record = joined(&lines, max_bytes);
                let expected = serde_json::to_value(&event).unwrap();
                for (key, value) in expected.as_object().unwrap() {
                    assert_eq!(&record[key], value, "{key}");
                }
            }
        }
    }

    #[test]
    fn the_longest_line_that_fits_is_one() {
        let size = |bytes: usize| written(&log(&"x".repeat(bytes), BTreeMap::new()), MAX);
        let overhead = size(0)[0].len();
        assert_eq!(size(MAX - overhead).len(), 1);
        assert_eq!(size(MAX - overhead)[0].len(), MAX);
        assert_eq!(size(MAX - overhead + 1).len(), 3, "its head, and the two pieces of the whole");
    }

    #[test]
    fn the_first_part_has_every_field_and_only_the_long_ones_are_shortened() {
        let frame = serde_json::json!({ "index": 0, "functionIndex": 7, "function": "f".repeat(200), "inApp": true });
        let mut record = serde_json::json!({
            "crashId": "c", "agentId": "a", "role": "r", "name": "n", "townId": "town", "runId": "run-1",
            "incarnation": 1, "startAttempt": 1, "component": "c", "reason": "panic", "message": "m".repeat(3000),
            "fingerprint": "f", "deterministic": "unknown", "frames": vec![frame; 200], "symbolized": "pending",
            "startedAt": "2026-01-01T00:00:00.000Z", "crashedAt": "2026-01-01T00:00:00.000Z",
            "agentUptimeMs": 1, "phase": "handle", "lastLogLines": vec!["l".repeat(1024); 20],
            "activeTools": ["git"], "activeAgents": 1, "consequence": { "decision": "none" },
            "resources": {
                "memoryBytes": 1, "memoryPeakBytes": 1, "memoryLimitBytes": 1, "deniedGrowths": 0,
                "softLimitCrossed": false, "cpuUs": 1, "turns": 1, "hostCalls": 1, "mailboxDepth": 0,
            },
        });
        let event = |record: &Value| {
            Event::AgentCrash(std::sync::Arc::new(serde_json::from_value(record.clone()).unwrap()))
        };
        let lines = written(&event(&record), MAX);
        let whole = joined(&lines, MAX);
        let first: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(first["event"], "agent.crash");
        assert!(lines[1..].iter().all(|line| line.contains("\"of\":\"agent.crash\"")));
        let shortened = ["frames", "lastLogLines"];
        for (key, value) in whole.as_object().unwrap() {
            let is_long = shortened.contains(&key.as_str());
            assert!(first.get(key).is_some(), "{key} is there");
            assert_eq!(first[key] == *value, !is_long, "{key}");
        }
        assert!(first["frames"].as_array().unwrap().len() > 10, "its innermost frames are there");
        record["message"] = "m".repeat(40_000).into();
        let first: Value = serde_json::from_str(&written(&event(&record), MAX)[0]).unwrap();
        assert!(first["message"].as_str().unwrap().len() > 3000, "the beginning of a long message");
    }

    #[test]
    fn sizes_are_cut_at_a_fair_share() {
        assert_eq!(share([1, 2, 3].into_iter(), 6), usize::MAX);
        assert_eq!(share([10, 1, 10].into_iter(), 11), 5);
        assert_eq!(share([10, 10].into_iter(), 0), 0);
    }
}

//! One line: ours, the original container's, or plain text, with or without a wrapper of a log pipeline.

use std::borrow::Cow;

use memchr::memmem;

use super::fields::Fields;
use super::quick;
use super::stamp;
use super::tables::tables;
use crate::rules::{Sign, SignSpec, Source};

/// What a text of a line may come to in a report, in bytes.
const DETAIL_BYTES: usize = 160;

/// Names of agents, towns and runs are cut there.
pub(super) const NAME_BYTES: usize = 96;

/// How far a brace may be from the beginning of a line that a pipeline put something before.
const PREFIX_BYTES: usize = 96;

/// Where a line stands in time and place, as far as it says so itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stamp {
    /// Milliseconds since 1970.
    pub ts: Option<i64>,
    pub town: Option<Box<str>>,
    pub run: Option<Box<str>>,
    pub seq: Option<u64>,
    pub uptime_ms: Option<i64>,
}

/// A sample of memory, in MB.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Memory {
    pub rss: f32,
    pub heap: f32,
    pub limit: f32,
}

/// A line that the rules may want.
#[derive(Debug, Clone)]
pub struct Finding {
    pub stamp: Stamp,
    /// The line has a time of its own; otherwise `stamp.ts` is that of a line before it.
    pub own_time: bool,
    /// From 1, in its chunk or in its file.
    pub line: u64,
    pub specs: Vec<&'static SignSpec>,
    pub agent: Option<Box<str>>,
    pub detail: Box<str>,
    pub memory: Option<Memory>,
    /// The run that this one tells about.
    pub about_run: Option<Box<str>>,
    pub boot_id: Option<Box<str>>,
    /// How often what it says happened: a line may stand for others that were held back.
    pub count: u32,
    pub hash: u64,
}

/// What a line is.
pub enum Line {
    /// Nothing on it, or nothing that can be read.
    Nothing,
    /// It shows only that somebody lived.
    Alive(Stamp),
    /// It shows a sign.
    Found(Box<Finding>),
}

/// Kind of a line, for the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Json,
    Cut,
    Text,
    Binary,
}

/// Reads a line without its end.
pub fn read(line: &[u8]) -> (Line, Form) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if let Some(alive) = quick::alive(line) {
        return (Line::Alive(alive), Form::Json);
    }
    let brace = memchr::memchr(b'{', &line[..line.len().min(PREFIX_BYTES)]);
    // An array or an object inside of a text is not a JSON line.
    let json = brace.filter(|at| line[*at..].starts_with(b"{\""));
    match json {
        Some(at) => {
            let Ok(text) = utf8(&line[at..]) else { return (Line::Nothing, Form::Binary) };
            let prefix = prefix_time(&line[..at]);
            let (read, whole) = object(&text, prefix, 0);
            (with_hash(read, line), if whole { Form::Json } else { Form::Cut })
        }
        None => {
            if is_binary(line) {
                return (Line::Nothing, Form::Binary);
            }
            (
                with_hash(plain(line, Stamp { ts: prefix_time(line), ..Stamp::default() }), line),
                Form::Text,
            )
        }
    }
}

fn short(text: &str, bytes: usize) -> Box<str> {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().into()
}

fn utf8(bytes: &[u8]) -> Result<Cow<'_, str>, ()> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Cow::Borrowed(text)),
        // A line that is cut in the middle of a character.
        Err(error) if error.error_len().is_none() => {
            Ok(String::from_utf8_lossy(&bytes[..error.valid_up_to()]))
        }
        Err(_) => Err(()),
    }
}

fn is_binary(line: &[u8]) -> bool {
    let head = &line[..line.len().min(256)];
    let odd = head.iter().filter(|byte| matches!(byte, 0..=8 | 14..=26 | 28..=31)).count();
    odd * 8 > head.len()
}

/// The time that a pipeline wrote before the line, anywhere in its first bytes.
fn prefix_time(prefix: &[u8]) -> Option<i64> {
    let head = &prefix[..prefix.len().min(PREFIX_BYTES)];
    let mut at = 0;
    while let Some(dash) = memchr::memchr(b'-', &head[at..]) {
        let from = (at + dash).checked_sub(4);
        if let Some((time, _)) = from.and_then(|from| stamp::parse(&head[from..])) {
            return Some(time);
        }
        at += dash + 1;
    }
    None
}

/// Reads an object, and whether all of it was there.
fn object(text: &str, outer: Option<i64>, depth: u32) -> (Line, bool) {
    let fields = Fields::read(text.trim_end());
    let whole = fields.is_whole();
    let stamp = stamp_of(&fields, outer);
    let event = fields.get("event").filter(|name| name.contains('.'));
    let message = if event.is_some() { None } else { fields.get("msg") };
    let name = event.as_deref().or(message.as_deref()).unwrap_or_default();
    if let Some(specs) = tables().of_event(name.as_bytes()) {
        let holds = |spec: &&SignSpec| match spec.source {
            Source::Event { with, without, at_least, .. } => {
                let number = |path| fields.get(path).and_then(|text| text.parse::<u64>().ok());
                let is = |(path, value): &(&str, &str)| fields.get(path).as_deref() == Some(*value);
                with.iter().all(is)
                    && !without.iter().any(is)
                    && at_least.iter().all(|(path, least)| number(path) >= Some(*least))
            }
            Source::Text { .. } => false,
        };
        let specs: Vec<_> = specs.iter().copied().filter(holds).collect();
        let line = if specs.is_empty() {
            Line::Alive(stamp)
        } else {
            Line::Found(Box::new(finding(&fields, stamp, specs)))
        };
        return (line, whole);
    }
    // What an agent says in a line of ours is no sign of anything.
    if event.is_some() {
        return (Line::Alive(stamp), whole);
    }
    let inner = ["message", "log", "msg", "line", "textPayload", "body"]
        .into_iter()
        .find_map(|key| fields.get(key));
    match inner {
        Some(inner) if inner.starts_with("{\"") && depth == 0 => {
            let (line, inner_whole) = object(&inner, stamp.ts, depth + 1);
            (in_town(line, stamp.town), whole && inner_whole)
        }
        Some(inner) if tables().may_show(inner.as_bytes()) => {
            (plain(inner.as_bytes(), stamp), whole)
        }
        _ => (plain(text.as_bytes(), stamp), whole),
    }
}

fn in_town(mut line: Line, town: Option<Box<str>>) -> Line {
    let stamp = match &mut line {
        Line::Found(finding) => &mut finding.stamp,
        Line::Alive(stamp) => stamp,
        Line::Nothing => return line,
    };
    stamp.town = stamp.town.take().or(town);
    line
}

fn stamp_of(fields: &Fields<'_>, outer: Option<i64>) -> Stamp {
    let ts = ["ts", "timestamp", "time", "@timestamp"].into_iter().find_map(|key| {
        let text = fields.get(key)?;
        let read = stamp::parse(text.as_bytes()).map(|(ts, _)| ts);
        read.or_else(|| stamp::from_number(text.parse().ok()?))
    });
    let name = |key| fields.get(key).map(|text| short(&text, NAME_BYTES));
    let uptime = fields.number("uptimeMs").or_else(|| fields.number("uptime"));
    Stamp {
        ts: ts.or(outer),
        town: name("townId"),
        run: name("runId"),
        seq: fields.get("seq").and_then(|text| text.parse().ok()),
        uptime_ms: uptime.filter(|ms| (0.0..1e12).contains(ms)).map(|ms| ms as i64),
    }
}

fn finding(fields: &Fields<'_>, stamp: Stamp, specs: Vec<&'static SignSpec>) -> Finding {
    let name = |key| fields.get(key).map(|text| short(&text, NAME_BYTES));
    let memory = specs.iter().any(|spec| spec.sign == Sign::Memory).then(|| {
        let mb = |key| fields.number(key).filter(|n| (0.0..1e9).contains(n)).unwrap_or(0.0) as f32;
        Memory { rss: mb("rssMB"), heap: mb("heapUsedMB"), limit: mb("limitMB") }
    });
    Finding {
        own_time: stamp.ts.is_some(),
        stamp,
        line: 0,
        agent: name("agentId"),
        detail: detail(fields),
        memory: memory.filter(|memory| memory.rss > 0.0),
        about_run: name("previousRunId").or_else(|| name("previousRun.runId")),
        boot_id: name("bootId"),
        count: fields
            .number("repeated")
            .map_or(1, |held_back| 1 + held_back.clamp(0.0, 1e6) as u32),
        specs,
        hash: 0,
    }
}

/// What the line says, in the words of its own fields.
fn detail(fields: &Fields<'_>) -> Box<str> {
    const TOLD: [&str; 9] =
        ["task", "name", "phase", "cause", "confidence", "by", "reason", "error", "message"];
    let mut text = String::new();
    for key in TOLD {
        if let Some(value) = fields.get(key).filter(|value| !value.is_empty()) {
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(key);
            text.push_str(": ");
            text.push_str(&value);
        }
    }
    short(&text, DETAIL_BYTES)
}

fn plain(line: &[u8], stamp: Stamp) -> Line {
    let specs = tables().of_text(line);
    let own_time = stamp.ts.is_some();
    if specs.is_empty() {
        // Anything may stand in a text; without a time of its own it says nothing.
        return if own_time { Line::Alive(stamp) } else { Line::Nothing };
    }
    let text = String::from_utf8_lossy(line);
    let agent = specs.iter().find_map(|spec| match spec.source {
        Source::Text { agent_after, .. } => agent_after.iter().find_map(|mark| word(&text, mark)),
        Source::Event { .. } => None,
    });
    Line::Found(Box::new(Finding {
        own_time,
        stamp,
        line: 0,
        agent,
        detail: short(text.trim(), DETAIL_BYTES),
        memory: None,
        about_run: None,
        boot_id: None,
        count: 1,
        specs,
        hash: 0,
    }))
}

/// The word behind a mark.
fn word(text: &str, mark: &str) -> Option<Box<str>> {
    let at = memmem::find(text.as_bytes(), mark.as_bytes())? + mark.len();
    let word = text.get(at..)?.split([' ', ',', ':', ';', '"', '\\', ')']).next()?;
    (!word.is_empty()).then(|| short(word, NAME_BYTES))
}

fn with_hash(mut line: Line, bytes: &[u8]) -> Line {
    if let Line::Found(finding) = &mut line {
        // FNV-1a: only to tell whether two lines of one second are the same one.
        finding.hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The quick way takes these, and must come to what reading them comes to.
    #[test]
    fn the_quick_way_sees_what_reading_sees() {
        for line in [
            r#"{"ts":"2026-01-15T09:30:00.123Z","level":"info","event":"agent.log","agentId":"a","message":"say \"townId\":\"no\", {\"runId\":\"no\"}","schema":1,"townId":"t","runId":"r","uptimeMs":412345,"seq":18}"#,
            r#"{"ts":"2026-01-15T09:30:00.123Z","level":"debug","event":"agent.turn","cpuUs":3,"schema":1,"townId":null,"runId":"r","uptimeMs":0,"seq":0}"#,
            r#"{"level":"info","msg":"agent.startup_phase","agentId":"a","phase":"sdk_ready","ts":"2026-01-15T09:30:00.123Z"}"#,
            r#"{"level":"warn","msg":"agent.stream_error","error":"\"townId\":\"no\"","townId":"t","ts":"2026-01-15T09:30:00.123Z"}"#,
        ] {
            let quick = quick::alive(line.as_bytes()).expect("it is one for the quick way");
            let (Line::Alive(slow), true) = object(line, None, 0) else { panic!("{line}") };
            assert_eq!(quick, slow, "{line}");
        }
    }

    #[test]
    fn the_quick_way_leaves_what_matters_or_is_cut() {
        let line = r#"{"ts":"2026-01-15T09:30:00.123Z","level":"info","event":"agent.turn","schema":1,"townId":null,"runId":"r","uptimeMs":0,"seq":0}"#;
        for end in 0..line.len() {
            assert_eq!(quick::alive(&line.as_bytes()[..end]), None);
        }
        let crash = line.replace("agent.turn", "agent.crash");
        assert_eq!(quick::alive(crash.as_bytes()), None);
    }

    #[test]
    fn a_wrapper_of_a_pipeline_is_taken_off() {
        let inner = r#"{"level":"error","msg":"container.uncaught_exception","message":"m","townId":"t","ts":"2026-01-15T09:30:00.123Z"}"#;
        let quoted = serde_json::to_string(inner).expect("a text is JSON");
        for line in [
            format!("2026-01-15T09:30:05Z stdout F {inner}"),
            format!("{{\"log\":{quoted},\"stream\":\"stdout\",\"time\":\"2026-01-15T09:30:05Z\"}}"),
            format!("{{\"timestamp\":1768469405000,\"message\":{quoted}}}"),
        ] {
            let (Line::Found(found), Form::Json) = read(line.as_bytes()) else { panic!("{line}") };
            assert_eq!(found.specs[0].sign, Sign::Exception, "{line}");
            assert_eq!(found.stamp.ts, Some(1_768_469_400_123), "{line}");
            assert_eq!(found.stamp.town.as_deref(), Some("t"), "{line}");
        }
    }
}

//! One line: ours, the original container's, or plain text, with or without a wrapper of a log pipeline.
//!
//! A pipeline puts the line into a field of its own record, or reads it and puts its fields there. So records are looked
//! for in records, up to some levels down, and the one that is asked first is the outermost one that is a record of a
//! container: what such a record holds was chosen by guests and others, and none of it is looked into.

use std::borrow::Cow;

use memchr::memmem;
use serde_json::value::RawValue;

use super::bounds::{LINE_PART, NAME_BYTES};
use super::fields::{Fields, Inner};
use super::kept::Kept;
use super::prefix::{BYTE_ORDER_MARK, PREFIX_BYTES, Place, brace, is_of_a_page};
use super::stamp::{self, Stamp};
use super::tables::tables;
use super::{join, kept, pretty, quick};
use crate::rules::{Sign, SignSpec, Source};

/// How many levels below a line a record is searched for. `data.result[].values[][]` are four.
const MAX_DEPTH: u32 = 6;

/// Where pipelines put a line, a record, or several of them.
const INNER: [&str; 20] = [
    "message",
    "log",
    "msg",
    "line",
    "textPayload",
    "jsonPayload",
    "body",
    "MESSAGE",
    "data",
    "logs",
    "logEvents",
    "values",
    "result",
    "hits",
    "source",
    "_source",
    "_raw",
    "attributes",
    "Log_s",
    "LogMessage",
];

/// Where pipelines and records put their time.
const TIMES: [&str; 7] =
    ["ts", "timestamp", "time", "@timestamp", "_time", "eventTimestamp", "__REALTIME_TIMESTAMP"];

/// What a text of a line may come to in a report, in bytes.
const DETAIL_BYTES: usize = 160;

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
    /// The run that this one reports.
    pub about_run: Option<Box<str>>,
    pub boot_id: Option<Box<str>>,
    /// How often what it says happened: a line may stand for others that were held back.
    pub count: u32,
    pub hash: u64,
}

/// A part of a record of ours, from the second on.
#[derive(Debug, Clone)]
pub struct Part {
    pub stamp: Stamp,
    /// From 1, in its chunk.
    pub line: u64,
    pub part: u32,
    pub parts: u32,
    pub text: Box<str>,
}

/// What a line shows.
pub enum Line {
    /// Only that somebody lived.
    Alive(Stamp),
    /// A sign.
    Found(Box<Finding>),
    /// A piece of a record that may show one.
    Part(Box<Part>),
}

/// What came of looking into something.
#[derive(Clone, Copy)]
struct Seen {
    /// Nothing else is looked for: it was something of a container's, or showed a sign.
    spoke: bool,
    /// It was a record of a container, or showed a sign.
    is_read: bool,
    /// It was there to its end.
    whole: bool,
}

/// Kind of a line, for the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Json,
    Cut,
    Text,
    Binary,
}

/// Where a line shows what it has.
pub fn place(line: &[u8]) -> Place {
    let line = bare(line);
    let content = join::cri(line).map_or(line, |piece| piece.text);
    if is_for_people(content) {
        Place::Text
    } else if str::from_utf8(content).ok().and_then(kept::line).is_some() {
        Place::Kept
    } else if string(content).is_some() {
        Place::Quoted
    } else {
        match brace(content) {
            Some(0) => Place::Start,
            Some(_) => Place::Behind,
            None => Place::Text,
        }
    }
}

/// Without its end, and without what a file begins with.
fn bare(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line)
}

/// Whether a line is one that the host prints for people: what guests say in it counts for nothing.
fn is_for_people(line: &[u8]) -> bool {
    pretty::is_ours(line) || is_of_a_page(line)
}

/// What a line says that is all of it a text of JSON, when that may be a record.
fn string(line: &[u8]) -> Option<String> {
    let quoted = line.strip_prefix(b"\"{\\\"").map(|_| line.trim_ascii_end())?;
    serde_json::from_slice(quoted).ok()
}

/// Reads a line without its end, and gives each thing that it shows. Also says whether one of them is a record or a
/// sign.
pub fn read(line: &[u8], each: &mut dyn FnMut(Line)) -> (Form, bool) {
    let line = bare(line);
    let content = join::cri(line).map_or(line, |piece| piece.text);
    if let Some(alive) = quick::alive(content) {
        each(Line::Alive(alive));
        return (Form::Json, true);
    }
    if is_for_people(content) {
        return (Form::Text, false);
    }
    let mut hash = None;
    let mut each = |mut shown: Line| {
        if let Line::Found(finding) = &mut shown {
            let hash: &mut u64 = hash.get_or_insert_with(|| hash_of(line));
            finding.hash = *hash;
            // What else the line shows is something else.
            *hash = hash.wrapping_add(1);
        }
        each(shown);
    };
    let head = line.len() - content.len();
    if let Some(kept) = str::from_utf8(content).ok().and_then(kept::line) {
        each(event(&kept, &Stamp::default()));
        return (Form::Text, true);
    }
    if let Some(text) = string(content) {
        let seen = text_in(&text, &Stamp::default(), 1, &mut each);
        return (Form::Json, seen.is_read);
    }
    let Some(at) = brace(content) else {
        if is_binary(content) {
            return (Form::Binary, false);
        }
        let stamp = Stamp { ts: prefix_time(line), ..Stamp::default() };
        let shown = plain(content, stamp);
        let spoke = matches!(shown, Some(Line::Found(_)));
        shown.into_iter().for_each(each);
        return (Form::Text, spoke);
    };
    let Ok(text) = utf8(&content[at..]) else { return (Form::Binary, false) };
    let outer = Stamp { ts: prefix_time(&line[..head + at]), ..Stamp::default() };
    let seen = object(&text, &outer, 0, &mut each);
    (if seen.whole { Form::Json } else { Form::Cut }, seen.is_read)
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

/// Reads an object: a record of a container, or what a pipeline put around one.
fn object(text: &str, outer: &Stamp, depth: u32, each: &mut dyn FnMut(Line)) -> Seen {
    // As an item of a list that has one on each line.
    let text = text.trim_end().trim_end_matches(',');
    let fields = Fields::read(text);
    if matches!(fields, Fields::Tail) {
        return Seen { spoke: true, is_read: false, whole: false };
    }
    if let Some(kept) = kept::frame(&fields) {
        each(event(&kept, outer));
        return Seen { spoke: true, is_read: true, whole: true };
    }
    let (stamp, whole) = (stamp_of(&fields, outer), fields.is_whole());
    if let Some(name) = record_name(&fields) {
        each(record(&fields, stamp, name.as_bytes()));
        return Seen { spoke: true, is_read: true, whole };
    }
    if is_of_an_answer(&fields) {
        return Seen { spoke: true, is_read: false, whole };
    }
    let mut seen = Seen { spoke: false, is_read: false, whole };
    if depth < MAX_DEPTH {
        INNER.iter().filter_map(|key| fields.inner(key)).for_each(|inner| {
            let found = nested(inner, &stamp, depth + 1, each);
            seen.spoke |= found.spoke;
            seen.is_read |= found.is_read;
            seen.whole &= found.whole;
        });
    }
    // Only the line as a whole is a text as well.
    if depth == 0 && !seen.spoke {
        let shown = plain(text.as_bytes(), stamp);
        seen.is_read = matches!(shown, Some(Line::Found(_)));
        shown.into_iter().for_each(each);
    }
    seen
}

/// Whether an object is one that the host's control API sends, or holds some: of agents and of their crashes. They hold
/// what guests say, and no pipeline writes one.
fn is_of_an_answer(fields: &Fields<'_>) -> bool {
    // A crash, an agent, and what a program threw.
    const OURS: [(&str, &str); 3] =
        [("crashId", "crashId"), ("agentId", "incarnation"), ("kind", "frames")];
    let has = |name| fields.has(name);
    OURS.iter().any(|(one, other)| has(one) && has(other))
}

/// Reads what a pipeline put into a field.
fn nested(inner: Inner<'_>, outer: &Stamp, depth: u32, each: &mut dyn FnMut(Line)) -> Seen {
    let nothing = Seen { spoke: false, is_read: false, whole: true };
    match inner {
        Inner::Object(text) => object(text, outer, depth, each),
        Inner::Text(text) => text_in(&text, outer, depth, each),
        Inner::List(items) if is_bytes(&items) => text_in(&text_of(&items), outer, depth, each),
        Inner::List(items) if depth <= MAX_DEPTH => items.iter().fold(nothing, |all, item| {
            let Some(inner) = Inner::read(item.get()) else { return all };
            let seen = nested(inner, outer, depth + 1, each);
            Seen {
                spoke: all.spoke | seen.spoke,
                is_read: all.is_read | seen.is_read,
                whole: all.whole & seen.whole,
            }
        }),
        Inner::List(_) => nothing,
    }
}

/// Reads a text that a pipeline passes on: a line.
fn text_in(text: &str, outer: &Stamp, depth: u32, each: &mut dyn FnMut(Line)) -> Seen {
    let text = text.trim_matches(['\0', '\n', '\r']);
    if is_for_people(text.as_bytes()) {
        return Seen { spoke: true, is_read: false, whole: true };
    }
    let outer = Stamp { ts: outer.ts.or_else(|| prefix_time(text.as_bytes())), ..outer.clone() };
    let content = join::cri(text.as_bytes()).map_or(text, |piece| &text[piece.head.len()..]);
    if let Some(kept) = kept::line(content) {
        each(event(&kept, &outer));
        return Seen { spoke: true, is_read: true, whole: true };
    }
    if let Some(at) = brace(content.as_bytes()) {
        return object(&content[at..], &outer, depth, each);
    }
    let spoke = tables().may_show(text.as_bytes());
    if spoke {
        plain(text.as_bytes(), outer).into_iter().for_each(each);
    }
    Seen { spoke, is_read: spoke, whole: true }
}

/// journald writes a text with unprintable characters as a list of its bytes.
fn is_bytes(items: &[&RawValue]) -> bool {
    items.first().is_some_and(|item| item.get().parse::<u8>().is_ok())
}

fn text_of(bytes: &[&RawValue]) -> String {
    let bytes: Vec<u8> = bytes.iter().map_while(|item| item.get().parse().ok()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The event, when it is a record of a container: ours say it in `event`, the original container's in `msg`.
fn record_name<'a>(fields: &Fields<'a>) -> Option<Cow<'a, str>> {
    ["event", "msg"]
        .into_iter()
        .find_map(|key| fields.get(key).filter(|name| is_name(name.as_bytes())))
}

fn is_name(name: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    name.contains(&b'.') && name.iter().all(fits)
}

/// Reads a record of a container.
fn record(fields: &Fields<'_>, stamp: Stamp, name: &[u8]) -> Line {
    if let Some(part) = part(fields, &stamp, name) {
        return Line::Part(Box::new(part));
    }
    found(fields, stamp, name).map_or_else(Line::Alive, |found| Line::Found(Box::new(found)))
}

/// Reads an event that a host kept: its fields are data, and it says neither run nor number.
fn event(kept: &Kept<'_>, outer: &Stamp) -> Line {
    let stamp = Stamp { ts: kept.ts.or(outer.ts), town: outer.town.clone(), ..Stamp::default() };
    let Some(fields) = kept.fields() else { return Line::Alive(stamp) };
    match found(&fields, stamp, kept.name.as_bytes()) {
        Ok(found) => Line::Found(Box::new(Finding {
            agent: kept.agent.as_deref().map(|agent| short(agent, NAME_BYTES)),
            // None of the other lines names its run.
            about_run: None,
            ..found
        })),
        Err(alive) => Line::Alive(alive),
    }
}

/// What is a sign in the fields of an event of this name. Without one, its stamp.
fn found(fields: &Fields<'_>, stamp: Stamp, name: &[u8]) -> Result<Finding, Stamp> {
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
    let specs = tables().of_event(name).unwrap_or_default();
    let specs: Vec<_> = specs.iter().copied().filter(holds).collect();
    // What an agent says in a line of ours is no sign of anything.
    if specs.is_empty() { Err(stamp) } else { Ok(finding(fields, stamp, specs)) }
}

fn part(fields: &Fields<'_>, stamp: &Stamp, name: &[u8]) -> Option<Part> {
    if name != LINE_PART || !fields.is_whole() {
        return None;
    }
    let number = |key| fields.get(key)?.parse().ok();
    let text = fields.get("text")?.into();
    Some(Part {
        stamp: stamp.clone(),
        line: 0,
        part: number("part")?,
        parts: number("parts")?,
        text,
    })
}

/// A record says itself when it was, of whom and of which run, or its pipeline says the first two.
fn stamp_of(fields: &Fields<'_>, outer: &Stamp) -> Stamp {
    let ts = TIMES.into_iter().find_map(|key| {
        let text = fields.get(key)?;
        let read = stamp::parse(text.as_bytes()).map(|(ts, _)| ts);
        read.or_else(|| stamp::from_number(text.parse().ok()?))
    });
    let name = |key| fields.get(key).map(|text| short(&text, NAME_BYTES));
    let uptime = fields.number("uptimeMs").or_else(|| fields.number("uptime"));
    Stamp {
        ts: ts.or(outer.ts),
        town: name("townId").or_else(|| outer.town.clone()),
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
    const DETAILS: [&str; 9] =
        ["task", "name", "phase", "cause", "confidence", "by", "reason", "error", "message"];
    let mut text = String::new();
    for key in DETAILS {
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

/// Reads a text. Without a sign and a time of its own it shows nothing.
fn plain(line: &[u8], stamp: Stamp) -> Option<Line> {
    let mut specs = tables().of_text(line);
    let own_time = stamp.ts.is_some();
    if !specs.is_empty() && (is_for_people(line) || names_event(line) || is_an_answer(line)) {
        specs.clear();
    }
    if specs.is_empty() {
        return own_time.then_some(Line::Alive(stamp));
    }
    let text = String::from_utf8_lossy(line);
    let agent = specs.iter().find_map(|spec| match spec.source {
        Source::Text { agent_after, .. } => agent_after.iter().find_map(|mark| word(&text, mark)),
        Source::Event { .. } => None,
    });
    Some(Line::Found(Box::new(Finding {
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
    })))
}

/// Whether somewhere in a text there is a record of ours, in a place that nobody looks into, or a piece of one: what
/// wrote it cannot be determined.
fn names_event(text: &[u8]) -> bool {
    memmem::find_iter(text, b"event").any(|at| {
        let rest = text[at + b"event".len()..].iter().copied();
        let mut rest = rest.skip_while(|byte| b"\\\": ".contains(byte)).peekable();
        let is_quoted = text.get(at + b"event".len()).is_some_and(|byte| b"\\\"".contains(byte));
        let name: Vec<u8> =
            rest.by_ref().take(64).take_while(|byte| !b"\\\"".contains(byte)).collect();
        is_quoted && is_name(&name)
    })
}

/// Whether a line of JSON holds something that the control API says of agents, which is what guests said.
fn is_an_answer(text: &[u8]) -> bool {
    matches!(text.first(), Some(b'{' | b'['))
        && ["\"crashId\":", "\"incarnation\":", "\"crashedAt\":"]
            .iter()
            .any(|name| memmem::find(text, name.as_bytes()).is_some())
}

/// The word behind a mark.
fn word(text: &str, mark: &str) -> Option<Box<str>> {
    let at = memmem::find(text.as_bytes(), mark.as_bytes())? + mark.len();
    let word = text.get(at..)?.split([' ', ',', ':', ';', '"', '\\', ')']).next()?;
    (!word.is_empty()).then(|| short(word, NAME_BYTES))
}

/// FNV-1a: only to see whether two lines of one second are the same one.
fn hash_of(line: &[u8]) -> u64 {
    line.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;

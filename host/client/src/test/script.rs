//! A script: messages to a new agent, in order, and what comes back.
//!
//! What can be wrong with one value is found while it is read, what can be wrong with several is found by [`check`]. Both
//! name line and key.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bulkhead_types::message::MAX_BODY_BYTES;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use toml::Spanned;

use crate::toml_text::{line_of, parse_toml, plain};

/// Steps of a script.
const MAX_STEPS: usize = 1000;

/// Answers of the model, expected events and expected texts of one step.
const MAX_ITEMS: usize = 1000;

/// How long a step may take, in milliseconds.
const DEADLINE_MS: u64 = 60_000;

/// The same at most: how long a host lets a request wait.
const MAX_DEADLINE_MS: u64 = 600_000;

/// Statuses of a server that refuses.
const STATUSES: std::ops::RangeInclusive<u16> = 400..=599;

/// A script that was read and checked.
#[derive(Debug)]
pub(super) struct Script {
    /// The role of the agent, and the line that names it.
    pub(super) role: Option<(String, usize)>,
    /// At least one.
    pub(super) steps: Vec<Step>,
}

/// One message, and what comes back.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Where it begins, from 1.
    pub(super) line: usize,
    /// Stop the agent first, and start it again.
    pub(super) restart: bool,
    /// Without it the agent is only restarted.
    pub(super) send: Option<String>,
    /// What the model answers, in order.
    pub(super) model: Vec<Answer>,
    pub(super) deadline: Duration,
    pub(super) end: Expected,
    pub(super) asked: Vec<String>,
    pub(super) events: Vec<Event>,
    pub(super) rejection: Option<String>,
}

/// How the turn ends.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Expected {
    /// With any reply.
    #[default]
    Success,
    /// With exactly this one. An agent that does not reply replies with an empty text.
    Reply(String),
    /// With one in which all of these are.
    Contains(Vec<String>),
    /// The agent ends: by an exception of this kind, or for this reason. And where.
    Crash { what: String, at: Option<String> },
    /// The agent's own error.
    Error(String),
}

/// An event that the agent emits.
#[derive(Debug, PartialEq)]
pub(super) struct Event {
    pub(super) name: String,
    /// Of its data, what has to be there.
    pub(super) data: Option<Value>,
}

/// What the model answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// Text, in the pieces in which it arrives, and calls of tools.
    Message { text: Vec<String>, calls: Vec<Call> },
    /// The server refuses, with this status.
    Status(u16),
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) tool: String,
    /// JSON, if the script keeps to it.
    pub(super) arguments: String,
}

/// Reads a script. The error has line and key.
pub(super) fn parse(text: &str) -> Result<Script, String> {
    let file: File = parse_toml(text).map_err(|error| {
        Wrong { key: error.key, span: error.span, message: plain(&error.message) }.show(text)
    })?;
    check(file, text).map_err(|wrong| wrong.show(text))
}

/// A value that is wrong.
struct Wrong {
    key: String,
    span: Range<usize>,
    message: String,
}

impl Wrong {
    fn show(&self, text: &str) -> String {
        let line = line_of(text, self.span.start);
        match &*self.key {
            "" => format!("line {line}: {}", self.message),
            key => format!("line {line}, {key}: {}", self.message),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    role: Option<Spanned<String>>,
    #[serde(default)]
    step: Vec<Spanned<RawStep>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    #[serde(default)]
    restart: bool,
    send: Option<Spanned<String>>,
    #[serde(default)]
    model: Vec<Spanned<RawAnswer>>,
    deadline_ms: Option<Spanned<u64>>,
    reply: Option<Spanned<String>>,
    reply_contains: Option<Spanned<Texts>>,
    asked_contains: Option<Spanned<Texts>>,
    events: Option<Spanned<Vec<RawEvent>>>,
    crash: Option<Spanned<String>>,
    crash_at: Option<Spanned<String>>,
    error: Option<Spanned<String>>,
    rejection: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAnswer {
    text: Option<Texts>,
    tool: Option<String>,
    arguments: Option<toml::Value>,
    #[serde(default)]
    calls: Vec<RawCall>,
    status: Option<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCall {
    tool: String,
    arguments: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEvent {
    name: String,
    data: Option<toml::Value>,
}

/// A text, or a list of texts.
struct Texts(Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Texts, A::Error> {
                let list = de::value::SeqAccessDeserializer::new(list);
                Vec::deserialize(list).map(Texts)
            }
        }

        from.deserialize_any(OneOrMany)
    }
}

fn check(file: File, text: &str) -> Result<Script, Wrong> {
    let whole = |message: String| Wrong { key: String::new(), span: 0..0, message };
    if file.step.is_empty() {
        return Err(whole("there is no [[step]]".to_owned()));
    }
    if file.step.len() > MAX_STEPS {
        return Err(whole(format!("{} steps are more than {MAX_STEPS}", file.step.len())));
    }
    let role = file.role.map(|role| (line_of(text, role.span().start), role.into_inner()));
    let steps = file.step.into_iter().enumerate();
    let steps = steps.map(|(index, step)| {
        let span = step.span();
        check_step(step.into_inner(), span, index, text)
    });
    let steps = steps.collect::<Result<_, _>>()?;
    Ok(Script { role: role.map(|(line, role)| (role, line)), steps })
}

/// A step that is being checked.
struct Place {
    /// For example `step[0]`.
    key: String,
    span: Range<usize>,
}

impl Place {
    fn wrong(&self, key: &str, span: Range<usize>, message: &str) -> Wrong {
        Wrong { key: format!("{}.{key}", self.key), span, message: message.to_owned() }
    }
}

fn check_step(raw: RawStep, span: Range<usize>, index: usize, text: &str) -> Result<Step, Wrong> {
    let place = Place { key: format!("step[{index}]"), span };
    check_send(&raw, &place)?;
    check_bounds(&raw, &place)?;
    check_end(&raw, &place)?;
    check_model(&raw, &place)?;
    let deadline = deadline(raw.deadline_ms.as_ref(), &place)?;
    let answer = |(index, raw): (usize, Spanned<RawAnswer>)| {
        let (key, span) = (format!("model[{index}]"), raw.span());
        check_answer(raw.into_inner()).map_err(|message| place.wrong(&key, span, &message))
    };
    let event = |RawEvent { name, data }| Event { name, data: data.map(json) };
    let events = raw.events.map(Spanned::into_inner).unwrap_or_default();
    Ok(Step {
        line: line_of(text, place.span.start),
        restart: raw.restart,
        send: raw.send.map(Spanned::into_inner),
        model: raw.model.into_iter().enumerate().map(answer).collect::<Result<_, _>>()?,
        deadline,
        end: end(raw.reply, raw.reply_contains, raw.crash.zip(Some(raw.crash_at)), raw.error),
        asked: raw.asked_contains.map(|texts| texts.into_inner().0).unwrap_or_default(),
        events: events.into_iter().map(event).collect(),
        rejection: raw.rejection.map(Spanned::into_inner),
    })
}

fn check_send(raw: &RawStep, place: &Place) -> Result<(), Wrong> {
    let Some(send) = &raw.send else {
        let (key, span) = (place.key.clone(), place.span.clone());
        let message = "has neither `send` nor `restart = true`".to_owned();
        return if raw.restart { Ok(()) } else { Err(Wrong { key, span, message }) };
    };
    match send.get_ref().len() {
        0 => Err(place.wrong("send", send.span(), "is empty: a message has a text")),
        1..=MAX_BODY_BYTES => Ok(()),
        _ => Err(place.wrong("send", send.span(), "is longer than 1 MiB, the longest message")),
    }
}

fn check_bounds(raw: &RawStep, place: &Place) -> Result<(), Wrong> {
    let texts =
        |texts: &Option<Spanned<Texts>>| texts.as_ref().map_or(0, |it| it.get_ref().0.len());
    let items = [
        ("model", raw.model.len()),
        ("reply_contains", texts(&raw.reply_contains)),
        ("asked_contains", texts(&raw.asked_contains)),
        ("events", raw.events.as_ref().map_or(0, |it| it.get_ref().len())),
    ];
    match items.iter().find(|(_, items)| *items > MAX_ITEMS) {
        None => Ok(()),
        Some((key, _)) => {
            let message = format!("has more than {MAX_ITEMS} entries");
            Err(place.wrong(key, place.span.clone(), &message))
        }
    }
}

/// A turn ends in one way, and only where there is one.
fn check_end(raw: &RawStep, place: &Place) -> Result<(), Wrong> {
    let ends = [
        ("reply", raw.reply.as_ref().map(Spanned::span)),
        ("reply_contains", raw.reply_contains.as_ref().map(Spanned::span)),
        ("error", raw.error.as_ref().map(Spanned::span)),
        ("crash", raw.crash.as_ref().map(Spanned::span)),
    ];
    let mut given = ends.into_iter().filter_map(|(key, span)| Some((key, span?)));
    let (first, second) = (given.next(), given.next());
    match (first, second) {
        (Some((first, _)), Some((key, span))) => {
            let message = format!("{first} is set as well: a turn ends in one way");
            return Err(place.wrong(key, span, &message));
        }
        // An agent may crash while it stops or starts.
        (Some((key, span)), None) if raw.send.is_none() && key != "crash" => {
            return Err(place.wrong(key, span, "is of no use without `send`"));
        }
        _ => {}
    }
    match (&raw.crash, &raw.crash_at) {
        (None, Some(at)) => Err(place.wrong("crash_at", at.span(), "is of no use without `crash`")),
        _ => Ok(()),
    }
}

fn check_model(raw: &RawStep, place: &Place) -> Result<(), Wrong> {
    match (raw.model.first(), &raw.asked_contains) {
        (Some(first), _) if raw.send.is_none() => {
            Err(place.wrong("model", first.span(), "is of no use without `send`"))
        }
        (None, Some(asked)) => {
            Err(place.wrong("asked_contains", asked.span(), "is of no use without `model`"))
        }
        _ => Ok(()),
    }
}

fn deadline(ms: Option<&Spanned<u64>>, place: &Place) -> Result<Duration, Wrong> {
    let Some(ms) = ms else { return Ok(Duration::from_millis(DEADLINE_MS)) };
    let number = *ms.get_ref();
    if (1..=MAX_DEADLINE_MS).contains(&number) {
        return Ok(Duration::from_millis(number));
    }
    let message = format!("{number} is not between 1 and {MAX_DEADLINE_MS}");
    Err(place.wrong("deadline_ms", ms.span(), &message))
}

/// At most one of them is there.
fn end(
    reply: Option<Spanned<String>>,
    contains: Option<Spanned<Texts>>,
    crash: Option<(Spanned<String>, Option<Spanned<String>>)>,
    error: Option<Spanned<String>>,
) -> Expected {
    match (reply, contains, crash, error) {
        (Some(reply), ..) => Expected::Reply(reply.into_inner()),
        (_, Some(parts), ..) => Expected::Contains(parts.into_inner().0),
        (_, _, Some((what, at)), _) => {
            Expected::Crash { what: what.into_inner(), at: at.map(Spanned::into_inner) }
        }
        (_, _, _, Some(code)) => Expected::Error(code.into_inner()),
        _ => Expected::Success,
    }
}

fn check_answer(raw: RawAnswer) -> Result<Answer, String> {
    let RawAnswer { text, tool, arguments, calls, status } = raw;
    if let Some(status) = status {
        let is_alone = text.is_none() && tool.is_none() && arguments.is_none() && calls.is_empty();
        return match (is_alone, STATUSES.contains(&status)) {
            (true, true) => Ok(Answer::Status(status)),
            (true, false) => Err(format!("the status {status} is not between 400 and 599")),
            (false, _) => {
                Err("has a status and an answer: a server that refuses does not answer".to_owned())
            }
        };
    }
    if tool.is_none() && arguments.is_some() {
        return Err("has arguments for no tool".to_owned());
    }
    if tool.is_some() && !calls.is_empty() {
        return Err("has `tool` and `calls`: put all into `calls`".to_owned());
    }
    if text.is_none() && tool.is_none() && calls.is_empty() {
        return Err("is empty: it has `text`, `tool`, `calls` or `status`".to_owned());
    }
    let first = tool.map(|tool| RawCall { tool, arguments });
    let call = |RawCall { tool, arguments }| Call { tool, arguments: json_text(arguments) };
    Ok(Answer::Message {
        text: text.map(|text| text.0).unwrap_or_default(),
        calls: first.into_iter().chain(calls).map(call).collect(),
    })
}

/// What the model writes as the arguments of a call: a text as it stands, for models that keep to no JSON.
fn json_text(arguments: Option<toml::Value>) -> String {
    match arguments {
        None => "{}".to_owned(),
        Some(toml::Value::String(text)) => text,
        Some(value) => json(value).to_string(),
    }
}

/// As agents and models write it. JSON has no times: they are texts.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(is_so) => is_so.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(values) => values.into_iter().map(json).collect(),
        toml::Value::Table(table) => {
            table.into_iter().map(|(key, value)| (key, json(value))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const WHOLE: &str = r#"
role = "toast"

[[step]]
send = "hello"
reply = "1: hello"

[[step]]
send = "note bread"
model = [
  { tool = "note", arguments = { text = "bread", at = 1979-05-27 } },
  { text = ["no", "ted"], calls = [{ tool = "a" }, { tool = "b", arguments = "no json" }] },
  { status = 503 },
]
asked_contains = "bread"
events = [{ name = "toast.delta", data = { part = "noted", n = [1, 2.5, true] } }, { name = "x" }]
reply_contains = ["note", "d"]
deadline_ms = 5

[[step]]
restart = true

[[step]]
send = "boom"
crash = "TypeError"
crash_at = "agent.js:18"
rejection = "KeyError"
"#;

    #[test]
    fn a_script_is_read_with_all_that_it_may_say() {
        let script = parse(WHOLE).unwrap();
        assert_eq!(script.role, Some(("toast".to_owned(), 2)));
        let [hello, note, restart, boom] = &*script.steps else { panic!("{script:?}") };
        assert_eq!((hello.line, &hello.end), (4, &Expected::Reply("1: hello".into())));
        assert_eq!((hello.deadline, note.deadline.as_millis()), (Duration::from_secs(60), 5));
        let call =
            |tool: &str, arguments: &str| Call { tool: tool.into(), arguments: arguments.into() };
        let answers = [
            Answer::Message {
                text: vec![],
                calls: vec![call("note", r#"{"at":"1979-05-27","text":"bread"}"#)],
            },
            Answer::Message {
                text: vec!["no".into(), "ted".into()],
                calls: vec![call("a", "{}"), call("b", "no json")],
            },
            Answer::Status(503),
        ];
        assert_eq!(note.model, answers);
        assert_eq!(
            (&*note.asked, &note.end),
            (&["bread".to_owned()][..], &Expected::Contains(vec!["note".into(), "d".into()]))
        );
        let data = json!({"part": "noted", "n": [1, 2.5, true]});
        let events = [
            Event { name: "toast.delta".into(), data: Some(data) },
            Event { name: "x".into(), data: None },
        ];
        assert_eq!(note.events, events);
        assert!(restart.restart && restart.send.is_none() && restart.end == Expected::Success);
        let crash = Expected::Crash { what: "TypeError".into(), at: Some("agent.js:18".into()) };
        assert_eq!((&boom.end, boom.rejection.as_deref()), (&crash, Some("KeyError")));
    }

    #[test]
    fn what_is_wrong_is_named_with_line_and_key() {
        let step = |more: &str| format!("[[step]]\nsend = \"x\"\n{more}");
        for (text, expected) in [
            (String::new(), "line 1: there is no [[step]]"),
            ("[[step]]\nsend = ".into(), "line 2: "),
            (
                "rolle = \"x\"".into(),
                "line 1, rolle: unknown field `rolle`, expected `role` or `step`",
            ),
            ("\n[[step]]\n".into(), "line 2, step[0]: has neither `send` nor `restart = true`"),
            ("[[step]]\nsend = \"\"".into(), "line 2, step[0].send: is empty"),
            ("[[step]]\nsend = 7".into(), "line 2, step[0].send: expected a string, found 7"),
            (
                "[[step]]\nrestart = true\nreply = \"x\"".into(),
                "line 3, step[0].reply: is of no use without `send`",
            ),
            (
                "[[step]]\nrestart = true\nmodel = [{ text = \"x\" }]".into(),
                "line 3, step[0].model: is of no use without `send`",
            ),
            (step("replly = \"x\""), "line 3, step[0].replly: unknown field `replly`"),
            (step("reply = \"x\"\ncrash = \"Y\""), "line 4, step[0].crash: reply is set as well"),
            (
                step("reply_contains = 7"),
                "line 3, step[0].reply_contains: expected a text or a list of texts, found 7",
            ),
            (
                step("crash_at = \"a.js:1\""),
                "line 3, step[0].crash_at: is of no use without `crash`",
            ),
            (
                step("asked_contains = \"x\""),
                "line 3, step[0].asked_contains: is of no use without `model`",
            ),
            (step("deadline_ms = 0"), "line 3, step[0].deadline_ms: 0 is not between 1 and 600000"),
            (step("model = [\n{ text = \"x\" },\n{}]"), "line 5, step[0].model[1]: is empty"),
            (
                step("model = [{ arguments = {} }]"),
                "line 3, step[0].model[0]: has arguments for no tool",
            ),
            (
                step("model = [{ status = 200 }]"),
                "line 3, step[0].model[0]: the status 200 is not between",
            ),
            (
                step("model = [{ status = 500, text = \"x\" }]"),
                "line 3, step[0].model[0]: has a status and an answer",
            ),
            (
                step("model = [{ tool = \"a\", calls = [{ tool = \"b\" }] }]"),
                "line 3, step[0].model[0]: has `tool` and `calls`",
            ),
            (
                step("model = [{ tols = \"a\" }]"),
                "line 3, step[0].model[0].tols: unknown field `tols`",
            ),
            (step("events = [{ data = 1 }]"), "line 3, step[0].events[0]: missing field `name`"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.starts_with(expected), "{text}\n{error}\n{expected}");
        }
    }

    #[test]
    fn everything_has_a_bound() {
        let steps = "[[step]]\nrestart = true\n".repeat(MAX_STEPS + 1);
        assert!(parse(&steps).unwrap_err().contains("1001 steps are more than 1000"));
        let texts = "\"x\",".repeat(MAX_ITEMS + 1);
        let text = format!("[[step]]\nsend = \"x\"\nreply_contains = [{texts}]");
        let error = parse(&text).unwrap_err();
        assert!(error.contains("step[0].reply_contains: has more than 1000 entries"), "{error}");
        let text = format!("[[step]]\nsend = \"{}\"", "x".repeat(MAX_BODY_BYTES + 1));
        assert!(parse(&text).unwrap_err().contains("step[0].send: is longer than 1 MiB"));
    }
}

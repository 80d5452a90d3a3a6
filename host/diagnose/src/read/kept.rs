//! Events that a host keeps, as `bulkhead logs` and `bulkhead events` print them: a line of time, agent, name and data, or
//! with `--json` an object.
//!
//! An agent chooses the data and the names of its own events. Names that begin with `container.` or `agent.` are the
//! host's, so only those count, and nobody looks for a record in the data.

use std::borrow::Cow;

use super::fields::{Fields, Inner};
use super::prefix::{PREFIX_BYTES, is_marked};
use super::stamp;

/// The time, to the millisecond and in UTC.
const TIME_BYTES: usize = 24;

/// How an object of `--json` begins.
const FRAME: &str = "{\"id\":";

/// An agent's id is no longer.
const WHOSE_BYTES: usize = 128;

/// The name of an event is no longer.
const EVENT_BYTES: usize = 64;

/// An event.
pub struct Kept<'a> {
    /// None: the line ends before it.
    pub ts: Option<i64>,
    /// None: the container's, or of the one agent that was asked about.
    pub agent: Option<Cow<'a, str>>,
    pub name: Cow<'a, str>,
    /// JSON, as it is written.
    pub data: &'a str,
    /// What it is called is what the host called it.
    pub is_the_hosts: bool,
}

/// Reads a line for people: `2026-01-15T09:30:00.000Z mayor agent.exit {…}`, also where a pipeline put something before it. It
/// has `-` for the container, and of one agent alone it has the number of the event (`#7`).
pub fn line(text: &str) -> Option<Kept<'_>> {
    // Behind either of them begins what somebody said.
    let head = memchr::memchr2(b'{', b'"', text.as_bytes()).unwrap_or(text.len());
    let begins = |at: &usize| *at == 0 || text.as_bytes()[at - 1] == b' ';
    let dashes = memchr::memchr_iter(b'-', &text.as_bytes()[..head.min(PREFIX_BYTES)]);
    let times = dashes.filter_map(|dash| dash.checked_sub(4)).filter(begins);
    let times = times.filter(|at| !is_marked(&text.as_bytes()[..*at]));
    times.filter_map(|at| whole(text.get(at..)?)).next()
}

fn whole(text: &str) -> Option<Kept<'_>> {
    let (ts, rest) = time(text)?;
    let (whose, rest) = rest.strip_prefix(' ')?.split_once(' ')?;
    let (name, data) = rest.split_once(' ')?;
    let number = whose.strip_prefix('#');
    let is_numbered = number.is_some_and(|number| number.parse::<u64>().is_ok());
    if !is_event(name) || !(whose == "-" || is_numbered || is_agent(whose)) {
        return None;
    }
    // A line of words goes on with more of them.
    let is_json = data.starts_with(['{', '[', '"'])
        || serde_json::from_str::<serde::de::IgnoredAny>(data).is_ok();
    is_json.then(|| Kept {
        ts: Some(ts),
        agent: is_agent(whose).then_some(Cow::Borrowed(whose)),
        name: Cow::Borrowed(name),
        data,
        is_the_hosts: name.starts_with(if whose == "-" { "container." } else { "agent." }),
    })
}

/// Reads an object of `--json`. No line of a log has an `id` that is a number, and all of those have a `schema`.
pub fn frame<'a>(fields: &Fields<'a>) -> Option<Kept<'a>> {
    let all = match fields {
        Fields::Whole(all) => all,
        Fields::Cut(text) => return cut_frame(text),
        Fields::Tail => return None,
    };
    let raw = |name| all.iter().find(|(key, _)| key == name).map(|(_, value)| value.get());
    let text = |name| match Inner::read(raw(name)?)? {
        Inner::Text(text) => Some(text),
        _ => None,
    };
    raw("id")?.parse::<u64>().ok()?;
    let (name, data) = (text("event")?, raw("data")?);
    let (ts, rest) =
        text("timestamp").and_then(|text| time(&text).map(|(ts, rest)| (ts, rest.len())))?;
    if raw("schema").is_some() || rest > 0 || !is_event(&name) {
        return None;
    }
    let agent = text("agentId");
    let is_the_hosts = is_the_hosts(agent.as_deref(), &name);
    Some(Kept { ts: Some(ts), agent, name, data, is_the_hosts })
}

/// The beginning of one, whose time is missing. What was put around it is cut off as well.
fn cut_frame(text: &str) -> Option<Kept<'_>> {
    text.match_indices(FRAME).find_map(|(at, begin)| from_id(&text[at + begin.len()..]))
}

/// What follows the beginning.
fn from_id(text: &str) -> Option<Kept<'_>> {
    let (id, rest) = text.split_once(',')?;
    id.parse::<u64>().ok()?;
    let (agent, rest) = match rest.strip_prefix("\"agentId\":\"") {
        Some(rest) => rest.split_once("\",").map(|(agent, rest)| (Some(agent), rest))?,
        None => (None, rest),
    };
    let (name, rest) = rest.strip_prefix("\"event\":\"")?.split_once('"')?;
    is_event(name).then(|| Kept {
        ts: None,
        agent: agent.map(Cow::Borrowed),
        name: Cow::Borrowed(name),
        data: rest.strip_prefix(",\"data\":").unwrap_or_default(),
        is_the_hosts: is_the_hosts(agent, name),
    })
}

/// Events of one agent name it only where those of others may be among them.
fn is_the_hosts(agent: Option<&str>, name: &str) -> bool {
    name.starts_with("agent.") || (agent.is_none() && name.starts_with("container."))
}

impl<'a> Kept<'a> {
    /// What the event says. None: an agent says it.
    pub fn fields(&self) -> Option<Fields<'a>> {
        // Where the text of another line ends with a brace, no name follows that.
        let rest = self.data.strip_prefix("{\"").filter(|_| self.is_the_hosts)?;
        let fields = rest.starts_with(|first: char| first.is_ascii_alphabetic());
        // As an item of a list that has one on each line.
        let fields = fields.then(|| Fields::read(self.data.trim_end().trim_end_matches(',')))?;
        (!matches!(fields, Fields::Tail)).then_some(fields)
    }
}

fn time(text: &str) -> Option<(i64, &str)> {
    let (time, rest) = text.split_at_checked(TIME_BYTES)?;
    match stamp::parse(time.as_bytes())? {
        (ts, TIME_BYTES) if time.ends_with('Z') => Some((ts, rest)),
        _ => None,
    }
}

fn is_agent(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    text.len() <= WHOSE_BYTES
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(fits)
}

fn is_event(text: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    (1..=EVENT_BYTES).contains(&text.len()) && text.bytes().all(fits)
}

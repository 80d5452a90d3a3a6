//! An answer as it comes over the wire: what its bytes are counts, and not what its head says that they are.
//!
//! It reads nothing. It is fed, so that it can be tested, and fuzzed, without a network.

use std::borrow::Cow;
use std::collections::VecDeque;

use crate::assembly::{event, value_of};
use crate::brackets::Brackets;
use crate::draft::Draft;
use crate::numbers::finite;
use crate::problem::{Problem, not_json, not_utf8};
use crate::sse::{Event, Lines, Parser};
use crate::{End, Finish, Part, Usage};

/// Of what is no answer, in characters.
const SHOWN_CHARS: usize = 80;

/// A byte order mark.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// An answer that is being received.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    form: Form,
    draft: Draft,
}

#[derive(Debug)]
enum Form {
    /// Blanks so far, or the beginning of a byte order mark, which is kept.
    Unknown(Vec<u8>),
    /// Server-sent events.
    Events(Events),
    /// One JSON value, or one after the other.
    Json(Json),
}

#[derive(Debug, Default)]
struct Events {
    lines: Lines,
    found: Found,
}

/// What was found in the lines so far.
#[derive(Debug, Default)]
struct Found {
    parser: Parser,
    /// There was one.
    any: bool,
    /// The first line that is part of none.
    odd: Option<String>,
    /// The latest line that is part of none.
    stray: Option<String>,
    /// JSON that takes several lines.
    open: Open,
}

/// JSON that is not whole yet.
#[derive(Debug, Default)]
struct Open {
    text: String,
    brackets: Brackets,
}

/// Finds where JSON values end, so that each byte is read twice and no value is parsed before it is whole.
#[derive(Debug, Default)]
struct Json {
    bytes: Vec<u8>,
    /// Bytes before this belong to values that were taken.
    taken: usize,
    /// Bytes before this were searched and end no value.
    searched: usize,
    brackets: Brackets,
}

impl Default for Form {
    fn default() -> Self {
        Self::Unknown(Vec::new())
    }
}

impl Wire {
    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let added = match &mut self.form {
            Form::Unknown(held) => {
                held.extend_from_slice(bytes);
                let held = std::mem::take(held);
                self.begin(held)
            }
            Form::Events(events) => {
                events.lines.push(bytes);
                self.events()
            }
            Form::Json(json) => {
                json.push(bytes);
                self.values()
            }
        };
        self.unless_answered(added)
    }

    /// No more bytes come.
    pub(crate) fn end(&mut self) -> Result<(), Problem> {
        let added = match std::mem::take(&mut self.form) {
            Form::Unknown(_) => Ok(()),
            Form::Events(events) => self.last_events(events),
            // A document is complete where it ends.
            Form::Json(json) if json.is_empty() => {
                self.draft.complete();
                Ok(())
            }
            Form::Json(_) => Err(Problem::CutDocument),
        };
        self.unless_answered(added)
    }

    /// The parts that were received and not taken.
    pub(crate) fn parts(&mut self) -> &mut VecDeque<Part> {
        self.draft.parts()
    }

    /// Whether there are some.
    pub(crate) fn has_parts(&self) -> bool {
        self.draft.has_parts()
    }

    /// Nothing that could still come belongs to the answer.
    pub(crate) fn is_complete(&self) -> bool {
        self.draft.is_complete()
    }

    /// There is a finish reason, and with it an answer; usage may still come, and with some servers more of the answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.draft.is_answered()
    }

    /// How often something was said so far.
    pub(crate) fn said(&self) -> u64 {
        self.draft.said()
    }

    /// More may follow the finish reason: see [`Draft::may_go_on`].
    pub(crate) fn may_go_on(&self) -> bool {
        self.draft.may_go_on()
    }

    /// More followed the finish reason: see [`Draft::goes_on`].
    pub(crate) fn goes_on(&self) -> bool {
        self.draft.goes_on()
    }

    /// Something of the answer is here.
    pub(crate) fn has_begun(&self) -> bool {
        self.draft.has_begun()
    }

    /// What was received and is no part yet.
    pub(crate) fn unfinished_bytes(&self) -> u64 {
        let held = match &self.form {
            Form::Unknown(held) => held.len(),
            Form::Events(events) => events.lines.held_bytes() + events.found.open.text.len(),
            Form::Json(json) => json.bytes.len(),
        };
        held as u64 + self.draft.unfinished_bytes()
    }

    /// What the server counted so far.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.draft.usage()
    }

    /// Why the model ended the answer.
    pub(crate) fn ended_by(&self) -> Option<Finish> {
        self.draft.ended_by()
    }

    /// Ends the answer: see [`Draft::finish`].
    pub(crate) fn finish(&mut self, may_be_silent: bool) -> Result<End, Problem> {
        self.draft.finish(may_be_silent)
    }

    /// What comes after an answer and is none of it changes nothing, unless each chunk has a reason.
    fn unless_answered(&mut self, added: Result<(), Problem>) -> Result<(), Problem> {
        if added.is_err() && self.is_answered() && !self.goes_on() {
            self.draft.complete();
            return Ok(());
        }
        added
    }

    fn begin(&mut self, mut held: Vec<u8>) -> Result<(), Problem> {
        if held.starts_with(MARK) {
            held.drain(..MARK.len());
        }
        let blanks = held.len() - held.trim_ascii_start().len();
        held.drain(..blanks);
        match held.first() {
            Some(b'{' | b'[') => {
                let mut json = Json::default();
                json.push(&held);
                self.form = Form::Json(json);
                self.values()
            }
            Some(b'<') => Err(Problem::Malformed("it is a page and no completion".into())),
            Some(0x1f) => {
                Err(Problem::Malformed("it is compressed, which nobody asked for".into()))
            }
            Some(_) if !MARK.starts_with(&held) => {
                let mut events = Events::default();
                events.lines.push(&held);
                self.form = Form::Events(events);
                self.events()
            }
            _ => {
                self.form = Form::Unknown(held);
                Ok(())
            }
        }
    }

    fn events(&mut self) -> Result<(), Problem> {
        let Form::Events(events) = &mut self.form else { return Ok(()) };
        while !self.draft.is_complete() {
            let Some(line) = events.lines.next_line() else { break };
            if let Some(found) = events.found.line(line)? {
                event(&mut self.draft, &found.name, &found.data)?;
            }
            if let Some(stray) = events.found.stray.take() {
                self.draft.note(&stray);
            }
        }
        Ok(())
    }

    fn last_events(&mut self, mut events: Events) -> Result<(), Problem> {
        let last = match events.lines.finish() {
            Some(line) => events.found.line(&line)?,
            None => None,
        };
        for found in last.into_iter().chain(events.found.finish()) {
            event(&mut self.draft, &found.name, &found.data)?;
        }
        if let Some(stray) = &events.found.stray {
            self.draft.note(stray);
        }
        match events.found.odd {
            Some(line) if !events.found.any => {
                Err(Problem::Malformed(format!("neither events nor JSON, it begins: {line}")))
            }
            _ => Ok(()),
        }
    }

    /// Takes the values that are whole.
    fn values(&mut self) -> Result<(), Problem> {
        let Form::Json(json) = &mut self.form else { return Ok(()) };
        while let Some(value) = json.next_value() {
            let text = self.draft.mend(value?)?;
            let value = serde_json::from_str(&finite(&text)).map_err(|error| not_json(&error))?;
            value_of(&mut self.draft, &value)?;
        }
        Ok(())
    }
}

impl Found {
    /// The event that a line completes. JSON in lines of its own is one: some servers report an error so.
    fn line(&mut self, line: &[u8]) -> Result<Option<Event>, Problem> {
        let text = String::from_utf8_lossy(line);
        let is_json = self.open.brackets.is_open() || text.trim_start().starts_with('{');
        // Comments, and what is shown of no answer, may be anything.
        if matches!(text, Cow::Owned(_)) && (is_json || is_field(&text) && !text.starts_with(':')) {
            return Err(not_utf8());
        }
        let event = if is_json { self.open.line(&text) } else { self.parser.line(&text) };
        self.any |= event.is_some();
        if !is_json && event.is_none() && !is_field(&text) {
            let shown: String = text.chars().take(SHOWN_CHARS).collect();
            self.odd.get_or_insert_with(|| shown.clone());
            self.stray = Some(shown);
        }
        Ok(event)
    }

    fn finish(&mut self) -> Option<Event> {
        let event = match self.open.brackets.is_open() {
            true => Some(self.open.take()),
            false => self.parser.finish(),
        };
        self.any |= event.is_some();
        event
    }
}

impl Open {
    /// Takes a line: an event, if all values are whole with it, or if it is a line of an event, so that they never are.
    fn line(&mut self, line: &str) -> Option<Event> {
        let is_torn = self.brackets.is_open() && !line.is_empty() && is_field(line);
        if !is_torn {
            self.text += line;
            self.text.push('\n');
            line.bytes().for_each(|byte| _ = self.brackets.ends_value(byte));
        }
        (is_torn || !self.brackets.is_open()).then(|| self.take())
    }

    fn take(&mut self) -> Event {
        let Self { text, .. } = std::mem::take(self);
        Event { name: "message".into(), data: text }
    }
}

/// Whether a line is one of server-sent events.
fn is_field(line: &str) -> bool {
    let name = line.split_once(':').map_or(line, |(name, _)| name);
    matches!(name, "" | "data" | "event" | "id" | "retry")
}

impl Json {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.searched -= self.taken;
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether nothing of a value waits for its end.
    fn is_empty(&self) -> bool {
        self.bytes[self.taken..].trim_ascii().is_empty()
    }

    /// The text of the next whole value.
    fn next_value(&mut self) -> Option<Result<&str, Problem>> {
        while let Some(byte) = self.bytes.get(self.searched) {
            let byte = *byte;
            self.searched += 1;
            if self.brackets.ends_value(byte) {
                let value = std::mem::replace(&mut self.taken, self.searched)..self.searched;
                return Some(str::from_utf8(&self.bytes[value]).map_err(|_| not_utf8()));
            }
        }
        None
    }
}

/// Reads an answer that was received, in pieces of so many bytes, as a chat reads one that comes. For tests and
/// fuzzing; an error says what is wrong with it.
pub fn read_any(bytes: &[u8], piece_bytes: usize) -> Result<Vec<Part>, String> {
    let mut wire = Wire::default();
    let mut parts = Vec::new();
    let mut read = || {
        for piece in bytes.chunks(piece_bytes.max(1)) {
            wire.push(piece)?;
            parts.extend(wire.parts().drain(..));
            if wire.is_complete() {
                break;
            }
        }
        if !wire.is_complete() {
            wire.end()?;
        }
        wire.finish(false)
    };
    let end: Result<End, Problem> = read();
    let end = end.map_err(|problem| problem.to_string())?;
    parts.extend(wire.parts().drain(..));
    parts.push(Part::End(end));
    Ok(parts)
}

#[cfg(test)]
mod noise;
#[cfg(test)]
mod tests;

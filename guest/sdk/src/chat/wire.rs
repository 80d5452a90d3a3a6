//! An answer as it comes over the wire: what its bytes are counts, and not what its head says that they are.
//!
//! It reads nothing. It is fed, so that it can be tested, and fuzzed, without a network.

use serde_json::Value;

use super::Reply;
use super::assembly::{Assembly, Problem, not_json};
use crate::sse::{Event, Lines, Parser};

/// Of what is no answer, in characters.
const SHOWN_CHARS: usize = 80;

/// An answer that is coming in.
#[derive(Debug, Default)]
pub(super) struct Wire {
    form: Form,
    assembly: Assembly,
}

#[derive(Debug)]
enum Form {
    /// Blanks so far, or not enough to know.
    Unknown(Vec<u8>),
    /// Server-sent events.
    Events(Events),
    /// One JSON value, or one after the other.
    Json(Vec<u8>),
}

#[derive(Debug)]
struct Events {
    lines: Lines,
    parser: Parser,
    /// There was one.
    any: bool,
    /// The first line that is part of none.
    odd: Option<String>,
}

impl Default for Form {
    fn default() -> Self {
        Self::Unknown(Vec::new())
    }
}

impl Wire {
    /// Takes the next bytes. Returns the text that they added.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<String, Problem> {
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
                json.extend_from_slice(bytes);
                self.values()
            }
        };
        self.unless_answered(added)
    }

    /// No more bytes come. Returns the text that the last of them added.
    pub(super) fn end(&mut self) -> Result<String, Problem> {
        let added = match std::mem::take(&mut self.form) {
            Form::Unknown(_) => Ok(String::new()),
            Form::Events(events) => self.last_events(events),
            // A document is complete where it ends.
            Form::Json(rest) if rest.trim_ascii().is_empty() => {
                self.assembly.complete();
                Ok(String::new())
            }
            Form::Json(_) => Err(Problem::CutOff),
        };
        self.unless_answered(added)
    }

    /// Nothing that could still come belongs to the answer.
    pub(super) fn is_complete(&self) -> bool {
        self.assembly.is_complete()
    }

    /// All of the answer is here; what it cost may still come.
    pub(super) fn is_answered(&self) -> bool {
        self.assembly.is_answered()
    }

    /// Something of the answer is here.
    pub(super) fn has_begun(&self) -> bool {
        self.assembly.has_begun()
    }

    /// The whole answer. One without a word is an answer if the model `may_be_silent`.
    pub(super) fn finish(self, may_be_silent: bool) -> Result<Reply, Problem> {
        self.assembly.finish(may_be_silent)
    }

    /// What comes after an answer changes nothing of it.
    fn unless_answered(&mut self, added: Result<String, Problem>) -> Result<String, Problem> {
        if added.is_err() && self.is_answered() {
            self.assembly.complete();
            return Ok(String::new());
        }
        added
    }

    fn begin(&mut self, mut held: Vec<u8>) -> Result<String, Problem> {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        if held.starts_with(MARK) {
            held.drain(..MARK.len());
        }
        match held.trim_ascii_start().first() {
            Some(b'{' | b'[') => {
                self.form = Form::Json(held);
                self.values()
            }
            Some(b'<') => Err(Problem::Malformed("it is a page and no completion".into())),
            Some(0x1f) => {
                Err(Problem::Malformed("it is compressed, which nobody asked for".into()))
            }
            Some(_) if held.len() >= MARK.len() || held[0].is_ascii() => {
                let (mut lines, parser) = (Lines::of_events(), Parser::default());
                lines.push(&held);
                self.form = Form::Events(Events { lines, parser, any: false, odd: None });
                self.events()
            }
            _ => {
                self.form = Form::Unknown(held);
                Ok(String::new())
            }
        }
    }

    fn events(&mut self) -> Result<String, Problem> {
        let Form::Events(events) = &mut self.form else { return Ok(String::new()) };
        let mut text = String::new();
        while !self.assembly.is_complete() {
            let Some(line) = events.lines.next_line() else { break };
            if let Some(event) = events.line(&line) {
                text += &self.assembly.event(&event.name, &event.data)?;
            }
        }
        Ok(text)
    }

    fn last_events(&mut self, mut events: Events) -> Result<String, Problem> {
        let mut text = String::new();
        let last = events.lines.finish().and_then(|line| events.line(&line));
        for event in last.into_iter().chain(events.finish()) {
            text += &self.assembly.event(&event.name, &event.data)?;
        }
        match events.odd {
            Some(line) if !events.any => {
                Err(Problem::Malformed(format!("neither events nor JSON, it begins: {line}")))
            }
            _ => Ok(text),
        }
    }

    /// Takes the values that are whole.
    fn values(&mut self) -> Result<String, Problem> {
        let Form::Json(json) = &mut self.form else { return Ok(String::new()) };
        // A value that is not whole is not read again with every part of it.
        if !matches!(json.trim_ascii_end().last(), Some(b'}' | b']')) {
            return Ok(String::new());
        }
        let (mut text, mut taken) = (String::new(), 0);
        let mut values = serde_json::Deserializer::from_slice(json).into_iter::<Value>();
        loop {
            match values.next() {
                Some(Ok(value)) => {
                    taken = values.byte_offset();
                    text += &self.assembly.value(value)?;
                }
                Some(Err(error)) if !error.is_eof() => return Err(not_json(&error)),
                Some(Err(_)) | None => break,
            }
        }
        json.drain(..taken);
        Ok(text)
    }
}

impl Events {
    /// The event that a line completes. A line that is JSON is one of its own: some servers report an error so.
    fn line(&mut self, line: &str) -> Option<Event> {
        let event = if line.trim_start().starts_with('{') {
            Some(Event { name: "message".into(), data: line.into(), id: None })
        } else {
            self.parser.line(line)
        };
        self.any |= event.is_some();
        if self.odd.is_none() && event.is_none() && !is_field(line) {
            self.odd = Some(line.chars().take(SHOWN_CHARS).collect());
        }
        event
    }

    fn finish(&mut self) -> Option<Event> {
        let event = self.parser.finish();
        self.any |= event.is_some();
        event
    }
}

/// Whether a line is one of server-sent events.
fn is_field(line: &str) -> bool {
    let name = line.split_once(':').map_or(line, |(name, _)| name);
    matches!(name, "" | "data" | "event" | "id" | "retry")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an answer comes to, in pieces of each size.
    fn read(answer: &[u8]) -> Result<Reply, Problem> {
        let in_pieces = |size: usize| {
            let mut wire = Wire::default();
            for piece in answer.chunks(size) {
                wire.push(piece)?;
                if wire.is_complete() {
                    return wire.finish(false);
                }
            }
            wire.end()?;
            wire.finish(false)
        };
        let whole = in_pieces(answer.len().max(1));
        for size in [1, 2, 3, 7, 64] {
            assert_eq!(in_pieces(size), whole, "pieces of {size} bytes");
        }
        whole
    }

    fn says(answer: &str) -> String {
        let reply =
            read(answer.as_bytes()).unwrap_or_else(|problem| panic!("{answer}: {problem:?}"));
        reply.message.text().to_owned()
    }

    const CHUNK: &str =
        r#"{"choices":[{"index":0,"delta":{"content":"gr\u00fcn ✓"},"finish_reason":"stop"}]}"#;

    #[test]
    fn events_are_known_by_their_bytes() {
        for answer in [
            format!("data: {CHUNK}\n\ndata: [DONE]\n\n"),
            format!("data:{CHUNK}"),
            format!("\u{feff}: hi\r\n\r\nevent: message\r\ndata: {CHUNK}\r\n\r\n"),
            format!("id: 1\rdata: {CHUNK}\r\r"),
            format!("\n\n: PROCESSING\n\ndata: ping\n\ndata: {CHUNK}\n\ndata: {{torn"),
        ] {
            assert_eq!(says(&answer), "grün ✓");
        }
    }

    #[test]
    fn json_is_known_by_its_bytes_also_one_value_after_the_other() {
        let half = |text: &str| format!(r#"{{"choices":[{{"delta":{{"content":"{text}"}}}}]}}"#);
        for answer in [
            r#" {"choices":[{"message":{"content":"grün ✓"}}]} "#.to_owned(),
            format!("[{CHUNK}]"),
            format!("{}\n{}\n", half("grün"), half(" ✓")),
        ] {
            assert_eq!(says(&answer), "grün ✓");
        }
    }

    #[test]
    fn what_ends_in_the_middle_is_cut_off_and_what_is_no_answer_says_so() {
        let half = r#"{"choices":[{"index":0,"delta":{"content":"half"}}]}"#;
        for answer in
            ["", "data: {\"choi", "{\"choices\":[", ": ping\n\n", &format!("data: {half}\n\n")]
        {
            assert_eq!(read(answer.as_bytes()), Err(Problem::CutOff), "{answer}");
        }
        for (answer, part) in [
            ("<!doctype html>", "page"),
            ("\u{1f}\u{8b}", "compressed"),
            ("upstream is away", "upstream is away"),
            ("data: [1, x]\n\n", "not a completion"),
        ] {
            let Err(Problem::Malformed(text)) = read(answer.as_bytes()) else { panic!("{answer}") };
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn an_error_is_reported_wherever_it_stands() {
        let error = r#"{"error":{"message":"overloaded","code":503}}"#;
        for answer in [
            error.to_owned(),
            format!("[{error}]"),
            format!("data: {error}\n\n"),
            "event: error\ndata: {\"message\":\"overloaded\",\"status\":503}\n\n".to_owned(),
            format!(": hi\n\n{error}\n"),
        ] {
            let expected = Problem::Reported("overloaded".into(), Some(503));
            assert_eq!(read(answer.as_bytes()), Err(expected), "{answer}");
        }
    }

    #[test]
    fn what_comes_after_an_answer_changes_nothing_of_it() {
        for more in ["data: {\"error\":\"late\"}\n\n", "data: [1, x]\n\n", "noise"] {
            assert_eq!(says(&format!("data: {CHUNK}\n\n{more}")), "grün ✓");
        }
    }
}

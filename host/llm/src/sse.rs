//! Server-sent events, as far as APIs use them: `event`, `data`, comments.
//!
//! [`Lines`] cuts a byte stream into lines, [`Parser`] makes events of lines. Neither reads: they are fed, so they can
//! be tested without a network.

use std::borrow::Cow;

/// One dispatched event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// The event's type; `message` when the stream named none.
    pub(crate) name: Cow<'static, str>,
    /// The data lines, joined with line feeds.
    pub(crate) data: String,
}

/// Makes events of lines.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    name: String,
    data: String,
    has_data: bool,
}

impl Parser {
    /// Takes one line without its end. An empty line completes an event, if there was data.
    pub(crate) fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            return self.finish();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            "event" => value.clone_into(&mut self.name),
            // Comments, `id`, `retry`, and undefined fields.
            _ => {}
        }
        None
    }

    /// Completes what the end of the stream left open. The standard drops it; servers that forget the last empty line
    /// are common, and their data is complete.
    pub(crate) fn finish(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        if !std::mem::take(&mut self.has_data) {
            return None;
        }
        let name = if name.is_empty() { "message".into() } else { name.into() };
        Some(Event { name, data })
    }
}

/// Cuts bytes into lines, which end in LF, CR, CR LF, or with the stream.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// Bytes before this belong to lines that were taken.
    taken: usize,
    /// Bytes before this were searched and hold no line end.
    searched: usize,
    /// A LF that comes now belongs to the CR before it.
    after_cr: bool,
}

impl Lines {
    /// Adds what came from the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.searched -= self.taken;
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// What it keeps.
    pub(crate) fn held_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The next complete line, without its end.
    pub(crate) fn next_line(&mut self) -> Option<&[u8]> {
        if self.after_cr && self.taken < self.buffer.len() {
            self.after_cr = false;
            self.taken += usize::from(self.buffer[self.taken] == b'\n');
            self.searched = self.searched.max(self.taken);
        }
        let found = memchr::memchr2(b'\n', b'\r', &self.buffer[self.searched..]);
        let Some(end) = found.map(|offset| self.searched + offset) else {
            self.searched = self.buffer.len();
            return None;
        };
        let begin = std::mem::replace(&mut self.taken, end + 1);
        self.searched = self.taken;
        self.after_cr = self.buffer[end] == b'\r';
        Some(&self.buffer[begin..end])
    }

    /// The rest after the end of the stream, if there is any.
    pub(crate) fn finish(&mut self) -> Option<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.buffer).split_off(self.taken);
        if self.after_cr && rest.first() == Some(&b'\n') {
            rest.remove(0);
        }
        *self = Self::default();
        (!rest.is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a stream in pieces of `size` bytes.
    fn events(stream: &[u8], size: usize) -> Vec<Event> {
        let (mut lines, mut parser, mut events) = (Lines::default(), Parser::default(), Vec::new());
        for piece in stream.chunks(size) {
            lines.push(piece);
            while let Some(line) = lines.next_line() {
                events.extend(parser.line(str::from_utf8(line).unwrap()));
            }
        }
        if let Some(line) = lines.finish() {
            events.extend(parser.line(str::from_utf8(&line).unwrap()));
        }
        events.extend(parser.finish());
        events
    }

    fn event(name: &'static str, data: &str) -> Event {
        Event { name: name.into(), data: data.into() }
    }

    #[test]
    fn a_stream_means_the_same_however_it_is_cut() {
        let stream =
            "data: gr\u{fc}n\n\nevent: done\r\nid: 7\r\ndata: a\r\ndata: b\r\n\r\n: ping\n\n\
                      retry: 10\ndata:x\ndata\n\n"
                .as_bytes();
        let wanted =
            [event("message", "gr\u{fc}n"), event("done", "a\nb"), event("message", "x\n")];
        let with_cr =
            String::from_utf8(stream.to_vec()).unwrap().replace("\r\n", "\n").replace('\n', "\r");
        for size in 1..=stream.len() {
            assert_eq!(events(stream, size), wanted, "pieces of {size} bytes");
            assert_eq!(events(with_cr.as_bytes(), size), wanted, "pieces of {size} bytes, CR");
        }
    }

    #[test]
    fn an_event_without_data_is_none() {
        assert_eq!(events(b"event: ping\n\ndata: x\n\n", 64), [event("message", "x")]);
    }

    #[test]
    fn the_last_event_may_miss_its_empty_line() {
        assert_eq!(events(b"data: [DONE]", 64), [event("message", "[DONE]")]);
    }
}

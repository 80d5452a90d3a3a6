//! `wasi:cli/stdout` and `stderr`: lines into the agent's log.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bulkhead_types::Level;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::logs::{Logs, MAX_LINE_BYTES};

/// Bytes that a guest may hand over in one write. Each may be a line, and all of them are worked on in the host call: this
/// many newlines take less than a millisecond.
const PERMIT_BYTES: usize = 8 * 1024;

/// Cuts what a guest writes into lines. All handles to one stream share the unfinished line.
pub(crate) struct LineStream {
    name: &'static str,
    level: Level,
    logs: Arc<Logs>,
    unfinished: Arc<Mutex<Unfinished>>,
    /// What this handle may still write, by its last `check-write`.
    permit: usize,
}

/// The line at hand.
#[derive(Default)]
struct Unfinished {
    text: String,
    /// The beginning of a character whose other bytes were not written yet.
    partial: Vec<u8>,
    /// What came before it of the same line is a line of the log already.
    continues: bool,
}

impl LineStream {
    pub(crate) fn stdout(logs: Arc<Logs>) -> Self {
        Self::new("stdout", Level::Info, logs)
    }

    pub(crate) fn stderr(logs: Arc<Logs>) -> Self {
        Self::new("stderr", Level::Warn, logs)
    }

    fn new(name: &'static str, level: Level, logs: Arc<Logs>) -> Self {
        Self { name, level, logs, unfinished: Arc::default(), permit: 0 }
    }

    /// Handles to the stream that the guest has, beside this one and the one that makes them.
    pub(crate) fn handles(&self) -> usize {
        Arc::strong_count(&self.unfinished).saturating_sub(2)
    }

    fn take(&self, bytes: &[u8]) {
        let mut unfinished = self.unfinished.lock();
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let last = lines.next_back().unwrap_or_default();
        for line in lines {
            unfinished.add(line, true, |line| self.emit(line));
            unfinished.end(|line| self.emit(line));
        }
        unfinished.add(last, false, |line| self.emit(line));
    }

    fn emit(&self, line: &str) {
        self.logs.line(self.level, self.name, line, BTreeMap::new());
    }
}

impl Unfinished {
    /// Adds what was written. Bytes that are no UTF-8 become U+FFFD, but for a character that may still be completed.
    fn add(&mut self, bytes: &[u8], is_end: bool, mut emit: impl FnMut(&str)) {
        let joined;
        let mut bytes = bytes;
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.partial);
            bytes = &joined;
        }
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            self.push(chunk.valid(), &mut emit);
            let is_last = chunks.peek().is_none() && !is_end;
            match std::str::from_utf8(chunk.invalid()) {
                Ok(_) => {}
                Err(error) if is_last && error.error_len().is_none() => {
                    self.partial = chunk.invalid().to_vec();
                }
                Err(_) => self.push("\u{fffd}", &mut emit),
            }
        }
    }

    /// A line that is too long is split between two characters, and its rest is a line of its own.
    fn push(&mut self, mut text: &str, mut emit: impl FnMut(&str)) {
        while self.text.len() + text.len() > MAX_LINE_BYTES {
            let (head, rest) =
                text.split_at(text.floor_char_boundary(MAX_LINE_BYTES - self.text.len()));
            self.text.push_str(head);
            emit(&self.text);
            self.text.clear();
            (self.continues, text) = (true, rest);
        }
        self.text.push_str(text);
    }

    /// The line ends here.
    fn end(&mut self, emit: impl FnOnce(&str)) {
        let line = self.text.strip_suffix('\r').unwrap_or(&self.text);
        if !(line.is_empty() && self.continues) {
            emit(line);
        }
        (self.continues, _) = (false, self.text.clear());
    }
}

impl Clone for LineStream {
    /// Another handle, which has to ask for its own permit.
    fn clone(&self) -> Self {
        let (logs, unfinished) = (Arc::clone(&self.logs), Arc::clone(&self.unfinished));
        Self { logs, unfinished, permit: 0, ..*self }
    }
}

impl Drop for LineStream {
    fn drop(&mut self) {
        let Some(unfinished) = Arc::get_mut(&mut self.unfinished) else { return };
        let mut last = std::mem::take(unfinished.get_mut());
        last.add(b"", true, |line| self.emit(line));
        if !last.text.is_empty() {
            self.emit(&last.text);
        }
    }
}

impl IsTerminal for LineStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LineStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for LineStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let Some(left) = self.permit.checked_sub(bytes.len()) else {
            let (bytes, permit) = (bytes.len(), self.permit);
            let text =
                format!("wrote {bytes} bytes to {}, check-write allowed {permit}", self.name);
            return Err(StreamError::Trap(wasmtime::Error::msg(text)));
        };
        self.permit = left;
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.permit = PERMIT_BYTES;
        Ok(PERMIT_BYTES)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LineStream {
    async fn ready(&mut self) {}
}

impl AsyncWrite for LineStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = &bytes[..bytes.len().min(PERMIT_BYTES)];
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Port;
    use crate::port::fake::FakePort;

    fn lines(writes: &[&[u8]]) -> Vec<String> {
        let port = Arc::new(FakePort::default());
        let logs = Arc::new(Logs::new(
            Arc::clone(&port) as Arc<dyn Port>,
            Arc::new(Mutex::new(Logs::budget(1000))),
        ));
        let stream = LineStream::stdout(logs);
        for bytes in writes {
            stream.take(bytes);
        }
        drop(stream);
        let lines = port.lines.lock();
        lines.iter().map(|(line, _)| line.clone()).collect()
    }

    #[test]
    fn writes_become_lines_wherever_they_are_cut() {
        assert_eq!(lines(&[b"on", b"e\ntwo\r\nthr", b"ee"]), ["one", "two", "three"]);
        assert_eq!(lines(&[b"\n\n"]), ["", ""]);
        assert!(lines(&[]).is_empty());
    }

    #[test]
    fn a_long_line_is_split_and_nothing_of_it_is_lost() {
        let lengths =
            |text: &[u8]| -> Vec<usize> { lines(&[text]).iter().map(String::len).collect() };
        let text = vec![b'x'; 20_000];
        assert_eq!(lengths(&text), [8192, 8192, 3616]);
        assert_eq!(
            lengths(&[&text[..], b"\n"].concat()),
            [8192, 8192, 3616],
            "its end in the same write"
        );
        assert_eq!(lengths(&[&text[..8192], b"\n\n"].concat()), [8192, 0]);
        assert_eq!(lengths(&[&text[..8192], b"\r\nxx"].concat()), [8192, 2]);
    }

    #[test]
    fn a_long_line_is_split_between_characters_however_it_is_written() {
        let text = format!("x{}\n{}", "ä世👩\u{200d}🚀".repeat(2000), "👩".repeat(5000));
        for size in [1, 3, 4096, MAX_LINE_BYTES, text.len()] {
            let writes: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let lines = lines(&writes);
            assert!(lines.iter().all(|line| (1..=MAX_LINE_BYTES).contains(&line.len())), "{size}");
            assert!(
                lines.iter().rev().skip(1).filter(|line| line.len() < MAX_LINE_BYTES - 3).count()
                    <= 1
            );
            assert_eq!(lines.concat(), text.replace('\n', ""), "{size}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_counted_as_what_is_shown_for_them() {
        let lines = |bytes: &[&[u8]]| lines(bytes);
        let shown = lines(&[&[0xff; 20_000], b"\n"]);
        assert_eq!(shown.concat().chars().count(), 20_000, "one sign for each");
        assert!(shown.iter().all(|line| line.len() <= MAX_LINE_BYTES));
        assert_eq!(
            lines(&[b"a\xe4\xb8\n\x96b"]),
            ["a\u{fffd}", "\u{fffd}b"],
            "no character spans lines"
        );
        assert_eq!(lines(&[b"a\xe4", b"\xb8", b"\x96b\xf0\x9f"]), ["a世b\u{fffd}"]);
    }

    #[test]
    fn a_handle_writes_what_it_was_allowed_and_not_more() {
        let port = Arc::new(FakePort::default());
        let budget = Arc::new(Mutex::new(Logs::budget(1000)));
        let logs = Arc::new(Logs::new(Arc::clone(&port) as Arc<dyn Port>, budget));
        let mut stream = LineStream::stdout(logs);
        let is_trap = |result| matches!(result, Err(StreamError::Trap(_)));
        assert!(is_trap(stream.write(Bytes::from_static(b"x"))), "without a permit");
        assert_eq!(stream.check_write().unwrap(), PERMIT_BYTES);
        assert!(is_trap(stream.write(vec![b'\n'; PERMIT_BYTES + 1].into())));
        assert!(stream.write(vec![b'\n'; PERMIT_BYTES - 1].into()).is_ok());
        assert!(is_trap(stream.clone().write(Bytes::from_static(b"x"))), "another handle's permit");
        assert!(
            stream.write(Bytes::from_static(b"x")).is_ok() && is_trap(stream.write("y".into()))
        );
        assert_eq!(port.lines.lock().len(), PERMIT_BYTES - 1);
    }
}

//! `wasi:cli/stdout` and `stderr`: lines into the agent's log.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bulkhead_model::Level;
use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::logs::{Logs, MAX_LINE_BYTES};

/// Bytes that a guest may hand over in one write.
const PERMIT_BYTES: usize = 64 * 1024;

/// Cuts what a guest writes into lines. All handles to one stream share the unfinished line.
#[derive(Clone)]
pub(crate) struct LineStream {
    name: &'static str,
    level: Level,
    logs: Arc<Logs>,
    unfinished: Arc<Mutex<Vec<u8>>>,
}

impl LineStream {
    pub(crate) fn stdout(logs: Arc<Logs>) -> Self {
        Self { name: "stdout", level: Level::Info, logs, unfinished: Arc::default() }
    }

    pub(crate) fn stderr(logs: Arc<Logs>) -> Self {
        Self { name: "stderr", level: Level::Warn, logs, unfinished: Arc::default() }
    }

    /// Handles to the stream that the guest has, beside this one and the one that makes them.
    pub(crate) fn handles(&self) -> usize {
        Arc::strong_count(&self.unfinished).saturating_sub(2)
    }

    fn take(&self, mut bytes: &[u8]) {
        let mut unfinished = self.unfinished.lock().unwrap_or_else(|p| p.into_inner());
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            unfinished.extend_from_slice(&bytes[..end]);
            self.emit(&unfinished);
            unfinished.clear();
            bytes = &bytes[end + 1..];
        }
        // A line that never ends is cut here and its rest is a line of its own.
        while unfinished.len() + bytes.len() > MAX_LINE_BYTES {
            let (head, rest) = bytes.split_at(MAX_LINE_BYTES - unfinished.len());
            unfinished.extend_from_slice(head);
            self.emit(&unfinished);
            unfinished.clear();
            bytes = rest;
        }
        unfinished.extend_from_slice(bytes);
    }

    fn emit(&self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.logs.line(self.level, self.name, &String::from_utf8_lossy(line), BTreeMap::new());
    }
}

impl Drop for LineStream {
    fn drop(&mut self) {
        let Some(unfinished) = Arc::get_mut(&mut self.unfinished) else { return };
        let last = std::mem::take(unfinished.get_mut().unwrap_or_else(|p| p.into_inner()));
        if !last.is_empty() {
            self.emit(&last);
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
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
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
    use crate::logs::tests::FakePort;
    use crate::port::Port;

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
        let lines = port.lines.lock().unwrap();
        lines.iter().map(|(line, _)| line.clone()).collect()
    }

    #[test]
    fn writes_become_lines_wherever_they_are_cut() {
        assert_eq!(lines(&[b"on", b"e\ntwo\r\nthr", b"ee"]), ["one", "two", "three"]);
        assert_eq!(lines(&[b"\n\n"]), ["", ""]);
        assert!(lines(&[]).is_empty());
    }

    #[test]
    fn a_line_without_end_is_cut_at_the_bound() {
        let text = vec![b'x'; MAX_LINE_BYTES * 2 + 5];
        let lengths: Vec<_> = lines(&[&text]).iter().map(String::len).collect();
        assert_eq!(lengths, [MAX_LINE_BYTES, MAX_LINE_BYTES, 5]);
    }
}

//! A stream of server-sent events, read frame by frame.

use std::collections::VecDeque;
use std::time::Duration;

use bulkhead_api::StreamFrame;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::http::{Body, MAX_ANSWER_BYTES};

/// A host that sends nothing for so long is gone: it sends a heartbeat every 15 s.
const SILENCE: Duration = Duration::from_secs(45);

/// Largest frame. An event is bounded by the memory of its agent, of which the host's log has an eighth.
const MAX_FRAME_BYTES: usize = MAX_ANSWER_BYTES;

/// A stream that is open.
pub(crate) struct EventStream {
    body: Body,
    lines: Lines,
    frames: VecDeque<StreamFrame>,
    url: String,
    asked: String,
}

impl EventStream {
    pub(crate) fn new(body: Body, url: String, asked: String) -> Self {
        Self { body, lines: Lines::default(), frames: VecDeque::new(), url, asked }
    }

    /// The next frame of a kind that is known here. `None`: the host ended the stream. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<StreamFrame>, Failure> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Ok(Some(frame));
            }
            let (url, asked) = (&self.url, &self.asked);
            let chunk = timeout(SILENCE, self.body.next()).await.map_err(|_| {
                let silence = SILENCE.as_secs();
                Failure::NoAnswer(format!("{url} sent nothing for {silence} s ({asked})"))
            })?;
            let chunk =
                chunk.map_err(|error| Failure::NoAnswer(format!("{url}: {error} ({asked})")))?;
            let Some(chunk) = chunk else { return Ok(None) };
            let nonsense = |problem: String| {
                Failure::NoAnswer(format!("{url} sent an invalid stream: {problem} ({asked})"))
            };
            for data in self.lines.push(&chunk).map_err(&nonsense)? {
                let frame =
                    StreamFrame::parse(&data).map_err(|error| nonsense(error.to_string()))?;
                self.frames.extend(frame);
            }
        }
    }
}

/// Puts frames together from the pieces that arrive.
#[derive(Debug, Default)]
struct Lines {
    /// Of a line that has not ended.
    line: Vec<u8>,
    /// Of a frame that has not ended.
    data: Vec<u8>,
}

impl Lines {
    /// The data of all frames that this piece ends. Names, ids and waits mean nothing here: each frame says what it is.
    fn push(&mut self, mut piece: &[u8]) -> Result<Vec<String>, String> {
        let mut ended = Vec::new();
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&piece[..end]);
            piece = &piece[end + 1..];
            let line = std::mem::take(&mut self.line);
            ended.extend(self.take(line.strip_suffix(b"\r").unwrap_or(&line))?);
            self.check()?;
        }
        self.line.extend_from_slice(piece);
        self.check()?;
        Ok(ended)
    }

    fn take(&mut self, line: &[u8]) -> Result<Option<String>, String> {
        if line.is_empty() {
            let mut data = std::mem::take(&mut self.data);
            // The end of its last line.
            return match data.pop() {
                None => Ok(None),
                Some(_) => String::from_utf8(data).map(Some).map_err(|error| error.to_string()),
            };
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
            self.data.push(b'\n');
        }
        Ok(None)
    }

    fn check(&self) -> Result<(), String> {
        if self.line.len() + self.data.len() > MAX_FRAME_BYTES {
            return Err(format!("a frame has more than {MAX_FRAME_BYTES} bytes"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "retry: 1000\n\nid: 7\ndata: {\"a\":\"grüße\"}\n\n: heartbeat\n\nevent: gap\r\ndata:one\r\n\
                          data: two\r\n\r\ndata: left";

    #[test]
    fn frames_come_whole_however_they_are_cut() {
        let bytes = STREAM.as_bytes();
        for cut in 0..bytes.len() {
            let mut lines = Lines::default();
            let mut data = lines.push(&bytes[..cut]).unwrap();
            data.extend(lines.push(&bytes[cut..]).unwrap());
            assert_eq!(data, ["{\"a\":\"grüße\"}", "one\ntwo"], "{cut}");
            assert_eq!(lines.line, b"data: left");
        }
    }

    #[test]
    fn a_frame_without_end_is_refused() {
        let mut lines = Lines::default();
        let piece = vec![b'x'; MAX_FRAME_BYTES / 2];
        assert!(lines.push(b"data: x\n").is_ok());
        assert!(lines.push(&piece).is_ok());
        assert!(lines.push(&piece).unwrap_err().contains("more than"));
    }

    #[test]
    fn a_frame_that_is_no_text_is_refused() {
        assert!(Lines::default().push(b"data: \xff\n\n").is_err());
    }
}

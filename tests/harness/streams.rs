//! A reader of event streams that says exactly which frame came when.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::client::Client;

/// A test that waits this long for a frame has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open stream.
pub struct Reader {
    connection: BufReader<TcpStream>,
    text: String,
    /// The number of the last event that was read.
    pub last_id: Option<u64>,
}

impl Reader {
    /// Opens a stream. The error is the status, or why there is none.
    pub fn try_open(client: &Client, path: &str, last_id: Option<u64>) -> Result<Self, String> {
        let last = last_id.map_or_else(String::new, |id| format!("last-event-id: {id}\r\n"));
        Self::ask(client, &format!("GET {path} HTTP/1.1\r\n{last}"), "", last_id)
    }

    /// Opens a stream.
    #[track_caller]
    pub fn open(client: &Client, path: &str) -> Self {
        Self::try_open(client, path, None).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Sends a message whose turn is a stream.
    #[track_caller]
    pub fn of_turn(client: &Client, agent: &str, prompt: &str) -> Self {
        let body = serde_json::json!({ "prompt": prompt }).to_string();
        let head = format!(
            "POST /agents/{agent}/message HTTP/1.1\r\naccept: text/event-stream\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        );
        Self::ask(client, &head, &body, None).unwrap_or_else(|error| panic!("{prompt}: {error}"))
    }

    fn ask(client: &Client, head: &str, body: &str, last_id: Option<u64>) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let stream = TcpStream::connect(client.address()).map_err(text)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        let token = client.token().map(|token| format!("authorization: Bearer {token}\r\n"));
        let token = token.unwrap_or_default();
        let request = format!("{head}host: localhost\r\n{token}\r\n{body}");
        (&stream).write_all(request.as_bytes()).map_err(text)?;
        let mut connection = BufReader::new(stream);
        let mut status = String::new();
        connection.read_line(&mut status).map_err(text)?;
        if !status.starts_with("HTTP/1.1 200") {
            return Err(if status.is_empty() { "hung up".into() } else { status });
        }
        let mut line = status;
        while !line.trim().is_empty() {
            line.clear();
            connection.read_line(&mut line).map_err(text)?;
        }
        Ok(Self { connection, text: String::new(), last_id })
    }

    /// The next frame. `None`: the stream ended. An error: it was cut off.
    pub fn read(&mut self) -> Result<Option<Value>, String> {
        loop {
            while let Some((frame, rest)) = self.text.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some(frame) = self.parse(&frame) {
                    return Ok(Some(frame));
                }
            }
            if !self.read_chunk()? {
                return Ok(None);
            }
        }
    }

    /// Frames up to one that is wanted, which is the last.
    #[track_caller]
    pub fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            match self.read() {
                Ok(Some(frame)) => frames.push(frame),
                ended => panic!("{ended:?} after {frames:?}"),
            }
            if frames.last().is_some_and(&wanted) {
                return frames;
            }
        }
    }

    /// All frames to the end of the stream.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.read().unwrap_or_else(|error| panic!("{error}"))).collect()
    }

    fn parse(&mut self, frame: &str) -> Option<Value> {
        let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name));
        if let Some(id) = field("id: ") {
            self.last_id = Some(id.parse().expect("an id"));
        }
        let data = field("data: ")?;
        Some(serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}")))
    }

    /// `false`: that was the last one.
    fn read_chunk(&mut self) -> Result<bool, String> {
        let text = |error: std::io::Error| error.to_string();
        let mut size = String::new();
        self.connection.read_line(&mut size).map_err(text)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(|_| "cut off".to_owned())?;
        let mut chunk = vec![0; size + "\r\n".len()];
        self.connection.read_exact(&mut chunk).map_err(text)?;
        chunk.truncate(size);
        self.text += std::str::from_utf8(&chunk).expect("text");
        Ok(size > 0)
    }
}

/// The text of the deltas among frames, of one kind.
pub fn text_of(frames: &[Value], kind: &str) -> String {
    let deltas = frames.iter().filter_map(|frame| frame["deltas"].as_array()).flatten();
    deltas
        .filter(|delta| delta["kind"] == kind)
        .filter_map(|delta| delta["text"].as_str())
        .collect()
}

//! As much of JetStream as the host asks for.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use parking_lot::Mutex;
use serde_json::{Value, json};

const PART: usize = 2;

/// A server with one bucket, on a real socket. Its threads end with their connections.
pub struct Fake {
    at: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    bucket: String,
    honours_conditions: bool,
    /// By subject: number, headers and payload.
    messages: BTreeMap<String, (u64, Vec<u8>, Vec<u8>)>,
    last: u64,
    /// So many requests from here on are done, and not answered.
    unanswered: u32,
    config: Value,
}

impl Fake {
    /// Starts one with an empty bucket.
    pub fn start(bucket: &str, honours_conditions: bool) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let at = listener.local_addr()?;
        let config = json!({
            "subjects": [format!("$KV.{bucket}.>")], "storage": "file", "discard": "new", "max_age": 0,
        });
        let (bucket, messages) = (bucket.to_owned(), BTreeMap::new());
        let state = State { bucket, honours_conditions, messages, last: 0, unanswered: 0, config };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(&stream, &state));
            }
        });
        Ok(Self { at, state })
    }

    /// Host and port.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// Does the next requests, and does not answer them: their connection breaks.
    pub fn lose_answers(&self, count: u32) {
        self.state.lock().unanswered = count;
    }

    /// Changes the configuration of the bucket's stream.
    pub fn configure(&self, key: &str, value: Value) {
        self.state.lock().config[key] = value;
    }

    /// The keys that are there.
    pub fn keys(&self) -> Vec<String> {
        let state = self.state.lock();
        let before = format!("$KV.{}.", state.bucket);
        state.messages.keys().filter_map(|it| it.strip_prefix(&before)).map(str::to_owned).collect()
    }

    /// Changes what a key holds. `false`: there is none.
    pub fn change(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state.lock();
        let subject = format!("$KV.{}.{key}", state.bucket);
        state.messages.get_mut(&subject).map(|(.., payload)| change(payload)).is_some()
    }

    /// Removes a key as a purge does. `false`: there is none.
    pub fn remove(&self, key: &str) -> bool {
        let mut state = self.state.lock();
        let subject = format!("$KV.{}.{key}", state.bucket);
        state.messages.remove(&subject).is_some()
    }

    /// Puts a message as `nats kv del` does.
    pub fn delete(&self, key: &str) {
        let mut state = self.state.lock();
        let subject = format!("$KV.{}.{key}", state.bucket);
        state.last += 1;
        let headers = b"NATS/1.0\r\nKV-Operation: DEL\r\n\r\n".to_vec();
        let last = state.last;
        state.messages.insert(subject, (last, headers, Vec::new()));
    }
}

/// Until the client is gone.
fn serve(stream: &TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    let info = json!({ "server_name": "fake", "version": "2.9.20", "headers": true, "max_payload": 1 << 20, "jetstream": true });
    writer.write_all(format!("INFO {info} \r\nPING\r\n").as_bytes()).ok()?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        match words[..] {
            ["PING"] => writer.write_all(b"PONG\r\n").ok()?,
            ["PUB" | "HPUB", subject, reply, .., bytes] => {
                let bytes: usize = bytes.parse().ok()?;
                let of_headers = if words.len() > 4 { words[3].parse().ok()? } else { 0 };
                let mut message = vec![0; bytes + 2];
                reader.read_exact(&mut message).ok()?;
                message.truncate(bytes);
                let payload = message.split_off(of_headers);
                let mut state = state.lock();
                let answer = state.answer(subject, message, payload);
                if state.unanswered > 0 {
                    state.unanswered -= 1;
                    return None;
                }
                drop(state);
                let text = match answer {
                    Some(answer) => {
                        let answer = answer.to_string();
                        format!("MSG {reply} 1 {}\r\n{answer}\r\n", answer.len())
                    }
                    None => format!("HMSG {reply} 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"),
                };
                writer.write_all(text.as_bytes()).ok()?;
            }
            _ => {}
        }
    }
}

impl State {
    /// `None`: nobody listens there.
    fn answer(&mut self, subject: &str, headers: Vec<u8>, payload: Vec<u8>) -> Option<Value> {
        let stream = format!("KV_{}", self.bucket);
        let Some(call) = subject.strip_prefix("$JS.API.STREAM.") else {
            let is_ours = subject.starts_with(&format!("$KV.{}.", self.bucket));
            return is_ours.then(|| self.put(subject, headers, payload));
        };
        let body: Value = serde_json::from_slice(&payload).unwrap_or_default();
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let Some(call) = call.strip_suffix(&format!(".{stream}")) else {
            return Some(refused(404, 10059, "stream not found"));
        };
        Some(match call {
            "MSG.GET" => match self.messages.get(&text("last_by_subj")) {
                None => refused(404, 10037, "no message found"),
                Some((seq, headers, payload)) => json!({ "message": {
                    "seq": seq, "hdrs": BASE64.encode(headers), "data": BASE64.encode(payload),
                }}),
            },
            "PURGE" => {
                let filter = text("filter");
                self.messages.retain(|subject, _| !matches(&filter, subject));
                json!({ "success": true })
            }
            _ => {
                let (filter, offset) =
                    (text("subjects_filter"), body["offset"].as_u64().unwrap_or(0));
                let found: Vec<_> =
                    self.messages.keys().filter(|it| matches(&filter, it)).collect();
                let page =
                    found.iter().skip(usize::try_from(offset).unwrap_or(usize::MAX)).take(PART);
                let subjects: BTreeMap<_, _> = page.map(|subject| (subject, 1)).collect();
                json!({ "config": self.config, "state": { "subjects": subjects }, "total": found.len() })
            }
        })
    }

    fn put(&mut self, subject: &str, headers: Vec<u8>, payload: Vec<u8>) -> Value {
        let text = String::from_utf8_lossy(&headers);
        let expected = text
            .lines()
            .find_map(|line| line.strip_prefix("Nats-Expected-Last-Subject-Sequence: "));
        let last = self.messages.get(subject).map_or(0, |(seq, ..)| *seq);
        let is_met = expected.is_none_or(|expected| expected == last.to_string());
        if self.honours_conditions && !is_met {
            return refused(400, 10071, &format!("wrong last sequence: {last}"));
        }
        self.last += 1;
        self.messages.insert(subject.to_owned(), (self.last, headers, payload));
        json!({ "stream": format!("KV_{}", self.bucket), "seq": self.last })
    }
}

fn refused(code: u16, err_code: u32, description: &str) -> Value {
    json!({ "error": { "code": code, "err_code": err_code, "description": description } })
}

/// Whether a subject is one, or below one that ends with `>`.
fn matches(filter: &str, subject: &str) -> bool {
    match filter.strip_suffix('>') {
        Some(before) => subject.len() > before.len() && subject.starts_with(before),
        None => filter == subject,
    }
}

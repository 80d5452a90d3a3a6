//! The calls.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bulkhead_net::{Connector, Idle, Proxies};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::address::Nats;
use crate::connection::Connection;
use crate::fault::{Cause, Fault};
use crate::wire::{self, Message};

/// The condition of a write: the sequence number of the last message with its key. 0: there is none.
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
const ABSENT: &str = "0";
/// No message has this one.
const NEVER: &str = "9223372036854775807";

/// What a writer says of a document.
const NOTE: &str = "Bulkhead-Note";

/// A key that was removed has a message with one of these headers.
const REMOVED: [&str; 2] = ["KV-Operation", "Nats-Marker-Reason"];

/// Codes of JetStream: no such stream, no message with such a key, another last message, no JetStream.
const NO_STREAM: u32 = 10059;
const NO_MESSAGE: u32 = 10037;
const WRONG_LAST: [u32; 2] = [10071, 10164];
const NOT_ENABLED: [u32; 2] = [10039, 10076];

/// How long a connection may wait to be used again. Servers ask every two minutes whether it is alive.
const MAX_IDLE: Duration = Duration::from_secs(60);
/// Connections of a runtime that wait.
const MAX_CONNECTIONS: usize = 16;

/// A bucket. Nothing bounds the time of a call but its caller, who drops it; that closes its connection.
pub struct Bucket {
    at: Nats,
    connector: Connector,
    patience: Duration,
    /// The server that is asked first.
    current: AtomicUsize,
    idle: Idle<Connection>,
    /// Of the server that was asked last.
    max_payload: AtomicUsize,
    has_racing_writes: AtomicBool,
}

/// A document that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What it holds.
    pub bytes: Bytes,
    /// Names this content of this key: the number of its message in the stream.
    pub version: String,
    /// What its writer says of it, in the header `Bulkhead-Note`.
    pub note: Option<String>,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// It is there, in this version.
    Stored {
        /// As in [`Document`].
        version: String,
    },
    /// Another one is there. It is not stored.
    Conflict,
}

/// Keys of a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// What follows the prefix, in no order. A key may be one that was removed.
    pub keys: Vec<String>,
    /// There are more than were asked for.
    pub has_more: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Answer {
    error: Option<Refusal>,
    /// Of a write.
    stream: String,
    seq: u64,
    message: Option<Stored>,
    config: Option<Config>,
    state: State,
    /// Subjects in all.
    total: usize,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Refusal {
    code: u16,
    err_code: u32,
    description: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Stored {
    seq: u64,
    hdrs: String,
    data: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Config {
    subjects: Vec<String>,
    storage: String,
    discard: String,
    max_age: i64,
    max_msgs: i64,
    max_bytes: i64,
    max_msg_size: i64,
    num_replicas: u32,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct State {
    subjects: BTreeMap<String, u64>,
}

impl Bucket {
    /// Nothing is called yet. `patience` is for a connection to one server. Proxies are for HTTP, and not used.
    pub fn new(at: Nats, mut connector: Connector, patience: Duration) -> Self {
        connector.proxies = Proxies::default();
        let idle = Idle::new(MAX_CONNECTIONS, MAX_IDLE);
        let (current, max_payload) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let has_racing_writes = AtomicBool::new(false);
        Self { at, connector, patience, current, idle, max_payload, has_racing_writes }
    }

    /// Whether the bucket is there, keeps what it is given, lets this user write, and honours conditions. A write on a
    /// condition that no message meets wants the permission to write that every other does.
    ///
    /// `at_least`: messages have to be allowed that have so many bytes.
    pub async fn probe(&self, key: &str, at_least: usize) -> Result<(), Fault> {
        let info = self.api("STREAM.INFO", &json!({})).await?;
        let config = info.config.unwrap_or_default();
        self.check(&config)?;
        if let Ok(most @ 1..) = usize::try_from(config.max_msg_size)
            && most < at_least
        {
            return Err(Fault::refused(format!(
                "the bucket {} takes values of {most} bytes at most (max_msg_size), and {at_least} are needed",
                self.at.bucket
            )));
        }
        let max_payload = self.max_payload.load(Ordering::Relaxed);
        if max_payload < at_least {
            return Err(Fault::refused(format!(
                "the NATS server takes messages of {max_payload} bytes at most (max_payload), and {at_least} are needed"
            )));
        }
        match self.put(key, &[], None, NEVER).await? {
            Put::Conflict => Ok(()),
            Put::Stored { .. } => {
                Err(Fault::misbehaves("what answers as JetStream ignores the condition of a write"))
            }
        }
    }

    fn check(&self, config: &Config) -> Result<(), Fault> {
        let Nats { bucket, .. } = &self.at;
        let why = if !config.subjects.contains(&format!("$KV.{bucket}.>")) {
            "its stream has other subjects than a key-value bucket"
        } else if config.storage != "file" {
            "it is in memory; make it with --storage=file"
        } else if config.max_age > 0 {
            "it removes what is old; make it without --ttl"
        } else if config.discard != "new" && (config.max_msgs > 0 || config.max_bytes > 0) {
            "it removes what is old when it is full; its stream needs discard = new"
        } else if config.num_replicas > 1 && self.has_racing_writes.load(Ordering::Relaxed) {
            "it has replicas, and a server before 2.9.21 lets two writes on one condition pass; upgrade the servers"
        } else {
            return Ok(());
        };
        Err(Fault::misbehaves(format!("the bucket {bucket} of JetStream loses documents: {why}")))
    }

    /// The document with this key, as the leader of the stream has it.
    pub async fn get(&self, key: &str) -> Result<Option<Document>, Fault> {
        let found = self.last(key).await?;
        let Some((stored, headers)) = found.filter(|(_, headers)| !is_removed(headers)) else {
            return Ok(None);
        };
        let bytes = decode(&stored.data)?.into();
        let note = wire::header(&headers, NOTE).map(str::to_owned);
        Ok(Some(Document { bytes, version: stored.seq.to_string(), note }))
    }

    /// The last message of a key, and its headers.
    async fn last(&self, key: &str) -> Result<Option<(Stored, String)>, Fault> {
        let body = json!({ "last_by_subj": self.subject(key) });
        let answer = match self.try_api("STREAM.MSG.GET", &body).await? {
            Answer { error: Some(Refusal { err_code: NO_MESSAGE, .. }), .. } => return Ok(None),
            answer => self.judged(answer)?,
        };
        let strange = || Fault::misbehaves("JetStream gave no message, and no reason");
        let stored = answer.message.ok_or_else(strange)?;
        let headers = String::from_utf8(decode(&stored.hdrs)?)
            .map_err(|_| Fault::misbehaves("JetStream gave headers that are no text"))?;
        Ok(Some((stored, headers)))
    }

    /// Writes a document if the key has this version; `None`: if there is none with the key. `note` is one
    /// line about it. After an error it may be there.
    pub async fn put_if(
        &self,
        key: &str,
        bytes: &[u8],
        note: Option<&str>,
        expected: Option<&str>,
    ) -> Result<Put, Fault> {
        let put = self.put(key, bytes, note, expected.unwrap_or(ABSENT)).await?;
        if expected.is_some() || put != Put::Conflict {
            return Ok(put);
        }
        // What was removed by `nats kv del` has left a message, and that is the last one.
        match self.last(key).await? {
            Some((stored, headers)) if is_removed(&headers) => {
                self.put(key, bytes, note, &stored.seq.to_string()).await
            }
            _ => Ok(Put::Conflict),
        }
    }

    async fn put(
        &self,
        key: &str,
        bytes: &[u8],
        note: Option<&str>,
        expected: &str,
    ) -> Result<Put, Fault> {
        let note = note.map(|note| (NOTE, note));
        let headers: Vec<_> = [(EXPECTED, expected)].into_iter().chain(note).collect();
        let message = self.ask(&self.subject(key), &headers, bytes).await?;
        if message.has_no_responder() {
            // Nobody stores it: the bucket is not there, or JetStream is not. This says which.
            self.api("STREAM.INFO", &json!({})).await?;
            return Err(Fault::unavailable("JetStream did not take what was written"));
        }
        let answer = read(&message)?;
        if answer.error.as_ref().is_some_and(|error| WRONG_LAST.contains(&error.err_code)) {
            return Ok(Put::Conflict);
        }
        let answer = self.judged(answer)?;
        if answer.seq == 0 || answer.stream != self.stream() {
            let text = format!("another stream than {} stored what was written", self.stream());
            return Err(Fault::misbehaves(text));
        }
        Ok(Put::Stored { version: answer.seq.to_string() })
    }

    /// Removes a document and those whose keys begin with its key and a dot, without a trace.
    pub async fn remove(&self, key: &str) -> Result<(), Fault> {
        let subject = self.subject(key);
        for filter in [subject.clone(), format!("{subject}.>")] {
            self.api("STREAM.PURGE", &json!({ "filter": filter })).await?;
        }
        Ok(())
    }

    /// The keys that begin with a prefix and a dot, at most so many.
    pub async fn keys(&self, prefix: &str, most: usize) -> Result<Keys, Fault> {
        let before = format!("{}.", self.subject(prefix));
        let (mut found, mut offset) = (Keys::default(), 0);
        loop {
            let body = json!({ "subjects_filter": format!("{before}>"), "offset": offset });
            let answer = self.api("STREAM.INFO", &body).await?;
            let page = answer.state.subjects;
            offset += page.len();
            let keys = page.keys().filter_map(|subject| subject.strip_prefix(&before));
            found.keys.extend(keys.map(str::to_owned));
            let is_last = page.is_empty() || offset >= answer.total;
            if is_last || found.keys.len() > most {
                found.has_more = !is_last || found.keys.len() > most;
                found.keys.truncate(most);
                return Ok(found);
            }
        }
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.at.bucket)
    }

    fn stream(&self) -> String {
        format!("KV_{}", self.at.bucket)
    }

    /// A call of JetStream about the bucket's stream.
    async fn api(&self, call: &str, body: &Value) -> Result<Answer, Fault> {
        let answer = self.try_api(call, body).await?;
        self.judged(answer)
    }

    async fn try_api(&self, call: &str, body: &Value) -> Result<Answer, Fault> {
        let subject = format!("$JS.API.{call}.{}", self.stream());
        let message = self.ask(&subject, &[], body.to_string().as_bytes()).await?;
        if message.has_no_responder() {
            return Err(no_jetstream());
        }
        read(&message)
    }

    fn judged(&self, answer: Answer) -> Result<Answer, Fault> {
        let Some(Refusal { code, err_code, description }) = &answer.error else {
            return Ok(answer);
        };
        let bucket = &self.at.bucket;
        let text = format!("JetStream refused a call of the bucket {bucket}: {description}");
        Err(match *err_code {
            NO_STREAM => Fault::refused(format!(
                "JetStream has no bucket {bucket} for this user; make it: nats kv add {bucket} --storage=file"
            )),
            err_code if NOT_ENABLED.contains(&err_code) => no_jetstream(),
            _ if *code >= 500 => Fault::unavailable(text),
            _ => Fault::refused(text),
        })
    }

    async fn ask(
        &self,
        subject: &str,
        headers: &[(&str, &str)],
        payload: &[u8],
    ) -> Result<Message, Fault> {
        let mut asking = Asking { bucket: self, is_answered: false };
        let mut connection = match self.take_idle().await {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        // For the call after one that is dropped because it takes too long.
        let at = self.current.load(Ordering::Relaxed);
        self.current.store((at + 1) % self.at.servers.len(), Ordering::Relaxed);
        let answer = connection.request(subject, headers, payload).await?;
        self.current.store(at, Ordering::Relaxed);
        asking.is_answered = true;
        self.max_payload.store(connection.info.max_payload, Ordering::Relaxed);
        self.has_racing_writes.store(connection.info.has_racing_writes(), Ordering::Relaxed);
        self.idle.put(connection.runtime, connection);
        Ok(answer)
    }

    /// One that the server has not closed. The one that was used last.
    async fn take_idle(&self) -> Option<Connection> {
        loop {
            let mut connection = self.idle.take()?;
            if connection.is_open().await {
                return Some(connection);
            }
        }
    }

    /// To the first server that answers.
    async fn connect(&self) -> Result<Connection, Fault> {
        let (count, first) = (self.at.servers.len(), self.current.load(Ordering::Relaxed));
        let mut failure = Fault::unavailable("there is no server to ask");
        for at in first..first + count {
            let server = &self.at.servers[at % count];
            // For the call after one that is dropped because it takes too long.
            self.current.store((at + 1) % count, Ordering::Relaxed);
            let opened = Connection::open(server, &self.at.login, &self.connector, self.patience);
            match timeout(self.patience, opened).await {
                Ok(Ok(connection)) => {
                    self.current.store(at % count, Ordering::Relaxed);
                    return Ok(connection);
                }
                Ok(Err(fault)) if fault.cause == Cause::Unavailable => failure = fault,
                Ok(Err(fault)) => return Err(fault),
                Err(_) => {
                    let at = server.host_and_port();
                    failure = Fault::unavailable(format!("the NATS server {at} does not answer"));
                }
            }
        }
        Err(failure)
    }
}

/// A request under way. Where it is not answered, others on connections to the same server may not be either.
struct Asking<'a> {
    bucket: &'a Bucket,
    is_answered: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.bucket.idle.clear();
        }
    }
}

fn no_jetstream() -> Fault {
    Fault::unavailable(
        "JetStream does not answer: the NATS server runs without it (-js), this account has none, or it has just started",
    )
}

fn is_removed(headers: &str) -> bool {
    REMOVED.iter().any(|name| wire::header(headers, name).is_some())
}

fn decode(text: &str) -> Result<Vec<u8>, Fault> {
    BASE64
        .decode(text)
        .map_err(|error| Fault::misbehaves(format!("JetStream gave what is no base64: {error}")))
}

fn read(message: &Message) -> Result<Answer, Fault> {
    serde_json::from_slice(&message.payload).map_err(|error| {
        Fault::misbehaves(format!("what answers does not answer as JetStream: {error}"))
    })
}

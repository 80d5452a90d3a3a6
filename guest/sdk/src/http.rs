//! A blocking HTTP client over `wasi:http`.
//!
//! ```no_run
//! use std::time::Duration;
//! use bulkhead_guest::http::Request;
//!
//! let response = Request::get("https://example.com/items")
//!     .header("accept", "application/json")
//!     .timeout(Duration::from_secs(5))
//!     .send()?;
//! let items: Vec<String> = response.ok()?.json()?;
//! # Ok::<(), bulkhead_guest::http::Error>(())
//! ```
//!
//! Everything has a bound: an exchange ends by its timeout and in any case a little before the
//! turn's own deadline, so that the agent gets an [`Error`] and not its end; a body ends
//! at [`Request::max_body_bytes`]. Redirects are not followed, and nothing is decompressed or
//! retried. The host decides which destinations a role may reach; see [`ErrorKind::Denied`].

mod error;
mod exchange;
mod url;

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sse;
use exchange::Body;

pub use ::http::Method;
pub use error::{Error, ErrorKind, Phase};
pub use exchange::Wait;
pub use url::{check, redact};

/// An exchange takes at most this long, when [`Request::timeout`] says nothing else.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Connecting takes at most this long, when [`Request::connect_timeout`] says nothing else.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer's body has at most this many bytes, when [`Request::max_body_bytes`] says nothing else.
pub const DEFAULT_MAX_BODY_BYTES: usize = 1024 * 1024;

/// A request that is being put together. Mistakes in it are reported by [`send`](Request::send).
#[derive(Debug)]
#[must_use = "a request does nothing before `send`"]
pub struct Request {
    method: Method,
    url: String,
    headers: Headers,
    body: Option<Vec<u8>>,
    timeout: Duration,
    connect_timeout: Duration,
    idle_timeout: Option<Duration>,
    max_body_bytes: usize,
}

impl Request {
    /// A request of any method.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            headers: Headers(Vec::new()),
            body: None,
            timeout: DEFAULT_TIMEOUT,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            idle_timeout: None,
            max_body_bytes: DEFAULT_MAX_BODY_BYTES,
        }
    }

    /// A GET request.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::GET, url)
    }

    /// A POST request.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new(Method::POST, url)
    }

    /// Adds a header. Connection headers and `host` belong to the host and are refused.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.0.push((name.into(), value.into().into_bytes()));
        self
    }

    /// The same with a value of any bytes.
    pub fn header_bytes(mut self, name: impl Into<String>, value: Vec<u8>) -> Self {
        self.headers.0.push((name.into(), value));
        self
    }

    /// Adds `authorization: Bearer`.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sets a JSON body and its content type.
    pub fn json(self, body: &impl Serialize) -> Result<Self, Error> {
        match serde_json::to_vec(body) {
            Ok(bytes) => Ok(self.header("content-type", "application/json").body(bytes)),
            Err(source) => Err(self.error(ErrorKind::InvalidBody(source.to_string()))),
        }
    }

    /// Bounds the whole exchange, from here to the last byte of the answer. `Duration::MAX`: only the turn's deadline does.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Bounds connecting.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Bounds the silence before and between parts of the answer; for streams.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// Bounds the answer's body. A longer one is [`ErrorKind::TooLarge`].
    pub fn max_body_bytes(mut self, limit: usize) -> Self {
        self.max_body_bytes = limit;
        self
    }

    /// Sends the request and waits for the head of the answer. Any status is an answer; see
    /// [`Response::ok`].
    pub fn send(self) -> Result<Response, Error> {
        exchange::send(self)
    }

    /// Sends the request and does not wait for the answer, for those who wait for several things at a time. What the host has no
    /// room for of the body is waited for.
    pub fn begin(self) -> Result<Pending, Error> {
        exchange::begin(self).map(|pending| Pending(Some(pending)))
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error { method: self.method.clone(), url: redact(&self.url), kind }
    }
}

/// A request that was sent. Dropping it closes its connection.
pub struct Pending(Option<exchange::Pending>);

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

impl Pending {
    /// What to wait for. `None`: it was answered.
    pub fn wait(&self) -> Option<Wait> {
        self.0.as_ref().map(exchange::Pending::wait)
    }

    /// The answer, or that there is none in time, once. `None`: nothing is known yet.
    pub fn answer(&mut self) -> Option<Result<Response, Error>> {
        let pending = self.0.take()?;
        if pending.is_ready() {
            return Some(pending.response());
        }
        let late = pending.late().map(Err);
        if late.is_none() {
            self.0 = Some(pending);
        }
        late
    }
}

/// Name and value pairs. `Debug` shows names only, because values may be secrets.
struct Headers(Vec<(String, Vec<u8>)>);

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// The head of an answer, and its body as it comes.
#[derive(Debug)]
pub struct Response {
    status: u16,
    headers: Headers,
    body: Body,
}

impl Response {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header of that name, in any case of letters, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.0.iter();
        let (_, value) = headers.find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        str::from_utf8(value).ok()
    }

    /// All headers, in the order in which they came.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Turns a status outside 200 to 299 into [`ErrorKind::Status`].
    pub fn ok(self) -> Result<Self, Error> {
        match self.status {
            200..=299 => Ok(self),
            status => Err(self.body.error(ErrorKind::Status(status))),
        }
    }

    /// Reads the whole body.
    pub fn bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        while let Some(part) = self.body.read()? {
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    }

    /// Reads the whole body as text; what is not UTF-8 is replaced.
    pub fn text(self) -> Result<String, Error> {
        let bytes = self.bytes()?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads the whole body as JSON.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let origin = self.body.origin();
        let bytes = self.bytes()?;
        serde_json::from_slice(&bytes)
            .map_err(|error| origin.error(ErrorKind::NotJson(error.to_string())))
    }

    /// Reads the body line by line, as it comes.
    pub fn lines(self) -> Lines {
        Lines { body: self.body, lines: sse::Lines::default(), ended: false }
    }

    /// Reads the body as server-sent events, as they come.
    pub fn events(self) -> Events {
        let lines = Lines { body: self.body, lines: sse::Lines::of_events(), ended: false };
        Events { lines, parser: sse::Parser::default() }
    }

    /// Reads the body in parts, as they come.
    pub fn parts(self) -> Parts {
        Parts { body: self.body, ended: false }
    }
}

/// Iterates over the parts of a body. Ends after an error.
#[derive(Debug)]
pub struct Parts {
    body: Body,
    ended: bool,
}

impl Parts {
    /// What to wait for before the next part. `None`: it is here, or the end or an error is.
    pub fn wait(&self) -> Option<Wait> {
        self.body.wait().filter(|_| !self.ended)
    }
}

impl Iterator for Parts {
    type Item = Result<Vec<u8>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let part = self.body.read().transpose();
        self.ended = !matches!(part, Some(Ok(_)));
        part
    }
}

/// Iterates over the lines of a body. Ends after an error.
#[derive(Debug)]
pub struct Lines {
    body: Body,
    lines: sse::Lines,
    ended: bool,
}

impl Iterator for Lines {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(line) = self.lines.next_line() {
                return Some(Ok(line));
            }
            if self.ended {
                return self.lines.finish().map(Ok);
            }
            match self.body.read() {
                Ok(Some(part)) => self.lines.push(&part),
                Ok(None) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    self.lines = sse::Lines::default();
                    return Some(Err(error));
                }
            }
        }
    }
}

/// Iterates over the server-sent events of a body. Ends after an error.
#[derive(Debug)]
pub struct Events {
    lines: Lines,
    parser: sse::Parser,
}

impl Iterator for Events {
    type Item = Result<sse::Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.lines.next() {
                Some(Ok(line)) => {
                    if let Some(event) = self.parser.line(&line) {
                        return Some(Ok(event));
                    }
                }
                Some(Err(error)) => {
                    self.parser = sse::Parser::default();
                    return Some(Err(error));
                }
                None => return self.parser.finish().map(Ok),
            }
        }
    }
}

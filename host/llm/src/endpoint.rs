//! Stands in for the client of language models until that one is here: it reaches nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_net::{Addresses, BaseUrl, Connector};
use bulkhead_types::Secret;
use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::{Error, Part, Request};

/// What an endpoint's server speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    /// `POST {base}/chat/completions`, as OpenAI has it.
    #[default]
    OpenAi,
    /// `POST {base}/v1/messages`, as Anthropic has it.
    Anthropic,
}

/// The bounds of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The whole call, with all tries.
    pub whole: Duration,
    /// From the request to the first byte of the response.
    pub first_byte: Duration,
    /// Silence in the middle of an answer. Comments that keep a connection busy are no silence.
    pub idle: Duration,
    /// Tries after the first.
    pub retries: u32,
    /// The longest `Retry-After` that is waited for.
    pub max_wait: Duration,
    /// One answer as it comes over the wire.
    pub max_answer_bytes: usize,
}

impl Default for Bounds {
    /// Five minutes, with two more tries, for an answer of at most 4 MiB.
    fn default() -> Self {
        Self {
            whole: Duration::from_secs(300),
            first_byte: Duration::from_secs(120),
            idle: Duration::from_secs(60),
            retries: 2,
            max_wait: Duration::from_secs(60),
            max_answer_bytes: 4 * 1024 * 1024,
        }
    }
}

/// How to reach an endpoint.
#[derive(Debug, Clone)]
pub struct Settings {
    /// For errors.
    pub name: Arc<str>,
    /// Without a `/` at its end.
    pub base: BaseUrl,
    /// What it speaks.
    pub dialect: Dialect,
    /// Sent with each request, after the dialect's own.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Proxies and certificates.
    pub connector: Connector,
    /// The bounds of a call.
    pub bounds: Bounds,
}

/// Reads the key anew: `Err` says why it could not.
pub type ReadKey = Arc<dyn Fn() -> Result<Option<Secret>, String> + Send + Sync>;

/// Where an endpoint's key comes from.
pub enum Key {
    /// There is none.
    None,
    /// It stays.
    Fixed(Secret),
    /// It is read from a file that may change.
    Read(ReadKey),
}

/// A place where models are.
pub struct Endpoint {
    url: String,
}

impl Endpoint {
    /// Opens nothing yet.
    pub fn new(settings: Settings, _key: Key) -> Self {
        let path = match settings.dialect {
            Dialect::OpenAi => "/chat/completions",
            Dialect::Anthropic => "/v1/messages",
        };
        Self { url: format!("{}{path}", settings.base) }
    }

    /// For errors and logs: the URL that is posted to, without secrets.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Begins an answer.
    pub fn chat(
        self: &Arc<Self>,
        _request: Request,
        _key: Option<Secret>,
        _deadline: Instant,
        _addresses: Arc<dyn Addresses + Send>,
    ) -> Chat {
        Chat(Some(Error::Unavailable(format!("{}: no client yet", self.url))))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.url).finish_non_exhaustive()
    }
}

/// An answer under way.
pub struct Chat(Option<Error>);

impl Chat {
    /// Waits for the next part.
    pub async fn next(&mut self) -> Option<Result<Part, Error>> {
        self.0.take().map(Err)
    }

    /// How many tries were begun.
    pub fn tries(&self) -> u32 {
        1
    }
}

//! A place where models are.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_net::{BaseUrl, Connector, Credential, Destination};
use http::{HeaderName, HeaderValue};

use crate::pool::Pool;
use crate::{Request, anthropic, openai};

/// What an endpoint's server speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    /// `POST {base}/chat/completions`, as OpenAI has it.
    #[default]
    OpenAi,
    /// `POST {base}/v1/messages`, as Anthropic has it: the base URL is `https://api.anthropic.com`.
    Anthropic,
}

/// The bounds of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The whole call, with all tries.
    pub whole: Duration,
    /// From the request to the first byte of the response. A connection must be there within this time too, and
    /// within 30 s. Where the head of the response comes alone, its first bytes have the rest of this time, or `idle`.
    pub first_byte: Duration,
    /// One try, until a part of its answer is there. Comments do not make it longer.
    pub attempt: Duration,
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
            attempt: Duration::from_secs(180),
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
    /// Sent with each request, after the dialect's own, which they replace. Headers that frame the request or belong to
    /// its connection are left out. Values of headers that are named like secrets appear in no error.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Proxies and certificates.
    pub connector: Connector,
    /// The bounds of a call.
    pub bounds: Bounds,
}

/// A place where models are. It keeps connections for the next call: at most 8, each for at most 60 s without use. A
/// kept connection serves every caller, whatever finds its addresses.
pub struct Endpoint {
    pub(crate) settings: Settings,
    pub(crate) key: Credential,
    pub(crate) pool: Pool,
    url: String,
}

impl Endpoint {
    /// Opens nothing yet.
    pub fn new(settings: Settings, key: Credential) -> Self {
        let url = format!("{}{}", settings.base, path_of(settings.dialect));
        Self { settings, key, pool: Pool::default(), url }
    }

    /// For errors and logs: the URL that is posted to, without secrets.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it is.
    pub fn destination(&self) -> &Destination {
        &self.settings.base.destination
    }

    /// What its server speaks.
    pub fn dialect(&self) -> Dialect {
        self.settings.dialect
    }

    /// Why its server would refuse a request for its messages, or understand another one.
    pub fn refuses(&self, request: &Request) -> Option<&'static str> {
        match self.settings.dialect {
            Dialect::OpenAi => None,
            Dialect::Anthropic => anthropic::refuses(request),
        }
    }

    /// What a request asks the server for.
    pub(crate) fn path(&self) -> String {
        format!("{}{}", self.settings.base.prefix, path_of(self.settings.dialect))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("name", &self.settings.name)
            .field("url", &self.url)
            .finish()
    }
}

fn path_of(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAi => openai::PATH,
        Dialect::Anthropic => anthropic::PATH,
    }
}

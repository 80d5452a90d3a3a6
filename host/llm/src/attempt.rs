//! One try: a connection, the request, the head of the response.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bulkhead_net::interim::MAX_INTERIM;
use bulkhead_net::{Addresses, ConnectError, Step};
use bulkhead_types::Secret;
use bulkhead_types::error::chain;
use bulkhead_types::secret::is_secret_name;
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_TYPE, HOST, LOCATION, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::time::{Instant, timeout, timeout_at};

use crate::anthropic::VERSION;
use crate::connection::{Connection, MAX_HEAD_BYTES, OpenError};
use crate::endpoint::{Dialect, Endpoint};
use crate::failure::{Failure, Retry, Texts};
use crate::problem::refusal;
use crate::receive::{Limits, Receiving, no_part};
use crate::retry_after::retry_after;

/// A connection that is not there after this long will not come.
const MAX_CONNECT: Duration = Duration::from_secs(30);

/// What is read of a refusal.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// For the rest of a refusal after its head: the status says enough.
const FOR_REFUSAL: Duration = Duration::from_secs(5);

const ANSWER_FORMS: HeaderValue = HeaderValue::from_static("text/event-stream, application/json");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const UNCOMPRESSED: HeaderValue = HeaderValue::from_static("identity");
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("bulkhead/", env!("CARGO_PKG_VERSION")));

/// Headers that belong to a connection or frame a request.
const FRAMING: [HeaderName; 8] = [
    CONNECTION,
    CONTENT_LENGTH,
    HOST,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What every try of a call sends.
pub(crate) struct Attempt<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) body: &'a Bytes,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) addresses: &'a (dyn Addresses + Send),
    pub(crate) until: Instant,
    pub(crate) may_be_silent: bool,
    pub(crate) unfinished_bytes: &'a Arc<AtomicU64>,
}

impl Attempt<'_> {
    /// Tries once, on a connection that is there already or on a `fresh` one. Returns when the answer has begun.
    pub(crate) async fn run(
        &self,
        key: Option<&Secret>,
        fresh: bool,
    ) -> Result<Receiving, Failure> {
        let texts = texts(self.endpoint, key);
        let bounds = &self.endpoint.settings.bounds;
        let attempt = Instant::now() + bounds.attempt;
        let request = self.request(key).map_err(|text| texts.rejected(401, text))?;
        let kept = if fresh { None } else { self.endpoint.pool.take() };
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect(&texts).await?,
        };
        let first_byte = Instant::now() + bounds.first_byte;
        let sent = timeout_at(first_byte.min(attempt), connection.send(request)).await;
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(broken(&connection, &error, &texts)),
            Err(_) if attempt < first_byte => return Err(no_part(&texts, bounds.attempt)),
            Err(_) => {
                let ms = bounds.first_byte.as_millis();
                let text = format!("no response within {ms} ms");
                return Err(texts.timeout(&text, Retry::Later(None)));
            }
        };
        if !response.status().is_success() {
            return Err(self.refused(connection, response, &texts).await);
        }
        if let Some(coding) = compression(response.headers()) {
            return Err(texts.bad(&format!("the response is compressed ({coding})")));
        }
        let limits = Limits {
            first_byte,
            attempt: (attempt, bounds.attempt),
            idle: bounds.idle,
            until: self.until,
            bytes: bounds.max_answer_bytes,
        };
        let body = response.into_body();
        let unfinished = Arc::clone(self.unfinished_bytes);
        let mut answer =
            Receiving::new(connection, body, texts, limits, self.may_be_silent, unfinished);
        std::future::poll_fn(|cx| answer.poll_begun(cx)).await?;
        Ok(answer)
    }

    async fn connect(&self, texts: &Texts) -> Result<Connection, Failure> {
        let settings = &self.endpoint.settings;
        let patience = MAX_CONNECT.min(settings.bounds.first_byte);
        let mut step = Step::Resolving;
        let opening = Connection::open(
            &settings.connector,
            &settings.base.destination,
            self.addresses,
            patience,
            &mut step,
        );
        match timeout(patience, opening).await {
            Ok(Ok(connection)) => Ok(connection),
            // Its addresses are not allowed, which does not pass.
            Ok(Err(OpenError::Connect(error @ ConnectError::Refused(_)))) => {
                Err(Failure { retry: Retry::Never, ..texts.unavailable(&chain(&error)) })
            }
            Ok(Err(OpenError::Connect(error))) => Err(texts.unavailable(&chain(&error))),
            Ok(Err(OpenError::Hyper(error))) => Err(texts.unavailable(&chain(&error))),
            Err(_) => {
                let (ms, doing) = (patience.as_millis(), step.doing());
                Err(texts.unavailable(&format!("no connection within {ms} ms: {doing}")))
            }
        }
    }

    fn request(&self, key: Option<&Secret>) -> Result<Request<Full<Bytes>>, &'static str> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() =
            self.endpoint.path().parse().map_err(|_| "the path of its URL cannot be sent")?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(ACCEPT, ANSWER_FORMS);
        headers.insert(ACCEPT_ENCODING, UNCOMPRESSED);
        headers.insert(USER_AGENT, AGENT);
        let settings = &self.endpoint.settings;
        let (name, scheme) = match settings.dialect {
            Dialect::OpenAi => (AUTHORIZATION, "Bearer "),
            Dialect::Anthropic => {
                headers.insert("anthropic-version", HeaderValue::from_static(VERSION));
                (HeaderName::from_static("x-api-key"), "")
            }
        };
        if let Some(key) = key {
            let value = HeaderValue::try_from(format!("{scheme}{}", key.expose()));
            let mut value = value.map_err(|_| "its key cannot be sent: no header may hold it")?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let own = settings.headers.iter().filter(|(name, _)| !FRAMING.contains(name));
        for (name, _) in own.clone() {
            headers.remove(name);
        }
        for (name, value) in own {
            headers.append(name, value.clone());
        }
        for (name, value) in self.headers {
            headers.entry(name).or_insert_with(|| value.clone());
        }
        Ok(request)
    }

    /// The server refuses. Its connection may serve the next try.
    async fn refused(
        &self,
        mut connection: Connection,
        response: Response<Incoming>,
        texts: &Texts,
    ) -> Failure {
        let (head, body) = response.into_parts();
        let (mut text, mut rest) = (Vec::new(), Some(body));
        let reading = std::future::poll_fn(|cx| {
            while let Some(body) = &mut rest {
                match std::task::ready!(connection.poll_frame(body, cx)) {
                    Some(Ok(frame)) => {
                        let bytes = frame.into_data().unwrap_or_default();
                        let room = MAX_REFUSAL_BYTES - text.len();
                        text.extend_from_slice(&bytes[..bytes.len().min(room)]);
                        if text.len() == MAX_REFUSAL_BYTES {
                            break;
                        }
                    }
                    Some(Err(_)) => break,
                    None => rest = None,
                }
            }
            std::task::Poll::Ready(())
        });
        let is_read = timeout(FOR_REFUSAL.min(self.endpoint.settings.bounds.idle), reading).await;
        if is_read.is_ok() && rest.is_none() {
            self.endpoint.pool.put(connection, rest);
        }
        let (text, implied) = match compression(&head.headers) {
            None => refusal(&String::from_utf8_lossy(&text)),
            Some(_) => (String::new(), None),
        };
        let status = head.status;
        let text = match text.trim() {
            "" => status.canonical_reason().unwrap_or("no reason given"),
            text => text,
        };
        if status.is_redirection() {
            let text = match head.headers.get(LOCATION).map(HeaderValue::as_bytes) {
                Some(to) => {
                    let to = String::from_utf8_lossy(to);
                    format!("redirects are not followed, this one leads to {to}")
                }
                None => format!("status {} is no answer: {text}", status.as_u16()),
            };
            return texts.rejected(status.as_u16(), &text);
        }
        let asked = retry_after(&head.headers, Timestamp::now());
        // What was paid for is used up, which no wait changes, unless the server asks for one.
        let is_used_up = implied == Some(402) && asked.is_none();
        if status == StatusCode::TOO_MANY_REQUESTS && is_used_up {
            return texts.rejected(status.as_u16(), text);
        }
        texts.status(status.as_u16(), text, asked)
    }
}

/// The request was sent, and no response came.
fn broken(connection: &Connection, error: &hyper::Error, texts: &Texts) -> Failure {
    if connection.has_too_many_interim() {
        return texts.bad(&format!("more than {MAX_INTERIM} interim answers"));
    }
    if error.is_parse_too_large() {
        let kib = MAX_HEAD_BYTES / 1024;
        return texts.bad(&format!("the head of its response is too large, more than {kib} KiB"));
    }
    if error.is_parse() {
        return texts.bad(&format!("it speaks no HTTP/1.1: {}", chain(error)));
    }
    let failure = texts.unavailable(&format!("the connection broke off: {}", chain(error)));
    match connection.is_reused && !connection.has_bytes() {
        true => Failure { retry: Retry::NewConnection, ..failure },
        false => failure,
    }
}

fn compression(headers: &HeaderMap) -> Option<String> {
    let coding = headers.get(CONTENT_ENCODING)?;
    let coding = String::from_utf8_lossy(coding.as_bytes()).trim().to_ascii_lowercase();
    (!matches!(coding.as_str(), "" | "identity")).then_some(coding)
}

/// What texts of errors leave out: the key, and the values of headers that hold a secret.
fn texts(endpoint: &Endpoint, key: Option<&Secret>) -> Texts {
    let settings = &endpoint.settings;
    let is_secret = |(name, value): &&(HeaderName, HeaderValue)| {
        value.is_sensitive() || *name == AUTHORIZATION || is_secret_name(name.as_str())
    };
    let headers = settings.headers.iter().filter(is_secret);
    // `Bearer` and its kin are no secret.
    let values = headers.filter_map(|(_, value)| value.to_str().ok()?.split(' ').next_back());
    let secrets = key.map(Secret::expose).into_iter().chain(values).map(Arc::from).collect();
    Texts { name: Arc::clone(&settings.name), secrets }
}

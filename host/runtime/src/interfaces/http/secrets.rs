//! Credentials that leave with a request and that its guest never has.
//!
//! ```text
//!   guest: authorization: Bearer {{secret:github}}
//!     └─ allow list ─▶ for this host? in this header? over TLS? ─▶ authorization: Bearer ghp_… ─▶ server
//!   guest ◀─ the value is masked in header fields and body ◀──────────────────────────────────────┘
//! ```
//!
//! Only header fields are filled in. A placeholder in a URL or in a body is an error, because it was meant to be one.
//!
//! What cannot be read cannot be masked. So a filled request asks for no coding, whatever its guest asks for, and a
//! response in one is an error.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bulkhead_net::{Credential, Destination};
use bulkhead_types::{HttpPolicy, HttpRule};
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, TE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use memchr::memmem;
use wasmtime_wasi_http::{Error, WasiBody};

const OPEN: &str = "{{secret:";
const CLOSE: &str = "}}";

/// The coding of what can be read as it is, and the one that frames it.
const IDENTITY: &str = "identity";
const CHUNKED: &str = "chunked";

const UNFIT: &str = "makes no header field: it is no printable ASCII";

/// What stands for the value in a template.
const VALUE: &str = "{value}";

/// A credential for an HTTP service.
#[derive(Debug)]
pub struct HttpSecret {
    /// Where it may go.
    pub hosts: Vec<HttpRule>,
    /// In which header fields.
    pub headers: Vec<HeaderName>,
    /// What is put in the place of a placeholder; `{value}` in it is the value.
    pub template: String,
    /// Whether it may go over plain HTTP.
    pub allow_http: bool,
    /// The value.
    pub value: Credential,
}

/// All that are configured, by name. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct HttpSecrets(Arc<BTreeMap<Arc<str>, HttpSecret>>);

impl HttpSecrets {
    /// Their names, in order.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> + Clone {
        self.0.keys()
    }
}

impl FromIterator<(Arc<str>, HttpSecret)> for HttpSecrets {
    fn from_iter<T: IntoIterator<Item = (Arc<str>, HttpSecret)>>(secrets: T) -> Self {
        Self(Arc::new(secrets.into_iter().collect()))
    }
}

/// Why a placeholder is not filled in. Names the secret and the rule, and no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("secret {name:?} {why}")]
pub(super) struct Refused {
    name: String,
    why: String,
}

/// What an agent may use.
#[derive(Clone)]
pub(super) struct Own {
    all: HttpSecrets,
    names: Arc<[Arc<str>]>,
}

/// What was filled into a request.
#[derive(Default)]
pub(super) struct Filled {
    /// The names of the secrets.
    pub names: Vec<Arc<str>>,
    /// What is masked in what comes back.
    masked: Vec<Vec<u8>>,
}

impl Own {
    pub(super) fn new(all: HttpSecrets, names: Arc<[Arc<str>]>) -> Self {
        Self { all, names }
    }

    /// Fills in the placeholders of a request that may go there.
    pub(super) fn fill<B>(
        &self,
        request: &mut Request<B>,
        to: &Destination,
    ) -> Result<Filled, Refused> {
        let uri = request.uri().to_string();
        // Clients write `%7B` for `{`.
        let uri: Vec<u8> = percent_encoding::percent_decode_str(&uri).collect();
        if let Some(name) = self.named_in(&uri) {
            return Err(refused(&name, "stands in a URL, where nothing is filled in"));
        }
        let mut filled = Filled::default();
        for (header, value) in request.headers_mut() {
            if memmem::find(value.as_bytes(), OPEN.as_bytes()).is_some() {
                *value = self.fill_one(header, value, to, &mut filled)?;
            }
        }
        if !filled.names.is_empty() {
            let headers = request.headers_mut();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(IDENTITY));
            headers.remove(TE);
        }
        Ok(filled)
    }

    fn fill_one(
        &self,
        header: &HeaderName,
        value: &HeaderValue,
        to: &Destination,
        filled: &mut Filled,
    ) -> Result<HeaderValue, Refused> {
        let text = value.to_str().map_err(|_| {
            let name = first_name(value.as_bytes());
            refused(
                &name,
                &format!("stands in the header field {header}, which is no printable ASCII"),
            )
        })?;
        let (mut rest, mut out) = (text, String::new());
        while let Some((before, after)) = rest.split_once(OPEN) {
            let Some((name, after)) = after.split_once(CLOSE) else { break };
            out += before;
            out += &self.value(name, header, to, filled)?;
            rest = after;
        }
        out += rest;
        // Each of its parts is one.
        let unfit = |_| refused(&first_name(text.as_bytes()), UNFIT);
        let mut value = HeaderValue::from_str(&out).map_err(unfit)?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn value(
        &self,
        name: &str,
        header: &HeaderName,
        to: &Destination,
        filled: &mut Filled,
    ) -> Result<String, Refused> {
        let known = self.names.iter().find(|known| ***known == *name);
        let Some((known, secret)) = known.and_then(|known| Some((known, self.all.0.get(known)?)))
        else {
            return Err(refused(name, "is not one of the role's `secrets`"));
        };
        let hosts = HttpPolicy { allow: secret.hosts.clone(), ..HttpPolicy::default() };
        if hosts.admit_name(&to.host, to.port).is_err() {
            let why = format!("is not for {}", to.host_and_port());
            return Err(refused(name, &why));
        }
        if !to.tls && !secret.allow_http {
            return Err(refused(name, "does not leave over plain HTTP"));
        }
        if !secret.headers.contains(header) {
            return Err(refused(name, &format!("is not for the header field {header}")));
        }
        let value = secret.value.current().ok().flatten();
        // The log of the host has the reason, which names a file.
        let value = value.ok_or_else(|| refused(name, "cannot be read"))?;
        let text = secret.template.replace(VALUE, value.expose());
        if HeaderValue::from_str(&text).is_err() {
            return Err(refused(name, UNFIT));
        }
        filled.masked.extend([value.expose(), &text].map(|text| text.as_bytes().to_vec()));
        // The longest first: it may contain another one.
        filled.masked.sort_by_key(|text| std::cmp::Reverse(text.len()));
        filled.names.push(Arc::clone(known));
        Ok(text)
    }

    /// A body whose placeholders are an error.
    pub(super) fn watch(&self, body: WasiBody) -> WasiBody {
        if self.names.is_empty() {
            return body;
        }
        Watched { body, own: self.clone(), tail: Vec::new() }.boxed_unsync()
    }

    /// A secret of the agent's whose placeholder stands there.
    fn named_in(&self, bytes: &[u8]) -> Option<String> {
        let mut from = 0;
        while let Some(at) = memmem::find(&bytes[from..], OPEN.as_bytes()) {
            from += at + OPEN.len();
            let is_named = |name: &&Arc<str>| {
                let rest = bytes[from..].strip_prefix(name.as_bytes());
                rest.is_some_and(|rest| rest.starts_with(CLOSE.as_bytes()))
            };
            if let Some(name) = self.names.iter().find(is_named) {
                return Some(name.to_string());
            }
        }
        None
    }

    /// As many bytes as a placeholder has at most.
    fn longest(&self) -> usize {
        self.names.iter().map(|name| OPEN.len() + name.len() + CLOSE.len()).max().unwrap_or(0)
    }
}

/// Of the first placeholder.
fn first_name(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let name = text.split_once(OPEN).and_then(|(_, rest)| rest.split_once(CLOSE));
    name.map_or_else(String::new, |(name, _)| name.to_owned())
}

fn refused(name: &str, why: &str) -> Refused {
    Refused { name: name.chars().take(64).collect(), why: why.to_owned() }
}

impl Filled {
    /// Refuses a response in which nothing could be masked.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let Some(name) = self.names.first() else { return Ok(()) };
        for (header, plain) in [(CONTENT_ENCODING, IDENTITY), (TRANSFER_ENCODING, CHUNKED)] {
            for value in headers.get_all(header) {
                let value = String::from_utf8_lossy(value.as_bytes());
                let is_plain = |coding: &str| {
                    let coding = coding.trim();
                    coding.is_empty() || coding.eq_ignore_ascii_case(plain)
                };
                if !value.split(',').all(is_plain) {
                    let why = format!(
                        "was sent, and the response is encoded ({value}), where it cannot be masked"
                    );
                    return Err(refused(name, &why));
                }
            }
        }
        Ok(())
    }

    /// Masks what was filled in where a server sends it back.
    pub(super) fn mask_headers(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            let mut bytes = value.as_bytes().to_vec();
            if mask(&mut bytes, &self.masked)
                && let Ok(masked) = HeaderValue::from_bytes(&bytes)
            {
                *value = masked;
            }
        }
    }

    /// The same for a body. Its length stays what it was.
    pub(super) fn mask_body(self, body: WasiBody) -> WasiBody {
        if self.masked.is_empty() {
            return body;
        }
        Masked { body: Some(body), texts: self.masked, held: Vec::new(), last: None }.boxed_unsync()
    }
}

/// Overwrites every occurrence. Whether there was one.
fn mask(bytes: &mut [u8], texts: &[Vec<u8>]) -> bool {
    let mut any = false;
    for text in texts {
        let mut from = 0;
        while let Some(at) = memmem::find(&bytes[from..], text) {
            bytes[from + at..from + at + text.len()].fill(b'*');
            from += at + text.len();
            any = true;
        }
    }
    any
}

/// How many bytes at the end may be the beginning of one of the texts.
fn begun(bytes: &[u8], texts: &[Vec<u8>]) -> usize {
    let of_one = |text: &Vec<u8>| {
        let longest = (text.len() - 1).min(bytes.len());
        (1..=longest).rev().find(|len| bytes.ends_with(&text[..*len])).unwrap_or(0)
    };
    texts.iter().map(of_one).max().unwrap_or(0)
}

/// A response's body in which texts are masked, also where they come in pieces.
struct Masked {
    /// None: it is over.
    body: Option<WasiBody>,
    texts: Vec<Vec<u8>>,
    /// May be the beginning of a text.
    held: Vec<u8>,
    /// Trailers that come after what is held.
    last: Option<Frame<Bytes>>,
}

impl Body for Masked {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        loop {
            let Some(body) = &mut this.body else {
                return Poll::Ready(this.last.take().map(Ok));
            };
            let frame = match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    this.body = None;
                    if this.held.is_empty() {
                        continue;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(
                        std::mem::take(&mut this.held).into(),
                    ))));
                }
            };
            match frame.into_data() {
                Ok(data) => {
                    let mut bytes = std::mem::take(&mut this.held);
                    bytes.extend_from_slice(&data);
                    mask(&mut bytes, &this.texts);
                    this.held = bytes.split_off(bytes.len() - begun(&bytes, &this.texts));
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(bytes.into()))));
                    }
                }
                Err(mut trailers) => {
                    if let Some(trailers) = trailers.trailers_mut() {
                        let masked = std::mem::take(&mut this.texts);
                        let filled = Filled { names: Vec::new(), masked };
                        filled.mask_headers(trailers);
                    }
                    this.body = None;
                    this.last = Some(trailers);
                    if !this.held.is_empty() {
                        let held = std::mem::take(&mut this.held);
                        return Poll::Ready(Some(Ok(Frame::data(held.into()))));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
            && self.held.is_empty()
            && self.last.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let held = self.held.len() as u64;
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + held);
        }
        hint.set_lower(rest.lower() + held);
        hint
    }
}

/// A request's body in which a placeholder is an error.
struct Watched {
    body: WasiBody,
    own: Own,
    /// The end of what came so far, where a placeholder may have begun.
    tail: Vec<u8>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            this.tail.extend_from_slice(data);
            if let Some(name) = this.own.named_in(&this.tail) {
                let why = refused(&name, "stands in a body, where nothing is filled in");
                return Poll::Ready(Some(Err(Error::InternalError(Some(why.to_string())))));
            }
            let keep = this.own.longest().saturating_sub(1).min(this.tail.len());
            this.tail.drain(..this.tail.len() - keep);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;

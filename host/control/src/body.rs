//! Reading request bodies, within bounds.
//!
//! Every body is read before its route is looked up, so that the bounds hold for all of them and a
//! refused request leaves a connection that can be used again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::FromRequestParts;
use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HeaderMap};
use tokio::time::timeout;

use crate::ControlLimits;
use crate::answer::Refusal;
use crate::refused::truncated;

/// When all bodies together take too much room: others are read in milliseconds.
const ROOM_RETRY_S: u16 = 1;

/// A body of JSON that was read whole. Handlers take it as an argument. One that does not say that it is JSON is
/// refused: a web page may send any other kind to whom it likes without being asked first.
#[derive(Clone, Default)]
pub(crate) struct WholeBody {
    bytes: Bytes,
    /// Given back when the body goes.
    _room: Option<Arc<Room>>,
}

impl WholeBody {
    /// One that this process made.
    pub(crate) fn own(bytes: Bytes) -> Self {
        Self { bytes, _room: None }
    }

    pub(crate) fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }
}

impl<S: Sync> FromRequestParts<S> for WholeBody {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        _state: &S,
    ) -> Result<Self, Refusal> {
        let body: Self = parts.extensions.remove().unwrap_or_default();
        if body.as_slice().is_empty() {
            return Ok(body);
        }
        as_it_is(&parts.headers)?;
        if is_json(&parts.headers) {
            return Ok(body);
        }
        let said =
            parts.headers.get(CONTENT_TYPE).map(|said| String::from_utf8_lossy(said.as_bytes()));
        let said =
            said.map_or_else(|| "none".to_owned(), |said| format!("{:?}", truncated(&said, 64)));
        let error = format!("the body must be JSON; its Content-Type is {said}");
        Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error)
            .kind("not-json")
            .action("send Content-Type: application/json; with curl: --json instead of -d"))
    }
}

/// Fields of a form, at most.
const MAX_FIELDS: usize = 16;

/// A form that was read whole, as browsers send it. Only the console takes forms.
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// The text of a field; empty when it is not there. Of a repeated one the last counts.
    pub(crate) fn take(&mut self, field: &str) -> String {
        let found = self.0.iter_mut().rfind(|(name, _)| name == field);
        found.map(|(_, text)| std::mem::take(text)).unwrap_or_default()
    }
}

impl<S: Sync> FromRequestParts<S> for Form {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        _state: &S,
    ) -> Result<Self, Refusal> {
        let body: WholeBody = parts.extensions.remove().unwrap_or_default();
        as_it_is(&parts.headers)?;
        if kind(&parts.headers) != "application/x-www-form-urlencoded" {
            let error = "the body must be a form (application/x-www-form-urlencoded)";
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error).kind("not-a-form"));
        }
        let fields = form_urlencoded::parse(body.as_slice()).into_owned();
        Ok(Self(fields.take(MAX_FIELDS).collect()))
    }
}

/// Refuses a body that is compressed.
pub(crate) fn as_it_is(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    if codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let error = "the body has a Content-Encoding, and none is decoded";
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error)
        .kind("encoded")
        .action("send the body uncompressed, without Content-Encoding"))
}

/// `application/json`, `text/json` or `application/...+json`, with any parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = kind(headers);
    let suffixed = kind.strip_prefix("application/").is_some_and(|kind| kind.ends_with("+json"));
    suffixed || kind == "application/json" || kind == "text/json"
}

/// What a body says that it is, in lower case and without parameters.
fn kind(headers: &HeaderMap) -> String {
    let said = headers.get(CONTENT_TYPE).and_then(|said| said.to_str().ok()).unwrap_or_default();
    said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads bodies.
pub(crate) struct Reader {
    limits: ControlLimits,
    held_bytes: Arc<AtomicUsize>,
}

/// Room that a body takes.
struct Room {
    bytes: usize,
    held_bytes: Arc<AtomicUsize>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Reader {
    pub(crate) fn new(limits: ControlLimits) -> Self {
        Self { limits, held_bytes: Arc::default() }
    }

    /// Reads a whole body.
    pub(crate) async fn read<B>(
        &self,
        headers: &HeaderMap,
        mut body: B,
    ) -> Result<WholeBody, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        if body.is_end_stream() {
            return Ok(WholeBody::default());
        }
        if body.size_hint().lower() > self.limits.body_bytes as u64 {
            return Err(self.refuse(self.too_large(), headers, body).await);
        }
        let refusal = match timeout(self.limits.body_read, self.collect(&mut body)).await {
            Ok(Ok(whole)) => return Ok(whole),
            Ok(Err(refusal)) => refusal,
            Err(_) => return Err(self.too_slow()),
        };
        Err(self.behind(refusal, body, self.limits.body_pause).await)
    }

    /// The same with a lower bound on its bytes.
    pub(crate) fn at_most(&self, body_bytes: usize) -> Self {
        let limits =
            ControlLimits { body_bytes: body_bytes.min(self.limits.body_bytes), ..self.limits };
        Self { limits, held_bytes: Arc::clone(&self.held_bytes) }
    }

    /// Refuses a request whose body is not wanted. What the client still sends is thrown away first,
    /// so that it reads the answer and not a reset; one that waits for `100 Continue` sends nothing. One that falls
    /// silent has its answer before the end of its body.
    pub(crate) async fn refuse<B>(&self, refusal: Refusal, headers: &HeaderMap, body: B) -> Refusal
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if body.is_end_stream() {
            return refusal;
        }
        if headers.contains_key(EXPECT) {
            return refusal.closing();
        }
        self.behind(refusal, body, self.limits.body_quiet).await
    }

    /// The refusal when the rest of the body was thrown away. `quiet`: how long its first byte may take.
    async fn behind<B>(&self, refusal: Refusal, body: B, quiet: Duration) -> Refusal
    where
        B: Body<Data = Bytes> + Unpin,
    {
        match timeout(self.limits.body_read, self.discard(body, quiet)).await {
            Ok(true) => refusal,
            _ => refusal.closing(),
        }
    }

    async fn collect<B>(&self, body: &mut B) -> Result<WholeBody, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let mut bytes = BytesMut::new();
        let mut room = Room { bytes: 0, held_bytes: Arc::clone(&self.held_bytes) };
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(broken)?;
            let Ok(chunk) = frame.into_data() else { continue };
            if bytes.len() + chunk.len() > self.limits.body_bytes {
                return Err(self.too_large());
            }
            room.grow(chunk.len(), self.limits.bodies_bytes)?;
            bytes.extend_from_slice(&chunk);
        }
        Ok(WholeBody { bytes: bytes.freeze(), _room: Some(Arc::new(room)) })
    }

    /// Whether the end was reached within the bound.
    async fn discard<B: Body<Data = Bytes> + Unpin>(
        &self,
        mut body: B,
        mut quiet: Duration,
    ) -> bool {
        let mut left = self.limits.discard_bytes;
        loop {
            let Ok(next) = timeout(quiet, body.frame()).await else {
                return false;
            };
            let Some(frame) = next else { return true };
            let Ok(frame) = frame else { return false };
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(less) = left.checked_sub(length) else { return false };
            left = less;
            quiet = self.limits.body_pause;
        }
    }

    fn too_large(&self) -> Refusal {
        let error = format!("request body is too large, above {} bytes", self.limits.body_bytes);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error).kind("body-too-large")
    }

    fn too_slow(&self) -> Refusal {
        let within = self.limits.body_read;
        let error = format!("request body did not arrive within {within:?}");
        Refusal::new(StatusCode::REQUEST_TIMEOUT, error).kind("body-too-slow").closing()
    }
}

impl Room {
    fn grow(&mut self, bytes: usize, bound: usize) -> Result<(), Refusal> {
        let held = self.held_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bytes += bytes;
        if held <= bound {
            return Ok(());
        }
        let error = format!("the limit of {bound} bytes for all request bodies is reached");
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error).kind("busy");
        Err(refusal.retry_after(ROOM_RETRY_S))
    }
}

fn broken(error: impl std::fmt::Display) -> Refusal {
    let error = format!("request body could not be read: {error}");
    Refusal::new(StatusCode::BAD_REQUEST, error).kind("broken-body").closing()
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use futures_util::StreamExt;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};
    use hyper::header::CONNECTION;

    use super::*;

    fn reader() -> Reader {
        Reader::new(ControlLimits {
            body_bytes: 8,
            bodies_bytes: 10,
            discard_bytes: 16,
            ..ControlLimits::default()
        })
    }

    fn streamed(
        chunks: usize,
    ) -> impl Body<Data = Bytes, Error = std::convert::Infallible> + Unpin {
        let chunk = || Ok(Frame::data(Bytes::from_static(b"1234")));
        StreamBody::new(futures_util::stream::iter((0..chunks).map(move |_| chunk())))
    }

    async fn status(reader: &Reader, chunks: usize) -> Result<WholeBody, (u16, bool)> {
        let read = reader.read(&HeaderMap::new(), streamed(chunks)).await;
        read.map_err(|refusal| (refusal.status.as_u16(), refusal.body.error.contains("8 bytes")))
    }

    #[tokio::test]
    async fn a_body_of_the_bound_is_taken_and_one_byte_more_is_not() {
        let reader = reader();
        assert_eq!(status(&reader, 2).await.ok().unwrap().as_slice(), b"12341234");
        assert_eq!(status(&reader, 3).await.err().unwrap(), (413, true));
        let declared = Full::new(Bytes::from_static(b"123456789"));
        let refusal = reader.read(&HeaderMap::new(), declared).await.err().unwrap();
        assert_eq!(refusal.status, 413);
    }

    #[tokio::test]
    async fn all_bodies_together_are_bounded_and_give_their_room_back() {
        let reader = reader();
        let first = status(&reader, 2).await.ok().unwrap();
        assert_eq!(status(&reader, 1).await.err().unwrap(), (503, false));
        drop(first);
        assert!(status(&reader, 2).await.is_ok());
        assert_eq!(reader.held_bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_is_thrown_away_is_bounded_too() {
        let quiet = Duration::from_secs(1);
        assert!(reader().discard(streamed(4), quiet).await);
        assert!(!reader().discard(streamed(5), quiet).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_has_begun_may_pause() {
        let paused = |seconds: &'static [u64]| {
            let chunks = futures_util::stream::iter(seconds).then(|seconds| async {
                tokio::time::sleep(Duration::from_secs(*seconds)).await;
                Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(b"1234")))
            });
            Box::pin(StreamBody::new(chunks))
        };
        let closes = |refusal: Refusal| refusal.into_response().headers().contains_key(CONNECTION);
        let reader = &reader();
        let is_read = |seconds| async move {
            !closes(reader.refuse(reader.too_large(), &HeaderMap::new(), paused(seconds)).await)
        };
        assert!(is_read(&[0, 9, 9]).await);
        assert!(!is_read(&[0, 11]).await);
        assert!(!is_read(&[2, 0]).await);
        // The bytes before one too many count.
        let refusal = reader.read(&HeaderMap::new(), paused(&[0, 0, 0, 9])).await.err().unwrap();
        assert!(refusal.status == 413 && !closes(refusal));
    }
}

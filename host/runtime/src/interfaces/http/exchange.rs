//! One request and its response, on a connection of their own.
//!
//! ```text
//!   send ─▶ the head is there ─▶ the guest reads ─▶ end of the body ─┐
//!                └─▶ driver of the connection ─▶ it is gone ─────────┴─▶ the request is over
//! ```
//!
//! A request counts until its response was read to the end or its connection is gone, whichever comes
//! first: guests in languages with a garbage collector may keep their handles for good. A small response is
//! read ahead, so that its connection does not wait for a guest that never reads it. What the guest did not
//! read by then is copied out of the connection's buffer and held by its own size.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bulkhead_account::Charge;
use bulkhead_net::Connected;
use bulkhead_net::interim::{Interim, MAX_INTERIM};
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Interval, interval, timeout};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody};

use super::carrier::{Carried, carry};
use super::upload::Upload;
use super::{Agent, MAX_HEAD_BYTES};
use crate::descriptors::Taken;

/// Where a guest sets no timeout of its own. A model may think for minutes before its first byte; the
/// agent's own deadlines are what ends a call.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// A connection that is not there after this long will not come.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// What is read ahead of the guest: enough for an answer that it does not care for to be over.
const AHEAD_BYTES: u64 = 16 * 1024;

/// A piece beside its bytes. A server may send many that have one byte each.
const PIECE_BYTES: u64 = 256;

/// What an unread response can hold while its connection is open: what was read ahead, the last piece of which
/// may be large, the piece that waits, and the one that the guest is taking. None is larger than the
/// connection's buffer.
pub(super) const RESPONSE_BYTES: u64 = AHEAD_BYTES + 3 * MAX_HEAD_BYTES;

/// The times of one request.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
}

impl From<RequestOptions> for Times {
    fn from(options: RequestOptions) -> Self {
        // tokio refuses an interval of zero.
        let at_least = |time: Duration| time.max(Duration::from_nanos(1));
        Self {
            connect: options.connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT),
            first_byte: options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT),
            between_bytes: at_least(options.between_bytes_timeout.unwrap_or(DEFAULT_TIMEOUT)),
        }
    }
}

/// One of the requests, or of the answers of models, that an agent may have under way. It counts until it is over.
pub(crate) struct UnderWay {
    count: Arc<AtomicUsize>,
    over: AtomicBool,
}

impl UnderWay {
    /// `None` when there are `most` already.
    pub(crate) fn begin(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let one_more = |now: usize| (now < most).then_some(now + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self { count: Arc::clone(count), over: AtomicBool::new(false) })
    }

    fn end(&self) {
        if !self.over.swap(true, Ordering::Relaxed) {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a request takes from its agent.
pub(super) struct Reserved {
    pub under_way: UnderWay,
    /// Its connection, until that is gone.
    pub socket: Taken,
    /// The buffers of its connection, until that is gone.
    pub connection: Charge,
    /// What of the response the guest has not read.
    pub response: Charge,
}

/// An HTTP/1 client with small buffers.
fn client() -> http1::Builder {
    let mut client = http1::Builder::new();
    client.max_buf_size(MAX_HEAD_BYTES as usize);
    client
}

/// Sends `request` on a connection of its own and returns when the response's head is there.
pub(super) async fn send(
    connected: Connected,
    request: Request<WasiBody>,
    times: Times,
    reserved: Reserved,
    agent: &Agent,
) -> Result<(Response<WasiBody>, Carried<Result<()>>)> {
    let Connected { stream, route, .. } = connected;
    let interim = Interim::default();
    let stream = interim.bound(stream);
    let (mut sender, connection) = timeout(times.connect, client().handshake(TokioIo::new(stream)))
        .await
        .map_err(|_| Error::ConnectionTimeout)?
        .map_err(Error::Hyper)?;
    let (head, body) = request.into_parts();
    let length = head.headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
    let (body, answered) = Upload::new(body, length, agent.threads.clone());
    let mut request = Request::from_parts(head, body);
    route.prepare(&mut request).map_err(|_| Error::HttpRequestUriInvalid)?;
    interim.count(&mut request);
    let mut connection = Box::pin(connection);
    let response = async {
        tokio::select! {
            biased;
            response = sender.send_request(request) => response.map_err(Error::Hyper),
            Err(error) = &mut connection => Err(Error::Hyper(error)),
        }
    };
    let response = timeout(times.first_byte, response).await;
    let mut response = response.map_err(|_| Error::ConnectionReadTimeout)?.inspect_err(|_| {
        if interim.is_too_many() {
            agent.refused(&format_args!("its server sent more than {MAX_INTERIM} interim answers"));
        }
    })?;
    // A guest that still writes the body may do so.
    let _ = answered.send(());
    // No other request follows, so the connection ends with this response, whatever the server would like.
    drop(sender);
    copy_values(response.headers_mut());
    let Reserved { under_way, socket, connection: buffers, response: charge } = reserved;
    let mut idle = interval(times.between_bytes);
    idle.reset();
    let (head, incoming) = response.into_parts();
    let unread = Arc::new(Mutex::new(Unread::new(incoming, under_way, charge)));
    let turns = agent.meter.turns();
    let body = Timed { unread: Arc::clone(&unread), idle, turns }.boxed_unsync();
    let driving = async move {
        let result = drive(connection, &unread).await;
        drop((socket, buffers));
        if unread.lock().settle() {
            // The trailers wait for the guest where nobody can look at them. This task ends with the guest's
            // handle to the body, and until then they count.
            std::future::pending::<()>().await;
        }
        result
    };
    let driver = carry(&agent.threads, &agent.meter, driving);
    Ok((Response::from_parts(head, body), driver))
}

/// Runs the connection, and reads a little ahead.
async fn drive(
    mut connection: impl Future<Output = hyper::Result<()>> + Unpin,
    unread: &Mutex<Unread>,
) -> Result<()> {
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(result.map_err(Error::Hyper));
            }
            // What was taken makes room for more.
            if !unread.lock().read_ahead(cx) {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Values as hyper reads them share the connection's buffer, which would live as long as they do.
fn copy_values(headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
            *value = copy;
        }
    }
}

/// A response as far as the guest has not read it.
struct Unread {
    /// `None` when it was read to its end, or nobody can read it any more.
    incoming: Option<Incoming>,
    /// What was taken out of it and not by the guest.
    rest: VecDeque<Result<Frame<Bytes>>>,
    /// Size of the piece that the guest took last. It waits in the guest's stream.
    taken_bytes: u64,
    /// The connection is gone.
    is_settled: bool,
    has_trailers: bool,
    /// The guest waits for the next piece.
    waiting: Option<Waker>,
    under_way: UnderWay,
    charge: Charge,
}

impl Unread {
    fn new(incoming: Incoming, under_way: UnderWay, mut charge: Charge) -> Self {
        let most = incoming.size_hint().upper().unwrap_or(u64::MAX).saturating_add(PIECE_BYTES);
        // Less always fits.
        let _ = charge.resize(most.min(RESPONSE_BYTES));
        Self {
            incoming: Some(incoming),
            rest: VecDeque::new(),
            taken_bytes: 0,
            is_settled: false,
            has_trailers: false,
            waiting: None,
            under_way,
            charge,
        }
    }

    /// The next piece for the guest.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let frame = match self.rest.pop_front() {
            Some(frame) => Some(frame),
            None => match self.poll_incoming(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    self.waiting = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            },
        };
        self.taken_bytes = frame.as_ref().map_or(0, bytes_of);
        let is_over = !matches!(&frame, Some(Ok(frame)) if frame.is_data());
        if is_over {
            self.under_way.end();
        }
        if is_over || self.is_settled {
            self.hold_what_is_left();
        }
        Poll::Ready(frame)
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        self.has_trailers |= matches!(&frame, Some(Ok(frame)) if frame.is_trailers());
        if !matches!(frame, Some(Ok(_))) {
            self.incoming = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Error::Hyper)))
    }

    /// Takes what is there, up to a bound. Whether there was anything.
    fn read_ahead(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.rest.len();
        while self.incoming.is_some() && self.rest_bytes() < AHEAD_BYTES {
            match self.poll_incoming(cx) {
                Poll::Ready(frame) => self.rest.extend(frame),
                Poll::Pending => break,
            }
        }
        let is_more = self.rest.len() > before;
        if is_more || self.incoming.is_none() {
            self.wake_guest();
        }
        is_more
    }

    /// The connection is gone, so all that will ever come is there. Returns whether there are trailers.
    fn settle(&mut self) -> bool {
        self.under_way.end();
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(frame)) = self.poll_incoming(&mut cx) {
            self.rest.push_back(frame);
        }
        self.incoming = None;
        self.is_settled = true;
        self.rest.iter_mut().for_each(copy);
        self.hold_what_is_left();
        self.wake_guest();
        self.has_trailers
    }

    /// Nobody can read it any more.
    fn close(&mut self) {
        self.under_way.end();
        self.incoming = None;
        self.rest.clear();
        if !self.has_trailers {
            self.taken_bytes = 0;
        }
        self.hold_what_is_left();
    }

    fn wake_guest(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    fn rest_bytes(&self) -> u64 {
        self.rest.iter().map(bytes_of).sum()
    }

    fn hold_what_is_left(&mut self) {
        // Never more than what the connection could hold, so it fits.
        let _ = self.charge.resize((self.rest_bytes() + self.taken_bytes).min(RESPONSE_BYTES));
    }
}

fn bytes_of(frame: &Result<Frame<Bytes>>) -> u64 {
    let Ok(frame) = frame else { return PIECE_BYTES };
    let data = frame.data_ref().map_or(0, |data| data.len() as u64);
    PIECE_BYTES + data + frame.trailers_ref().map_or(0, crate::resources::fields_bytes)
}

/// Frees a frame of the buffer that it is a piece of.
fn copy(frame: &mut Result<Frame<Bytes>>) {
    let Ok(frame) = frame else { return };
    if let Some(data) = frame.data_mut() {
        *data = Bytes::copy_from_slice(data);
    }
    if let Some(trailers) = frame.trailers_mut() {
        copy_values(trailers);
    }
}

/// A response body that fails when the server falls silent.
struct Timed {
    unread: Arc<Mutex<Unread>>,
    idle: Interval,
    turns: watch::Receiver<bool>,
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.unread.lock().close();
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        // Between two turns the server was not listened to.
        if self.turns.has_changed().unwrap_or_default() {
            self.turns.mark_unchanged();
            self.idle.reset();
        }
        let polled = self.unread.lock().poll(cx);
        match polled {
            Poll::Ready(frame) => {
                self.idle.reset();
                Poll::Ready(frame)
            }
            Poll::Pending => match self.idle.poll_tick(cx) {
                Poll::Ready(_) => Poll::Ready(Some(Err(Error::ConnectionReadTimeout))),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

//! Streams: what happens, as it happens, to those who follow.
//!
//! ```text
//!  request ─▶ place? ─▶ Subscription ─▶ frames ─▶ SSE, or a WebSocket
//!              └─ 503                     └─ every 15 s without one: a heartbeat
//! ```
//!
//! Streams are written by a thread of their own, so that a thousand of them are nobody else's wait. Each reads from where
//! it is: one that reads slowly falls behind, and costs nobody but itself.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, io};

use axum::body::Body;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use axum::response::{IntoResponse, Response};
use bulkhead_api::StreamFrame;
use bulkhead_feed::Feed;
use bulkhead_log::{RunContext, SharedSink};
use bulkhead_tasks::containment::{Panicked, contain_future};
use bulkhead_tasks::{Spawner, report_unhandled};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{StatusCode, Uri};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{Instant, Sleep, sleep, timeout, timeout_at};

use crate::ControlLimits;
use crate::answer::Refusal;
use crate::passes::Passes;

/// A message over a WebSocket takes at most this long.
const WRITE: Duration = Duration::from_secs(30);

/// The last message over a WebSocket takes at most this long.
const CLOSE: Duration = Duration::from_secs(15);

/// How long a browser waits before it connects again.
const RECONNECT_MS: u32 = 1000;

/// How long a ticket is good.
pub(crate) const TICKET: Duration = Duration::from_secs(60);

/// Tickets that are out at one time. The oldest goes.
const MAX_TICKETS: usize = 1024;

/// Niceness of the thread that writes streams.
const NICE: i32 = 5;

/// The thread that writes streams, and wakes those who follow.
pub(crate) struct StreamThread {
    handle: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl StreamThread {
    pub(crate) fn start(
        feed: Arc<Feed>,
        sink: &SharedSink,
        context: &Arc<RunContext>,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(crate::long::THREADS)
            .enable_all()
            .thread_name("bulkhead-stream-answers")
            .build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let (sink, context) = (Arc::clone(sink), Arc::clone(context));
        let relay = async move {
            loop {
                let Err(Panicked { message, place }) = contain_future(feed.relay()).await else {
                    return;
                };
                let task = "stream-relay";
                report_unhandled(&*sink, &context, task, "panic", message, place);
            }
        };
        let run = move || {
            // A refusal costs fairness, and nothing else.
            let id = rustix::thread::gettid();
            let _ = rustix::process::setpriority_process(Some(id), NICE);
            runtime.block_on(async {
                tokio::select! {
                    _ = ended => {}
                    () = relay => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("bulkhead-streams".to_owned()).spawn(run)?;
        Ok(Self { handle, end: Some(end), thread: Some(thread) })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for StreamThread {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it was reported by the hook.
            let _ = thread.join();
        }
    }
}

/// What all streams share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Streams(Arc<Shared>);

struct Shared {
    places: Arc<Semaphore>,
    bound: usize,
    heartbeat: Duration,
    closing: watch::Sender<bool>,
    spawner: Spawner,
    tickets: Passes<()>,
    /// WebSockets that are open.
    sockets: watch::Sender<usize>,
    opened: AtomicU64,
    gaps: AtomicU64,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("open", &self.open()).finish_non_exhaustive()
    }
}

/// Marks a response whose body is a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IsStream {
    /// It goes on until somebody ends it.
    pub(crate) is_endless: bool,
}

/// A place among the streams, until it is dropped.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    streams: Streams,
}

/// A place of a WebSocket, from its request on.
pub(crate) struct SocketPlace(Place);

/// Frames of a stream, several that came together. It ends when they do.
pub(crate) type Frames = BoxStream<'static, Vec<Frame>>;

/// A frame as it is sent.
#[derive(Clone)]
pub(crate) struct Frame {
    /// Of an event: its number.
    pub(crate) id: Option<u64>,
    /// Empty: it is sent without a name.
    pub(crate) kind: &'static str,
    /// JSON, one line.
    pub(crate) json: Bytes,
}

impl From<&StreamFrame> for Frame {
    fn from(frame: &StreamFrame) -> Self {
        let id = match frame {
            StreamFrame::Event(event) => Some(event.id),
            _ => None,
        };
        Self { id, kind: frame.kind(), json: frame.to_json().into() }
    }
}

impl Streams {
    pub(crate) fn new(limits: &ControlLimits, spawner: Spawner) -> Self {
        Self(Arc::new(Shared {
            places: Arc::new(Semaphore::new(limits.streams)),
            bound: limits.streams,
            heartbeat: limits.heartbeat,
            closing: watch::Sender::new(false),
            spawner,
            tickets: Passes::new(TICKET, MAX_TICKETS),
            sockets: watch::Sender::new(0),
            opened: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
        }))
    }

    /// A place for one more.
    pub(crate) fn place(&self) -> Result<Place, Refusal> {
        let permit = Arc::clone(&self.0.places).try_acquire_owned().map_err(|_| {
            let error = format!("too many streams, at most {} are served at a time", self.0.bound);
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error).kind("busy").retry_after(5)
        })?;
        self.0.opened.fetch_add(1, Relaxed);
        Ok(Place { _permit: permit, streams: self.clone() })
    }

    /// Ends all of them.
    pub(crate) fn close(&self) {
        self.0.closing.send_replace(true);
    }

    /// Waits until all WebSockets are closed, and returns how many are not at `until`. They are no connections of the
    /// server's any more; the other streams are.
    pub(crate) async fn sockets_closed(&self, until: Instant) -> usize {
        let mut sockets = self.0.sockets.subscribe();
        // In a block, because what `wait_for` yields holds a lock.
        let _ = timeout_at(until, async {
            let _ = sockets.wait_for(|sockets| *sockets == 0).await;
        })
        .await;
        *self.0.sockets.borrow()
    }

    /// Streams that are open.
    pub(crate) fn open(&self) -> usize {
        self.0.bound - self.0.places.available_permits()
    }

    /// Streams that were ever opened.
    pub(crate) fn opened(&self) -> u64 {
        self.0.opened.load(Relaxed)
    }

    /// Gaps that readers saw.
    pub(crate) fn gaps(&self) -> u64 {
        self.0.gaps.load(Relaxed)
    }

    /// A reader missed something.
    pub(crate) fn count_gap(&self) {
        self.0.gaps.fetch_add(1, Relaxed);
    }

    /// A ticket for one stream. `None`: the system has no randomness.
    pub(crate) fn issue(&self) -> Option<String> {
        self.0.tickets.issue(())
    }

    /// Takes the ticket of a request for a stream, if it shows one that is good.
    pub(crate) fn redeem(&self, uri: &Uri) -> bool {
        ticket(uri).is_some_and(|ticket| self.0.tickets.take(ticket).is_some())
    }
}

/// The ticket that a request for a stream shows, whether it is good or not.
pub(crate) fn ticket(uri: &Uri) -> Option<&str> {
    let is_stream = uri.path() == "/ws" || is_event_stream(uri.path());
    let query = uri.query().filter(|_| is_stream).unwrap_or_default();
    query.split('&').find_map(|pair| pair.strip_prefix("ticket="))
}

/// Whether server-sent events are read at a path.
pub(crate) fn is_event_stream(path: &str) -> bool {
    let of_agent = path.strip_prefix("/agents/").unwrap_or_default();
    path == "/events/stream" || of_agent.ends_with("/events/stream")
}

impl Place {
    /// Answers with server-sent events. `is_endless`: not until a message is answered, but for as long as somebody reads.
    pub(crate) fn events(self, frames: Frames, is_endless: bool) -> Response {
        // Clients that do not connect again take it for an event without data.
        let retry = is_endless.then(|| Bytes::from(format!("retry: {RECONNECT_MS}\n\n")));
        let state = (Reader::new(&self.streams, frames), self, retry);
        let chunks = stream::unfold(state, |(mut reader, place, first)| async move {
            if let Some(first) = first {
                return Some((first, (reader, place, None)));
            }
            let chunk = match reader.next().await {
                Next::Frames(batch) => server_sent(&batch),
                Next::Heartbeat => Bytes::from_static(b": heartbeat\n\n"),
                Next::End => return None,
            };
            Some((chunk, (reader, place, None)))
        });
        let mut response = Body::from_stream(chunks.map(Ok::<_, Infallible>)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if is_endless {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.extensions_mut().insert(IsStream { is_endless });
        response
    }

    /// For a WebSocket.
    pub(crate) fn of_socket(self) -> SocketPlace {
        self.streams.0.sockets.send_modify(|sockets| *sockets += 1);
        SocketPlace(self)
    }
}

/// Frames, and what the server says beside them.
struct Reader {
    frames: Frames,
    every: Duration,
    /// Made at the first read: it belongs to the runtime that this is on, which for endless streams is the last one.
    heartbeat: Option<Pin<Box<Sleep>>>,
    closing: BoxFuture<'static, ()>,
    is_closing: bool,
}

impl Reader {
    fn new(streams: &Streams, frames: Frames) -> Self {
        let every = streams.0.heartbeat;
        let mut closing = streams.0.closing.subscribe();
        let closing = async move {
            let _ = closing.wait_for(|closing| *closing).await;
        };
        Self { frames, every, heartbeat: None, closing: closing.boxed(), is_closing: false }
    }

    async fn next(&mut self) -> Next {
        if self.is_closing {
            return self.left().await;
        }
        let heartbeat = self.heartbeat.get_or_insert_with(|| Box::pin(sleep(self.every)));
        heartbeat.as_mut().reset(Instant::now() + self.every);
        tokio::select! {
            biased;
            () = &mut self.closing => {}
            next = self.frames.next() => return next.map_or(Next::End, Next::Frames),
            () = heartbeat => return Next::Heartbeat,
        }
        self.is_closing = true;
        self.left().await
    }

    /// What is there when the server closes: what happened before is still sent.
    async fn left(&mut self) -> Next {
        // The relay has its turn, and wakes readers that have something to read.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        match self.frames.next().now_or_never() {
            Some(Some(batch)) => Next::Frames(batch),
            Some(None) | None => Next::End,
        }
    }
}

impl SocketPlace {
    /// Sends frames over a WebSocket, until either side ends it.
    pub(crate) async fn speak(self, socket: WebSocket, frames: Frames) {
        let spawner = self.0.streams.0.spawner.clone();
        let speaking = spawner.spawn_infallible("stream-websocket", async move {
            write(socket, Reader::new(&self.0.streams, frames)).await;
        });
        let _ = speaking.await;
    }
}

impl Drop for SocketPlace {
    fn drop(&mut self) {
        self.0.streams.0.sockets.send_modify(|sockets| *sockets -= 1);
    }
}

/// Over a WebSocket, until either side ends it.
async fn write(mut socket: WebSocket, mut reader: Reader) {
    loop {
        let next = tokio::select! {
            next = reader.next() => next,
            said = socket.recv() => match said {
                // Answers to pings are the library's; what a client says means nothing here.
                Some(Ok(Message::Close(_))) => {
                    // The library's answer goes out with the next read, which is the last.
                    let _ = timeout(CLOSE, socket.recv()).await;
                    return;
                }
                Some(Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        };
        let messages: Vec<Message> = match next {
            Next::Frames(batch) => batch.iter().map(message).collect(),
            Next::Heartbeat => vec![Message::Ping(Bytes::new())],
            Next::End => {
                let close = CloseFrame { code: close_code::AWAY, reason: "".into() };
                let _ = timeout(CLOSE, socket.send(Message::Close(Some(close)))).await;
                return;
            }
        };
        for message in messages {
            // One that takes nothing for so long is gone.
            match timeout(WRITE, socket.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

enum Next {
    Frames(Vec<Frame>),
    Heartbeat,
    End,
}

/// Events have their number, so that a browser that connects again says how far it was. Other frames name their type.
fn server_sent(batch: &[Frame]) -> Bytes {
    let bytes = batch.iter().map(|frame| frame.json.len() + 64).sum();
    let mut text = Vec::with_capacity(bytes);
    for Frame { id, kind, json } in batch {
        match id {
            None if kind.is_empty() => text.extend_from_slice(b"data: "),
            Some(id) => text.extend_from_slice(format!("id: {id}\ndata: ").as_bytes()),
            None => text.extend_from_slice(format!("event: {kind}\ndata: ").as_bytes()),
        }
        text.extend_from_slice(json);
        text.extend_from_slice(b"\n\n");
    }
    text.into()
}

fn message(frame: &Frame) -> Message {
    let text = String::from_utf8_lossy(&frame.json).into_owned();
    Message::Text(text.into())
}

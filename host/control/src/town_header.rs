//! `X-Town-Config` beside the head that it came in: its value never reaches hyper, so that no size of it fails a call.
//!
//! ```text
//!  socket ─▶ Heads ─────────────── head with an empty value, body ──────────────▶ hyper ─▶ service
//!              └─▶ value: kept up to its bound, else thrown away ─▶ TownHeader ─────────────▲
//! ```
//!
//! hyper's bounds on a head hold for all the rest of it. A value above [`SMALL_BYTES`] needs room among all connections,
//! and the newest gets it: callers that show no token could otherwise hold all of it.
//!
//! Where a head begins is for hyper to say: the service reports how long the body behind each head is. Behind a body
//! of unknown length everything passes as it is, until that request is answered.
//!
//! A client that closes its side behind a request is answered. hyper would not notice one that is gone meanwhile: while it
//! waits for an answer this reads in its place.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use axum::response::Response;
use bytes::{Buf, Bytes};
use http_body::Body;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, StatusCode};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::ControlLimits;
use crate::streams::IsStream;

/// The name of the header.
pub(crate) const NAME: &str = "x-town-config";
/// Longest value that needs no room: as much as a head may have.
const SMALL_BYTES: usize = 16 * 1024;
/// Read at most while a request is answered: the beginning of the next one.
const AHEAD_BYTES: usize = 512;

/// The value of a request's header. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct TownHeader(Arc<Mutex<Value>>);

/// A value, or why there is none.
type Value = Result<Vec<u8>, Lost>;

/// Why a value is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It is longer than this.
    Long(usize),
    /// Newer ones took its room.
    Crowded,
}

/// Whether what a request began ends when its client sends no more, because a program may run for it. All others are
/// answered: their client may have said all that it has to say.
fn ends_with_its_client(path: &str) -> bool {
    let of_agent = path.strip_prefix("/agents/").and_then(|rest| rest.split_once('/'));
    path == "/mcp" || of_agent.is_some_and(|(_, route)| route == "exec")
}

impl TownHeader {
    pub(crate) fn take(self) -> Value {
        std::mem::replace(&mut *self.0.lock(), Err(Lost::Crowded))
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Long(bound) => write!(f, "is longer than {bound} bytes"),
            Self::Crowded => f.write_str("came beside too many others that are as long"),
        }
    }
}

/// Large values that are held at one time, oldest first.
#[derive(Clone, Default)]
pub(crate) struct Room(Arc<Mutex<VecDeque<Weak<Mutex<Value>>>>>);

impl Room {
    /// Gives a value room, and takes that of the oldest when there are more than `bound`.
    fn enter(&self, value: &Arc<Mutex<Value>>, bound: usize) {
        let mut held = self.0.lock();
        held.retain(|value| value.strong_count() > 0);
        held.push_back(Arc::downgrade(value));
        while held.len() > bound {
            if let Some(oldest) = held.pop_front().and_then(|oldest| oldest.upgrade()) {
                *oldest.lock() = Err(Lost::Crowded);
            }
        }
    }
}

/// What the next byte of a connection is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// A request line, or the blank lines before it. Whether it has begun.
    RequestLine(bool),
    /// The name of a header, of which so many bytes are those of [`NAME`].
    Name(usize),
    /// A line that began with a carriage return.
    BlankLine,
    /// The rest of a line.
    Line,
    /// The value that does not go to hyper.
    Value,
    /// A head is complete. What follows is not known yet.
    Whole,
    /// A body with so many bytes to come.
    Body(u64),
    /// Something that is none of our business.
    Elsewhere,
}

/// Finds the header in what a client sends. Pure, but for the room.
struct Scan {
    at: At,
    /// Of the head that is being read.
    value: Option<Arc<Mutex<Value>>>,
    /// Whether the value that is being read is the first one of its head.
    is_first: bool,
    /// What was taken out of the head that is being read, in bytes.
    taken_bytes: usize,
    room: Room,
    limits: ControlLimits,
    watch: Watch,
}

/// What it means that a client closes its side while it is answered: it may only have nothing more to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    /// Nothing is being answered, or it does not matter.
    Off,
    /// It gets its answer.
    Answer,
    /// It wants no more, and what is done for it ends.
    End,
}

impl Scan {
    fn new(room: Room, limits: ControlLimits) -> Self {
        let at = At::RequestLine(false);
        Self { at, value: None, is_first: false, taken_bytes: 0, room, limits, watch: Watch::Off }
    }

    /// Moves what hyper has to see to the front of `bytes`. Returns how much that is, and how many bytes it has read: not
    /// those behind the end of a head.
    fn pass(&mut self, bytes: &mut [u8]) -> (usize, usize) {
        if self.at == At::Whole {
            // hyper does not see the end of the head here, and refuses it.
            self.at = At::Elsewhere;
        }
        let (mut kept, mut read) = (0, 0);
        while read < bytes.len() && self.at != At::Whole {
            let (length, is_kept) = self.step(&bytes[read..]);
            if is_kept {
                if kept != read {
                    bytes.copy_within(read..read + length, kept);
                }
                kept += length;
            }
            read += length;
        }
        (kept, read)
    }

    /// Reads the first bytes of `rest`, which is not empty: how many, and whether hyper has to see them.
    fn step(&mut self, rest: &[u8]) -> (usize, bool) {
        let line_end = || memchr::memchr(b'\n', rest);
        let (length, at) = match self.at {
            At::Whole | At::Elsewhere => (rest.len(), At::Elsewhere),
            At::Body(left) => {
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                let left = left - length as u64;
                (length, if left == 0 { At::RequestLine(false) } else { At::Body(left) })
            }
            At::RequestLine(begun) => {
                let end = line_end();
                let line = &rest[..end.unwrap_or(rest.len())];
                let begun = begun || line.iter().any(|byte| *byte != b'\r');
                match end {
                    None => (rest.len(), At::RequestLine(begun)),
                    Some(end) if begun => (end + 1, At::Name(0)),
                    Some(end) => (end + 1, At::RequestLine(false)),
                }
            }
            At::Name(matched) => (1, self.name(matched, rest[0])),
            At::BlankLine if rest[0] == b'\n' => (1, At::Whole),
            At::BlankLine => (1, At::Line),
            At::Line => match line_end() {
                Some(end) => (end + 1, At::Name(0)),
                None => (rest.len(), At::Line),
            },
            At::Value => match line_end() {
                // hyper sees the line's end.
                Some(0) => (1, At::Name(0)),
                end => {
                    let length = end.unwrap_or(rest.len());
                    self.collect(&rest[..length]);
                    let is_too_much = self.taken_bytes > self.limits.discard_bytes;
                    self.at = if is_too_much { At::Line } else { At::Value };
                    return (length, false);
                }
            },
        };
        self.at = at;
        (length, true)
    }

    fn name(&mut self, matched: usize, byte: u8) -> At {
        match byte {
            b'\n' if matched == 0 => At::Whole,
            b'\n' => At::Name(0),
            b'\r' if matched == 0 => At::BlankLine,
            b':' if matched == NAME.len() => {
                self.is_first = self.value.is_none();
                self.value.get_or_insert_with(|| Arc::new(Mutex::new(Ok(Vec::new()))));
                At::Value
            }
            _ => match NAME.as_bytes().get(matched) {
                Some(expected) if byte.eq_ignore_ascii_case(expected) => At::Name(matched + 1),
                _ => At::Line,
            },
        }
    }

    fn collect(&mut self, bytes: &[u8]) {
        self.taken_bytes += bytes.len();
        let Some(shared) = self.value.as_ref().filter(|_| self.is_first) else { return };
        let bound = self.limits.config_bytes;
        let mut value = shared.lock();
        let Ok(text) = &mut *value else { return };
        let (before, after) = (text.len(), text.len() + bytes.len());
        if after > bound {
            *value = Err(Lost::Long(bound));
            return;
        }
        let needs_room = before <= SMALL_BYTES && after > SMALL_BYTES;
        if needs_room {
            text.reserve_exact(bound - before);
        }
        text.extend_from_slice(bytes);
        drop(value);
        if needs_room {
            self.room.enter(shared, self.limits.large_configs);
        }
    }
}

/// A connection whose reader sees heads without the values of this header.
pub(crate) struct Heads<S> {
    stream: S,
    /// Read, and behind the end of a head.
    held: Bytes,
    scan: Arc<Mutex<Scan>>,
    left: Arc<Notify>,
}

/// The side of the service.
#[derive(Clone)]
pub(crate) struct Framing {
    scan: Arc<Mutex<Scan>>,
    left: Arc<Notify>,
}

impl<S> Heads<S> {
    pub(crate) fn new(stream: S, room: Room, limits: ControlLimits) -> (Self, Framing) {
        let scan = Arc::new(Mutex::new(Scan::new(room, limits)));
        let left = Arc::new(Notify::new());
        let framing = Framing { scan: Arc::clone(&scan), left: Arc::clone(&left) };
        (Self { stream, held: Bytes::new(), scan, left }, framing)
    }
}

impl<S: AsyncRead + Unpin> Heads<S> {
    /// Notices the end of what a client sends while hyper waits for the answer and does not read.
    fn watch(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let watch = self.scan.lock().watch;
        if watch == Watch::Off || self.held.has_remaining() {
            return Ok(());
        }
        let mut bytes = [0; AHEAD_BYTES];
        let mut ahead = ReadBuf::new(&mut bytes);
        let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, &mut ahead) else {
            return Ok(());
        };
        read?;
        if !ahead.filled().is_empty() {
            self.held = Bytes::copy_from_slice(ahead.filled());
            // hyper may wait for it.
            cx.waker().wake_by_ref();
            return Ok(());
        }
        if watch == Watch::End {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.scan.lock().watch = Watch::Off;
        self.left.notify_one();
        Ok(())
    }
}

impl Framing {
    /// hyper has read a head: gives the request what was taken out of that, and says where the next one begins.
    pub(crate) fn begin<B: Body>(&self, request: &mut Request<B>) {
        let mut scan = self.scan.lock();
        // Clients offer HTTP/2 with the same header, on any route, and no answer takes that up.
        let is_upgrade =
            request.uri().path() == "/ws" && request.extensions().get::<OnUpgrade>().is_some();
        scan.at = match request.body().size_hint().exact() {
            _ if is_upgrade || scan.at != At::Whole => At::Elsewhere,
            Some(0) => At::RequestLine(false),
            Some(length) => At::Body(length),
            None => At::Elsewhere,
        };
        scan.watch = match () {
            () if is_upgrade => Watch::Off,
            () if ends_with_its_client(request.uri().path()) => Watch::End,
            () => Watch::Answer,
        };
        scan.taken_bytes = 0;
        if let Some(value) = scan.value.take() {
            request.extensions_mut().insert(TownHeader(value));
        }
    }

    /// The request has its response, and was read whole before.
    pub(crate) fn end(&self, response: &Response) {
        let mut scan = self.scan.lock();
        let is_stream = response.extensions().get::<IsStream>().is_some();
        scan.watch = if is_stream { Watch::End } else { Watch::Off };
        if scan.at == At::Elsewhere && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            scan.at = At::RequestLine(false);
        }
    }

    /// Resolves when the client has closed its side while it waits for an answer. It may be gone.
    pub(crate) async fn left(&self) {
        self.left.notified().await;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heads<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let start = buffer.filled().len();
        loop {
            let is_held = this.held.has_remaining();
            if is_held {
                let length = this.held.len().min(buffer.remaining());
                buffer.put_slice(&this.held[..length]);
            } else {
                ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
            }
            let fresh = &mut buffer.filled_mut()[start..];
            if fresh.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let (kept, read) = this.scan.lock().pass(fresh);
            if is_held {
                this.held.advance(read);
            } else if read < fresh.len() {
                this.held = Bytes::copy_from_slice(&fresh[read..]);
            }
            buffer.set_filled(start + kept);
            if kept > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Heads<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper calls it whenever it has nothing to write, as while it waits for an answer.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: fn() -> ControlLimits =
        || ControlLimits { config_bytes: 20 * 1024, large_configs: 2, ..ControlLimits::default() };

    fn scan() -> Scan {
        Scan::new(Room::default(), LIMITS())
    }

    /// What hyper sees, and what is kept, when `pieces` come one after the other.
    fn passed(pieces: &[&[u8]]) -> (String, Option<Value>, At) {
        let (mut scan, mut seen) = (scan(), Vec::new());
        for piece in pieces {
            let mut piece = piece.to_vec();
            let (kept, read) = scan.pass(&mut piece);
            assert!(kept <= read && read <= piece.len());
            seen.extend_from_slice(&piece[..kept]);
        }
        let value = scan.value.take().map(|value| TownHeader(value).take());
        (String::from_utf8(seen).unwrap(), value, scan.at)
    }

    const HEADS: [(&str, &str, Option<&str>); 8] = [
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "GET / HTTP/1.1\r\nhost: a\r\n\r\n", None),
        (
            "\r\n\nGET / HTTP/1.1\r\nX-Town-CONFIG: {} \r\nhost: a\r\n\r\n",
            "\r\n\nGET / HTTP/1.1\r\nX-Town-CONFIG:\nhost: a\r\n\r\n",
            Some(" {} \r"),
        ),
        ("G\nx-town-config:\n\n", "G\nx-town-config:\n\n", Some("")),
        (
            "G\nx-town-config:a\nx-town-config:b\n\r\n",
            "G\nx-town-config:\nx-town-config:\n\r\n",
            Some("a"),
        ),
        ("x-town-config: a\r\n\r\n", "x-town-config: a\r\n\r\n", None),
        ("G\nx-town-config : a\n\n", "G\nx-town-config : a\n\n", None),
        ("G\nx-town-configs: a\nx-town\n\n", "G\nx-town-configs: a\nx-town\n\n", None),
        (
            "G\nyx-town-config: a\n x-town-config: b\n\n",
            "G\nyx-town-config: a\n x-town-config: b\n\n",
            None,
        ),
    ];

    #[test]
    fn the_value_alone_is_taken_out_however_the_head_arrives() {
        for (head, expected, value) in HEADS {
            let value = value.map(|value| Ok(value.as_bytes().to_vec()));
            let expected = (expected.to_owned(), value, At::Whole);
            for split in 0..=head.len() {
                let (first, second) = head.as_bytes().split_at(split);
                // The end of the head comes with the first piece, or after it.
                let pieces: &[&[u8]] = if second.is_empty() { &[first] } else { &[first, second] };
                assert_eq!(passed(pieces), expected, "{head:?} at {split}");
            }
            let bytes: Vec<_> = head.as_bytes().chunks(1).collect();
            assert_eq!(passed(&bytes), expected, "{head:?} by bytes");
        }
    }

    #[test]
    fn nothing_behind_a_head_is_read_before_it_is_known_what_it_is() {
        let mut scan = scan();
        let mut bytes = *b"G\n\nx-town-config: body";
        assert_eq!(scan.pass(&mut bytes), (3, 3));
        scan.at = At::Body(4);
        let mut body = *b"\nx-tG\nx-town-config:1\n\n";
        assert_eq!(scan.pass(&mut body), (22, 23));
        assert_eq!(scan.at, At::Whole);
        // Nobody said what follows.
        let mut unknown = *b"G\nx-town-config:1\n\n";
        assert_eq!(scan.pass(&mut unknown), (19, 19));
        assert_eq!(scan.at, At::Elsewhere);
    }

    #[test]
    fn a_long_value_is_lost_and_the_oldest_large_one_gives_its_room() {
        let (room, head) =
            (Room::default(), |bytes| format!("G\nx-town-config:{}", "v".repeat(bytes)));
        let large = |bytes| {
            let mut scan = Scan::new(room.clone(), LIMITS());
            let _ = scan.pass(&mut head(bytes).into_bytes());
            TownHeader(scan.value.take().unwrap())
        };
        assert_eq!(large(20 * 1024 + 1).take(), Err(Lost::Long(20 * 1024)));
        let (small, first) = (large(SMALL_BYTES), large(SMALL_BYTES + 1));
        let (second, third) = (large(20 * 1024), large(SMALL_BYTES + 1));
        assert_eq!(first.take(), Err(Lost::Crowded));
        assert_eq!(second.clone().take().unwrap().len(), 20 * 1024);
        assert_eq!(small.take().unwrap().len(), SMALL_BYTES);
        // One that is gone takes no room.
        drop(second);
        let fourth = large(SMALL_BYTES + 1);
        assert!(third.take().is_ok() && fourth.take().is_ok());
    }

    #[test]
    fn a_value_without_an_end_is_given_to_hyper_which_refuses_it() {
        let limits = ControlLimits { discard_bytes: 8, ..LIMITS() };
        let mut scan = Scan::new(Room::default(), limits);
        assert_eq!(scan.pass(&mut b"G\nx-town-config:1234".to_vec()).0, 16);
        assert_eq!(scan.pass(&mut b"567890".to_vec()).0, 0);
        assert_eq!(scan.pass(&mut b"1234".to_vec()).0, 4);
    }
}

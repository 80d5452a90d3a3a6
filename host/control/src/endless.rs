//! A response that goes on until somebody ends it.
//!
//! ```text
//!  connection ── response, socket ──▶ thread of streams: the head, then each piece as it comes
//! ```
//!
//! No request follows it on its connection, so the socket leaves hyper and all that reads and answers requests. With a thousand
//! who follow, an event costs four fifths of the CPU time that it costs through them.

use std::fmt::Write;
use std::io;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::response::Response;
use bulkhead_fence::Fenced;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Version;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::oneshot;

use crate::stream::Patient;

/// Of what a client says behind its request, so much is read.
const DROPPED_BYTES: u64 = 64 * 1024;

/// The buffer of a follower is no larger between two pieces.
const KEPT_BYTES: usize = 4096;

/// A response without an end of its own, and what its client understands.
pub(crate) struct Endless {
    response: Response,
    /// Of the request. Before 1.1 there are no chunks.
    version: Version,
}

/// How the service gives such a response to the task of its connection, once.
pub(crate) struct Departure(Mutex<Option<oneshot::Sender<Endless>>>);

impl Departure {
    /// The side of the service, and what the task of the connection waits for.
    pub(crate) fn new() -> (Self, oneshot::Receiver<Endless>) {
        let (give, given) = oneshot::channel();
        (Self(Mutex::new(Some(give))), given)
    }

    /// Gives the response away, and waits until hyper's part of the connection ends.
    pub(crate) async fn leave(&self, response: Response, version: Version) -> ! {
        if let Some(give) = self.0.lock().take() {
            // One that ended meanwhile answers nobody.
            let _ = give.send(Endless { response, version });
        }
        std::future::pending().await
    }
}

impl Endless {
    /// Writes the response, until it ends, the client closes its side, or takes nothing for as long as `patience`.
    pub(crate) async fn write(self, stream: TcpStream, patience: Duration) -> io::Result<()> {
        let Self { response, version } = self;
        let (reader, writer) = stream.into_split();
        let mut writer = Patient::new(Fenced(writer), patience);
        let is_chunked = version >= Version::HTTP_11;
        let write = async {
            writer.write_all(head(&response, is_chunked)?.as_bytes()).await?;
            let (mut pieces, mut sent) = (response.into_body(), Vec::new());
            while let Some(piece) = next(&mut pieces).await {
                put(&mut sent, &piece.map_err(io::Error::other)?, is_chunked);
                writer.write_all(&sent).await?;
                sent.clear();
                sent.shrink_to(KEPT_BYTES);
            }
            if is_chunked {
                writer.write_all(b"0\r\n\r\n").await?;
            }
            writer.shutdown().await
        };
        tokio::select! {
            written = write => written,
            () = closed(reader) => Ok(()),
        }
    }
}

/// The next piece that is not empty: an empty chunk would be the end.
async fn next(pieces: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    loop {
        match pieces.frame().await?.map(|frame| frame.into_data()) {
            Ok(Ok(bytes)) if !bytes.is_empty() => return Some(Ok(bytes)),
            // Trailers: there are none.
            Ok(_) => {}
            Err(error) => return Some(Err(error)),
        }
    }
}

fn head(response: &Response, is_chunked: bool) -> io::Result<String> {
    let status = response.status();
    let mut head = format!(
        "HTTP/1.1 {} {}\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default()
    );
    for (name, value) in response.headers() {
        let value = value.to_str().map_err(io::Error::other)?;
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if is_chunked {
        head.push_str("transfer-encoding: chunked\r\n");
    }
    let _ = write!(head, "date: {}\r\n\r\n", httpdate::fmt_http_date(SystemTime::now()));
    Ok(head)
}

fn put(sent: &mut Vec<u8>, bytes: &[u8], is_chunked: bool) {
    if !is_chunked {
        sent.extend_from_slice(bytes);
        return;
    }
    sent.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
    sent.extend_from_slice(bytes);
    sent.extend_from_slice(b"\r\n");
}

/// Resolves when the client closes its side. What it says before is dropped: unread, it would hide that end, and make ours a
/// reset. One that says too much is not read any further, and its end shows when something is written.
async fn closed(reader: OwnedReadHalf) {
    let (mut reader, mut bytes) = (reader.take(DROPPED_BYTES), [0; 512]);
    while let Ok(1..) = reader.read(&mut bytes).await {}
    if reader.limit() == 0 {
        std::future::pending().await
    }
}

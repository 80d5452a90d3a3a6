//! What comes before an answer: the bytes of a response are counted, and its interim answers (1xx) bounded. A server may
//! send some, and nothing in HTTP says how many.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use http::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Stream;

/// Most interim answers to one request. A `102 Processing` every twenty seconds makes 30 in ten minutes.
pub const MAX_INTERIM: u32 = 64;

/// What was read since the last request.
#[derive(Clone, Default)]
pub struct Interim(Arc<Counts>);

#[derive(Default)]
struct Counts {
    interim: AtomicU32,
    any_bytes: AtomicBool,
}

impl Interim {
    /// Counts from zero, and the interim answers to `request`. hyper skips them by itself, so the stream is where it
    /// can be stopped.
    pub fn count<B>(&self, request: &mut Request<B>) {
        self.0.interim.store(0, Ordering::Relaxed);
        self.0.any_bytes.store(false, Ordering::Relaxed);
        let counts = Arc::clone(&self.0);
        hyper::ext::on_informational(request, move |_| {
            counts.interim.fetch_add(1, Ordering::Relaxed);
        });
    }

    /// Reads nothing more when there were too many: what one buffer holds is the most that comes on top.
    pub fn bound(&self, stream: Stream) -> Bounded {
        Bounded { stream, interim: self.clone() }
    }

    /// Whether there were more than [`MAX_INTERIM`].
    pub fn is_too_many(&self) -> bool {
        self.0.interim.load(Ordering::Relaxed) > MAX_INTERIM
    }

    /// Whether the server sent anything.
    pub fn has_bytes(&self) -> bool {
        self.0.any_bytes.load(Ordering::Relaxed)
    }
}

/// A stream that breaks off after too many interim answers.
pub struct Bounded {
    stream: Stream,
    interim: Interim,
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.interim.is_too_many() {
            return Poll::Ready(Err(io::Error::other("too many interim answers")));
        }
        let before = buffer.filled().len();
        ready!(self.stream.as_mut().poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.interim.0.any_bytes.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(cx)
    }
}

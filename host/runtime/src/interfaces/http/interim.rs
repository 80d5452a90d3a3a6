//! Interim answers (1xx): a server may send some before its answer, and nothing in HTTP says how many.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use bulkhead_net::Stream;
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most interim answers to one request. A `102 Processing` every twenty seconds makes 30 in ten minutes.
pub(super) const MAX_INTERIM: u32 = 64;

/// Counts them. hyper skips them by itself, so the stream is where it can be stopped.
#[derive(Clone, Default)]
pub(super) struct Interim(Arc<AtomicU32>);

impl Interim {
    /// Counts the interim answers to `request`.
    pub(super) fn count<B>(&self, request: &mut Request<B>) {
        let count = Arc::clone(&self.0);
        hyper::ext::on_informational(request, move |_| _ = count.fetch_add(1, Ordering::Relaxed));
    }

    /// Reads nothing more when there were too many: what one buffer holds is the most that comes on top.
    pub(super) fn bound(&self, stream: Stream) -> Bounded {
        Bounded { stream, interim: self.clone() }
    }

    pub(super) fn is_too_many(&self) -> bool {
        self.0.load(Ordering::Relaxed) > MAX_INTERIM
    }
}

/// A stream that breaks off after too many interim answers.
pub(super) struct Bounded {
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
        self.stream.as_mut().poll_read(cx, buffer)
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

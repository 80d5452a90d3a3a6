//! An answer that is slow or ends early.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::{Sleep, sleep};

/// Bytes in one piece of a body.
const PIECE: usize = 1024;

/// The body of an answer.
pub(crate) struct Pieces {
    left: VecDeque<Bytes>,
    /// Before each piece.
    pause: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    /// The connection ends after the last piece, before the body does.
    cut: bool,
}

impl Pieces {
    /// Everything at once.
    pub fn whole(bytes: Bytes) -> Self {
        Self { left: [bytes].into(), pause: Duration::ZERO, sleep: None, cut: false }
    }

    /// A piece at a time.
    pub fn slow(bytes: &Bytes, pause: Duration) -> Self {
        let left = bytes.chunks(PIECE).map(|piece| bytes.slice_ref(piece)).collect();
        Self { left, pause, sleep: None, cut: false }
    }

    /// So many bytes, and then an error.
    pub fn cut(bytes: &Bytes, after: usize) -> Self {
        let left = [bytes.slice(..after.min(bytes.len()))].into();
        Self { left, pause: Duration::ZERO, sleep: None, cut: true }
    }

    fn next(&mut self) -> Option<io::Result<Frame<Bytes>>> {
        match self.left.pop_front() {
            Some(piece) => Some(Ok(Frame::data(piece))),
            None if self.cut => Some(Err(io::Error::other("the answer is cut off on purpose"))),
            None => None,
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if !self.pause.is_zero() && !self.left.is_empty() {
            let pause = self.pause;
            ready!(self.sleep.get_or_insert_with(|| Box::pin(sleep(pause))).as_mut().poll(cx));
            self.sleep = None;
        }
        Poll::Ready(self.next())
    }
}

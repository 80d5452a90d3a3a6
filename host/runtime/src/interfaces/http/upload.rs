//! The body of a request, as far as its writer is concerned.
//!
//! ```text
//!   guest ─▶ chunks ─▶ hyper ─▶ server
//!                        └─ takes no more: all of it is written, or the server has answered
//!                              └─▶ the rest is read here and thrown away
//! ```
//!
//! hyper drops a body when it needs no more of it. The guest may still be about to flush or finish it, and would
//! hear that the stream is closed, of a request that was sent in full or that has its answer.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use wasmtime_wasi_http::{Error, WasiBody};

/// A body whose end the guest decides.
pub(super) struct Upload {
    /// `None` when it was read to its end.
    body: Option<WasiBody>,
    /// What is missing of the length that the guest declared.
    missing_bytes: Option<u64>,
    answered: Option<oneshot::Receiver<()>>,
    threads: Handle,
}

/// Notifies an [`Upload`] that the server has answered. Dropped without that, the request has failed.
pub(super) type Answered = oneshot::Sender<()>;

impl Upload {
    /// `length` is what the request's header says.
    pub(super) fn new(body: WasiBody, length: Option<u64>, threads: Handle) -> (Self, Answered) {
        let (answers, answered) = oneshot::channel();
        let body = Some(body).filter(|body| !body.is_end_stream());
        let upload = Self { body, missing_bytes: length, answered: Some(answered), threads };
        (upload, answers)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                if let Some(missing) = &mut this.missing_bytes {
                    *missing = missing.saturating_sub(bytes);
                }
            }
            Poll::Ready(_) => this.body = None,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (Some(body), Some(answered)) = (self.body.take(), self.answered.take()) else { return };
        let is_sent = self.missing_bytes == Some(0);
        // Ends with the guest's handle to the body, and costs nothing while that is quiet.
        self.threads.spawn(async move {
            if is_sent || answered.await.is_ok() {
                throw_away(body).await;
            }
        });
    }
}

async fn throw_away(mut body: WasiBody) {
    while let Some(Ok(_)) = body.frame().await {}
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    const CHUNK: Bytes = Bytes::from_static(b"abc");

    struct Chunks(mpsc::Receiver<Bytes>);

    impl Body for Chunks {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
            self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
        }
    }

    fn upload(length: Option<u64>) -> (Upload, Answered, mpsc::Sender<Bytes>) {
        let (sender, chunks) = mpsc::channel(1);
        let (upload, answered) =
            Upload::new(Chunks(chunks).boxed_unsync(), length, Handle::current());
        (upload, answered, sender)
    }

    async fn takes(sender: &mpsc::Sender<Bytes>) -> bool {
        // One place is in the channel: the third says whether somebody reads.
        for _ in 0..3 {
            if sender.send(CHUNK).await.is_err() {
                return false;
            }
        }
        true
    }

    #[tokio::test]
    async fn a_body_that_was_sent_in_full_takes_what_its_writer_still_does() {
        let (mut upload, answered, sender) = upload(Some(3));
        sender.send(CHUNK).await.unwrap();
        upload.frame().await.unwrap().unwrap();
        drop(upload);
        assert!(takes(&sender).await);
        drop(answered);
        assert!(takes(&sender).await, "also when the request fails then");
    }

    #[tokio::test]
    async fn a_body_that_an_answer_makes_needless_takes_the_rest() {
        for length in [None, Some(1000)] {
            let (upload, answered, sender) = upload(length);
            answered.send(()).unwrap();
            drop(upload);
            assert!(takes(&sender).await, "{length:?}");
        }
    }

    #[tokio::test]
    async fn a_body_of_a_request_that_failed_is_closed() {
        for length in [None, Some(1000)] {
            let (upload, answered, sender) = upload(length);
            drop(upload);
            drop(answered);
            assert!(!takes(&sender).await, "{length:?}");
        }
    }
}

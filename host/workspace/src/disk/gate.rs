//! For tests: a disk that does one piece of work at a time, when the test lets it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::task::Poll;

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

/// A runtime with one thread for the disk, so that a [`Gate`] is in front of all work.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(1).build().unwrap()
}

/// Holds the thread of a [`runtime`] until it is dropped.
pub(crate) struct Gate(#[expect(dead_code, reason = "it opens by its drop")] SyncSender<()>);

impl Gate {
    /// A gate behind all that waits, and what resolves when it has been reached.
    fn behind() -> (Self, oneshot::Receiver<()>) {
        let (gate, opened) = sync_channel::<()>(0);
        let (closed, is_closed) = oneshot::channel();
        drop(spawn_blocking(move || {
            let _ = closed.send(());
            let _ = opened.recv();
        }));
        (Self(gate), is_closed)
    }

    /// Lets pass what waits.
    async fn pass(self) -> Self {
        let (next, is_closed) = Self::behind();
        drop(self);
        is_closed.await.unwrap();
        next
    }

    /// Lets all pass, and waits until that is done.
    pub async fn open(self) {
        drop(self.pass().await);
    }
}

/// Drops a request that waits for its piece of work number `steps`, which waits at a gate. None if the request ended
/// before.
pub(crate) async fn drop_at<T>(steps: usize, request: impl Future<Output = T>) -> Option<Gate> {
    hold_at(steps, &mut Box::pin(request)).await
}

/// Lets a request go on until it waits for its piece of work number `steps`, which waits at a gate.
pub(crate) async fn hold_at<F: Future>(steps: usize, request: &mut Pin<Box<F>>) -> Option<Gate> {
    let (mut gate, is_closed) = Gate::behind();
    is_closed.await.unwrap();
    for step in 0.. {
        if poll_fn(|context| Poll::Ready(request.as_mut().poll(context))).await.is_ready() {
            return None;
        }
        if step == steps {
            break;
        }
        gate = gate.pass().await;
    }
    Some(gate)
}

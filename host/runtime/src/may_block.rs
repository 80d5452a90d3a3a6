//! The way to a thread that may block, for host functions.

use std::sync::Arc;
use std::task::Poll;

use tokio::sync::Semaphore;

use crate::lanes;
use crate::meter::Meter;

/// An incarnation's way to threads that may block.
#[derive(Clone)]
pub(crate) struct Blocking {
    meter: Arc<Meter>,
    share: Arc<Semaphore>,
}

impl Blocking {
    pub(crate) fn new(meter: Arc<Meter>, share: Arc<Semaphore>) -> Self {
        Self { meter, share }
    }

    /// The share of the agent, for work of its own on such threads.
    pub(crate) fn share(&self) -> &Arc<Semaphore> {
        &self.share
    }

    /// Does `work` on such a thread, beside the call, and charges its CPU time to the agent.
    pub(crate) fn charged<T>(&self, work: impl FnOnce() -> T) -> T {
        self.meter.charged(work)
    }

    /// Resolves on a thread that may block, in the call's turn.
    pub(crate) async fn thread(&self) {
        if lanes::may_block() {
            return;
        }
        // Nobody closes a share.
        if let Ok(permit) = Arc::clone(&self.share).acquire_owned().await {
            self.meter.set_to_block(permit);
        }
        std::future::poll_fn(|cx| match lanes::may_block() {
            true => Poll::Ready(()),
            false => {
                // A future between this and the call polls it again only when it was woken.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await;
    }
}

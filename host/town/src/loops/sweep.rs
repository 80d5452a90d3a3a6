//! Calls about many agents, one agent beside the other.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bulkhead_types::AgentId;
use futures_util::StreamExt as _;
use tokio::time::sleep;

use super::Loop;
use super::attempts::{Attempts, Failure, Next};
use crate::call::Call;
use crate::fault::Fault;

impl Loop {
    /// Does something for each of these, so many at one time, until the town falls silent: silence is about nobody in
    /// particular, and anything else about the one alone. What was not tried is returned without a result.
    pub(super) async fn sweep<T: Clone, R, F: Future<Output = R>>(
        &self,
        items: Vec<T>,
        parallel: usize,
        each: impl Fn(T) -> F,
    ) -> Vec<(T, Option<R>)> {
        let client = self.client();
        // One is enough to find out whether it is back.
        let parallel = if client.is_reachable() { parallel } else { 1 };
        let (each, fell_silent) = (&each, &AtomicBool::new(false));
        let one = |item: T| async move {
            if fell_silent.load(Relaxed) {
                return (item, None);
            }
            let result = each(item.clone()).await;
            fell_silent.fetch_or(!client.is_reachable(), Relaxed);
            (item, Some(result))
        };
        futures_util::stream::iter(items).map(one).buffer_unordered(parallel).collect().await
    }

    /// A call about an agent failed. Says whether it has to be made again; if not, that was logged and counted.
    pub(super) fn is_tried_again(
        &self,
        attempts: &mut Attempts,
        call: Call,
        id: &AgentId,
        fault: &Fault,
    ) -> bool {
        let failure = match fault.status {
            _ if !self.client().is_reachable() => Failure::Silence,
            Some(401) => Failure::Unauthorized,
            _ => Failure::Refused,
        };
        match attempts.failed(id, failure, Instant::now()) {
            Next::Later => true,
            Next::GiveUp(failures, tried_for) => {
                self.client().gave_up(call, id, failures, tried_for, fault);
                false
            }
        }
    }
}

/// Waits for work, or for what is due after a pause, if there is something.
pub(super) async fn work_or_due(work: impl Future<Output = ()>, pause: Option<Duration>) {
    let due = async {
        match pause {
            Some(pause) => sleep(pause).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = work => {}
        () = due => {}
    }
}

//! One call into the guest: the call itself, which has its deadline in its limits, and the stop orders that come
//! meanwhile.

use std::time::Duration;

use bulkhead_runtime::ShutdownReason;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::{BoxCall, CallEnd};
use crate::stop_order::StopOrder;

/// Where stop orders come from.
pub(super) type StopOrders = watch::Receiver<Option<StopOrder>>;

/// What a stop order does to the call under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnStop {
    /// There is nothing to save: the call is killed.
    Kill,
    /// The call may use the grace of the order. A later order without any takes the rest.
    Grace,
    /// The call has its grace already. Only an order without any counts.
    OnlyNow,
}

/// How a call ended, and the stop that came meanwhile.
pub(super) struct Driven<T> {
    pub end: CallEnd<T>,
    pub stopped: Option<StoppedBy>,
}

/// A stop order that came during a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoppedBy {
    /// When its grace is over.
    pub until: Instant,
    pub reason: ShutdownReason,
}

impl StoppedBy {
    /// What is left of the grace.
    pub(super) fn left(self) -> (Duration, ShutdownReason) {
        (self.until.saturating_duration_since(Instant::now()), self.reason)
    }
}

/// Runs a call to its end. `ordered` hears of the first stop order, but for [`OnStop::OnlyNow`].
pub(super) async fn drive<T>(
    mut call: BoxCall<T>,
    stop: &mut StopOrders,
    on_stop: OnStop,
    ordered: impl Fn(&StopOrder),
) -> Driven<T> {
    let mut stopped = None;
    let mut is_ordered = on_stop == OnStop::OnlyNow;
    let mut is_killed = false;
    loop {
        tokio::select! {
            // First: a call that has ended is not stopped any more.
            biased;
            end = &mut call => return Driven { end, stopped },
            order = next_order(stop, is_ordered), if !is_killed => {
                if !is_ordered {
                    ordered(&order);
                }
                is_ordered = true;
                let until = Instant::now() + order.grace;
                stopped = Some(StoppedBy { until, reason: order.reason });
                is_killed = match on_stop {
                    OnStop::Kill => {
                        call.kill();
                        true
                    }
                    OnStop::Grace | OnStop::OnlyNow => {
                        call.end_within(order.grace);
                        order.now
                    }
                };
            }
        }
    }
}

/// The stop order, once there is one.
pub(super) async fn stop_ordered(stop: &mut StopOrders) -> StopOrder {
    next_order(stop, false).await
}

/// The stop order; when there is one already, only the one that leaves no grace.
pub(super) async fn next_order(stop: &mut StopOrders, ordered: bool) -> StopOrder {
    let is_news =
        |order: &Option<StopOrder>| order.as_ref().is_some_and(|order| !ordered || order.now);
    match stop.wait_for(is_news).await.map(|order| order.clone()) {
        Ok(Some(order)) => order,
        // The sender is in `IncarnationState`, which the actor holds: this cannot happen.
        _ => std::future::pending().await,
    }
}

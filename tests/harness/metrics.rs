//! `GET /metrics`: what agents take and must give back.

use crate::client::{Client, Metrics};
use crate::wait_for;

/// What agents take and must give back.
const GIVEN_BACK: [&str; 7] = [
    "bulkhead_stores",
    "bulkhead_tasks",
    "bulkhead_places_used",
    "bulkhead_mailbox_messages",
    "bulkhead_mailbox_bytes",
    "bulkhead_guest_memory_bytes",
    FILES,
];

const FILES: &str = "process_open_fds";

/// What agents take. Each of the client's own connections is a task and a file of the host, and how many
/// it keeps is its own business: they are left out.
pub fn given_back(metrics: &Metrics) -> Vec<(&'static str, f64)> {
    let of_connections = |name: &str| match name {
        "bulkhead_tasks" | FILES => metrics["bulkhead_control_connections"],
        _ => 0.0,
    };
    GIVEN_BACK.iter().map(|name| (*name, metrics[*name] - of_connections(name))).collect()
}

/// Nothing of any agent is there. Files are not read: what they begin with is the host's business.
pub fn is_empty(metrics: &Metrics) -> bool {
    given_back(metrics).iter().all(|(name, count)| *name == FILES || *count == 0.0)
}

/// Waits until the metrics are as wanted, and returns them.
#[track_caller]
pub fn wait_for_metrics(client: &Client, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
    wait_for(what, || {
        let metrics = client.metrics();
        if wanted(&metrics) { Ok(metrics) } else { Err(format!("{metrics:#?}")) }
    })
}

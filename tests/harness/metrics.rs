//! `GET /metrics`: what agents take and must give back.

use std::cell::RefCell;

use crate::client::{Client, Metrics};
use crate::wait_until;

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

/// Nothing of any agent is there. Files are not looked at: what they begin with is the host's business.
pub fn is_empty(metrics: &Metrics) -> bool {
    given_back(metrics).iter().all(|(name, count)| *name == FILES || *count == 0.0)
}

/// Waits until the metrics are as wanted, and returns them.
#[track_caller]
pub fn wait_for_metrics(client: &Client, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
    let last = Last::default();
    wait_until(what, || {
        last.0.replace(client.metrics());
        wanted(&last.0.borrow())
    });
    last.0.take()
}

/// The last metrics of a wait. A wait that fails shows them.
#[derive(Default)]
struct Last(RefCell<Metrics>);

impl Drop for Last {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the last metrics: {:#?}", self.0.borrow());
        }
    }
}

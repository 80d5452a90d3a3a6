//! Panics of the host as log lines.
//!
//! A panic in a task, a request or a host function is contained where it happens, and what it ended is
//! told there. The hook adds what only it knows: the place in the host's source.

use std::collections::BTreeMap;

use bulkhead_events::{SharedSink, task::panic_message};
use bulkhead_model::{Event, Level};

/// Sends every panic of the process to `sink`.
pub fn report_to(sink: SharedSink) {
    std::panic::set_hook(Box::new(move |panic| {
        let mut fields = BTreeMap::new();
        if let Some(location) = panic.location() {
            fields.insert("location".to_owned(), location.to_string());
        }
        if let Some(name) = std::thread::current().name() {
            fields.insert("thread".to_owned(), name.to_owned());
        }
        sink.record(Event::HostLog {
            level: Level::Error,
            target: "panic".into(),
            message: panic_message(panic.payload()),
            fields,
        });
    }));
}

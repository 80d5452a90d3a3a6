//! Diagnostics of the host and its libraries (`tracing`) as `container.log` lines.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};

use bulkhead_types::{Event, Level};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer};

use crate::SharedSink;

/// A `tracing` layer that writes to the log. Filter it outside.
pub struct Diagnostics {
    sink: SharedSink,
}

impl Diagnostics {
    /// Writes to `sink`.
    pub fn new(sink: SharedSink) -> Self {
        Self { sink }
    }
}

impl<S: tracing::Subscriber> Layer<S> for Diagnostics {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.sink.record(Event::HostLog {
            level: level(*event.metadata().level()),
            target: event.metadata().target().to_owned(),
            message: fields.message,
            fields: fields.rest,
        });
    }
}

fn level(level: tracing::Level) -> Level {
    match level {
        tracing::Level::TRACE => Level::Trace,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::INFO => Level::Info,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::ERROR => Level::Error,
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: BTreeMap<String, String>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.rest.insert(field.name().to_owned(), format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.rest.insert(field.name().to_owned(), value.to_owned());
        }
    }
}

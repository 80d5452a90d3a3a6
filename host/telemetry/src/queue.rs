//! Spans that wait to be sent. Callers that put one in wait for nobody; what finds no room is dropped and counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use opentelemetry::{Array, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::settings::Batches;

/// Bytes of the attributes that may wait: of prompts and answers, that is, of which each is bounded as well.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// What a span takes beside the texts of its attributes.
const SPAN_BYTES: usize = 1024;

/// Numbers of spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// A collector took them.
    pub exported: u64,
    /// They found no room, or their time was over when the host ended.
    pub dropped: u64,
    /// They were sent, and no collector took them.
    pub failed: u64,
}

/// The queue, of a bounded number of spans and of bytes.
pub(crate) struct Queue {
    batches: Batches,
    waiting: Mutex<Waiting>,
    changed: Notify,
    exported: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    spans: Vec<SpanData>,
    bytes: usize,
    /// When the first of them came.
    since: Option<Instant>,
    /// No more come, and by then all are to be gone.
    ends: Option<Instant>,
}

impl Queue {
    pub(crate) fn new(batches: Batches) -> Self {
        Self {
            batches,
            waiting: Mutex::default(),
            changed: Notify::new(),
            exported: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Takes a span, if there is room.
    pub(crate) fn put(&self, span: SpanData) {
        let bytes = size(&span);
        let mut waiting = self.waiting.lock();
        let fits = waiting.spans.len() < self.batches.queue && waiting.bytes + bytes <= MAX_BYTES;
        if waiting.ends.is_some() || !fits {
            drop(waiting);
            self.dropped.fetch_add(1, Relaxed);
            return;
        }
        waiting.bytes += bytes;
        waiting.since.get_or_insert_with(Instant::now);
        waiting.spans.push(span);
        // The reader sets its clock by the first, and goes at once when there is a batch.
        let tell = waiting.spans.len() == 1 || waiting.spans.len() == self.batches.size;
        drop(waiting);
        if tell {
            self.changed.notify_one();
        }
    }

    /// Resolves with the next batch; with none when the queue has ended and is empty.
    pub(crate) async fn next(&self) -> Option<Vec<SpanData>> {
        loop {
            let due = {
                let mut waiting = self.waiting.lock();
                let due = waiting.since.map(|since| since + self.batches.delay);
                let is_due = due.is_some_and(|due| due <= Instant::now());
                let goes = is_due || waiting.ends.is_some();
                if goes && waiting.spans.is_empty() {
                    return None;
                }
                if goes || waiting.spans.len() >= self.batches.size {
                    return Some(waiting.take(self.batches.size));
                }
                due
            };
            match due {
                Some(due) => {
                    // Time and change lead to the same look.
                    let _ = timeout_at(due, self.changed.notified()).await;
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// Takes no more. What waits is to be sent by then.
    pub(crate) fn end(&self, by: Instant) {
        self.waiting.lock().ends.get_or_insert(by);
        self.changed.notify_one();
    }

    /// Resolves when the queue has ended and its time is over.
    pub(crate) async fn is_over(&self) {
        loop {
            let ends = self.waiting.lock().ends;
            match ends {
                Some(ends) => {
                    tokio::time::sleep_until(ends).await;
                    return;
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// What still waits is lost.
    pub(crate) fn give_up(&self) {
        let left = std::mem::take(&mut self.waiting.lock().spans);
        self.dropped.fetch_add(left.len() as u64, Relaxed);
    }

    pub(crate) fn count(&self, spans: usize, taken: bool) {
        let figure = if taken { &self.exported } else { &self.failed };
        figure.fetch_add(spans as u64, Relaxed);
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            exported: self.exported.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }
}

impl Waiting {
    fn take(&mut self, most: usize) -> Vec<SpanData> {
        let rest = self.spans.split_off(most.min(self.spans.len()));
        let batch = std::mem::replace(&mut self.spans, rest);
        self.bytes = self.bytes.saturating_sub(batch.iter().map(size).sum());
        // Those that are left came while a batch was full: they go with the next.
        self.since = (!self.spans.is_empty()).then(Instant::now);
        batch
    }
}

fn size(span: &SpanData) -> usize {
    let of_value = |value: &Value| match value {
        Value::String(text) => text.as_str().len(),
        Value::Array(Array::String(texts)) => texts.iter().map(|text| text.as_str().len()).sum(),
        _ => 0,
    };
    SPAN_BYTES + span.attributes.iter().map(|attribute| of_value(&attribute.value)).sum::<usize>()
}

/// The end of the queue that the SDK has.
pub(crate) struct Processor(pub(crate) Arc<Queue>);

impl fmt::Debug for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Processor")
    }
}

impl SpanProcessor for Processor {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.0.put(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

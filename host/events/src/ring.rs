//! The last events of one agent, for those who follow it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bulkhead_api::{EventView, EventsPage};
use bulkhead_model::crash::LastEvent;
use serde_json::value::RawValue;

use crate::now;

/// How much of an agent's past is kept.
#[derive(Debug, Clone, Copy)]
pub struct RingLimits {
    /// Number of events; the original kept 2000.
    pub events: usize,
    /// Their names and data together.
    pub bytes: usize,
}

impl Default for RingLimits {
    fn default() -> Self {
        Self { events: 2000, bytes: 1024 * 1024 }
    }
}

/// A bounded, numbered memory of events. The oldest go first. Empty rings hold no heap memory.
#[derive(Default)]
pub struct Ring {
    limits: RingLimits,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    events: VecDeque<EventView>,
    bytes: usize,
    last_id: u64,
}

impl Ring {
    /// An empty ring.
    pub fn new(limits: RingLimits) -> Self {
        Self { limits, inner: Mutex::default() }
    }

    /// Appends an event and returns its id. Ids begin at 1.
    pub fn push(&self, event: impl Into<Arc<str>>, data: Box<RawValue>) -> u64 {
        let mut inner = self.lock();
        inner.last_id += 1;
        let view = EventView {
            id: inner.last_id,
            event: event.into(),
            data: data.into(),
            timestamp: now(),
        };
        inner.bytes += size(&view);
        inner.events.push_back(view);
        while inner.events.len() > self.limits.events || inner.bytes > self.limits.bytes {
            let Some(oldest) = inner.events.pop_front() else { break };
            inner.bytes -= size(&oldest);
        }
        inner.last_id
    }

    /// Appends an event whose data is a value of ours.
    pub fn push_value(&self, event: impl Into<Arc<str>>, data: &impl serde::Serialize) -> u64 {
        let data =
            serde_json::value::to_raw_value(data).unwrap_or_else(|_| RawValue::NULL.to_owned());
        self.push(event, data)
    }

    /// Events with an id above `after`, oldest first. Says so when some of them are gone.
    pub fn after(&self, after: u64) -> EventsPage {
        let inner = self.lock();
        let events: Vec<_> =
            inner.events.iter().filter(|event| event.id > after).cloned().collect();
        let first_kept = inner.events.front().map_or(inner.last_id + 1, |event| event.id);
        let dropped_before = (first_kept > after.saturating_add(1)).then_some(first_kept);
        EventsPage { events, dropped_before }
    }

    /// The names of the last events, oldest first.
    pub fn last(&self, count: usize) -> Vec<LastEvent> {
        let inner = self.lock();
        let skipped = inner.events.len().saturating_sub(count);
        let last = inner.events.iter().skip(skipped);
        last.map(|EventView { id, event, timestamp, .. }| LastEvent {
            id: *id,
            event: event.to_string(),
            timestamp: *timestamp,
        })
        .collect()
    }

    /// Bytes held, for the agent's account.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn size(event: &EventView) -> usize {
    event.event.len() + event.data.get().len() + size_of::<EventView>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(page: &EventsPage) -> Vec<u64> {
        page.events.iter().map(|event| event.id).collect()
    }

    #[test]
    fn a_reader_gets_what_is_new_to_it() {
        let ring = Ring::default();
        for n in 0..3 {
            ring.push_value("n", &n);
        }
        assert_eq!(ids(&ring.after(0)), [1, 2, 3]);
        assert_eq!(ids(&ring.after(2)), [3]);
        assert!(ring.after(3).events.is_empty());
        assert!(ring.after(u64::MAX).events.is_empty());
        assert_eq!(ring.after(0).dropped_before, None);
    }

    #[test]
    fn a_slow_reader_is_told_what_it_missed() {
        let ring = Ring::new(RingLimits { events: 2, bytes: 1024 });
        for n in 0..5 {
            ring.push_value("n", &n);
        }
        let page = ring.after(0);
        assert_eq!((ids(&page), page.dropped_before), (vec![4, 5], Some(4)));
        assert_eq!(ring.after(3).dropped_before, None);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let ring = Ring::new(RingLimits { events: 100, bytes: 1000 });
        for _ in 0..50 {
            ring.push_value("n", &"x".repeat(300));
        }
        assert!(ring.bytes() <= 1000);
        ring.push_value("huge", &"x".repeat(5000));
        assert!(ring.bytes() <= 1000);
        assert_eq!(ring.after(0).dropped_before, Some(52));
    }
}

//! The last events of one agent, for those who follow it.
//!
//! What is kept is held by the agent's account. Old events go first when it has no room, then the new
//! one: a reader sees both by the ids.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bulkhead_account::{Account, Charge};
use bulkhead_types::crash::LastEvent;
use bulkhead_types::{HostKind, RingEvent, RingPage};
use serde_json::value::RawValue;

use crate::now;

/// The part of an agent's memory limit that its past may take: less than this is left of the bound below
/// when the limit is small.
const SHARE_OF_LIMIT: u64 = 16;

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
pub struct Ring {
    limits: RingLimits,
    inner: Mutex<Inner>,
}

struct Inner {
    events: VecDeque<RingEvent>,
    /// Of all events.
    held: Charge,
    last_id: u64,
}

impl Default for Ring {
    fn default() -> Self {
        Self::new(RingLimits::default(), &Arc::default())
    }
}

impl Ring {
    /// An empty ring. What it keeps is held by `account`.
    pub fn new(limits: RingLimits, account: &Arc<Account>) -> Self {
        let held = account.nothing(HostKind::Events);
        let inner = Inner { events: VecDeque::new(), held, last_id: 0 };
        Self { limits, inner: Mutex::new(inner) }
    }

    /// Appends an event and returns its id. Ids begin at 1.
    pub fn push(&self, event: impl Into<Arc<str>>, data: Box<RawValue>) -> u64 {
        let mut inner = self.lock();
        inner.last_id += 1;
        let event = RingEvent {
            id: inner.last_id,
            event: event.into(),
            data: data.into(),
            timestamp: now(),
        };
        inner.keep(event, self.limits);
        inner.last_id
    }

    /// Appends an event whose data is a value of ours.
    pub fn push_value(&self, event: impl Into<Arc<str>>, data: &impl serde::Serialize) -> u64 {
        let data =
            serde_json::value::to_raw_value(data).unwrap_or_else(|_| RawValue::NULL.to_owned());
        self.push(event, data)
    }

    /// Events with an id above `after`, oldest first. Says so when some of them are gone.
    pub fn after(&self, after: u64) -> RingPage {
        let inner = self.lock();
        let known = inner.events.partition_point(|event| event.id <= after);
        let events: Vec<_> = inner.events.iter().skip(known).cloned().collect();
        let first_kept = inner.events.front().map_or(inner.last_id + 1, |event| event.id);
        let dropped_before = (first_kept > after.saturating_add(1)).then_some(first_kept);
        RingPage { events, dropped_before }
    }

    /// The id of the last event, also of one that found no room; 0 before the first.
    pub fn last_id(&self) -> u64 {
        self.lock().last_id
    }

    /// The names of the last events, oldest first.
    pub fn last(&self, count: usize) -> Vec<LastEvent> {
        let inner = self.lock();
        let skipped = inner.events.len().saturating_sub(count);
        let last = inner.events.iter().skip(skipped);
        last.map(|RingEvent { id, event, timestamp, .. }| LastEvent {
            id: *id,
            event: Arc::clone(event),
            timestamp: *timestamp,
        })
        .collect()
    }

    /// Bytes held, for the agent's account.
    pub fn bytes(&self) -> usize {
        usize::try_from(self.lock().held.bytes()).unwrap_or(usize::MAX)
    }

    /// Drops the oldest events until `bytes` are free, or none is left.
    pub fn trim(&self, bytes: u64) {
        let mut inner = self.lock();
        let before = inner.held.bytes();
        while before - inner.held.bytes() < bytes {
            let Some(oldest) = inner.events.pop_front() else { break };
            inner.held.shrink(size(&oldest));
        }
        inner.events.shrink_to_fit();
    }

    /// Gives back the room that was made for events that may not come any more.
    pub fn shrink(&self) {
        self.lock().events.shrink_to_fit();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    /// Keeps the event, if there is room for it when all others are gone.
    fn keep(&mut self, event: RingEvent, limits: RingLimits) {
        let bytes = size(&event);
        let share = self.held.account().limit_bytes().map_or(u64::MAX, |all| all / SHARE_OF_LIMIT);
        let most = share.min(limits.bytes as u64);
        while self.events.len() >= limits.events
            || self.held.bytes() + bytes > most
            || self.held.grow(bytes).is_err()
        {
            let Some(oldest) = self.events.pop_front() else {
                return self.held.account().refuse(HostKind::Events);
            };
            self.held.shrink(size(&oldest));
        }
        self.events.push_back(event);
    }
}

/// Two shared texts, each with its counts, and their place in the ring.
fn size(event: &RingEvent) -> u64 {
    let shared = 4 * size_of::<usize>();
    (event.event.len() + event.data.get().len() + shared + size_of::<RingEvent>()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(page: &RingPage) -> Vec<u64> {
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
    fn a_slow_reader_learns_what_it_missed() {
        let ring = Ring::new(RingLimits { events: 2, bytes: 1024 }, &Arc::default());
        for n in 0..5 {
            ring.push_value("n", &n);
        }
        let page = ring.after(0);
        assert_eq!((ids(&page), page.dropped_before), (vec![4, 5], Some(4)));
        assert_eq!(ring.after(3).dropped_before, None);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let ring = Ring::new(RingLimits { events: 100, bytes: 1000 }, &Arc::default());
        for _ in 0..50 {
            ring.push_value("n", &"x".repeat(300));
        }
        assert!(ring.bytes() <= 1000);
        ring.push_value("huge", &"x".repeat(5000));
        assert!(ring.bytes() <= 1000);
        assert_eq!(ring.after(0).dropped_before, Some(52));
    }

    #[test]
    fn a_ring_that_is_trimmed_has_its_newest_events_and_says_so() {
        let account = Arc::new(Account::default());
        let ring = Ring::new(RingLimits::default(), &account);
        for n in 0..10 {
            ring.push_value("n", &n);
        }
        let one = ring.bytes() as u64 / 10;
        ring.trim(3 * one);
        ring.shrink();
        let page = ring.after(0);
        assert_eq!((ids(&page), page.dropped_before), ((4..=10).collect(), Some(4)));
        ring.trim(u64::MAX);
        assert_eq!((ring.bytes(), account.reading().host.events), (0, 0));
        assert_eq!(ring.after(0).dropped_before, Some(11));
        assert_eq!(ring.push_value("n", &10), 11, "numbers go on");
    }

    #[test]
    fn old_events_make_room_when_the_agent_may_hold_no_more() {
        let account = Arc::new(Account::default());
        account.begin(64 * 1024, 80, None);
        let ring = Ring::new(RingLimits::default(), &account);
        for n in 0..100 {
            ring.push_value("n", &n);
        }
        assert!(ring.bytes() <= 4 * 1024, "more than its share: {}", ring.bytes());
        account.hold_guest(64 * 1024 - ring.bytes() as u64).unwrap();
        ring.push_value("large", &"x".repeat(1000));
        let page = ring.after(0);
        assert_eq!(page.events.last().map(|event| &*event.event), Some("large"));
        assert!(page.dropped_before.is_some());
        account.hold_guest(64 * 1024 - ring.bytes() as u64).unwrap();
        ring.push_value("too large", &"x".repeat(4000));
        assert_eq!(ring.after(0).dropped_before, Some(103), "nothing had room for it");
        assert_eq!(account.reading().host.events, 0);
    }
}

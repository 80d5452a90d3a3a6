//! The last events of one agent, for those who follow it.
//!
//! What is kept is held by the agent's account. Old events go first when it has no room, then the new
//! one: a reader learns up to which number events are gone.

use std::collections::VecDeque;
use std::sync::Arc;

use bulkhead_account::{Account, Charge};
use bulkhead_types::crash::LastEvent;
use bulkhead_types::{AgentId, HostKind, RingEvent, RingPage};
use parking_lot::Mutex;
use serde_json::value::RawValue;

use crate::feed::Feed;
use crate::live::{Delta, Live};
use crate::watch::Watch;

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

/// A bounded memory of an agent's events. The oldest go first. Empty rings hold no heap memory.
pub struct Ring {
    agent: AgentId,
    limits: RingLimits,
    inner: Mutex<Inner>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) watch: Arc<Watch>,
}

struct Inner {
    events: VecDeque<RingEvent>,
    /// Of all events.
    held: Charge,
    /// The number of the last event, also of one that found no room.
    last_id: u64,
    /// Events up to this number are gone.
    dropped_to: u64,
    /// Events from before the ring was made may be gone up to this number.
    floor: u64,
}

impl Ring {
    /// What is kept of an agent's events, also of earlier runs, and those to come. What is kept is held by `account`.
    pub fn new(
        feed: &Arc<Feed>,
        agent: AgentId,
        limits: RingLimits,
        account: &Arc<Account>,
    ) -> Self {
        let held = account.nothing(HostKind::Events);
        let (kept, floor) = feed.of_agent(&agent);
        let mut inner = Inner { events: VecDeque::new(), held, last_id: 0, dropped_to: 0, floor };
        for event in kept {
            inner.last_id = event.id;
            inner.keep(event, limits);
        }
        let live = Live::of(agent.clone(), Arc::clone(account));
        let (feed, watch) = (Arc::clone(feed), Arc::new(Watch::of(live)));
        Self { agent, limits, inner: Mutex::new(inner), feed, watch }
    }

    /// Appends an event and returns its number.
    pub fn push(&self, event: impl Into<Arc<str>>, data: Box<RawValue>) -> u64 {
        // What was said so far comes before the event, and what is said meanwhile after it.
        let mut live = self.is_seen_live().then(|| self.watch.live());
        if let Some(live) = &mut live {
            live.seal();
        }
        let mut inner = self.inner.lock();
        // Under the lock, so that the ring has the order of the numbers.
        let event = self.feed.append(Some(&self.agent), event.into(), data.into());
        let id = event.id;
        inner.last_id = id;
        inner.keep(event, self.limits);
        drop(inner);
        drop(live);
        self.mark();
        id
    }

    /// From now on what happens belongs to the turn of this message.
    pub fn begin_turn(&self, message_id: &str) {
        self.watch.live().set_turn(Some(message_id));
    }

    /// The turn is over.
    pub fn end_turn(&self) {
        self.watch.live().set_turn(None);
    }

    /// Whether somebody sees turns of the agent as they happen.
    pub fn is_seen_live(&self) -> bool {
        self.watch.is_seen_live() || self.feed.watch.is_seen_live()
    }

    /// Shows what happens in a turn to those who look, and to nobody else.
    pub fn say(&self, delta: impl FnOnce() -> Delta) {
        if self.is_seen_live() {
            let mut live = self.watch.live();
            if live.is_sealed() {
                // Also after events that were pushed while nobody followed.
                live.follows(self.last_id());
            }
            live.say(delta());
            drop(live);
            self.watch.mark_anyway(&self.feed.bell);
        }
    }

    pub(crate) fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// The agent is forgotten: those who follow it reach the end.
    pub fn close(&self) {
        self.watch.close(&self.feed.bell);
    }

    fn mark(&self) {
        match self.feed.watch.is_seen_live() {
            true => self.watch.mark_anyway(&self.feed.bell),
            false => self.watch.mark(&self.feed.bell),
        }
    }

    /// Appends an event whose data is a value of ours.
    pub fn push_value(&self, event: impl Into<Arc<str>>, data: &impl serde::Serialize) -> u64 {
        let data =
            serde_json::value::to_raw_value(data).unwrap_or_else(|_| RawValue::NULL.to_owned());
        self.push(event, data)
    }

    /// Events with a number above `after`, oldest first. Says so when some of them are gone, or may be.
    pub fn after(&self, after: u64) -> RingPage {
        self.page(after, usize::MAX).0
    }

    /// The same, at most `limit`, and the number up to which it has all that is kept.
    pub(crate) fn page(&self, after: u64, limit: usize) -> (RingPage, u64) {
        let inner = self.inner.lock();
        let known = inner.events.partition_point(|event| event.id <= after);
        let events: Vec<_> = inner.events.iter().skip(known).take(limit).cloned().collect();
        // Who begins here misses what was here; who goes on misses what was before it, too.
        let gone_to = if after > 0 { inner.dropped_to.max(inner.floor) } else { inner.dropped_to };
        let upto = match events.last() {
            Some(last) if events.len() == limit => last.id,
            _ => inner.last_id.max(after),
        };
        (RingPage { events, dropped_before: (after < gone_to).then_some(gone_to + 1) }, upto)
    }

    /// The number of the last event, also of one that found no room; 0 before the first.
    pub fn last_id(&self) -> u64 {
        self.inner.lock().last_id
    }

    /// The names of the last events, oldest first.
    pub fn last(&self, count: usize) -> Vec<LastEvent> {
        let inner = self.inner.lock();
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
        usize::try_from(self.inner.lock().held.bytes()).unwrap_or(usize::MAX)
    }

    /// Drops the oldest events until `bytes` are free, or none is left.
    pub fn trim(&self, bytes: u64) {
        let mut inner = self.inner.lock();
        let before = inner.held.bytes();
        while before - inner.held.bytes() < bytes {
            let Some(oldest) = inner.events.pop_front() else { break };
            inner.held.shrink(size(&oldest));
            inner.dropped_to = oldest.id;
        }
        inner.events.shrink_to_fit();
    }

    /// Gives back the room that was made for events that may not come any more.
    pub fn shrink(&self) {
        self.inner.lock().events.shrink_to_fit();
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
                self.dropped_to = event.id;
                return self.held.account().refuse(HostKind::Events);
            };
            self.held.shrink(size(&oldest));
            self.dropped_to = oldest.id;
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

    fn ring(limits: RingLimits, account: &Arc<Account>) -> Ring {
        Ring::new(&Arc::default(), AgentId::parse("a").unwrap(), limits, account)
    }

    fn ids(page: &RingPage) -> Vec<u64> {
        page.events.iter().map(|event| event.id).collect()
    }

    #[test]
    fn a_reader_gets_what_is_new_to_it() {
        let ring = ring(RingLimits::default(), &Arc::default());
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
        let ring = ring(RingLimits { events: 2, bytes: 1024 }, &Arc::default());
        for n in 0..5 {
            ring.push_value("n", &n);
        }
        let page = ring.after(0);
        assert_eq!((ids(&page), page.dropped_before), (vec![4, 5], Some(4)));
        assert_eq!(ring.after(3).dropped_before, None);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let ring = ring(RingLimits { events: 100, bytes: 1000 }, &Arc::default());
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
        let ring = ring(RingLimits::default(), &account);
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
        let ring = ring(RingLimits::default(), &account);
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

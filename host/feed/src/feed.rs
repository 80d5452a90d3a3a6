//! All events, in one order.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bulkhead_log::now;
use bulkhead_types::{AgentId, RingEvent};
use parking_lot::Mutex;
use serde_json::value::RawValue;

use crate::entry::Entry;
use crate::journal::{self, Journal, Problem};
use crate::watch::{Bell, Watch};

/// What the event file keeps, and what is kept in memory for those who follow all agents, in bytes each.
const KEPT_BYTES: u64 = 4 * 1024 * 1024;

/// Events that one page has, at most. Who is far behind reads several.
pub(crate) const PAGE_EVENTS: usize = 256;

/// Events that are looked at for one page, at most: who publishes waits meanwhile.
pub(crate) const LOOKED: usize = 1024;

/// Some events, oldest first.
#[derive(Debug, Default)]
pub struct FeedPage {
    /// At most 256 of 1,024 that were looked at.
    pub entries: Vec<Entry>,
    /// Everything up to this number was looked at.
    pub upto: u64,
    /// Events up to this number were dropped before they could be read.
    pub dropped_to: Option<u64>,
}

/// Numbers all events, and keeps the last ones.
pub struct Feed {
    inner: Mutex<Inner>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) bell: Arc<Bell>,
}

struct Inner {
    last_id: u64,
    /// Events up to this number are not in `recent`.
    floor: u64,
    recent: VecDeque<Entry>,
    bytes: u64,
    journal: Option<Journal>,
    /// The last event of the run is there.
    ended: bool,
    /// Where in `recent` the events of each agent are.
    of_agents: HashMap<AgentId, VecDeque<u64>>,
}

impl Default for Feed {
    /// Keeps nothing beyond the process. The first event has number 1.
    fn default() -> Self {
        Self::of(None, journal::Found::default(), 1)
    }
}

impl Feed {
    /// Keeps nothing beyond the process.
    pub fn without_journal() -> Self {
        Self::of(None, journal::Found::default(), micros_now())
    }

    /// Goes on after the events that the run before left in `dir`. The directory belongs to one host at a time.
    pub fn open(dir: &Path) -> (Self, Vec<Problem>) {
        let (journal, found, problems) = journal::open(dir, KEPT_BYTES);
        (Self::of(journal, found, micros_now()), problems)
    }

    fn of(journal: Option<Journal>, found: journal::Found, clock: u64) -> Self {
        let first = clock.max(found.last + 1);
        let floor = match found.entries.first() {
            Some(oldest) => found.floor.min(oldest.event.id - 1),
            None => first - 1,
        };
        let mut inner = Inner {
            last_id: first - 1,
            floor,
            recent: VecDeque::new(),
            bytes: 0,
            journal,
            ended: false,
            of_agents: HashMap::new(),
        };
        found.entries.into_iter().for_each(|entry| inner.keep(entry));
        Self { inner: Mutex::new(inner), watch: Arc::default(), bell: Arc::default() }
    }

    /// Numbers and keeps an event of the container.
    pub fn publish(&self, event: impl Into<Arc<str>>, data: Box<RawValue>) -> u64 {
        self.append(None, event.into(), data.into()).id
    }

    /// Numbers and keeps an event of an agent that has no ring yet. The ring has it when it is made.
    pub fn publish_of(
        &self,
        agent: &AgentId,
        event: impl Into<Arc<str>>,
        data: Box<RawValue>,
    ) -> u64 {
        self.append(Some(agent), event.into(), data.into()).id
    }

    /// The last event of the run. Those that come after it have numbers, and are not kept.
    pub fn end(&self, event: impl Into<Arc<str>>, data: Box<RawValue>) {
        let mut inner = self.inner.lock();
        inner.append(None, event.into(), data.into());
        inner.ended = true;
        drop(inner);
        self.watch.mark(&self.bell);
    }

    /// Numbers and keeps an event. What follows from it for its agent is the caller's business.
    pub(crate) fn append(
        &self,
        agent: Option<&AgentId>,
        event: Arc<str>,
        data: Arc<RawValue>,
    ) -> RingEvent {
        let event = self.inner.lock().append(agent, event, data);
        self.watch.mark(&self.bell);
        event
    }

    /// Events above `after` that `wanted` wants, as far as one page goes: none may be wanted, and others follow it. Above 0:
    /// all that is kept, and nothing is missing before it.
    pub fn after(&self, after: u64, mut wanted: impl FnMut(&Entry) -> bool) -> FeedPage {
        let inner = self.inner.lock();
        let known = inner.recent.partition_point(|entry| entry.event.id <= after);
        let mut page = FeedPage { upto: inner.last_id.max(after), ..FeedPage::default() };
        page.dropped_to = (after > 0 && after < inner.floor).then_some(inner.floor);
        let mut upto = after;
        for (looked, entry) in inner.recent.iter().skip(known).enumerate() {
            if looked == LOOKED || page.entries.len() == PAGE_EVENTS {
                page.upto = upto;
                break;
            }
            upto = entry.event.id;
            if wanted(entry) {
                page.entries.push(entry.clone());
            }
        }
        page
    }

    /// The number of the last event; 0 before the first.
    pub fn last_id(&self) -> u64 {
        self.inner.lock().last_id
    }

    /// What is kept of an agent's events, oldest first, and up to which number some of them may be gone.
    pub(crate) fn of_agent(&self, agent: &AgentId) -> (Vec<RingEvent>, u64) {
        let inner = self.inner.lock();
        let ids = inner.of_agents.get(agent).into_iter().flatten();
        let event = |id: &u64| {
            let at = inner.recent.binary_search_by_key(id, |entry| entry.event.id).ok()?;
            inner.recent.get(at).map(|entry| entry.event.clone())
        };
        (ids.filter_map(event).collect(), inner.floor)
    }

    /// Wakes those who follow, for as long as it is polled. One runs at a time.
    pub async fn relay(&self) {
        self.bell.relay(&self.watch, || self.last_id()).await;
    }

    /// Waits until the disk has all of the event file.
    pub fn sync(&self) -> io::Result<()> {
        self.inner.lock().journal.as_ref().map_or(Ok(()), Journal::sync)
    }
}

impl Inner {
    fn append(
        &mut self,
        agent: Option<&AgentId>,
        event: Arc<str>,
        data: Arc<RawValue>,
    ) -> RingEvent {
        self.last_id += 1;
        let event = RingEvent { id: self.last_id, event, data, timestamp: now() };
        if !self.ended {
            let entry = Entry { agent: agent.cloned(), event: event.clone() };
            if let Some(journal) = &mut self.journal {
                journal.append(&entry);
            }
            self.keep(entry);
        }
        event
    }

    fn keep(&mut self, entry: Entry) {
        self.bytes += size(&entry);
        if let Some(agent) = &entry.agent {
            match self.of_agents.get_mut(agent) {
                Some(ids) => ids.push_back(entry.event.id),
                None => {
                    self.of_agents.insert(agent.clone(), VecDeque::from([entry.event.id]));
                }
            }
        }
        self.recent.push_back(entry);
        while self.bytes > KEPT_BYTES {
            let Some(oldest) = self.recent.pop_front() else { break };
            self.bytes -= size(&oldest);
            self.floor = oldest.event.id;
            let Some(agent) = &oldest.agent else { continue };
            let is_last = self.of_agents.get_mut(agent).is_some_and(|ids| {
                ids.pop_front();
                ids.is_empty()
            });
            if is_last {
                self.of_agents.remove(agent);
            }
        }
    }
}

/// What an event takes in memory, with the texts that its agent's ring may share with it.
fn size(Entry { event, .. }: &Entry) -> u64 {
    (event.event.len() + event.data.get().len() + size_of::<Entry>() + size_of::<u64>()) as u64
}

/// Microseconds since 1970: above all numbers of all runs before, as long as those had less than a million events a
/// second, and exact in JavaScript (2^53) until the year 2255.
fn micros_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(1).max(1)
}

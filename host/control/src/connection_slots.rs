//! Slots for connections: which connection has one, and which gives one up when all are taken.
//!
//! ```text
//!  Stranger ──request with the token──▶ Working ──answered──▶ Idle ──request with the token──▶ Working
//! ```
//!
//! A newcomer takes a free slot, else that of the stranger who came first, whatever that one is at: silent, in the
//! middle of a head, or of a body that nobody wants. Where there are none, that of the one who has been idle for
//! longest, then of one who waits for an answer and has closed its side, because it may be gone. Another client that
//! works with the token is never sent away. So one that holds connections open and has no token
//! cannot keep out those who have it, nor the probes: a probe is the newest stranger of all, and is answered at once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// What a connection is at, the first to go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// Has shown no token.
    Stranger,
    /// Has shown the token, and waits for a request.
    Idle,
    /// A request with the token is under way, of a client that closed its side: it may be gone.
    Doubtful,
    /// A request with the token is under way.
    Working,
}

/// How a connection has to give up its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eviction {
    /// At once.
    Now,
    /// When what it is being answered is written.
    Politely,
}

/// Which connections have a slot. Pure: `H` is how to reach a connection.
struct Table<H> {
    bound: usize,
    /// Rises with every change, so that it orders them.
    clock: u64,
    taken: BTreeMap<u64, Entry<H>>,
}

struct Entry<H> {
    standing: Standing,
    since: u64,
    reach: H,
}

impl<H> Table<H> {
    fn new(bound: usize) -> Self {
        Self { bound, clock: 0, taken: BTreeMap::new() }
    }

    /// Gives a newcomer a slot and its id, and says whom that costs one; or there is none to be had.
    fn take(&mut self, reach: H) -> Option<(u64, Option<(H, Eviction)>)> {
        let full = self.taken.len() >= self.bound;
        let evicted = if full { Some(self.evict()?) } else { None };
        self.clock += 1;
        let id = self.clock;
        self.taken.insert(id, Entry { standing: Standing::Stranger, since: id, reach });
        Some((id, evicted))
    }

    fn evict(&mut self) -> Option<(H, Eviction)> {
        let may_go = self.taken.iter().filter(|(_, entry)| entry.standing != Standing::Working);
        let (id, _) = may_go.min_by_key(|(_, entry)| (entry.standing, entry.since))?;
        let entry = self.taken.remove(&id.clone())?;
        let polite = entry.standing == Standing::Idle;
        Some((entry.reach, if polite { Eviction::Politely } else { Eviction::Now }))
    }

    /// Takes note of what a connection is at. Not of one that has lost its slot.
    fn note(&mut self, id: u64, standing: Standing) -> bool {
        self.clock += 1;
        let since = self.clock;
        let Some(entry) = self.taken.get_mut(&id) else { return false };
        (entry.standing, entry.since) = (standing, since);
        true
    }

    fn leave(&mut self, id: u64) {
        self.taken.remove(&id);
    }
}

/// Slots for connections. Cheap to clone; clones share the slots.
#[derive(Clone)]
pub(crate) struct ConnectionSlots(Arc<Shared>);

struct Shared {
    table: Mutex<Table<oneshot::Sender<Eviction>>>,
    /// Connections that are there, those on their way out included.
    open: watch::Sender<usize>,
    evicted: AtomicU64,
}

impl fmt::Debug for ConnectionSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionSlots").field("taken", &self.taken()).finish_non_exhaustive()
    }
}

impl ConnectionSlots {
    pub(crate) fn new(bound: usize) -> Self {
        let (table, open) = (Mutex::new(Table::new(bound)), watch::Sender::new(0));
        Self(Arc::new(Shared { table, open, evicted: AtomicU64::new(0) }))
    }

    /// Connections that are served.
    pub(crate) fn taken(&self) -> usize {
        *self.0.open.borrow()
    }

    /// Connections that gave up their slot to another one.
    pub(crate) fn evicted(&self) -> u64 {
        self.0.evicted.load(Ordering::Relaxed)
    }

    /// A slot, and what says that it has to be given up. `None`: all are taken by those who work.
    pub(crate) fn take(&self) -> Option<(ConnectionSlot, oneshot::Receiver<Eviction>)> {
        let (reach, eviction) = oneshot::channel();
        let (id, evicted) = self.0.table.lock().take(reach)?;
        if let Some((reach, eviction)) = evicted {
            self.0.evicted.fetch_add(1, Ordering::Relaxed);
            // One that ended by itself meanwhile hears nothing.
            let _ = reach.send(eviction);
        }
        self.0.open.send_modify(|open| *open += 1);
        Some((ConnectionSlot { slots: self.clone(), id, shown: AtomicBool::new(false) }, eviction))
    }

    /// Waits until all connections are gone, and returns how many are not after `grace`.
    pub(crate) async fn empty(&self, grace: Duration) -> usize {
        let mut open = self.0.open.subscribe();
        // In a block, because what `wait_for` yields holds a lock.
        let _ = timeout(grace, async {
            let _ = open.wait_for(|open| *open == 0).await;
        })
        .await;
        self.taken()
    }
}

/// A connection's slot, given back when it is dropped.
pub(crate) struct ConnectionSlot {
    slots: ConnectionSlots,
    id: u64,
    /// The token was shown here.
    shown: AtomicBool,
}

impl ConnectionSlot {
    /// A request begins that shows the token, or comes to a server that wants none. Whether it may: not where the
    /// slot was just lost, or it would be interrupted.
    pub(crate) fn begin(&self) -> bool {
        self.shown.store(true, Ordering::Relaxed);
        self.slots.0.table.lock().note(self.id, Standing::Working)
    }

    /// Whose request is under way may be gone.
    pub(crate) fn doubt(&self) {
        if self.shown.load(Ordering::Relaxed) {
            self.slots.0.table.lock().note(self.id, Standing::Doubtful);
        }
    }

    /// The request is answered by a stream, which has a place among streams.
    pub(crate) fn leave(&self) {
        self.slots.0.table.lock().leave(self.id);
    }

    /// The request is answered. A stranger stays as old as it is.
    pub(crate) fn idle(&self) {
        if self.shown.load(Ordering::Relaxed) {
            self.slots.0.table.lock().note(self.id, Standing::Idle);
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.slots.0.table.lock().leave(self.id);
        self.slots.0.open.send_modify(|open| *open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(standings: &[Standing]) -> Table<usize> {
        let mut table = Table::new(standings.len());
        for (at, standing) in standings.iter().enumerate() {
            let (id, evicted) = table.take(at).unwrap();
            assert!(evicted.is_none());
            if *standing != Standing::Stranger {
                table.note(id, *standing);
            }
        }
        table
    }

    #[test]
    fn the_oldest_of_those_who_count_least_gives_way() {
        use Standing::{Doubtful, Idle, Stranger, Working};
        let mut table = full(&[Working, Doubtful, Idle, Stranger, Stranger, Idle]);
        let mut gone = Vec::new();
        for newcomer in 10..16 {
            let Some((id, evicted)) = table.take(newcomer) else { break };
            // Newcomers work at once, so that only the others can go.
            table.note(id, Working);
            gone.extend(evicted);
        }
        let (now, politely) = (Eviction::Now, Eviction::Politely);
        let expected = [(3, now), (4, now), (2, politely), (5, politely), (1, now)];
        assert_eq!(gone, expected);
        assert!(table.take(20).is_none(), "all of them work");
    }

    #[test]
    fn a_slot_is_free_when_it_is_left_and_the_evicted_change_nothing() {
        let mut table = Table::new(1);
        let (first, _) = table.take(1).unwrap();
        let (second, evicted) = table.take(2).unwrap();
        assert_eq!(evicted, Some((1, Eviction::Now)));
        assert!(!table.note(first, Standing::Working));
        table.leave(first);
        assert_eq!(table.taken.len(), 1);
        assert!(table.note(second, Standing::Working));
        assert!(table.take(3).is_none());
        table.leave(second);
        assert!(table.take(4).is_some());
    }
}

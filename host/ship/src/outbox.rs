//! What was committed and is not shipped yet: pages, each as it is now. Bounded: past it they are dropped, and a copy of all
//! pages is shipped instead.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_store::database::{Changed, Follower, FollowerFigures, NotDurable};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// Bytes of pages that wait at most.
const MAX_WAITING_BYTES: usize = 12 * 1024 * 1024;

/// Between the database and the thread that ships.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    /// Something is there, or somebody is in a hurry.
    pub(crate) filled: Notify,
    /// Commits that are shipped, by their count.
    shipped: watch::Sender<u64>,
    /// How long somebody waits for it.
    patience: Duration,
}

#[derive(Debug, Default)]
struct State {
    pages: BTreeMap<u32, Box<[u8]>>,
    bytes: usize,
    size: (u32, u32),
    /// Commits that were heard of, and one for what was there before them.
    committed: u64,
    /// A copy of all pages is needed. Until it is made, what is committed is not kept: it will be in the copy.
    needs_copy: bool,
    /// When the oldest was committed that is not being shipped.
    waits_since: Option<Instant>,
    /// The same of what is being shipped.
    in_hand_since: Option<Instant>,
    /// Somebody waits for all that is committed.
    hurry: bool,
    ending: bool,
    abandoned: bool,
    failing: Option<String>,
    segments: u64,
    sent_bytes: u64,
}

/// What was not shipped in time, and why as far as that is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is stored on this machine and not shipped: {reason}")]
pub struct NotShipped {
    /// One fragment for a person.
    pub reason: String,
}

/// What is to be shipped next.
pub(crate) struct Waiting {
    pub pages: BTreeMap<u32, Box<[u8]>>,
    pub size: (u32, u32),
    /// With them, all up to this one are shipped.
    pub through: u64,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Todo {
    Nothing,
    /// Nobody wants anything any more.
    Abandoned,
    /// Pages wait since.
    Pages {
        since: Instant,
        hurry: bool,
    },
    Copy,
    /// The end, when all is shipped.
    End,
}

impl Outbox {
    /// A copy of all pages is shipped first: what the disk has counts as a commit.
    pub(crate) fn new(patience: Duration) -> Self {
        let waits_since = Some(Instant::now());
        let state = State { committed: 1, needs_copy: true, waits_since, ..State::default() };
        let (filled, shipped) = (Notify::new(), watch::Sender::new(0));
        Self { state: Mutex::new(state), filled, shipped, patience }
    }

    /// A copy of all pages is made at this moment: what was committed is in it.
    pub fn is_copied(&self) -> u64 {
        let mut state = self.state.lock();
        (state.needs_copy, state.bytes) = (false, 0);
        state.pages.clear();
        state.in_hand_since = state.waits_since.take().or(state.in_hand_since);
        state.committed
    }

    /// Waits until everything is shipped that was committed before, for `patience`.
    pub async fn all_shipped(&self, patience: Duration) -> Result<(), NotShipped> {
        let mut shipped = self.shipped.subscribe();
        let committed = {
            let mut state = self.state.lock();
            state.hurry |= *shipped.borrow() < state.committed;
            state.committed
        };
        self.filled.notify_one();
        let waits = shipped.wait_for(|shipped| *shipped >= committed);
        match timeout(patience, waits).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let failing = self.state.lock().failing.clone();
                let reason = failing.unwrap_or_else(|| format!("no answer in {patience:?}"));
                Err(NotShipped { reason })
            }
        }
    }

    /// Ends when all is shipped.
    pub(crate) fn end(&self) {
        self.state.lock().ending = true;
        self.filled.notify_one();
    }

    pub(crate) fn abandon(&self) {
        self.state.lock().abandoned = true;
        self.filled.notify_one();
    }

    pub(crate) fn todo(&self) -> Todo {
        let state = self.state.lock();
        match state.waits_since {
            _ if state.abandoned => Todo::Abandoned,
            _ if state.needs_copy => Todo::Copy,
            Some(since) if !state.pages.is_empty() => {
                Todo::Pages { since, hurry: state.hurry || state.ending }
            }
            _ if state.ending => Todo::End,
            _ => Todo::Nothing,
        }
    }

    pub(crate) fn take(&self) -> Waiting {
        let mut state = self.state.lock();
        (state.bytes, state.hurry) = (0, false);
        state.in_hand_since = state.waits_since.take();
        let pages = std::mem::take(&mut state.pages);
        Waiting { pages, size: state.size, through: state.committed }
    }

    /// A segment is there. `through`: with it, all up to this one are.
    pub(crate) fn is_shipped(&self, bytes: usize, through: Option<u64>) {
        let mut state = self.state.lock();
        state.segments += 1;
        state.sent_bytes += bytes as u64;
        if let Some(through) = through {
            state.in_hand_since = None;
            drop(state);
            self.shipped.send_replace(through);
        }
    }

    pub(crate) fn fails(&self, why: &str) {
        self.state.lock().failing = Some(why.to_owned());
    }

    pub(crate) fn is_well(&self) {
        self.state.lock().failing = None;
    }

    pub(crate) fn failing(&self) -> Option<String> {
        self.state.lock().failing.clone()
    }

    pub(crate) fn wants_copy(&self) {
        self.drop_pages(&mut self.state.lock());
    }

    fn drop_pages(&self, state: &mut State) {
        state.pages.clear();
        (state.bytes, state.needs_copy) = (0, true);
        state.waits_since.get_or_insert_with(Instant::now);
    }
}

impl Follower for Outbox {
    fn committed(&self, changed: Changed) {
        let mut state = self.state.lock();
        state.committed += 1;
        state.waits_since.get_or_insert_with(Instant::now);
        if state.needs_copy {
            return;
        }
        state.size = (changed.page_bytes, changed.page_count);
        state.pages.extend(changed.pages);
        state.pages.split_off(&(changed.page_count + 1));
        state.bytes = state.pages.len() * changed.page_bytes as usize;
        if state.bytes > MAX_WAITING_BYTES {
            self.drop_pages(&mut state);
        }
        drop(state);
        self.filled.notify_one();
    }

    fn lost_track(&self) {
        let mut state = self.state.lock();
        state.committed += 1;
        self.drop_pages(&mut state);
        drop(state);
        self.filled.notify_one();
    }

    fn all_kept(&self) -> Pin<Box<dyn Future<Output = Result<(), NotDurable>> + Send + '_>> {
        Box::pin(async {
            let shipped = self.all_shipped(self.patience).await;
            shipped.map_err(|error| NotDurable { reason: error.to_string().into() })
        })
    }

    fn figures(&self) -> FollowerFigures {
        let state = self.state.lock();
        let since = state.in_hand_since.or(state.waits_since);
        FollowerFigures {
            segments: state.segments,
            bytes: state.sent_bytes,
            lag: since.map_or(Duration::ZERO, |since| since.elapsed()),
            is_first_due: *self.shipped.borrow() == 0,
            failing: state.failing.as_deref().map(Arc::from),
        }
    }
}

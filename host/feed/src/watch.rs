//! Who follows, and how they learn that something is new.
//!
//! ```text
//!   publish ─▶ marked? ─no─▶ list of what is new, wake the relay ─▶ relay: takes the list, wakes those who follow
//! ```
//!
//! With nobody who follows, a publisher looks at one atomic. With a thousand it wakes one task.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep_until};

use crate::live::{DeltaFrame, Live, Unshared};

/// Something that is followed: an agent, or all of them.
#[derive(Default)]
pub(crate) struct Watch {
    followers: AtomicUsize,
    /// Of them, those who want to see turns as they happen.
    live_followers: AtomicUsize,
    is_marked: AtomicBool,
    is_closed: AtomicBool,
    changed: Notify,
    live: Mutex<Live>,
}

/// A share in a watch. Dropped, there is one follower less.
pub(crate) struct Following {
    watch: Arc<Watch>,
    bell: Arc<Bell>,
    is_live: bool,
}

impl Watch {
    /// Of an agent.
    pub(crate) fn of(live: Live) -> Self {
        Self { live: Mutex::new(live), ..Self::default() }
    }

    pub(crate) fn follow(self: &Arc<Self>, bell: &Arc<Bell>, is_live: bool) -> Following {
        self.followers.fetch_add(1, SeqCst);
        if is_live {
            self.live_followers.fetch_add(1, SeqCst);
        }
        Following { watch: Arc::clone(self), bell: Arc::clone(bell), is_live }
    }

    /// Whether somebody wants to see turns as they happen.
    pub(crate) fn is_seen_live(&self) -> bool {
        self.live_followers.load(SeqCst) > 0
    }

    pub(crate) fn is_followed(&self) -> bool {
        self.followers.load(SeqCst) > 0
    }

    /// Something is new, if anybody follows.
    pub(crate) fn mark(self: &Arc<Self>, bell: &Bell) {
        if self.is_followed() {
            self.mark_anyway(bell);
        }
    }

    /// Something is new for somebody who follows elsewhere.
    pub(crate) fn mark_anyway(self: &Arc<Self>, bell: &Bell) {
        if !self.is_marked.swap(true, SeqCst) {
            bell.marked.lock().push(Arc::clone(self));
            bell.rung.notify_one();
        }
    }

    /// Nothing comes any more.
    pub(crate) fn close(self: &Arc<Self>, bell: &Bell) {
        self.is_closed.store(true, SeqCst);
        self.mark(bell);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(SeqCst)
    }

    /// Makes a frame of what waits, if it is time; yields when it will be, and what the followers of all agents do not
    /// have. Where nobody looks, nothing is kept.
    fn flush(&self, now: Instant) -> (Option<Instant>, Unshared) {
        let mut live = self.live();
        let due = live.flush(now);
        let unshared = live.take_unshared();
        // Under the lock: what somebody says who knows of a new follower comes after it.
        if due.is_none() && !self.is_seen_live() {
            live.forget();
        }
        (due, unshared)
    }

    /// Gives what agents said to those who follow all of them, in the order of the events that it follows; what follows
    /// a later event than `upto` stays. Says whether there was any.
    fn share(&self, said: &mut Vec<Arc<DeltaFrame>>, upto: u64, has_lost: bool) -> bool {
        if !self.is_seen_live() {
            said.clear();
            return false;
        }
        // Stable: that of one agent is in order already.
        said.sort_by_key(|frame| frame.after);
        let shared = said.partition_point(|frame| frame.after <= upto);
        if shared == 0 && !has_lost {
            return false;
        }
        let mut live = self.live();
        if has_lost {
            live.lose();
        }
        said.drain(..shared).for_each(|frame| live.push(frame));
        true
    }

    /// What happens in a turn, beside events.
    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock()
    }

    /// Resolves at the next change after it was enabled.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }
}

impl std::ops::Deref for Following {
    type Target = Watch;

    fn deref(&self) -> &Watch {
        &self.watch
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.watch.followers.fetch_sub(1, SeqCst);
        if self.is_live && self.watch.live_followers.fetch_sub(1, SeqCst) == 1 {
            // The relay lets go of what is left, when the followers of all agents have it.
            self.watch.mark_anyway(&self.bell);
        }
    }
}

/// Wakes the relay.
#[derive(Default)]
pub(crate) struct Bell {
    marked: Mutex<Vec<Arc<Watch>>>,
    rung: Notify,
    /// What was said before events up to this number is where its followers look.
    relayed: AtomicU64,
}

impl Bell {
    /// Events up to this number may be shown to who sees turns as they happen.
    pub(crate) fn relayed(&self) -> u64 {
        self.relayed.load(SeqCst)
    }

    /// Wakes followers of what is marked. What happens in a turn goes out at most every so often. `all` gets that of
    /// every agent; `last_id` is the number of the last event.
    pub(crate) async fn relay(&self, all: &Arc<Watch>, last_id: impl Fn() -> u64) {
        // With whether it was marked in this round.
        let mut waiting: Vec<(Arc<Watch>, bool)> = Vec::new();
        // Of all agents, what comes after events that are not shown yet.
        let mut early: Vec<Arc<DeltaFrame>> = Vec::new();
        loop {
            // First: what was said before these events is marked by now.
            let upto = last_id();
            let marked = std::mem::take(&mut *self.marked.lock());
            // Before it is read: what comes from here on marks it again.
            marked.iter().for_each(|watch| watch.is_marked.store(false, SeqCst));
            waiting.iter_mut().for_each(|(_, is_marked)| *is_marked = false);
            waiting.extend(marked.into_iter().map(|watch| (watch, true)));
            waiting.sort_by_key(|(watch, is_marked)| (Arc::as_ptr(watch), !is_marked));
            waiting.dedup_by(|(a, _), (b, _)| Arc::ptr_eq(a, b));
            let now = Instant::now();
            let mut has_lost = false;
            let mut due_at = Vec::with_capacity(waiting.len());
            for (watch, _) in &waiting {
                let (due, unshared) = watch.flush(now);
                due_at.push(due);
                if !Arc::ptr_eq(watch, all) {
                    early.extend(unshared.frames);
                    has_lost |= unshared.has_lost;
                }
            }
            let has_news = all.share(&mut early, upto, has_lost);
            self.relayed.store(upto, SeqCst);
            waiting.iter().for_each(|(watch, _)| watch.changed.notify_waiters());
            if has_news {
                all.changed.notify_waiters();
            }
            // An event that came meanwhile may have marked what is taken here already.
            let is_behind = last_id() > upto;
            let mut dues = due_at.iter();
            waiting.retain(|(_, is_marked)| {
                dues.next().is_some_and(Option::is_some) || is_behind && *is_marked
            });
            if is_behind {
                tokio::task::yield_now().await;
                continue;
            }
            match due_at.into_iter().flatten().min() {
                Some(due) => tokio::select! {
                    () = self.rung.notified() => {}
                    () = sleep_until(due) => {}
                },
                None => self.rung.notified().await,
            }
        }
    }
}

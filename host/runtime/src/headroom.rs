//! Room that all guests together may still grow into.
//!
//! The kernel is asked how much memory the container uses a few times a second at most; two cores of guests
//! fill half a gigabyte between two looks. So a growth takes its bytes from what was left at the last look,
//! and when nothing is left the guest *waits*, paused in its `memory.grow`, until somebody made room. Growths
//! are what counts: a guest's first memory is mapped from its image and mostly never touched.
//!
//! ```text
//!  look ── set(left) ──▶ Headroom ◀── take(bytes) ── growth of a guest
//!   ▲                       │ nothing left
//!   └────── alarm ──────────┘ and the guest waits, at most `PATIENCE`
//! ```

use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// How long a growth waits for room. What waits longer is denied: then there is nobody left to evict, or
/// what is used is not the agents'.
const PATIENCE: Duration = Duration::from_secs(10);

/// Says that a growth waits.
type Alarm = Box<dyn Fn() + Send + Sync>;

/// Room that all guests together may still grow into, in bytes.
pub struct Headroom {
    /// What is left until the next look. `u64::MAX`: nobody set a bound.
    left: AtomicU64,
    /// What was taken since the last look. It may not be touched yet, so the next look may not see it.
    taken: AtomicU64,
    waiting: AtomicUsize,
    changed: Notify,
    alarm: OnceLock<Alarm>,
}

/// There was no room in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// One that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Default for Headroom {
    fn default() -> Self {
        Self {
            left: AtomicU64::new(u64::MAX),
            taken: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            changed: Notify::new(),
            alarm: OnceLock::new(),
        }
    }
}

impl Headroom {
    /// What a look found: `bytes` may be used on top of what is used now. `None`: no bound. What was taken
    /// since the look before is taken off once more, because it may not have been touched yet.
    pub fn set(&self, bytes: Option<u64>) {
        let taken = self.taken.swap(0, Relaxed);
        let left = bytes.map_or(u64::MAX, |bytes| bytes.saturating_sub(taken).min(u64::MAX - 1));
        self.left.store(left, Relaxed);
        self.changed.notify_waiters();
    }

    /// Is called, from a guest's thread, when a growth begins to wait. Must return at once. The first one
    /// that is set counts.
    pub fn on_shortage(&self, alarm: impl Fn() + Send + Sync + 'static) {
        let _ = self.alarm.set(Box::new(alarm));
    }

    /// Whether a guest waits for room.
    pub fn is_short(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    /// Takes room for a growth, as soon as there is some.
    pub(crate) async fn take(&self, bytes: u64) -> Result<(), NoRoom> {
        if self.try_take(bytes) {
            return Ok(());
        }
        timeout(PATIENCE, self.wait_for(bytes)).await.map_err(|_| NoRoom)
    }

    async fn wait_for(&self, bytes: u64) {
        self.waiting.fetch_add(1, Relaxed);
        let _waiting = Waiting(&self.waiting);
        if let Some(alarm) = self.alarm.get() {
            alarm();
        }
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // Before the look: a change after it is not missed.
            changed.as_mut().enable();
            if self.try_take(bytes) {
                return;
            }
            changed.await;
        }
    }

    /// The same, when there is room right now.
    pub(crate) fn try_take(&self, bytes: u64) -> bool {
        let take = |left: u64| match left {
            u64::MAX => Some(left),
            _ => left.checked_sub(bytes),
        };
        let had = self.left.fetch_update(Relaxed, Relaxed, take).is_ok();
        if had {
            self.taken.fetch_add(bytes, Relaxed);
        }
        had
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn without_a_bound_everything_fits() {
        let headroom = Headroom::default();
        assert_eq!(headroom.take(u64::MAX).await, Ok(()));
        assert!(!headroom.is_short());
    }

    #[tokio::test]
    async fn what_was_taken_since_the_last_look_is_taken_off_once_more() {
        let headroom = Headroom::default();
        headroom.set(Some(100));
        assert_eq!(headroom.take(60).await, Ok(()));
        headroom.set(Some(100));
        assert!(!headroom.try_take(41));
        assert!(headroom.try_take(40));
        headroom.set(Some(100));
        headroom.set(Some(100));
        assert!(headroom.try_take(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_growth_waits_for_room_raises_the_alarm_and_goes_on() {
        let headroom = Arc::new(Headroom::default());
        let alarms = Arc::new(AtomicUsize::new(0));
        let rings = Arc::clone(&alarms);
        headroom.on_shortage(move || _ = rings.fetch_add(1, Relaxed));
        headroom.set(Some(10));
        let waits = Arc::clone(&headroom);
        let look = async {
            tokio::task::yield_now().await;
            assert!(headroom.is_short());
            headroom.set(Some(10));
            tokio::task::yield_now().await;
            headroom.set(Some(11));
        };
        let (taken, ()) = tokio::join!(waits.take(11), look);
        assert_eq!((taken, alarms.load(Relaxed)), (Ok(()), 1));
        assert!(!headroom.is_short());
    }

    #[tokio::test(start_paused = true)]
    async fn a_growth_that_finds_no_room_in_time_is_denied() {
        let headroom = Headroom::default();
        headroom.set(Some(0));
        assert_eq!(headroom.take(1).await, Err(NoRoom));
        assert!(!headroom.is_short());
    }

    #[tokio::test]
    async fn one_that_is_killed_while_it_waits_does_not_count_any_more() {
        let headroom = Headroom::default();
        headroom.set(Some(0));
        {
            let mut growth = std::pin::pin!(headroom.take(1));
            let mut context = Context::from_waker(Waker::noop());
            assert!(growth.as_mut().poll(&mut context).is_pending());
            assert!(headroom.is_short());
        }
        assert!(!headroom.is_short());
    }
}

//! Room that all guests together may still grow into.
//!
//! The kernel is asked how much memory the container uses every few seconds while there is enough; two cores of guests
//! fill a gigabyte in that time. So a growth takes its bytes from what was left at the last check,
//! and when nothing is left the guest *waits*, paused in its `memory.grow`, until the next check finds room or
//! says that there will be none. Waiting guests are served in order.
//!
//! ```text
//!  look ── set(left) ──▶ GrowthBudget ◀── take(bytes) ── growth of a guest
//!   ▲                       │ a quarter is taken, or nothing left
//!   └────── alarm ──────────┘ and without room the guest waits: until it is served, denied, or `PATIENCE` is over
//! ```
//!
//! What is left is also everybody else's who uses memory in this container: the host, its other processes, native programs.
//! So a check follows when guests have taken a quarter of it, and not only when they have taken all.
//!
//! Growths are what counts. The memory that a guest starts with is mapped from its image and mostly never
//! touched; a guest that touches much of it long after its instance_context is seen at the next check only, and so is
//! one that touches what it was granted later than one check after.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long a growth waits for an answer. Looks come more often: this is for a host that has too much to do.
const PATIENCE: Duration = Duration::from_secs(10);

/// Share of what a check left that guests take before the next one. After a quarter that next check can count the quarter
/// twice, see [`GrowthBudget::set`], and still leave half: nobody waits for it.
const UNCHECKED_SHARE: u64 = 4;

/// Says that it is time for a check.
type Alarm = Box<dyn Fn() + Send + Sync>;

/// Room that all guests together may still grow into, in bytes.
#[derive(Default)]
pub struct GrowthBudget {
    /// Somebody set a bound. Without one nobody takes the lock.
    bounded: AtomicBool,
    room: Mutex<Room>,
    alarm: OnceLock<Alarm>,
}

#[derive(Default)]
struct Room {
    /// What is left until the next check. `None`: no bound.
    left: Option<u64>,
    /// What was taken since the last check. It may not be touched yet, so the next check may not see it.
    taken: u64,
    /// As soon as so much was taken a check is due. `None`: it was asked for.
    check_at: Option<u64>,
    /// Those that wait, in order.
    waiting: VecDeque<Waiter>,
}

struct Waiter {
    bytes: u64,
    answer: oneshot::Sender<Result<(), NoRoom>>,
}

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl GrowthBudget {
    /// What a look found: `bytes` may be used on top of what is used now. `None`: no bound. What was taken
    /// since the check before is taken off once more, because it may not have been touched yet.
    pub fn set(&self, bytes: Option<u64>) {
        let mut room = self.lock();
        let taken = std::mem::take(&mut room.taken);
        room.left = bytes.map(|bytes| bytes.saturating_sub(taken));
        room.check_at = room.left.map(|left| left / UNCHECKED_SHARE);
        self.bounded.store(bytes.is_some(), Relaxed);
        while let Some(first) = room.next_waiting() {
            if !room.take(first) {
                break;
            }
            room.answer_first(Ok(()));
        }
    }

    /// What the first of those needs that wait and could not be served at the last check.
    pub fn wanted(&self) -> Option<u64> {
        self.lock().next_waiting()
    }

    /// Waiting guests are refused: there is no room.
    pub fn deny(&self) {
        let mut room = self.lock();
        while room.next_waiting().is_some() {
            room.answer_first(Err(NoRoom));
        }
    }

    /// Is called, from a guest's thread, when much of the room is taken, and when a growth begins to wait. Must return at
    /// once. The first one that is set counts.
    pub fn on_shortage(&self, alarm: impl Fn() + Send + Sync + 'static) {
        let _ = self.alarm.set(Box::new(alarm));
    }

    /// Takes room for a growth, when there is some and nobody waits for it.
    pub(crate) fn try_take(&self, bytes: u64) -> bool {
        if !self.bounded.load(Relaxed) {
            return true;
        }
        let mut room = self.lock();
        let is_taken = room.next_waiting().is_none() && room.take(bytes);
        let is_check_due = is_taken && room.is_check_due();
        drop(room);
        if is_check_due {
            self.raise_alarm();
        }
        is_taken
    }

    /// The same, and waits for it.
    pub(crate) async fn take(&self, bytes: u64) -> Result<(), NoRoom> {
        if self.try_take(bytes) {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        self.lock().waiting.push_back(Waiter { bytes, answer });
        self.raise_alarm();
        let answered = timeout(PATIENCE, answered).await;
        answered.map_err(|_| NoRoom)?.unwrap_or(Err(NoRoom))
    }

    fn raise_alarm(&self) {
        if let Some(alarm) = self.alarm.get() {
            alarm();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    fn take(&mut self, bytes: u64) -> bool {
        let Some(left) = &mut self.left else { return true };
        let Some(rest) = left.checked_sub(bytes) else { return false };
        *left = rest;
        self.taken = self.taken.saturating_add(bytes);
        true
    }

    /// Whether much was taken since the last check. Says so once.
    fn is_check_due(&mut self) -> bool {
        self.check_at.take_if(|check_at| self.taken >= *check_at).is_some()
    }

    /// What the first one wants who still waits. Those who gave up are forgotten.
    fn next_waiting(&mut self) -> Option<u64> {
        while self.waiting.front().is_some_and(|waiter| waiter.answer.is_closed()) {
            self.waiting.pop_front();
        }
        self.waiting.front().map(|waiter| waiter.bytes)
    }

    fn answer_first(&mut self, answer: Result<(), NoRoom>) {
        if let Some(waiter) = self.waiting.pop_front() {
            let _ = waiter.answer.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn without_a_bound_everything_fits() {
        let growth_budget = GrowthBudget::default();
        assert_eq!(growth_budget.take(u64::MAX).await, Ok(()));
        assert_eq!(growth_budget.wanted(), None);
    }

    #[test]
    fn what_was_taken_since_the_last_look_is_taken_off_once_more() {
        let growth_budget = GrowthBudget::default();
        growth_budget.set(Some(100));
        assert!(growth_budget.try_take(60));
        growth_budget.set(Some(100));
        assert!(!growth_budget.try_take(41));
        assert!(growth_budget.try_take(40));
        growth_budget.set(Some(100));
        growth_budget.set(Some(100));
        assert!(growth_budget.try_take(100));
    }

    #[test]
    fn a_quarter_that_is_taken_raises_the_alarm_once() {
        let growth_budget = GrowthBudget::default();
        let alarms = Arc::new(AtomicUsize::new(0));
        let rings = Arc::clone(&alarms);
        growth_budget.on_shortage(move || _ = rings.fetch_add(1, Relaxed));
        let alarms = || alarms.load(Relaxed);
        growth_budget.set(Some(400));
        assert!(growth_budget.try_take(99));
        assert_eq!(alarms(), 0);
        assert!(growth_budget.try_take(1));
        assert_eq!(alarms(), 1);
        assert!(growth_budget.try_take(100));
        assert_eq!(alarms(), 1, "a check is on its way");
        growth_budget.set(Some(200));
        assert!(!growth_budget.try_take(1), "what was taken may not be touched yet");
        growth_budget.set(Some(200));
        assert!(growth_budget.try_take(50));
        assert_eq!(alarms(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_growth_waits_for_room_raises_the_alarm_and_goes_on() {
        let growth_budget = Arc::new(GrowthBudget::default());
        let alarms = Arc::new(AtomicUsize::new(0));
        let rings = Arc::clone(&alarms);
        growth_budget.on_shortage(move || _ = rings.fetch_add(1, Relaxed));
        growth_budget.set(Some(10));
        let look = async {
            tokio::task::yield_now().await;
            assert_eq!(growth_budget.wanted(), Some(11));
            growth_budget.set(Some(10));
            assert_eq!(growth_budget.wanted(), Some(11));
            growth_budget.set(Some(11));
            assert_eq!(growth_budget.wanted(), None, "served at once, before its thread runs");
        };
        let (taken, ()) = tokio::join!(growth_budget.take(11), look);
        assert_eq!((taken, alarms.load(Relaxed)), (Ok(()), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_overtakes_one_who_waits() {
        let growth_budget = GrowthBudget::default();
        growth_budget.set(Some(0));
        let look = async {
            tokio::task::yield_now().await;
            growth_budget.set(Some(50));
            assert!(!growth_budget.try_take(1), "the first one needs more than there is");
            growth_budget.set(Some(101));
            assert!(growth_budget.try_take(1));
        };
        let (first, ()) = tokio::join!(growth_budget.take(100), look);
        assert_eq!(first, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_growth_is_denied_when_there_will_be_no_room_or_nobody_answers() {
        let growth_budget = GrowthBudget::default();
        growth_budget.set(Some(0));
        let deny = async {
            tokio::task::yield_now().await;
            growth_budget.deny();
        };
        assert_eq!(tokio::join!(growth_budget.take(1), deny).0, Err(NoRoom));
        assert_eq!(growth_budget.take(1).await, Err(NoRoom), "time is up");
        assert_eq!(growth_budget.wanted(), None);
    }

    #[tokio::test]
    async fn one_that_is_killed_while_it_waits_does_not_count_any_more() {
        let growth_budget = GrowthBudget::default();
        growth_budget.set(Some(0));
        {
            let mut growth = std::pin::pin!(growth_budget.take(1));
            let mut context = Context::from_waker(Waker::noop());
            assert!(growth.as_mut().poll(&mut context).is_pending());
            assert_eq!(growth_budget.wanted(), Some(1));
        }
        assert_eq!(growth_budget.wanted(), None);
    }
}

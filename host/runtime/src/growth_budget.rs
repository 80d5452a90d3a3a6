//! Room that all guests together may still grow into.
//!
//! The kernel is asked how much memory the container uses every few seconds while there is enough; two cores of guests
//! fill a gigabyte in that time. So a growth takes its bytes from what was left at the last check. What is left is also
//! everybody else's who uses memory in this container: the host, its other processes, native programs. So guests may take a
//! quarter of it until the next check, which is asked for when half of that is taken. A growth beyond that *waits*, paused in
//! its `memory.grow`, until a check finds room or says that there will be none. Waiting guests are served in order.
//!
//! ```text
//!  look ── set(left) ──▶ GrowthBudget ◀── take(bytes) ── growth of a guest
//!   ▲                       │ an eighth is taken, or more than a quarter wanted
//!   └────── alarm ──────────┘ and then the guest waits: until it is served, denied, or `PATIENCE` is over
//! ```
//!
//! Growths are what counts. The memory that a guest starts with is mapped from its image and mostly never
//! touched; a guest that touches much of it long after its instance_context is seen at the next check only, and so is
//! one that touches what it was granted later than [`DOUBT`].

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long a growth waits for an answer. Looks come more often: this is for a host that has too much to do.
const PATIENCE: Duration = Duration::from_secs(10);

/// Share of what a check left that guests take before the next one.
const UNCHECKED_SHARE: u64 = 4;

/// Share of that which is left when the next check is asked for.
const ALARM_SHARE: u64 = 2;

/// What was granted in this time, and up to twice that, may not be touched yet: a check may not see it. It is the time
/// between two checks when memory is nearly short.
const DOUBT: Duration = Duration::from_millis(100);

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
    /// What is left. `None`: no bound.
    left: Option<u64>,
    /// Of it, what may be taken until the next check.
    unchecked: u64,
    /// When less than this may be taken, a check is due. `None`: it was asked for.
    alarm_below: Option<u64>,
    doubted: Doubted,
    /// Those that wait, in order.
    waiting: VecDeque<Waiter>,
}

/// What was taken lately.
#[derive(Default)]
struct Doubted {
    newer: u64,
    older: u64,
    /// Since when `newer` is counted.
    since: Option<Instant>,
}

struct Waiter {
    bytes: u64,
    answer: oneshot::Sender<Result<(), NoRoom>>,
}

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl GrowthBudget {
    /// What a look at `now` found: `bytes` may be used on top of what is used. `None`: no bound. What was taken lately is
    /// taken off once more, because it may not have been touched yet.
    pub fn set(&self, bytes: Option<u64>, now: Instant) {
        let mut room = self.room.lock();
        let doubted = room.doubted.at(now);
        room.left = bytes.map(|bytes| bytes.saturating_sub(doubted));
        room.unchecked = room.left.map_or(0, |left| left / UNCHECKED_SHARE);
        room.alarm_below = Some(room.unchecked / ALARM_SHARE);
        self.bounded.store(bytes.is_some(), Relaxed);
        while let Some(first) = room.next_waiting() {
            if room.left.is_some_and(|left| left < first) {
                break;
            }
            room.serve_first(first);
        }
    }

    /// What the first of those needs that wait and could not be served at the last check.
    pub fn wanted(&self) -> Option<u64> {
        self.room.lock().next_waiting()
    }

    /// Waiting guests that want more than `bytes` are refused: there is no room, and will be none.
    pub fn deny_above(&self, bytes: u64) {
        let mut room = self.room.lock();
        let (denied, waiting): (VecDeque<_>, _) =
            std::mem::take(&mut room.waiting).into_iter().partition(|it| it.bytes > bytes);
        room.waiting = waiting;
        denied.into_iter().for_each(|it| _ = it.answer.send(Err(NoRoom)));
    }

    /// Is called, from a guest's thread, when much of the room is taken, and when a growth begins to wait. Must return at
    /// once. The first one that is set counts.
    pub fn on_shortage(&self, alarm: impl Fn() + Send + Sync + 'static) {
        let _ = self.alarm.set(Box::new(alarm));
    }

    /// Takes room for a growth, when there is some that needs no check, and nobody waits for it.
    pub(crate) fn try_take(&self, bytes: u64) -> bool {
        if !self.bounded.load(Relaxed) {
            return true;
        }
        let mut room = self.room.lock();
        if room.next_waiting().is_some() || (room.left.is_some() && room.unchecked < bytes) {
            return false;
        }
        room.take(bytes);
        let is_check_due = room.is_check_due();
        drop(room);
        if is_check_due {
            self.raise_alarm();
        }
        true
    }

    /// The same, and waits for it.
    pub(crate) async fn take(&self, bytes: u64) -> Result<(), NoRoom> {
        if self.try_take(bytes) {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        self.room.lock().waiting.push_back(Waiter { bytes, answer });
        self.raise_alarm();
        let answered = timeout(PATIENCE, answered).await;
        answered.map_err(|_| NoRoom)?.unwrap_or(Err(NoRoom))
    }

    fn raise_alarm(&self) {
        if let Some(alarm) = self.alarm.get() {
            alarm();
        }
    }
}

impl Room {
    fn take(&mut self, bytes: u64) {
        self.left = self.left.map(|left| left.saturating_sub(bytes));
        self.unchecked = self.unchecked.saturating_sub(bytes);
        self.doubted.newer = self.doubted.newer.saturating_add(bytes);
    }

    /// Whether much was taken since the last check. Says so once.
    fn is_check_due(&mut self) -> bool {
        let (is_bounded, unchecked) = (self.left.is_some(), self.unchecked);
        self.alarm_below.take_if(|below| is_bounded && unchecked < *below).is_some()
    }

    /// What the first one wants who still waits. Those who gave up are forgotten.
    fn next_waiting(&mut self) -> Option<u64> {
        while self.waiting.front().is_some_and(|waiter| waiter.answer.is_closed()) {
            self.waiting.pop_front();
        }
        self.waiting.front().map(|waiter| waiter.bytes)
    }

    fn serve_first(&mut self, bytes: u64) {
        self.take(bytes);
        if let Some(waiter) = self.waiting.pop_front() {
            let _ = waiter.answer.send(Ok(()));
        }
    }
}

impl Doubted {
    /// The sum at a check.
    fn at(&mut self, now: Instant) -> u64 {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= DOUBT) {
            self.older = std::mem::take(&mut self.newer);
            self.since = Some(now);
        }
        self.older.saturating_add(self.newer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Context, Waker};

    use proptest::prelude::*;

    use super::*;

    fn look(growth_budget: &GrowthBudget, bytes: u64) {
        // Long after the one before.
        growth_budget.room.lock().doubted.since = None;
        growth_budget.set(Some(bytes), Instant::now());
    }

    fn counting(growth_budget: &GrowthBudget) -> impl Fn() -> usize + use<> {
        let alarms = Arc::new(AtomicUsize::new(0));
        let rings = Arc::clone(&alarms);
        growth_budget.on_shortage(move || _ = rings.fetch_add(1, Relaxed));
        move || alarms.load(Relaxed)
    }

    #[tokio::test]
    async fn without_a_bound_everything_fits() {
        let growth_budget = GrowthBudget::default();
        assert_eq!(growth_budget.take(u64::MAX).await, Ok(()));
        assert_eq!(growth_budget.wanted(), None);
        growth_budget.set(None, Instant::now());
        assert_eq!(growth_budget.take(u64::MAX).await, Ok(()));
    }

    #[test]
    fn what_was_taken_lately_is_taken_off_once_more() {
        let (growth_budget, began) = (GrowthBudget::default(), Instant::now());
        let unchecked_at = |ms, bytes| {
            growth_budget.set(Some(bytes), began + Duration::from_millis(ms));
            growth_budget.room.lock().unchecked
        };
        assert_eq!(unchecked_at(0, 400), 100);
        assert!(growth_budget.try_take(60));
        // However many checks there are in between.
        assert_eq!(unchecked_at(5, 400), 85);
        assert_eq!(unchecked_at(50, 400), 85);
        assert!(growth_budget.try_take(20));
        assert_eq!(unchecked_at(100, 400), 80, "both are older now");
        assert_eq!(unchecked_at(199, 400), 80);
        assert_eq!(unchecked_at(200, 400), 100);
    }

    #[test]
    fn an_eighth_that_is_taken_raises_the_alarm_once_and_a_quarter_is_all() {
        let growth_budget = GrowthBudget::default();
        let alarms = counting(&growth_budget);
        look(&growth_budget, 400);
        assert!(growth_budget.try_take(50));
        assert_eq!(alarms(), 0);
        assert!(growth_budget.try_take(1));
        assert_eq!(alarms(), 1);
        assert!(growth_budget.try_take(49));
        assert_eq!(alarms(), 1, "a check is on its way");
        assert!(!growth_budget.try_take(1));
        look(&growth_budget, 300);
        assert!(growth_budget.try_take(50), "what was taken may not be touched yet");
        assert_eq!(alarms(), 2);
        assert!(!growth_budget.try_take(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_growth_waits_for_room_raises_the_alarm_and_goes_on() {
        let growth_budget = GrowthBudget::default();
        let alarms = counting(&growth_budget);
        look(&growth_budget, 10);
        let check = async {
            tokio::task::yield_now().await;
            assert_eq!(growth_budget.wanted(), Some(11));
            look(&growth_budget, 10);
            assert_eq!(growth_budget.wanted(), Some(11));
            look(&growth_budget, 11);
            assert_eq!(growth_budget.wanted(), None, "served at once, before its thread runs");
        };
        let (taken, ()) = tokio::join!(growth_budget.take(11), check);
        assert_eq!((taken, alarms()), (Ok(()), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_growth_is_served_by_a_check_and_not_by_what_an_old_one_found() {
        let growth_budget = GrowthBudget::default();
        look(&growth_budget, 400);
        let check = async {
            tokio::task::yield_now().await;
            assert_eq!(growth_budget.wanted(), Some(300));
            look(&growth_budget, 150);
            assert_eq!(growth_budget.wanted(), Some(300), "others took the room");
            look(&growth_budget, 400);
        };
        let (taken, ()) = tokio::join!(growth_budget.take(300), check);
        assert_eq!(taken, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_overtakes_one_who_waits() {
        let growth_budget = GrowthBudget::default();
        look(&growth_budget, 0);
        let check = async {
            tokio::task::yield_now().await;
            look(&growth_budget, 50);
            assert!(!growth_budget.try_take(1), "the first one needs more than there is");
            look(&growth_budget, 200);
            assert!(growth_budget.try_take(0));
        };
        let (first, ()) = tokio::join!(growth_budget.take(100), check);
        assert_eq!(first, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_growth_is_denied_when_there_will_be_no_room_or_nobody_answers() {
        let growth_budget = GrowthBudget::default();
        look(&growth_budget, 0);
        let deny = async {
            tokio::task::yield_now().await;
            growth_budget.deny_above(7);
            assert_eq!(growth_budget.wanted(), Some(7), "it fits");
            look(&growth_budget, 7);
        };
        let (large, small, ()) = tokio::join!(growth_budget.take(8), growth_budget.take(7), deny);
        assert_eq!((large, small), (Err(NoRoom), Ok(())));
        assert_eq!(growth_budget.take(1).await, Err(NoRoom), "time is up");
        assert_eq!(growth_budget.wanted(), None);
    }

    #[tokio::test]
    async fn one_that_is_killed_while_it_waits_does_not_count_any_more() {
        let growth_budget = GrowthBudget::default();
        look(&growth_budget, 0);
        {
            let mut growth = std::pin::pin!(growth_budget.take(1));
            let mut context = Context::from_waker(Waker::noop());
            assert!(growth.as_mut().poll(&mut context).is_pending());
            assert_eq!(growth_budget.wanted(), Some(1));
        }
        assert_eq!(growth_budget.wanted(), None);
    }

    #[derive(Debug, Clone)]
    enum Event {
        /// A guest grows, and touches what it got some milliseconds later.
        Grow { bytes: u64, touches_after: u64 },
        /// Others of the container take memory.
        Others(u64),
        /// Milliseconds go by, and the kernel is asked.
        Check(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let touches = 0..=DOUBT.as_millis() as u64;
        prop_oneof![
            4 => (1..400_u64, touches).prop_map(|(bytes, touches_after)| Event::Grow { bytes, touches_after }),
            1 => (1..60_u64).prop_map(Event::Others),
            4 => (5..300_u64).prop_map(Event::Check),
        ]
    }

    /// The use of a container, as the kernel sees it.
    struct Use {
        budget: GrowthBudget,
        began: Instant,
        ms: u64,
        used: u64,
        /// When it is touched, and how much.
        untouched: Vec<(u64, u64)>,
    }

    /// Up to which guests may grow.
    const MARK: u64 = 1000;

    impl Use {
        fn check(&mut self, after: u64) {
            self.ms += after;
            let (ms, used) = (self.ms, &mut self.used);
            self.untouched.retain(|(at, bytes)| {
                *used += if *at <= ms { *bytes } else { 0 };
                *at > ms
            });
            let now = self.began + Duration::from_millis(self.ms);
            self.budget.set(Some(MARK.saturating_sub(self.used)), now);
        }

        /// Whether it may, at once or by the check that it asks for.
        fn grows(&mut self, bytes: u64) -> bool {
            if self.budget.try_take(bytes) {
                return true;
            }
            let (answer, mut answered) = oneshot::channel();
            self.budget.room.lock().waiting.push_back(Waiter { bytes, answer });
            self.check(5);
            self.budget.deny_above(0);
            answered.try_recv().expect("an answer").is_ok()
        }
    }

    proptest! {
        #[test]
        fn use_passes_the_mark_by_what_others_take_and_no_more(
            events in prop::collection::vec(event(), 1..80),
        ) {
            let mut container = Use {
                budget: GrowthBudget::default(),
                began: Instant::now(),
                ms: 0,
                used: 0,
                untouched: Vec::new(),
            };
            let mut others = 0;
            container.check(0);
            for event in events {
                match event {
                    Event::Grow { bytes, touches_after } => {
                        if container.grows(bytes) {
                            container.untouched.push((container.ms + touches_after, bytes));
                        }
                    }
                    Event::Others(bytes) => {
                        container.used += bytes;
                        others += bytes;
                    }
                    Event::Check(after) => container.check(after),
                }
            }
            let untouched: u64 = container.untouched.iter().map(|(_, bytes)| bytes).sum();
            let all = container.used + untouched;
            prop_assert!(all <= MARK + others, "{all} are used, {others} of them by others");
        }
    }
}

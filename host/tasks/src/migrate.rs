//! A task that goes from one runtime to another and back.
//!
//! ```text
//!   home ── its bucket is over, it crashes again and again, it is large, ──▶ away
//!     ▲     or it is one of the largest of too many (`load`)                 │
//!     └──────────────────── none of them any more ───────────────────────────┘
//!                                        checked whenever the task waits
//! ```
//!
//! Timers and wakes of the task go on working: a wake of it wakes whatever polls it now. From a wait until a wake the
//! task sleeps, which drains its [bucket](crate::BucketRules). A task that waits for its turn among others does not
//! sleep: on `away`, where that can take long, the wake ends the sleep and not the poll that follows. What it waits drains a
//! little.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use crate::bucket::{Bucket, BucketRules};
use crate::load;

/// Where a task has to be, and why.
#[derive(Debug)]
pub struct Switch {
    is_sent: AtomicBool,
    is_large: AtomicBool,
    bucket: Bucket,
    part: load::Part,
    base: Instant,
    /// Since when it waits for its turn after a sleep, in the same way.
    woken_ns: AtomicU64,
    /// Since when it sleeps, in nanoseconds since `base`. 0: it does not.
    asleep_since_ns: AtomicU64,
    /// It will wait because it lets others go first, and not for something.
    yields: AtomicBool,
}

impl Default for Switch {
    fn default() -> Self {
        Self::new(BucketRules::default())
    }
}

impl Switch {
    /// A task that is at home and used nothing yet.
    pub fn new(rules: BucketRules) -> Self {
        Self {
            is_sent: AtomicBool::default(),
            is_large: AtomicBool::default(),
            bucket: Bucket::new(rules),
            part: load::Part::default(),
            base: Instant::now(),
            woken_ns: AtomicU64::default(),
            asleep_since_ns: AtomicU64::default(),
            yields: AtomicBool::default(),
        }
    }

    /// At the next wait of the task it goes away from the runtime that it was spawned on.
    pub fn send_away(&self) {
        self.is_sent.store(true, Relaxed);
    }

    /// At the next wait of the task it goes back, unless it has another reason to be away.
    pub fn call_home(&self) {
        // Most calls change nothing, and then write nothing.
        if self.is_sent.load(Relaxed) {
            self.is_sent.store(false, Relaxed);
        }
    }

    /// Whether a single step of the task may take long and cannot be interrupted.
    pub fn set_large(&self, is_large: bool) {
        self.is_large.store(is_large, Relaxed);
    }

    /// Whether the task is away, or will be at its next wait.
    pub fn is_away(&self) -> bool {
        self.is_kept() || self.bucket.is_over()
    }

    /// CPU time that the task used, in nanoseconds.
    pub fn charge(&self, used_ns: u64) {
        // One that is away or about to go is no burden of its home.
        if !self.is_away() && self.part.charge(used_ns) {
            self.bucket.fill_for(load::WINDOW);
        }
        self.bucket.charge(used_ns);
    }

    /// Others asked for work of so much CPU time, in nanoseconds: that much is theirs.
    pub fn credit(&self, ns: u64) {
        self.bucket.take(ns);
        self.part.credit(ns);
    }

    /// CPU time that it may use before it has to go away, in nanoseconds.
    pub fn room_ns(&self) -> u64 {
        self.bucket.room_ns()
    }

    /// The next wait is no sleep: the task goes on as soon as it is its turn.
    pub fn yields(&self) {
        self.yields.store(true, Relaxed);
    }

    /// Away for as long as somebody says so.
    fn is_kept(&self) -> bool {
        self.is_sent.load(Relaxed) || self.is_large.load(Relaxed)
    }

    fn falls_asleep(&self) {
        if self.yields.load(Relaxed) {
            self.yields.store(false, Relaxed);
        } else if !self.bucket.is_empty() {
            self.asleep_since_ns.store(self.now_ns(), Relaxed);
        }
    }

    fn wakes(&self) {
        if self.asleep_since_ns.load(Relaxed) == 0 {
            return;
        }
        let since = self.asleep_since_ns.swap(0, Relaxed);
        if since > 0 {
            let now = self.now_ns();
            self.woken_ns.store(now, Relaxed);
            self.bucket.drain(Duration::from_nanos(now.saturating_sub(since)));
        }
    }

    /// It is its turn.
    fn has_turn(&self) {
        self.wakes();
        let woken = self.woken_ns.swap(0, Relaxed);
        if woken > 0 {
            self.bucket.drain_a_little(Duration::from_nanos(self.now_ns().saturating_sub(woken)));
        }
    }

    /// It does not sleep, and did not.
    fn is_up(&self) {
        self.asleep_since_ns.store(0, Relaxed);
    }

    /// When sleep alone will take it home. `None`: it will not, or it does not sleep.
    fn home_in(&self) -> Option<Duration> {
        let sleeps = self.asleep_since_ns.load(Relaxed) > 0;
        (sleeps && !self.is_kept()).then(|| self.bucket.sleep_due())
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}

type BoxedTask<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How the polls on one runtime ended.
enum Polled<T> {
    Finished(T),
    Migrates(BoxedTask<T>),
}

/// Runs `task` on this runtime, or on `away` while `switch` says so. `None`: the other runtime is gone, and
/// the task with it. The task must not panic: nobody here reports it.
pub(crate) async fn migrate<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
    switch: Arc<Switch>,
    away: Handle,
) -> Option<T> {
    let mut task: BoxedTask<T> = Box::pin(task);
    loop {
        task = match poll_at_home(task, Arc::clone(&switch)).await {
            Polled::Finished(value) => return Some(value),
            Polled::Migrates(task) => task,
        };
        task = match away.spawn(poll_away(task, Arc::clone(&switch))).await.ok()? {
            Polled::Finished(value) => return Some(value),
            Polled::Migrates(task) => task,
        };
    }
}

/// Polls the task until it ends, or waits and has to be away.
async fn poll_at_home<T>(task: BoxedTask<T>, switch: Arc<Switch>) -> Polled<T> {
    let mut task = Some(task);
    poll_fn(move |context| {
        switch.wakes();
        step(&mut task, context, &switch, false)
    })
    .await
}

/// Polls the task until it ends, or waits and has to be at home. It goes as soon as it slept for long enough.
async fn poll_away<T>(task: BoxedTask<T>, switch: Arc<Switch>) -> Polled<T> {
    let mut task = Some(task);
    let mut going_home = Box::pin(sleep(Duration::ZERO));
    // Who polls is the same one each time: what waits need not be given another waker.
    let mut alarm: Option<(Waker, Waker)> = None;
    poll_fn(move |context| {
        switch.has_turn();
        let outer = context.waker();
        let (_, alarm) = match alarm.take().filter(|(known, _)| known.will_wake(outer)) {
            Some(known) => alarm.insert(known),
            None => {
                let new = Alarm { waker: outer.clone(), switch: Arc::clone(&switch) };
                alarm.insert((outer.clone(), Waker::from(Arc::new(new))))
            }
        };
        let polled = step(&mut task, &mut Context::from_waker(alarm), &switch, true);
        if let Some(due) = switch.home_in().filter(|_| polled.is_pending()) {
            going_home.as_mut().reset(Instant::now() + due);
            if going_home.as_mut().poll(context).is_ready() {
                context.waker().wake_by_ref();
            }
        }
        polled
    })
    .await
}

/// Polls the task, unless it has to be elsewhere.
fn step<T>(
    task: &mut Option<BoxedTask<T>>,
    context: &mut Context<'_>,
    switch: &Switch,
    away: bool,
) -> Poll<Polled<T>> {
    let Some(mut running) = task.take() else { panic!("a task was polled after it ended") };
    if switch.is_away() == away {
        if let Poll::Ready(value) = running.as_mut().poll(context) {
            return Poll::Ready(Polled::Finished(value));
        }
        switch.falls_asleep();
        if switch.is_away() == away {
            *task = Some(running);
            return Poll::Pending;
        }
    }
    // It is polled again where it goes, and waits for its turn there.
    switch.is_up();
    Poll::Ready(Polled::Migrates(running))
}

/// Ends the sleep of a task when it is woken, and not when it is its turn.
struct Alarm {
    waker: Waker,
    switch: Arc<Switch>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.switch.wakes();
        self.waker.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {

    use parking_lot::Mutex;
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime(name: &str) -> Runtime {
        Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name)
            .enable_all()
            .build()
            .unwrap()
    }

    fn here() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    #[test]
    fn a_task_is_where_it_wishes_to_be_after_each_wait() {
        let (home, away) = (runtime("home"), runtime("away"));
        let switch = Arc::new(Switch::default());
        let steers = Arc::clone(&switch);
        let task = async move {
            let mut threads = vec![here()];
            steers.send_away();
            threads.push(here());
            // A timer of the runtime that it leaves.
            sleep(Duration::from_millis(2)).await;
            threads.push(here());
            tokio::task::yield_now().await;
            threads.push(here());
            steers.call_home();
            tokio::task::yield_now().await;
            threads.push(here());
            threads
        };
        #[expect(clippy::disallowed_methods, reason = "the test is about what lies below")]
        let threads = home
            .block_on(async { tokio::spawn(migrate(task, switch, away.handle().clone())).await });
        assert_eq!(threads.unwrap().unwrap(), ["home", "home", "away", "away", "home"]);
    }

    /// Where a task is, at each of its waits.
    fn threads(switch: &Arc<Switch>, task: impl Future<Output = ()> + Send + 'static) -> Vec<bool> {
        let (home, away) = (runtime("home"), runtime("away"));
        let threads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&threads);
        let mut task = Box::pin(task);
        let watched = poll_fn(move |context| {
            let polled = task.as_mut().poll(context);
            seen.lock().push(here() == "home");
            polled
        });
        let migrant = migrate(watched, Arc::clone(switch), away.handle().clone());
        assert_eq!(home.block_on(home.spawn(migrant)).unwrap(), Some(()));
        let threads = threads.lock();
        threads.clone()
    }

    #[test]
    fn of_many_small_tasks_some_go_for_a_second_when_they_fill_their_thread() {
        let away = |percent: Option<u32>| {
            let small = move || {
                percent.into_iter().for_each(crate::limit_load_of_this_thread);
                let switches: Vec<_> = (0..300).map(|_| Switch::default()).collect();
                switches.iter().for_each(|switch| switch.charge(2_000_000));
                let away = switches.iter().filter(|switch| switch.is_away());
                away.map(|switch| switch.bucket.sleep_due()).collect::<Vec<_>>()
            };
            std::thread::spawn(small).join().unwrap()
        };
        assert_eq!(away(None), []);
        let due = away(Some(50));
        assert_eq!(due.len(), 50, "600 ms are used, and 500 ms may be");
        assert!(due.iter().all(|due| *due >= load::WINDOW), "{due:?}");
    }

    #[test]
    fn a_task_that_burned_its_burst_goes_and_comes_back_when_it_slept_for_long_enough() {
        let switch = Arc::new(Switch::default());
        let burns = Arc::clone(&switch);
        let (woken, wakes) = tokio::sync::oneshot::channel();
        let task = async move {
            burns.charge(4_000_000);
            let _ = wakes.await;
            assert_eq!(here(), "home", "it came back while it slept");
        };
        let watched = Arc::clone(&switch);
        let wakes_it = std::thread::spawn(move || {
            let until = Instant::now() + Duration::from_secs(60);
            // Nobody wakes it before.
            let waits_until = |is_away| {
                while watched.is_away() != is_away && Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(1));
                }
            };
            waits_until(true);
            waits_until(false);
            let _ = woken.send(());
        });
        let began = Instant::now();
        let threads = threads(&switch, task);
        wakes_it.join().unwrap();
        assert!(!threads[1], "{threads:?}");
        // What is above half of the burst drains in 50 ms.
        assert!(began.elapsed() >= Duration::from_millis(50) && !switch.is_away());
    }

    #[test]
    fn who_yields_does_not_sleep() {
        let switch = Arc::new(Switch::default());
        let burns = Arc::clone(&switch);
        let task = async move {
            burns.charge(2_000_000);
            for _ in 0..20 {
                burns.yields();
                tokio::task::yield_now().await;
                std::thread::sleep(Duration::from_millis(2));
            }
            assert_eq!(burns.room_ns(), 1_000_000, "nothing drained");
            sleep(Duration::from_millis(41)).await;
        };
        let threads = threads(&switch, task);
        assert!(threads.iter().all(|home| *home), "{threads:?}");
        assert!(switch.room_ns() >= 3_000_000, "two milliseconds drained in 40");
    }

    #[test]
    fn away_the_wake_ends_the_sleep_and_not_the_turn_that_comes_late() {
        let switch = Arc::new(Switch::default());
        let busy = runtime("away");
        let (home, burns) = (runtime("home"), Arc::clone(&switch));
        let away = busy.handle().clone();
        let (woken, wakes) = tokio::sync::oneshot::channel();
        let (asleep, sleeps) = tokio::sync::oneshot::channel();
        let task = async move {
            burns.charge(100_000_000);
            tokio::task::yield_now().await;
            let _ = asleep.send(());
            let _ = wakes.await;
            burns.bucket.sleep_due()
        };
        let began = Instant::now();
        let ended = home.spawn(migrate(task, Arc::clone(&switch), away.clone()));
        home.block_on(sleeps).unwrap();
        // Its only thread is busy when the task is woken.
        let (ready, is_ready) = std::sync::mpsc::sync_channel(0);
        busy.spawn(async move {
            ready.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(300));
        });
        is_ready.recv().unwrap();
        let _ = woken.send(());
        let slept = began.elapsed();
        let due = home.block_on(ended).unwrap().unwrap();
        let waited = began.elapsed() - slept;
        // Asleep for 300 ms more, it would have so much less to sleep; it waited, which is a fifth of that.
        let least = Duration::from_millis(1970).saturating_sub(slept + waited / 5);
        assert!(due >= least, "{due:?} after {slept:?} and {waited:?}");
    }

    #[test]
    fn who_is_large_stays_away_however_long_it_sleeps() {
        let switch = Arc::new(Switch::default());
        let grows = Arc::clone(&switch);
        let threads = threads(&switch, async move {
            grows.set_large(true);
            sleep(Duration::from_millis(5)).await;
            sleep(Duration::from_millis(5)).await;
            grows.set_large(false);
            tokio::task::yield_now().await;
        });
        assert_eq!((threads[0], *threads.last().unwrap()), (true, true), "{threads:?}");
        assert!(threads[1..threads.len() - 1].iter().all(|home| !home), "{threads:?}");
    }

    #[test]
    fn a_task_goes_with_the_runtime_that_it_is_on() {
        let (home, away) = (runtime("home"), runtime("away"));
        let switch = Arc::new(Switch::default());
        switch.send_away();
        let (arrives, arrived) = tokio::sync::oneshot::channel();
        let task = async move {
            let _ = arrives.send(here());
            std::future::pending::<()>().await;
        };
        let ended = home.spawn(migrate(task, switch, away.handle().clone()));
        assert_eq!(home.block_on(arrived).unwrap(), "away");
        away.shutdown_background();
        assert_eq!(home.block_on(ended).unwrap(), None);
    }
}

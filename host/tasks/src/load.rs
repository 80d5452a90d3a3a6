//! What all tasks of one fast thread use together.
//!
//! Each of them may stay home with just less than its [bucket](crate::BucketRules) drains, and many of them fill the thread
//! all the same. So a thread has a bound on what its tasks use in a second. Above it a task that used more than the
//! average of those that used any goes away, until it has slept for a second. What it used counts no more, so tasks go,
//! the largest first to be charged again, until the others are within the bound. Work that others asked for, as an
//! answer to a message, counts for none, as in the bucket.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::nanos;

/// Use is summed over so much time, and counts from zero then.
pub(crate) const WINDOW: Duration = Duration::from_secs(1);

thread_local! {
    static LOAD: Cell<Option<(Instant, Load)>> = const { Cell::new(None) };
}

/// From now on the tasks whose home the calling thread is may use so many percent of it together.
pub fn limit_load_of_this_thread(percent: u32) {
    LOAD.set(Some((Instant::now(), Load::new(percent))));
}

/// What one task used in the window, on the thread that is its home.
#[derive(Debug, Default)]
pub(crate) struct Part {
    window: AtomicU64,
    used_ns: AtomicU64,
}

impl Part {
    /// The task used so much on the calling thread. Whether it has to go.
    pub(crate) fn charge(&self, used_ns: u64) -> bool {
        let Some((base, mut load)) = LOAD.get() else { return false };
        let has_to_go = load.charge(self, used_ns, base.elapsed());
        LOAD.set(Some((base, load)));
        has_to_go
    }

    /// So much of it was work that others asked for.
    pub(crate) fn credit(&self, ns: u64) {
        if let Some((base, mut load)) = LOAD.get() {
            load.credit(self, ns);
            LOAD.set(Some((base, load)));
        }
    }
}

/// What all tasks of the thread used in the window, but for those that had to go.
#[derive(Debug, Clone, Copy)]
struct Load {
    bound_ns: u64,
    window: u64,
    used_ns: u64,
    tasks: u64,
}

impl Load {
    fn new(percent: u32) -> Self {
        let bound_ns = nanos(WINDOW) / 100 * u64::from(percent);
        Self { bound_ns, window: 0, used_ns: 0, tasks: 0 }
    }

    fn charge(&mut self, part: &Part, used_ns: u64, now: Duration) -> bool {
        // 0 is none.
        let window = 1 + nanos(now) / nanos(WINDOW);
        if self.window != window {
            *self = Self { window, used_ns: 0, tasks: 0, ..*self };
        }
        // Only the thread of the task is here: nothing is lost between the two.
        let before = match part.window.swap(window, Relaxed) == window {
            true => part.used_ns.load(Relaxed),
            false => {
                self.tasks += 1;
                0
            }
        };
        let used_by_it = before.saturating_add(used_ns);
        part.used_ns.store(used_by_it, Relaxed);
        self.used_ns = self.used_ns.saturating_add(used_ns);
        let is_large = used_by_it.saturating_mul(self.tasks) >= self.used_ns;
        if self.used_ns <= self.bound_ns || !is_large {
            return false;
        }
        self.used_ns -= used_by_it;
        self.tasks -= 1;
        part.window.store(0, Relaxed);
        true
    }

    fn credit(&mut self, part: &Part, ns: u64) {
        if part.window.load(Relaxed) == self.window {
            let used_by_it = part.used_ns.load(Relaxed);
            let taken = ns.min(used_by_it);
            part.used_ns.store(used_by_it - taken, Relaxed);
            self.used_ns = self.used_ns.saturating_sub(taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Every task uses its part of each of the ten tenths of a window, if it is still there. Yields who had to go.
    fn window_of(load: &mut Load, tenth: &[(Part, Duration)], begin: Duration) -> Vec<usize> {
        let mut gone = Vec::new();
        for n in 0..10 {
            for (task, (part, used)) in tenth.iter().enumerate() {
                let now = begin + n * 100 * MS;
                if !gone.contains(&task) && load.charge(part, nanos(*used), now) {
                    gone.push(task);
                }
            }
        }
        gone
    }

    fn tasks(used: impl IntoIterator<Item = Duration>) -> Vec<(Part, Duration)> {
        used.into_iter().map(|used| (Part::default(), used)).collect()
    }

    #[test]
    fn tasks_that_use_half_of_the_thread_together_stay() {
        let mut load = Load::new(50);
        let small = tasks([5 * MS; 10]);
        for window in 0..10 {
            assert_eq!(window_of(&mut load, &small, window * WINDOW), [0_usize; 0]);
        }
    }

    #[test]
    fn of_many_just_below_a_twentieth_so_many_go_that_the_others_use_half() {
        let mut load = Load::new(50);
        // 40 that use 4.5 % each, so 180 % together.
        let many = tasks([MS * 9 / 2; 40]);
        let gone = window_of(&mut load, &many, Duration::ZERO);
        assert!((28..=32).contains(&gone.len()), "{gone:?}");
        let left: Vec<_> =
            many.into_iter().enumerate().filter(|(n, _)| !gone.contains(n)).collect();
        let left: Vec<_> = left.into_iter().map(|(_, task)| task).collect();
        assert_eq!(window_of(&mut load, &left, WINDOW), [0_usize; 0]);
    }

    #[test]
    fn the_largest_go_and_small_ones_stay() {
        let mut load = Load::new(50);
        let large = [MS * 9 / 2; 20];
        let small = [MS / 20; 100];
        let mixed = tasks(small.into_iter().chain(large));
        let gone = window_of(&mut load, &mixed, Duration::ZERO);
        assert!(!gone.is_empty() && gone.iter().all(|task| *task >= 100), "{gone:?}");
    }

    #[test]
    fn one_that_answers_messages_stays_beside_many_that_work_for_themselves() {
        let mut load = Load::new(50);
        let many = tasks([MS * 9 / 2; 40]);
        let answers = Part::default();
        let mut now = Duration::ZERO;
        for n in 0..3000 {
            // One message in three milliseconds, which takes half of one; the others take turns.
            now += MS;
            if n % 3 == 0 {
                load.credit(&answers, nanos(MS / 2));
                assert!(!load.charge(&answers, nanos(MS / 2), now));
            }
            let (part, _) = &many[n % 40];
            load.charge(part, nanos(MS), now);
        }
    }

    #[test]
    fn one_that_uses_all_of_it_goes() {
        let mut load = Load::new(50);
        let part = Part::default();
        assert!(!load.charge(&part, nanos(500 * MS), MS));
        assert!(load.charge(&part, 1, 2 * MS));
        assert!(!load.charge(&part, nanos(500 * MS), 3 * MS), "what it used before counts no more");
    }

    #[test]
    fn a_thread_without_a_bound_sends_nobody_away() {
        assert!(!Part::default().charge(u64::MAX));
        limit_load_of_this_thread(50);
        assert!(Part::default().charge(u64::MAX));
        let elsewhere = || std::thread::spawn(|| Part::default().charge(u64::MAX)).join();
        assert!(!elsewhere().unwrap());
    }
}

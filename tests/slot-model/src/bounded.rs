//! All schedules with at most so many preemptions.
//!
//! A preemption takes the turn from a task that could go on. Most defects of concurrency need one or two of
//! them (Musuvathi and Qadeer, PLDI 2007), and schedules with few are few enough to go through every one.

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

/// Goes depth first through all schedules with at most `preemptions`.
pub struct BoundedScheduler {
    preemptions: usize,
    /// The choice that was made at each step of the schedule: its index, and how many there were.
    path: Vec<(usize, usize)>,
    step: usize,
    used: usize,
    began: bool,
}

impl BoundedScheduler {
    /// A scheduler at its first schedule.
    pub fn new(preemptions: usize) -> Self {
        Self { preemptions, path: Vec::new(), step: 0, used: 0, began: false }
    }

    /// Changes the last choice that can be changed. False: all were tried.
    fn advance(&mut self) -> bool {
        while let Some((choice, count)) = self.path.pop() {
            if choice + 1 < count {
                self.path.push((choice + 1, count));
                return true;
            }
        }
        false
    }
}

impl Scheduler for BoundedScheduler {
    fn new_execution(&mut self) -> Option<Schedule> {
        if self.began && !self.advance() {
            return None;
        }
        self.began = true;
        (self.step, self.used) = (0, 0);
        Some(Schedule::new(0))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let goes_on = current.filter(|_| !is_yielding);
        let goes_on = goes_on.and_then(|id| runnable.iter().position(|task| task.id() == id));
        // The one that could go on comes first: the other choices are preemptions.
        let first = goes_on.unwrap_or(0);
        let count = match goes_on {
            Some(_) if self.used >= self.preemptions => 1,
            _ => runnable.len(),
        };
        if self.step == self.path.len() {
            self.path.push((0, count));
        }
        let (choice, _) = self.path[self.step];
        self.step += 1;
        self.used += usize::from(goes_on.is_some() && choice > 0);
        let index = match choice {
            0 => first,
            choice if choice <= first => choice - 1,
            choice => choice,
        };
        Some(runnable[index].id())
    }

    /// Scenarios under this scheduler leave nothing to chance.
    fn next_u64(&mut self) -> u64 {
        0
    }
}

//! Threads of low priority that do jobs in the order in which they come, each to its end.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bulkhead_tasks::containment::contain;
use parking_lot::{Condvar, Mutex};

type Job = Box<dyn FnOnce() + Send>;

/// Some threads and the jobs that wait for them. The threads end when this is dropped, jobs that wait are dropped then.
pub(crate) struct Workers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    has_news: Condvar,
}

#[derive(Default)]
struct Queue {
    /// As many as there are components at most: each has one job.
    jobs: VecDeque<Job>,
    is_over: bool,
}

impl Workers {
    /// So many threads with this name and a number.
    pub(crate) fn start(name: &str, threads: usize) -> io::Result<Self> {
        let workers = Self(Arc::default());
        for index in 0..threads {
            let shared = Arc::clone(&workers.0);
            std::thread::Builder::new().name(format!("{name}-{index}")).spawn(move || {
                crate::lanes::lower_priority();
                shared.work();
            })?;
        }
        Ok(workers)
    }

    /// Does a job as soon as a thread has none.
    pub(crate) fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        self.0.queue.lock().jobs.push_back(Box::new(job));
        self.0.has_news.notify_one();
    }
}

impl Shared {
    fn work(&self) {
        while let Some(job) = self.next() {
            // Jobs report their own panics; one that does not must not take the thread along.
            let _ = contain(job);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        let waits = |queue: &mut Queue| queue.jobs.is_empty() && !queue.is_over;
        self.has_news.wait_while(&mut queue, waits);
        if queue.is_over { None } else { queue.jobs.pop_front() }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.is_over = true;
        let waiting = std::mem::take(&mut queue.jobs);
        drop(queue);
        self.0.has_news.notify_all();
        // What they hold may ask this queue for something.
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn jobs_are_done_one_after_the_other_and_a_panic_is_not_the_last() {
        let workers = Workers::start("test", 1).unwrap();
        let (send, done) = sync_channel(3);
        workers.spawn(|| panic!("a job"));
        for number in 0..3 {
            let send = send.clone();
            workers.spawn(move || send.send(number).unwrap());
        }
        assert_eq!([done.recv(), done.recv(), done.recv()], [Ok(0), Ok(1), Ok(2)]);
    }

    #[test]
    fn a_job_without_end_holds_up_nobody_with_another_thread_and_its_end_is_not_waited_for() {
        let workers = Workers::start("test", 2).unwrap();
        let (end, ended) = sync_channel::<()>(0);
        workers.spawn(move || _ = ended.recv());
        let (send, done) = sync_channel(1);
        workers.spawn(move || send.send(7).unwrap());
        assert_eq!(done.recv(), Ok(7));
        drop(workers);
        drop(end);
    }
}

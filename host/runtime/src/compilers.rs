//! The threads that read and compile components.
//!
//! The engine spreads one compile over all threads of its pool, and whatever comes after it waits. So there are
//! several pools, and a job goes to the one with the fewest: the system shares the cores among them, and a
//! component that takes minutes holds up neither one that is in the cache nor one that takes a second.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bulkhead_events::containment;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Pools. Each compile may take as much memory as its component makes it, so there are few.
const POOLS: usize = 3;

pub(crate) struct Compilers(Vec<Pool>);

struct Pool {
    threads: ThreadPool,
    jobs: Arc<AtomicUsize>,
}

/// A job that waits or runs, until it is dropped.
struct Job(Arc<AtomicUsize>);

impl Drop for Job {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Compilers {
    /// Pools of `threads` threads of low priority each.
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let pool = |pool: usize| {
            let threads = ThreadPoolBuilder::new()
                .num_threads(threads.max(1))
                .thread_name(move |index| format!("bulkhead-comp-{pool}-{index}"))
                .start_handler(|_| {
                    // The compiler's own jobs hand their panics on to the one that began them.
                    containment::this_thread_is_contained();
                    crate::lanes::lower_priority();
                })
                .build()
                .map_err(io::Error::other)?;
            Ok(Pool { threads, jobs: Arc::default() })
        };
        Ok(Self((0..POOLS).map(pool).collect::<io::Result<_>>()?))
    }

    /// Does a job in the background.
    pub(crate) fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        let (pool, counted) = self.least();
        pool.threads.spawn(move || {
            job();
            drop(counted);
        });
    }

    /// Does a job and waits for it.
    pub(crate) fn install<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        let (pool, _counted) = self.least();
        pool.threads.install(job)
    }

    /// The pool with the fewest jobs, with one more now. Two that ask at once may get the same one.
    fn least(&self) -> (&Pool, Job) {
        let least = self.0.iter().min_by_key(|pool| pool.jobs.load(Relaxed));
        let Some(pool) = least else { unreachable!("there are pools") };
        pool.jobs.fetch_add(1, Relaxed);
        (pool, Job(Arc::clone(&pool.jobs)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn a_compile_without_end_holds_up_no_other() {
        let compilers = Compilers::start(1).unwrap();
        let (end, ended) = sync_channel::<()>(0);
        let (began, begins) = sync_channel(1);
        compilers.spawn(move || {
            began.send(()).unwrap();
            let _ = ended.recv();
        });
        begins.recv().unwrap();
        for number in 0..10 {
            assert_eq!(compilers.install(|| number), number);
        }
        let (done, is_done) = sync_channel(1);
        compilers.spawn(move || done.send(7).unwrap());
        assert_eq!(is_done.recv(), Ok(7));
        drop(end);
    }
}

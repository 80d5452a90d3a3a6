//! Two lanes.
//!
//! Agents' tasks start on the fast lane: one thread a core, of ordinary priority, each with a runtime of its
//! own. The slow lane is one runtime whose threads have a lower priority. A task goes there as a whole when its agent
//! has burned its burst of CPU time, in one turn or in many, and returns when it has slept for long enough
//! (`bulkhead_tasks::BucketRules`), so that short turns never queue behind long ones. The task of an agent with much
//! memory is always there, because a fill of it cannot be interrupted. All tasks of a fast thread together may use half of
//! it; above that the largest go to the slow lane for a while.
//!
//! The fast threads do not share their tasks. A scheduler that steals wakes a second thread for each
//! message to look for more work, which its round trip shows; here nothing on a fast
//! thread lasts longer than a burst, and what lasts is balanced on the slow lane.
//!
//! A fast thread interrupts a slow one as soon as it wakes, where the kernel has slices of different lengths.
//!
//! Beside each lane are threads that may block, nice as the slow lane is. A call that is about to block goes to one of
//! them, see [`crate::blocking`].

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

use bulkhead_tasks::containment::contain;
use bulkhead_tasks::{ask_for_short_slices, limit_load_of_this_thread};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// What the agents of a fast thread may use of it together. A message finds the thread free more often than not, also
/// where many agents use just less than what leaves each of them there.
const FAST_THREAD_PERCENT: u32 = 50;

/// Niceness of the slow lane: its threads get about a tenth of a fast one's share when both want to
/// run.
const SLOW_NICE: i32 = 10;

/// Threads that may block on behalf of agents, for each runtime, and are at work at one time: that many have less weight
/// than one fast thread.
const AT_WORK: usize = 8;

/// Threads that may block in all, for each runtime. Those of calls that were given up hang on a disk and take no CPU
/// time: fifteen agents of a runtime can lose their whole share to one before others wait.
const BLOCKING_THREADS: usize = 64;

/// All of them, beside `threads` fast threads and the slow lane: so many calls can hang on a disk at once.
pub(crate) fn blocking_threads(threads: usize) -> usize {
    BLOCKING_THREADS * (threads.max(1) + 1)
}

/// The right to be one of those at work, of a thread that may block.
#[derive(Clone, Default)]
pub(crate) struct WorkPermit(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl WorkPermit {
    /// Blocks the thread until there is one.
    pub(crate) fn acquire(&self) {
        let permits = PERMITS.with_borrow(Clone::clone);
        // A thread outside the lanes needs none. Nobody closes the semaphore.
        if let Some(permits) = permits
            && let Ok(permit) = Handle::current().block_on(permits.acquire_owned())
        {
            *self.0.lock() = Some(permit);
        }
    }

    /// The work is done, or it hangs and nobody waits for it any more.
    pub(crate) fn release(&self) {
        drop(self.0.lock().take());
    }
}

/// Does `work` with a [`WorkPermit`].
pub(crate) fn at_work<T>(work: impl FnOnce() -> T) -> T {
    let permit = WorkPermit::default();
    permit.acquire();
    work()
}

/// What threads of a lane that may block do at their start.
fn blocking_thread_starts() -> impl Fn() + Send + Sync + 'static {
    let permits = Arc::new(Semaphore::new(AT_WORK));
    move || {
        lower_priority();
        PERMITS.set(Some(Arc::clone(&permits)));
    }
}

/// They stay, because a runtime that has one goes on when the system gives no further thread.
const FOR_GOOD: Duration = Duration::from_secs(u32::MAX as u64);

pub(crate) struct Lanes {
    fast: Vec<FastThread>,
    next: AtomicUsize,
    slow: Runtime,
}

struct FastThread {
    handle: Handle,
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Lanes {
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let threads = threads.max(1);
        let fast = (0..threads).map(FastThread::start).collect::<io::Result<_>>()?;
        let mut builder = Builder::new_multi_thread();
        builder
            .worker_threads(threads)
            .thread_name("bulkhead-slow")
            .on_thread_start(blocking_thread_starts())
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS);
        let slow = with_one_thread(&mut builder)?;
        Ok(Self { fast, next: AtomicUsize::new(0), slow })
    }

    /// A thread of the fast lane, each in its turn.
    pub(crate) fn fast(&self) -> &Handle {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        &self.fast[turn % self.fast.len()].handle
    }

    pub(crate) fn slow(&self) -> &Handle {
        self.slow.handle()
    }

    /// Ends both without waiting for what still runs on them.
    pub(crate) fn shut_down(self) {
        self.slow.shutdown_background();
        for FastThread { end, thread, .. } in self.fast {
            let _ = end.send(());
            let _ = thread.join();
        }
    }
}

/// Builds a runtime that has a blocking thread and keeps it. Where the system gives no threads, that is found out
/// here, and an agent later waits for one and never fails for want of one.
pub(crate) fn with_one_thread(builder: &mut Builder) -> io::Result<Runtime> {
    builder.thread_keep_alive(FOR_GOOD);
    // tokio panics where a thread cannot be had.
    let start = || {
        let runtime = builder.build()?;
        let (send, receive) = sync_channel(1);
        runtime.spawn_blocking(move || send.send(()));
        receive.recv().map_err(io::Error::other)?;
        Ok(runtime)
    };
    contain(start).unwrap_or_else(|panicked| Err(io::Error::other(panicked.to_string())))
}

impl FastThread {
    fn start(index: usize) -> io::Result<Self> {
        let mut builder = Builder::new_current_thread();
        // Of the threads beside this one, which is none of the runtime's own.
        builder
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("bulkhead-files")
            .on_thread_start(blocking_thread_starts());
        let runtime = with_one_thread(&mut builder)?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name(format!("bulkhead-fast-{index}")).spawn(
            move || {
                let _ = ask_for_short_slices();
                limit_load_of_this_thread(FAST_THREAD_PERCENT);
                let _ = runtime.block_on(ended);
                // A thread that hangs on a disk is not waited for.
                runtime.shutdown_background();
            },
        )?;
        Ok(Self { handle, end, thread })
    }
}

thread_local! {
    static IS_NICE: Cell<bool> = const { Cell::new(false) };
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
    /// Of the lane whose thread this is.
    static PERMITS: RefCell<Option<Arc<Semaphore>>> = const { RefCell::new(None) };
}

/// Whether the calling thread may block: nobody else's work waits for it.
pub(crate) fn may_block() -> bool {
    MAY_BLOCK.get()
}

/// Does `work` as one that may block its thread.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    struct Until;

    impl Drop for Until {
        fn drop(&mut self) {
            MAY_BLOCK.set(false);
        }
    }

    MAY_BLOCK.set(true);
    let _until = Until;
    work()
}

/// Drops what may take a while, as the last handle of a file that was deleted does, on a thread that may block.
pub(crate) fn drop_blocking<T: Send + 'static>(value: T) {
    if !may_block()
        && let Ok(runtime) = Handle::try_current()
    {
        runtime.spawn_blocking(move || drop(value));
    }
}

/// Whether the calling thread is nicer than the others: it may wait long for its core.
pub(crate) fn is_nice() -> bool {
    IS_NICE.get()
}

/// Makes the calling thread nicer than the others.
pub(crate) fn lower_priority() {
    IS_NICE.set(true);
    // Linux keeps niceness by thread, and a thread id names one here. A refusal (seccomp) costs
    // fairness, not correctness.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), SLOW_NICE);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nice(handle: &Handle) -> i32 {
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        handle.spawn(async move {
            let tid = rustix::thread::gettid();
            let _ = send.send(rustix::process::getpriority_process(Some(tid)).unwrap());
        });
        receive.recv().unwrap()
    }

    #[test]
    fn only_the_slow_lane_is_nice() {
        let lanes = Lanes::start(1).unwrap();
        let own = rustix::process::getpriority_process(None).unwrap();
        assert_eq!((nice(lanes.fast()), nice(lanes.slow())), (own, SLOW_NICE));
        lanes.shut_down();
    }

    #[test]
    fn threads_that_wait_for_files_are_nice_on_both() {
        let lanes = Lanes::start(1).unwrap();
        for lane in [lanes.fast(), lanes.slow()] {
            let (send, receive) = std::sync::mpsc::sync_channel(1);
            lane.spawn_blocking(move || send.send(is_nice()));
            assert!(receive.recv().unwrap());
        }
        lanes.shut_down();
    }

    #[test]
    fn so_many_are_at_work_and_those_that_hang_and_were_given_up_are_none_of_them() {
        let lanes = Lanes::start(1).unwrap();
        for lane in [lanes.fast(), lanes.slow()] {
            let (begins, begun) = std::sync::mpsc::sync_channel(AT_WORK + 1);
            let (_let_go, hangs) = std::sync::mpsc::sync_channel::<()>(0);
            let hangs = Arc::new(Mutex::new(hangs));
            let begin = |hangs: Option<Arc<Mutex<std::sync::mpsc::Receiver<()>>>>| {
                let (permit, begins) = (WorkPermit::default(), begins.clone());
                let for_thread = permit.clone();
                lane.spawn_blocking(move || {
                    for_thread.acquire();
                    begins.send(()).unwrap();
                    // Until the test is over.
                    let _ = hangs.map(|disk| disk.lock().recv());
                    for_thread.release();
                });
                permit
            };
            let all: Vec<_> = (0..AT_WORK).map(|_| begin(Some(Arc::clone(&hangs)))).collect();
            (0..AT_WORK).for_each(|_| begun.recv().unwrap());
            begin(None);
            assert!(begun.recv_timeout(Duration::from_millis(50)).is_err(), "nine at work");
            all[0].release();
            begun.recv().unwrap();
        }
        lanes.shut_down();
    }

    #[test]
    fn a_runtime_has_a_blocking_thread_before_an_agent_needs_one() {
        let mut builder = Builder::new_current_thread();
        let runtime = with_one_thread(builder.max_blocking_threads(1)).unwrap();
        let (send, receive) = std::sync::mpsc::sync_channel(2);
        for _ in 0..2 {
            let send = send.clone();
            runtime.spawn_blocking(move || send.send(std::thread::current().id()));
        }
        assert_eq!(receive.recv().unwrap(), receive.recv().unwrap(), "one thread for both");
    }

    #[test]
    fn only_on_the_fast_lane_do_many_that_use_a_little_send_some_away() {
        let lanes = Lanes::start(1).unwrap();
        let sent_away = |handle: &Handle| {
            let (send, receive) = std::sync::mpsc::sync_channel(1);
            handle.spawn(async move {
                let agents: Vec<_> = (0..300).map(|_| bulkhead_tasks::Switch::default()).collect();
                agents.iter().for_each(|agent| agent.charge(2_000_000));
                send.send(agents.iter().filter(|agent| agent.is_away()).count())
            });
            receive.recv().unwrap()
        };
        assert!(sent_away(lanes.fast()) >= 50, "600 ms in a second");
        assert_eq!(sent_away(lanes.slow()), 0);
        lanes.shut_down();
    }

    #[test]
    fn fast_threads_take_turns() {
        let lanes = Lanes::start(2).unwrap();
        let id = |handle: &Handle| {
            let (send, receive) = std::sync::mpsc::sync_channel(1);
            handle.spawn(async move { send.send(std::thread::current().id()) });
            receive.recv().unwrap()
        };
        let first = id(lanes.fast());
        assert_ne!(first, id(lanes.fast()));
        assert_eq!(first, id(lanes.fast()));
        lanes.shut_down();
    }
}

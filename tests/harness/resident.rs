//! How much memory a process has, and the most that it had.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two checks.
const PAUSE: Duration = Duration::from_millis(1);

/// What a host may take beside an agent that is watched, while it is watched: the log's buffer for all
/// others; a message or a reply of 1 MiB on its way through the control server, once as it came and once
/// parsed; arenas of the allocator that threads touch for the first time.
const NOISE_BYTES: u64 = 4 * 1024 * 1024;

/// What of a process lies in memory and belongs to it alone, in bytes: its heap, its stacks, its guests.
/// Pages of files are left out, because they come and go with the code that runs.
pub fn resident_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("the process is there");
    let mut pages = text.split_whitespace().map(|n| n.parse::<u64>().expect("a number of pages"));
    let (resident, shared) = (pages.nth(1).unwrap_or(0), pages.next().unwrap_or(0));
    (resident - shared.min(resident)) * rustix::param::page_size() as u64
}

/// Watches the memory of a process on a thread of its own, from when it is made.
pub struct Watch {
    before: u64,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    most: AtomicU64,
    over: AtomicBool,
}

impl Watch {
    /// Begins to watch.
    pub fn begin(pid: u32) -> Self {
        let before = resident_bytes(pid);
        let seen = Arc::new(Seen::default());
        seen.most.store(before, Ordering::Relaxed);
        let for_thread = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            while !for_thread.over.load(Ordering::Relaxed) {
                for_thread.most.fetch_max(resident_bytes(pid), Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
        });
        Self { before, seen, thread: Some(thread) }
    }

    /// Checks that the host did not grow by more than an agent's limit and a tenth of it.
    #[track_caller]
    pub fn check(&self, limit_bytes: u64) {
        let (grown, most) = (self.grown(), limit_bytes + limit_bytes / 10 + NOISE_BYTES);
        assert!(grown <= most, "the host grew by {grown} bytes, {most} are allowed");
    }

    /// What the process had most, beyond what it had in the beginning, in bytes.
    pub fn grown(&self) -> u64 {
        self.seen.most.load(Ordering::Relaxed) - self.before
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.seen.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

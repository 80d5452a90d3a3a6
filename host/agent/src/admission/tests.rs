use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bulkhead_memory::{Admission, Kernel, Memory, MemoryConfig, Now};

use super::*;

/// Often enough that the two threads do meet.
const ROUNDS: usize = 100_000;

#[test]
fn of_two_starts_at_once_of_which_one_fits_one_is_let_in() {
    const MIB: u64 = 1024 * 1024;
    let admission = Admission { reserve_bytes: 0, overcommit: 1.0 };
    let config =
        MemoryConfig { budget_bytes: Some(100 * MIB), admission, ..MemoryConfig::default() };
    let memory = Memory::new(Kernel::here(), config, Now::clock());
    memory.poll(false);
    let (committed, let_in) = (Committed::default(), AtomicUsize::new(0));
    // Two that spin meet more often than two that sleep.
    let arrived = AtomicUsize::new(0);
    let meet = |times: usize| {
        arrived.fetch_add(1, SeqCst);
        while arrived.load(SeqCst) < 2 * times {
            std::thread::yield_now();
        }
    };
    let ask_all = || {
        for round in 0..ROUNDS {
            meet(3 * round + 1);
            let asked = committed.commit(60 * MIB, 0, |others| memory.admit(others, 60 * MIB));
            let_in.fetch_add(usize::from(asked.is_ok()), SeqCst);
            meet(3 * round + 2);
            assert_eq!(let_in.load(SeqCst), round + 1, "of those two not exactly one was let in");
            drop(asked);
            meet(3 * round + 3);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(ask_all);
        ask_all();
    });
    assert_eq!(committed.bytes(), 0);
}

//! Reads and other work that take as long as a test wants.

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Semaphore;

use super::{Fake, take};

/// What lists, pages and sums go through.
pub(super) struct Reads {
    gate: Mutex<()>,
    /// A read that waits at the gate adds one.
    waiting: Semaphore,
}

impl Default for Reads {
    fn default() -> Self {
        Self { gate: Mutex::default(), waiting: Semaphore::new(0) }
    }
}

impl Reads {
    /// Blocks the thread while a test holds reads.
    pub(super) fn read(&self) {
        if self.gate.is_locked() {
            self.waiting.add_permits(1);
            drop(self.gate.lock());
        }
    }
}

impl Fake {
    /// Reads take until the guard is dropped.
    pub(in crate::tests) fn hold_reads(&self) -> MutexGuard<'_, ()> {
        self.0.reads.gate.lock()
    }

    /// Blocks until a read is held.
    #[track_caller]
    pub(in crate::tests) fn await_held_read(&self) {
        take(&self.0.reads.waiting, "a read that is held");
    }
}

/// Work at the gate. When it is dropped there, it adds a permit.
pub(super) struct AtGate<'a>(pub(super) &'a Semaphore);

impl Drop for AtGate<'_> {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

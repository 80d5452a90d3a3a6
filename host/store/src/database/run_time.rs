//! How long hosts have run with a file, by the monotonic clock.

use std::time::{Duration, Instant};

/// How much of it a kill may cost.
const SAVED_EVERY: Duration = Duration::from_secs(15 * 60);

/// Counts on from what earlier runs came to.
pub(super) struct RunTime {
    before: Duration,
    began: Instant,
    saved: Duration,
}

impl RunTime {
    /// Goes on from what a file says.
    pub fn after(before: Duration) -> Self {
        Self { before, began: Instant::now(), saved: before }
    }

    pub fn now(&self) -> Duration {
        self.before + self.began.elapsed()
    }

    /// Another file was opened, which knows of so much. The count never goes back.
    pub fn at_least(&mut self, file: Duration) {
        if file > self.now() {
            *self = Self::after(file);
        }
    }

    /// Whether the file should hear of it.
    pub fn is_due(&self) -> bool {
        self.now() >= self.saved + SAVED_EVERY
    }

    /// The file has it.
    pub fn is_saved(&mut self) {
        self.saved = self.now();
    }
}

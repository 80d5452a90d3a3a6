//! Whether an incarnation became active or stopped being active.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the beginnings and ends of incarnations of all agents, and what lies between but for turns. A reader that
/// caches which incarnations are active checks again when this has risen. Cheap to clone; clones count together.
#[derive(Clone, Default)]
pub struct Changes(Arc<AtomicU64>);

impl Changes {
    /// How many there were. What is read afterwards is at least as new.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Something has changed, and can be seen.
    pub fn happened(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

//! How many of a kind are there right now.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counts what exists, by guards. Cheap to clone; clones count together.
#[derive(Clone, Default)]
pub struct Gauge(Arc<AtomicUsize>);

/// One of those that are counted, for as long as it exists.
#[must_use = "it is counted until this is dropped"]
pub struct Counted(Arc<AtomicUsize>);

impl Gauge {
    /// One more, until the guard is dropped.
    pub fn enter(&self) -> Counted {
        self.0.fetch_add(1, Relaxed);
        Counted(Arc::clone(&self.0))
    }

    /// How many there are.
    pub fn now(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_counts_until_it_is_dropped() {
        let gauge = Gauge::default();
        let (one, two) = (gauge.enter(), gauge.clone().enter());
        assert_eq!(gauge.now(), 2);
        drop(one);
        assert_eq!(gauge.now(), 1);
        let panics = std::thread::spawn(move || {
            let _two = two;
            panic!("the guard goes with the stack");
        });
        assert!(panics.join().is_err());
        assert_eq!(gauge.now(), 0);
    }
}

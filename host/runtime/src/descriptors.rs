//! File descriptors that guests may make the host have open, counted together.
//!
//! ```text
//!  RLIMIT_NOFILE = the host's reserve + what each agent has from its context on + what guests open
//!                                                                                └▶ Descriptors
//! ```
//!
//! What one guest opens is bounded by its own limits, and a few guests that use theirs would leave none for the host: it
//! could accept no connection and read no figure of the kernel. So a guest asks before it opens something. It may have as
//! many as are left for all others: where there are few, the first takes half of them, the next half of the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What all guests together may have open.
#[derive(Debug)]
pub(crate) struct Descriptors {
    most: usize,
    taken: AtomicUsize,
}

/// This guest may open nothing more now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "of {most} files and connections that all guests together may have open {left} are left, and this one has {has} \
     (RLIMIT_NOFILE)"
)]
pub(crate) struct NoneLeft {
    most: usize,
    left: usize,
    has: usize,
}

/// A part of them, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    of: Arc<Descriptors>,
    count: usize,
}

impl Descriptors {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: AtomicUsize::new(0) })
    }

    /// None of them yet.
    pub(crate) fn none(self: &Arc<Self>) -> Taken {
        Taken { of: Arc::clone(self), count: 0 }
    }

    /// One of them.
    pub(crate) fn one(self: &Arc<Self>) -> Result<Taken, NoneLeft> {
        let mut taken = self.none();
        taken.one_more()?;
        Ok(taken)
    }

    /// How many of them are taken.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }
}

impl Taken {
    /// Takes one more before it is opened.
    pub(crate) fn one_more(&mut self) -> Result<(), NoneLeft> {
        let (most, has) = (self.of.most, self.count);
        let left = |taken: usize| most.saturating_sub(taken);
        let one_more = |taken: usize| (has < left(taken)).then_some(taken + 1);
        let taken = self.of.taken.fetch_update(Relaxed, Relaxed, one_more);
        taken.map_err(|taken| NoneLeft { most, left: left(taken), has })?;
        self.count += 1;
        Ok(())
    }

    /// So many are open, as was counted.
    pub(crate) fn set(&mut self, count: usize) {
        if count == self.count {
            return;
        }
        self.of.taken.fetch_add(count, Relaxed);
        self.of.taken.fetch_sub(self.count, Relaxed);
        self.count = count;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.of.taken.fetch_sub(self.count, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes as many as there are for it.
    fn greedy(taken: &mut Taken) -> usize {
        while taken.one_more().is_ok() {}
        taken.count
    }

    #[test]
    fn one_that_takes_all_it_can_leaves_as_many_to_the_others() {
        let all = Descriptors::new(100);
        let mut guests = [(); 4].map(|()| all.none());
        assert_eq!(guests.each_mut().map(greedy), [50, 25, 13, 6]);
        let error = guests[0].one_more().unwrap_err();
        assert_eq!(error, NoneLeft { most: 100, left: 6, has: 50 });
        drop(guests);
        assert_eq!(all.taken(), 0);
    }

    #[test]
    fn what_one_gives_back_another_may_have() {
        let all = Descriptors::new(2);
        let (mut one, mut other) = (all.none(), all.none());
        one.one_more().unwrap();
        let connection = all.one().unwrap();
        assert!(other.one_more().is_err());
        drop(connection);
        other.one_more().unwrap();
        one.set(0);
        assert!(all.one().is_ok());
    }

    #[test]
    fn what_was_counted_is_believed_also_where_it_is_more_than_there_is() {
        let all = Descriptors::new(2);
        let mut one = all.none();
        one.set(5);
        assert!(all.one().is_err());
        one.set(1);
        assert!(all.one().is_ok());
    }
}

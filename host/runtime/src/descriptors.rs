//! File descriptors that guests may make the host have open, counted together.
//!
//! ```text
//!  RLIMIT_NOFILE = the host's reserve + what each agent has from its birth on + what guests open
//!                                                                                └▶ Descriptors
//! ```
//!
//! What one guest opens is bounded by its own limits, and a few guests that use theirs would leave none for the host: it
//! could accept no connection and read no figure of the kernel. So a guest asks before it opens something, and is
//! refused when all of that part is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What all guests together may have open.
#[derive(Debug)]
pub(crate) struct Descriptors {
    most: usize,
    taken: AtomicUsize,
}

/// All that guests may have open is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "all guests together have {most} files and connections open, which is the most beside what the host needs \
     (RLIMIT_NOFILE)"
)]
pub(crate) struct NoneLeft {
    most: usize,
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
}

impl Taken {
    /// Takes one more before it is opened.
    pub(crate) fn one_more(&mut self) -> Result<(), NoneLeft> {
        let most = self.of.most;
        let one_more = |taken: usize| (taken < most).then_some(taken + 1);
        self.of.taken.fetch_update(Relaxed, Relaxed, one_more).map_err(|_| NoneLeft { most })?;
        self.count += 1;
        Ok(())
    }

    /// So many are open, as was counted.
    pub(crate) fn set(&mut self, count: usize) {
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

    #[test]
    fn guests_share_what_there_is_and_give_it_back() {
        let all = Descriptors::new(3);
        let (mut one, mut other) = (all.none(), all.none());
        one.one_more().unwrap();
        one.one_more().unwrap();
        other.one_more().unwrap();
        assert_eq!(one.one_more(), Err(NoneLeft { most: 3 }));
        assert!(all.one().is_err());
        one.set(1);
        let connection = all.one().unwrap();
        assert!(other.one_more().is_err());
        drop(connection);
        other.one_more().unwrap();
        drop((one, other));
        assert_eq!(all.taken.load(Relaxed), 0);
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

//! Resources of the host, by number: JavaScript has no other hold on them.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// The host bounds how many of one kind an agent has.
pub struct Handles<T>(RefCell<BTreeMap<u32, T>>);

impl<T> Handles<T> {
    pub const fn new() -> Self {
        Self(RefCell::new(BTreeMap::new()))
    }

    /// Takes one in and returns its number.
    pub fn add(&self, resource: T) -> u32 {
        let mut all = self.0.borrow_mut();
        let id = all.last_key_value().map_or(1, |(last, _)| last + 1);
        all.insert(id, resource);
        id
    }

    /// Uses one, if it is still there.
    pub fn with<R>(&self, id: u32, run: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.0.borrow_mut().get_mut(&id).map(run)
    }

    /// Drops all.
    pub fn clear(&self) {
        self.0.take();
    }

    /// Drops one.
    pub fn close(&self, id: u32) {
        self.0.borrow_mut().remove(&id);
    }
}

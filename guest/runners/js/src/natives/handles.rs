//! Resources of the host, by number: JavaScript has no other hold on them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// The host bounds how many of one kind an agent has. No number comes again: who holds an old one finds nothing.
pub struct Handles<T> {
    all: RefCell<BTreeMap<u32, T>>,
    last: Cell<u32>,
}

impl<T> Handles<T> {
    pub const fn new() -> Self {
        Self { all: RefCell::new(BTreeMap::new()), last: Cell::new(0) }
    }

    /// Takes one in and returns its number.
    pub fn add(&self, resource: T) -> u32 {
        let id = self.last.get() + 1;
        self.last.set(id);
        self.all.borrow_mut().insert(id, resource);
        id
    }

    /// Uses one, if it is still there.
    pub fn with<R>(&self, id: u32, run: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.all.borrow_mut().get_mut(&id).map(run)
    }

    /// Drops all.
    pub fn clear(&self) {
        self.all.take();
    }

    /// Drops one.
    pub fn close(&self, id: u32) {
        self.all.borrow_mut().remove(&id);
    }
}

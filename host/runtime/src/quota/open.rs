//! What an agent has open, and what of that is deleted.

use std::fs::File;
use std::sync::{Arc, Weak};

use rustix::fs::fstat;

use super::{Identity, Space};
use crate::resources::MAX_OPEN;

/// Files and directories that the agent has open, by a descriptor, a stream, or a thread that still reads or writes one.
#[derive(Default)]
pub(super) struct OpenFiles {
    all: Vec<Weak<File>>,
    deleted: Vec<Deleted>,
}

/// A file without a name.
struct Deleted {
    number: u64,
    files: Vec<Weak<File>>,
    space: Space,
}

impl Deleted {
    fn is_open(&self) -> bool {
        self.files.iter().any(|file| file.strong_count() > 0)
    }
}

impl OpenFiles {
    /// How many there are.
    pub(super) fn count(&mut self) -> usize {
        self.all.retain(|file| file.strong_count() > 0);
        self.all.len()
    }

    /// Whether one more may be.
    pub(super) fn may_open(&mut self) -> bool {
        self.count() < MAX_OPEN
    }

    pub(super) fn files(&self) -> Vec<Arc<File>> {
        self.all.iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn add(&mut self, file: &Arc<File>) {
        self.all.push(Arc::downgrade(file));
    }

    /// The last name of a file that takes `space` is gone. Whether it is still open: then it counts until it is closed.
    pub(super) fn deleted(&mut self, space: Space) -> bool {
        let mut open: Vec<(Identity, Weak<File>)> = Vec::new();
        for weak in &self.all {
            let identity = weak.upgrade().and_then(|file| fstat(&*file).ok());
            if let Some(identity) = identity.as_ref().map(Identity::of)
                && identity.links == 0
                && self.deleted.iter().all(|known| known.number != identity.number)
            {
                open.push((identity, Weak::clone(weak)));
            }
        }
        let Some((first, _)) = open.first() else { return false };
        let number = first.number;
        let files = open.into_iter().filter(|(identity, _)| identity.number == number);
        let files = files.map(|(_, file)| file).collect();
        self.deleted.push(Deleted { number, files, space });
        true
    }

    /// A file grew. If it is deleted, it gives that much more back when it is closed.
    pub(super) fn deleted_grew(&mut self, file: &Identity, by: Space) {
        if file.links == 0
            && let Some(deleted) = self.deleted.iter_mut().find(|it| it.number == file.number)
        {
            deleted.space = deleted.space.plus(by);
        }
    }

    /// What deleted files took that nobody has open any more.
    pub(super) fn closed(&mut self) -> Space {
        let closed = self.deleted.extract_if(.., |deleted| !deleted.is_open());
        closed.fold(Space::default(), |sum, deleted| sum.plus(deleted.space))
    }

    /// What deleted files take that are open.
    pub(super) fn held(&mut self) -> Space {
        self.closed();
        self.deleted.iter().fold(Space::default(), |sum, deleted| sum.plus(deleted.space))
    }
}

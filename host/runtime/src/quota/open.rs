//! What an agent has open, and what of that is deleted.

use std::fs::File;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::fs::fstat;

use super::{Identity, Space};
use crate::descriptors::{NoneLeft, Taken};
use crate::resources::MAX_OPEN;

/// Files and directories that the agent has open, by a descriptor, a stream, or a thread that still reads or writes one.
///
/// Whoever closes one counts afterwards, on any thread. So nothing that may block is done with the lock held.
pub(super) struct OpenFiles(Mutex<Open>);

struct Open {
    all: Vec<Weak<File>>,
    /// What they are of all that guests may have.
    descriptors: Taken,
}

impl Open {
    fn count(&mut self) -> usize {
        self.all.retain(|file| file.strong_count() > 0);
        self.descriptors.set(self.all.len());
        self.all.len()
    }
}

/// Files without a name that somebody has open.
#[derive(Default)]
pub(super) struct DeletedFiles(Vec<Deleted>);

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
    pub(super) fn new(descriptors: Taken) -> Self {
        Self(Mutex::new(Open { all: Vec::new(), descriptors }))
    }

    /// Finds out which of them are closed, and gives their descriptors back.
    pub(super) fn count(&self) {
        self.0.lock().count();
    }

    /// Whether one more may be.
    pub(super) fn may_open(&self) -> bool {
        self.0.lock().count() < MAX_OPEN
    }

    /// Takes the descriptor of one more.
    pub(super) fn take_descriptor(&self) -> Result<(), NoneLeft> {
        let mut open = self.0.lock();
        open.count();
        open.descriptors.one_more()
    }

    pub(super) fn files(&self) -> Vec<Arc<File>> {
        self.0.lock().all.iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn add(&self, file: &Arc<File>) {
        let mut open = self.0.lock();
        open.all.push(Arc::downgrade(file));
        // Somebody may have counted between this and when its descriptor was taken.
        open.count();
    }
}

impl DeletedFiles {
    /// The last name of a file that takes `space` is gone. Whether it is one of those that are open: then it counts
    /// until it is closed.
    pub(super) fn add(&mut self, space: Space, all: &OpenFiles) -> bool {
        let all_files = all.files();
        let mut open: Vec<(Identity, &Arc<File>)> = Vec::new();
        for file in &all_files {
            if let Some(identity) = fstat(&**file).ok().as_ref().map(Identity::of)
                && identity.links == 0
                && self.0.iter().all(|known| known.number != identity.number)
            {
                open.push((identity, file));
            }
        }
        let number = open.first().map(|(first, _)| first.number);
        let files = open.into_iter().filter(|(identity, _)| Some(identity.number) == number);
        let files = files.map(|(_, file)| Arc::downgrade(file)).collect();
        self.0.extend(number.map(|number| Deleted { number, files, space }));
        // Others may have closed some meanwhile.
        drop(all_files);
        all.count();
        number.is_some()
    }

    /// A file grew. If it is deleted, it gives that much more back when it is closed.
    pub(super) fn grew(&mut self, file: &Identity, by: Space) {
        if file.links == 0
            && let Some(deleted) = self.0.iter_mut().find(|it| it.number == file.number)
        {
            deleted.space = deleted.space.plus(by);
        }
    }

    /// What deleted files took that nobody has open any more.
    pub(super) fn closed(&mut self) -> Space {
        let closed = self.0.extract_if(.., |deleted| !deleted.is_open());
        closed.fold(Space::default(), |sum, deleted| sum.plus(deleted.space))
    }

    /// What deleted files take that are open.
    pub(super) fn held(&mut self) -> Space {
        self.closed();
        self.0.iter().fold(Space::default(), |sum, deleted| sum.plus(deleted.space))
    }
}

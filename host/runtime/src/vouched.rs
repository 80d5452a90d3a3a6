//! Files that may be loaded only when somebody vouches for their bytes: the components that registries have.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_types::Digest;
use parking_lot::Mutex;

/// Which components need somebody's word, and whose have it. All others need none. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Vouched(Arc<Mutex<HashMap<Arc<str>, Demand>>>);

/// By the component's name: two may have one file, and different people who have to have signed it.
#[derive(Debug)]
struct Demand {
    path: PathBuf,
    word: Result<Digest, String>,
}

impl Vouched {
    /// From now on `name` is not loaded from `path` without a word for it.
    pub fn demand(&self, name: Arc<str>, path: PathBuf) {
        let word = Err("it is not fetched yet".to_owned());
        self.0.lock().insert(name, Demand { path, word });
    }

    /// The file of `name` is the right one with this digest; or why it may not be loaded. Of one that needs no word this
    /// changes nothing.
    pub fn give(&self, name: &str, word: Result<Digest, String>) {
        if let Some(demand) = self.0.lock().get_mut(name) {
            demand.word = word;
        }
    }

    /// The digest that the file has to have, if it has to have one. The error says why it may not be loaded.
    pub(crate) fn digest(&self, name: &str, path: &Path) -> Result<Option<Digest>, String> {
        let demands = self.0.lock();
        match demands.get(name).filter(|demand| demand.path == path) {
            None => Ok(None),
            Some(Demand { word: Ok(digest), .. }) => Ok(Some(*digest)),
            Some(Demand { word: Err(reason), .. }) => Err(reason.clone()),
        }
    }
}

//! What is known of rigs and agents, by their names, for as long as somebody holds it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::Error;

/// Rigs and agents that are known at a time.
const MAX_KNOWN: usize = 4096;

/// The entry of a map, made if it is not there. A full map forgets entries that nobody holds.
pub(crate) fn known<T>(
    map: &Mutex<HashMap<String, Arc<T>>>,
    name: &str,
    make: impl FnOnce() -> T,
) -> Result<Arc<T>, Error> {
    let mut map = map.lock();
    if let Some(known) = map.get(name) {
        return Ok(Arc::clone(known));
    }
    if map.len() >= MAX_KNOWN {
        map.retain(|_, entry| Arc::strong_count(entry) > 1);
    }
    if map.len() >= MAX_KNOWN {
        return Err(Error::Locked(format!("there are {MAX_KNOWN} rigs or workspaces; {name:?}")));
    }
    let made = Arc::new(make());
    map.insert(name.to_owned(), Arc::clone(&made));
    Ok(made)
}

//! What all rigs and workspaces share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::timeout;

use crate::credential::Credentials;
use crate::error::Error;
use crate::git::Git;
use crate::mirror::Mirror;
use crate::name::Oid;

/// Rigs and agents that are known at a time.
const MAX_KNOWN: usize = 4096;

/// How the last operation on a workspace left it.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    /// A git of the host did not end by itself.
    pub interrupted: AtomicBool,
    /// A branch that is being rebased, and its commit before.
    pub rebasing: Mutex<Option<(String, Oid)>>,
}

/// Proof that nothing else of the host is at work in a workspace. Work on the disk has a clone, and holds it to its end.
pub(crate) type Exclusive = Arc<OwnedMutexGuard<Condition>>;

/// What all rigs and workspaces share.
pub(crate) struct Shared {
    pub root: PathBuf,
    pub git: Arc<Git>,
    pub credentials: Arc<dyn Credentials>,
    mirrors: Mutex<HashMap<String, Arc<Mirror>>>,
    conditions: Mutex<HashMap<String, Arc<AsyncMutex<Condition>>>>,
}

impl Shared {
    pub fn new(root: PathBuf, git: Git, credentials: Arc<dyn Credentials>) -> Self {
        let (mirrors, conditions) = (Mutex::default(), Mutex::default());
        Self { root, git: Arc::new(git), credentials, mirrors, conditions }
    }

    /// The mirror of a rig whose name is checked.
    pub fn mirror(&self, rig: &str) -> Result<Arc<Mirror>, Error> {
        known(&self.mirrors, rig, || {
            let folder = self.root.join("rigs").join(rig);
            let credentials = Arc::clone(&self.credentials);
            Mirror::new(Arc::clone(&self.git), credentials, folder)
        })
    }

    /// Whether nothing else of the host is at work in an agent's workspace.
    pub fn try_exclusive(&self, agent: &str) -> Result<Exclusive, Error> {
        let condition = known(&self.conditions, agent, AsyncMutex::default)?;
        condition.try_lock_owned().map(Arc::new).map_err(|_| locked(agent))
    }

    /// Waits until nothing else of the host is at work in an agent's workspace.
    pub async fn exclusive(&self, agent: &str) -> Result<Exclusive, Error> {
        let condition = known(&self.conditions, agent, AsyncMutex::default)?;
        let waited = timeout(self.git.settings.lock_wait, condition.lock_owned()).await;
        waited.map(Arc::new).map_err(|_| locked(agent))
    }
}

fn locked(agent: &str) -> Error {
    Error::Locked(format!("the workspace of agent {agent}"))
}

/// The entry of a map, made if it is not there. A full map forgets entries that nobody holds.
fn known<T>(
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

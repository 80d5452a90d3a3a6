//! Who is at a workspace: an incarnation, or somebody who takes the directory away. Never both.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bulkhead_types::AgentId;
use parking_lot::Mutex;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Locks that are kept, before those that nobody holds are forgotten.
const FORGET_FROM: usize = 64;

/// Who is at the workspaces of all agents.
#[derive(Debug, Default)]
pub struct WorkspaceUse(Mutex<HashMap<AgentId, Weak<RwLock<()>>>>);

/// An incarnation is at its workspace.
pub(crate) type InUse = OwnedRwLockReadGuard<()>;

/// Nobody is at a workspace, and nobody comes.
#[derive(Debug)]
pub struct Vacant(#[expect(dead_code, reason = "it is held")] OwnedRwLockWriteGuard<()>);

impl WorkspaceUse {
    /// Comes to a workspace. Waits while it is taken away.
    pub(crate) async fn begin(&self, agent: &AgentId) -> InUse {
        self.lock_of(agent).read_owned().await
    }

    /// Keeps everybody away from a workspace. `None`: somebody is there.
    pub fn vacate(&self, agent: &AgentId) -> Option<Vacant> {
        self.lock_of(agent).try_write_owned().ok().map(Vacant)
    }

    fn lock_of(&self, agent: &AgentId) -> Arc<RwLock<()>> {
        let mut all = self.0.lock();
        if let Some(lock) = all.get(agent).and_then(Weak::upgrade) {
            return lock;
        }
        if all.len() >= FORGET_FROM {
            all.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::default();
        all.insert(agent.clone(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_workspace_is_used_or_taken_away() {
        let using = WorkspaceUse::default();
        let (a, b) = (AgentId::parse("a").unwrap(), AgentId::parse("b").unwrap());
        let first = using.begin(&a).await;
        let second = using.begin(&a).await;
        assert!(using.vacate(&a).is_none());
        drop((first, second));
        let vacant = using.vacate(&a).expect("nobody is there");
        assert!(using.begin(&a).now_or_never().is_none(), "it waits");
        assert!(using.begin(&b).now_or_never().is_some(), "another one");
        drop(vacant);
        assert!(using.begin(&a).now_or_never().is_some());
    }

    #[tokio::test]
    async fn locks_that_nobody_holds_are_forgotten() {
        let using = WorkspaceUse::default();
        let kept = using.begin(&AgentId::parse("kept").unwrap()).await;
        for number in 0..1000 {
            drop(using.begin(&AgentId::parse(&format!("a{number}")).unwrap()).await);
        }
        assert!(using.0.lock().len() <= FORGET_FROM);
        assert!(using.vacate(&AgentId::parse("kept").unwrap()).is_none());
        drop(kept);
    }
}

//! One agent's workspace.

use std::sync::Arc;

use crate::error::Error;
use crate::mirror::Mirror;
use crate::record::Record;
use crate::rig::Rig;
use crate::shared::{Exclusive, Shared};
use crate::tree::Tree;

/// The workspace of one agent, prepared. Operations wait for each other.
pub struct Workspace {
    shared: Arc<Shared>,
    pub(crate) record: Record,
}

impl Workspace {
    pub(crate) fn new(shared: Arc<Shared>, record: Record) -> Self {
        Self { shared, record }
    }

    /// Whether it has a remote. A lightweight one has none.
    pub fn has_remote(&self) -> bool {
        self.record.rig.is_some()
    }

    /// The agent's branch.
    pub fn branch(&self) -> &str {
        &self.record.branch
    }

    /// The branch of the remote that the agent's branch is compared with and rebased onto.
    pub fn upstream(&self) -> &str {
        &self.record.upstream
    }

    /// Takes the repository for one operation.
    pub(crate) async fn tree(&self) -> Result<Tree, Error> {
        self.tree_with(self.shared.exclusive(&self.record.agent).await?).await
    }

    /// Takes the repository for one operation, if it is free.
    pub(crate) async fn try_tree(&self) -> Result<Tree, Error> {
        self.tree_with(self.shared.try_exclusive(&self.record.agent)?).await
    }

    async fn tree_with(&self, exclusive: Exclusive) -> Result<Tree, Error> {
        let Record { path, author, rig, limit, .. } = &self.record;
        let objects = match rig {
            Some(rig) => Some(self.shared.mirror(&rig.name)?.path().join("objects")),
            None => None,
        };
        let git = Arc::clone(&self.shared.git);
        Tree::new(git, path.clone(), objects, author.clone(), *limit, exclusive).await
    }

    /// The rig and its mirror. A lightweight workspace has none.
    pub(crate) async fn mirror(&self) -> Result<(&Rig, Arc<Mirror>), Error> {
        let rig = self.record.rig.as_ref();
        let rig = rig.ok_or_else(|| Error::invalid("workspace", "has no remote"))?;
        let mirror = self.shared.mirror(&rig.name)?;
        mirror.open(rig).await?;
        Ok((rig, mirror))
    }

    /// The ref of the remote's branch that the agent's branch is compared with, in the workspace.
    pub(crate) fn upstream_ref(&self) -> String {
        format!("refs/remotes/origin/{}", self.record.upstream)
    }
}

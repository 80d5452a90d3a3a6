//! Directories of agents that are gone: which there are, and how long they stay.
//!
//! ```text
//!   a start ─▶ in use ─▶ its end ─▶ used last ─▶ the policy, now and then ─▶ set aside ─▶ deleted
//!                                       somebody who asks ──────────────────────┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use bulkhead_api::{RemovedWorkspace, WorkspaceList, WorkspaceView};
use bulkhead_log::now;
use bulkhead_types::event::{WorkspaceRemoved, WorkspacesFull};
use bulkhead_types::{AgentId, Event, Timestamp};
use bulkhead_workspace::{Freed, Inventory, Kept, Policy, Pushed, Removal, choose};
use tokio::time::sleep;

use crate::workspaces::WorkspaceError;
use crate::{Inner, Supervisor};

/// Between two tries to ship what could not be shipped.
const SHIP_AGAIN: Duration = Duration::from_secs(60);

/// Between two looks at all workspaces.
const SWEEP: Duration = Duration::from_secs(600);

impl Supervisor {
    /// All workspaces, by agent. Reads each directory and asks git of each repository, one caller at a time.
    pub async fn workspaces(&self) -> Result<WorkspaceList, WorkspaceError> {
        let inner = Arc::clone(&self.0);
        let list = async move {
            let kept = inner.workspaces().await?;
            let view = |kept: Kept| {
                let in_use = inner.uses_its_workspace(&kept.agent);
                view(kept, in_use)
            };
            Ok(WorkspaceList { workspaces: kept.into_iter().map(view).collect() })
        };
        self.detached("list workspaces", list).await
    }

    /// Removes the workspace of an agent that does not run. `force`: also with work that is nowhere else.
    pub async fn remove_workspace(
        &self,
        id: &AgentId,
        force: bool,
    ) -> Result<RemovedWorkspace, WorkspaceError> {
        let (inner, id) = (Arc::clone(&self.0), id.clone());
        let removal = async move {
            let unless = if force { Unless::Nothing } else { Unless::NotPushed };
            let freed = inner.remove(&id, unless, "asked").await?;
            let Freed { bytes, entries, left } =
                freed.ok_or_else(|| WorkspaceError::None(id.clone()))?;
            Ok(RemovedWorkspace { bytes, entries, left })
        };
        self.detached("remove a workspace", removal).await
    }

    /// Removes workspaces by the policy of the configuration, until there is no supervisor any more, which it does not
    /// keep. Without a policy it only deletes what an earlier run left of removals.
    pub fn keep_workspaces(&self) -> impl Future<Output = ()> + Send + 'static {
        let (inventory, policy) = (self.0.config.inventory.clone(), self.0.config.retention);
        let supervisor = Arc::downgrade(&self.0);
        async move {
            let Some(inventory) = inventory else { return };
            if let Err(error) = inventory.clear().await {
                tracing::warn!(%error, "what is left of removed workspaces cannot be deleted");
            }
            let Some(policy) = policy else { return };
            while let Some(inner) = supervisor.upgrade() {
                Self(inner).sweep(&inventory, &policy).await;
                sleep(SWEEP).await;
            }
        }
    }

    /// Ships workspaces that could not be shipped when their agents ended, now and then, until there is no supervisor any more,
    /// which it does not keep.
    pub fn ship_workspaces(&self) -> impl Future<Output = ()> + Send + 'static {
        let (supervisor, archives) = (Arc::downgrade(&self.0), self.0.container.archives.clone());
        async move {
            let Some(archives) = archives else { return };
            loop {
                sleep(SHIP_AGAIN).await;
                let Some(inner) = supervisor.upgrade() else { return };
                archives.ship_due(|id| inner.container.workspace_use.vacate(id)).await;
            }
        }
    }

    async fn sweep(&self, inventory: &Inventory, policy: &Policy) {
        let (inner, at) = (&self.0, now());
        if inner.container.database.unread().is_some() {
            // Nobody knows yet whose workspaces they are.
            return;
        }
        inner.record_uses(inventory, at).await;
        let kept = match inner.workspaces().await {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(%error, "workspaces cannot be listed, none is removed");
                return;
            }
        };
        let choice = choose(&kept, policy, at, &|id| inner.uses_its_workspace(id));
        for Removal { agent, why, used } in choice.removals {
            match inner.remove(&agent, Unless::UsedAfter(used), why.as_str()).await {
                // Or it was used since.
                Ok(_) | Err(WorkspaceError::InUse(_)) => {}
                Err(error) => tracing::warn!(%agent, %error, "its workspace cannot be removed"),
            }
        }
        if choice.excess_bytes > 0 {
            let (excess_bytes, max_bytes) =
                (choice.excess_bytes, policy.max_bytes.unwrap_or_default());
            inner.sink().record(Event::WorkspacesFull(WorkspacesFull { excess_bytes, max_bytes }));
        }
    }
}

impl Inner {
    async fn workspaces(&self) -> Result<Vec<Kept>, WorkspaceError> {
        let _alone = self.listing.lock().await;
        Ok(self.inventory()?.list(now()).await?)
    }

    fn inventory(&self) -> Result<&Inventory, WorkspaceError> {
        self.config.inventory.as_ref().ok_or(WorkspaceError::NoInventory)
    }

    /// Whether the agent is up, restarts by itself, or was found after the boot alone.
    fn uses_its_workspace(&self, id: &AgentId) -> bool {
        let current = self.registry.get(id).and_then(|agent| agent.current());
        current.is_some_and(|agent| !agent.publisher().state().is_down())
            || self.pending.may_start(id)
            || self.container.database.found_late().contains(id)
    }

    /// For a host that is killed: nobody notes the end of its agents.
    async fn record_uses(&self, inventory: &Inventory, at: Timestamp) {
        for agent in self.registry.all().iter().filter_map(|agent| agent.current()) {
            let id = &agent.spec().id;
            if !agent.publisher().state().is_down()
                && let Err(error) = inventory.used(id, at).await
            {
                tracing::warn!(agent = %id, %error, "the use of its workspace is not noted");
            }
        }
    }

    fn has_archive(&self, id: &AgentId) -> bool {
        self.container.archives.as_ref().is_some_and(|archives| archives.has(id))
    }

    /// Whether another machine has shipped a newer workspace. If nobody can tell, it may have.
    async fn is_overtaken(&self, id: &AgentId) -> bool {
        match &self.container.archives {
            Some(archives) => archives.is_newer(id).await.unwrap_or(true),
            None => false,
        }
    }

    /// Whether there was one. What was kept when a newer workspace arrived goes only with force: it may be nowhere else.
    async fn remove_archive(&self, id: &AgentId, unless: Unless) -> Result<bool, WorkspaceError> {
        let Some(archives) = &self.container.archives else { return Ok(false) };
        let removed = match unless {
            Unless::Nothing => archives.remove(id).await,
            Unless::NotPushed | Unless::UsedAfter(_) => archives.remove_archive(id).await,
        };
        removed.map_err(|error| WorkspaceError::Archived { id: id.clone(), why: error.to_string() })
    }

    /// `None`: there is none, or it was used since. `why` is for the log.
    async fn remove(
        &self,
        id: &AgentId,
        unless: Unless,
        why: &'static str,
    ) -> Result<Option<Freed>, WorkspaceError> {
        let in_use = || WorkspaceError::InUse(id.clone());
        if self.uses_its_workspace(id) {
            return Err(in_use());
        }
        let inventory = self.inventory()?;
        let (aside, had_archive) = {
            let _vacant = self.container.workspace_use.vacate(id).ok_or_else(in_use)?;
            // What is here is not what the archive has.
            let is_overtaken = !matches!(unless, Unless::Nothing) && self.is_overtaken(id).await;
            let seen = match unless {
                Unless::Nothing => None,
                Unless::UsedAfter(seen) if inventory.is_used_after(id, seen).await? => {
                    return Ok(None);
                }
                Unless::UsedAfter(seen) => Some(seen),
                Unless::NotPushed => match inventory.pushed(id).await? {
                    None if self.has_archive(id) => {
                        let why = "it is not on this machine, and only its archive is there";
                        return Err(WorkspaceError::NotPushed { id: id.clone(), why: why.into() });
                    }
                    None => return Ok(None),
                    Some(_) if is_overtaken => {
                        let why = "another machine has shipped a newer one, which is not here";
                        return Err(WorkspaceError::NotPushed { id: id.clone(), why: why.into() });
                    }
                    Some(Pushed::Yes) => None,
                    Some(Pushed::No { why }) => {
                        return Err(WorkspaceError::NotPushed { id: id.clone(), why });
                    }
                },
            };
            // First: one that is there would come back with the next start.
            let had_archive = match unless {
                Unless::UsedAfter(_) if is_overtaken => false,
                _ => self.remove_archive(id, unless).await?,
            };
            let aside = inventory.set_aside(id, seen).await;
            if let (Err(_), Some(archives)) = (&aside, &self.container.archives) {
                archives.owe_archive(id);
            }
            (aside?, had_archive)
        };
        let freed = match aside {
            Some(aside) => aside.delete().await?,
            None if had_archive => Freed::default(),
            None => return Ok(None),
        };
        let Freed { bytes, entries, left } = freed.clone();
        let agent_id = id.clone();
        self.sink().record(Event::WorkspaceRemoved(WorkspaceRemoved {
            agent_id,
            why,
            bytes,
            entries,
            left,
        }));
        Ok(Some(freed))
    }
}

/// What keeps a workspace from going.
#[derive(Debug, Clone, Copy)]
enum Unless {
    Nothing,
    /// There is work that is nowhere else.
    NotPushed,
    /// It was used after this.
    UsedAfter(Timestamp),
}

fn view(kept: Kept, in_use: bool) -> WorkspaceView {
    let Kept { agent, bytes, entries, truncated, used, rig, branch, pushed, .. } = kept;
    let not_pushed = match pushed {
        Pushed::Yes => None,
        Pushed::No { why } => Some(why),
    };
    WorkspaceView {
        agent_id: agent,
        rig,
        branch,
        bytes,
        entries,
        truncated,
        used_at: used,
        in_use,
        not_pushed,
    }
}

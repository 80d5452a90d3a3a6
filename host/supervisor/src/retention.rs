//! Directories of agents that are gone: which there are, and how long they stay.
//!
//! ```text
//!   a start ─▶ in use ─▶ its end ─▶ used last ─▶ the policy, now and then ─▶ set aside ─▶ deleted
//!                                       somebody who asks ──────────────────────┘
//! ```

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use bulkhead_api::{RemovedWorkspace, WorkspaceList, WorkspaceView};
use bulkhead_log::now;
use bulkhead_types::{AgentId, Event, Timestamp};
use bulkhead_workspace::{Freed, Inventory, Kept, Policy, Pushed, Removal, choose};
use tokio::time::sleep;

use crate::workspaces::WorkspaceError;
use crate::{Inner, Supervisor};

/// Between two looks at all workspaces.
const SWEEP: Duration = Duration::from_secs(600);

impl Supervisor {
    /// All workspaces, by agent. Reads each directory and asks git of each repository, one caller at a time.
    pub async fn workspaces(&self) -> Result<WorkspaceList, WorkspaceError> {
        let kept = self.0.workspaces().await?;
        let view = |kept: Kept| {
            let in_use = self.0.uses_its_workspace(&kept.agent);
            view(kept, in_use)
        };
        Ok(WorkspaceList { workspaces: kept.into_iter().map(view).collect() })
    }

    /// Removes the workspace of an agent that does not run. `force`: also with work that is nowhere else.
    pub async fn remove_workspace(
        &self,
        id: &AgentId,
        force: bool,
    ) -> Result<RemovedWorkspace, WorkspaceError> {
        if !force {
            // Of one that is not there it says so as well.
            let kept = self.0.workspaces().await?.into_iter().find(|kept| kept.agent == *id);
            if let Some(Kept { pushed: Pushed::No { why }, .. }) = kept {
                return Err(WorkspaceError::NotPushed { id: id.clone(), why });
            }
        }
        let freed = self.0.remove(id, None).await?;
        let Freed { bytes, entries, left } =
            freed.ok_or_else(|| WorkspaceError::None(id.clone()))?;
        self.0.removed(id, "asked", bytes, entries, left.clone());
        Ok(RemovedWorkspace { bytes, entries, left })
    }

    /// Removes workspaces by the policy of the configuration, from now on. Without one it only deletes what an earlier
    /// run left of removals.
    pub async fn keep_workspaces(self) -> Infallible {
        let Some(inventory) = &self.0.config.inventory else { return pending().await };
        if let Err(error) = inventory.clear().await {
            tracing::warn!(%error, "what is left of removed workspaces cannot be deleted");
        }
        let Some(policy) = &self.0.config.retention else { return pending().await };
        loop {
            self.sweep(inventory, policy).await;
            sleep(SWEEP).await;
        }
    }

    async fn sweep(&self, inventory: &Inventory, policy: &Policy) {
        let (inner, at) = (&self.0, now());
        inner.note_uses(inventory, at).await;
        let kept = match inner.workspaces().await {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(%error, "workspaces cannot be listed, none is removed");
                return;
            }
        };
        let choice = choose(&kept, policy, at, &|id| inner.uses_its_workspace(id));
        for Removal { agent, why, used } in choice.removals {
            match inner.remove(&agent, Some(used)).await {
                Ok(Some(Freed { bytes, entries, left })) => {
                    inner.removed(&agent, why.as_str(), bytes, entries, left);
                }
                // It was used since.
                Ok(None) | Err(WorkspaceError::InUse(_)) => {}
                Err(error) => tracing::warn!(%agent, %error, "its workspace cannot be removed"),
            }
        }
        if choice.excess_bytes > 0 {
            let (excess_bytes, max_bytes) =
                (choice.excess_bytes, policy.max_bytes.unwrap_or_default());
            inner.sink().record(Event::WorkspacesFull { excess_bytes, max_bytes });
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

    /// Whether the agent is up, or comes back by itself.
    fn uses_its_workspace(&self, id: &AgentId) -> bool {
        let current = self.registry.get(id).and_then(|agent| agent.current());
        current.is_some_and(|agent| !agent.publisher().state().is_down())
            || self.pending.may_start(id)
    }

    /// For a host that is killed: nobody notes the end of its agents.
    async fn note_uses(&self, inventory: &Inventory, at: Timestamp) {
        for agent in self.registry.all().iter().filter_map(|agent| agent.current()) {
            let id = &agent.spec().id;
            if !agent.publisher().state().is_down()
                && let Err(error) = inventory.used(id, at).await
            {
                tracing::warn!(agent = %id, %error, "the use of its workspace is not noted");
            }
        }
    }

    /// `None`: there is none, or it was used after `seen`.
    async fn remove(
        &self,
        id: &AgentId,
        seen: Option<Timestamp>,
    ) -> Result<Option<Freed>, WorkspaceError> {
        let in_use = || WorkspaceError::InUse(id.clone());
        if self.uses_its_workspace(id) {
            return Err(in_use());
        }
        let aside = {
            let _vacant = self.container.workspace_use.vacate(id).ok_or_else(in_use)?;
            self.inventory()?.set_aside(id, seen).await?
        };
        match aside {
            Some(aside) => Ok(Some(aside.delete().await?)),
            None => Ok(None),
        }
    }

    fn removed(
        &self,
        id: &AgentId,
        why: &'static str,
        bytes: u64,
        entries: u64,
        left: Option<String>,
    ) {
        let agent_id = id.clone();
        self.sink().record(Event::WorkspaceRemoved { agent_id, why, bytes, entries, left });
    }
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

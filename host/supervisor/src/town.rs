//! What the town is told of the agents, and what it says of them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_agent::Container;
use bulkhead_api::TownRegistry;
use bulkhead_model::{AgentId, Incarnation, Timestamp};
use bulkhead_store::database::{Newest, Snapshot};
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::{Inner, Supervisor, order};

/// One agent that is to be there, without a secret.
#[derive(Debug, Clone)]
pub struct RegistryEntry {
    /// Which agent.
    pub agent_id: AgentId,
    /// Its start, without `envVars`.
    pub request: Arc<RawValue>,
    /// The names of its environment.
    pub env: Vec<String>,
}

/// What the town says of the agents at boot.
#[derive(Default)]
pub enum TownSays {
    /// There is no town to ask.
    #[default]
    NoTown,
    /// It was asked and did not answer in time. Why, in one line.
    Nothing(String),
    /// It wants these, and has these snapshots of them.
    Wants(TownRegistry, Arc<dyn TownSnapshots>),
}

/// A snapshot that the town has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TownSnapshot {
    /// When it was taken.
    pub taken_at: Timestamp,
    /// The guest's own format.
    pub bytes: Arc<[u8]>,
}

/// What the town has of what agents remember.
pub trait TownSnapshots: Send + Sync {
    /// The newest snapshot of an agent, asked for in this time. An error was told already.
    fn newest(
        &self,
        agent_id: AgentId,
        rig_id: Option<String>,
        within: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<Option<TownSnapshot>, ()>> + Send>>;
}

impl Supervisor {
    /// The agents that are to be there: those that run, start, or come back. In no order.
    pub fn registry(&self) -> Vec<RegistryEntry> {
        let rows = self.0.container.database.agents();
        let members = rows.into_iter().filter(|row| row.is_member());
        let entry = |row: bulkhead_store::database::AgentRow| {
            let (request, env) = order::public(row.order.as_deref()?)?;
            Some(RegistryEntry { agent_id: row.id, request: request.into(), env })
        };
        members.filter_map(entry).collect()
    }

    /// Rises when the registry changed.
    pub fn registry_changes(&self) -> watch::Receiver<u64> {
        self.0.container.database.member_changes()
    }

    /// The town is about to be told that these are to be there.
    pub fn town_is_told(&self, agents: &[AgentId]) {
        self.0.container.database.town_is_told(agents);
    }

    /// Nothing that the town was to be told since it acknowledged anything can have reached it.
    pub fn town_was_not_told(&self) {
        self.0.container.database.town_was_not_told();
    }

    /// The town has acknowledged that these are to be there.
    pub fn town_wants(&self, agents: &[AgentId]) {
        self.0.container.database.town_wants(agents);
    }

    /// The name and the time of an agent's last event in this run.
    pub fn last_event(&self, id: &AgentId) -> Option<(Arc<str>, Timestamp)> {
        let last = self.0.registry.get(id)?.ring.last(1).pop()?;
        Some((last.event, last.timestamp))
    }

    /// The id of an agent's last event in this run, 0 when there is none.
    pub fn last_event_id(&self, id: &AgentId) -> u64 {
        self.0.registry.get(id).map_or(0, |agent| agent.ring.last_id())
    }

    /// Rises when snapshots were stored.
    pub fn snapshot_changes(&self) -> watch::Receiver<u64> {
        self.0.container.database.snapshot_changes()
    }

    /// Agents with snapshots that were stored since the last call.
    pub fn take_changed_snapshots(&self) -> Vec<AgentId> {
        self.0.container.database.take_changed_snapshots()
    }

    /// The newest snapshot of an agent. Reads the disk: not for a thread that must not wait.
    pub fn newest_snapshot(&self, id: &AgentId) -> Option<TownSnapshot> {
        newest(&self.0.container, id)
    }
}

impl Inner {
    /// Takes over what the town has of an agent when it is newer than what is here, and has the town told of it
    /// when it is older. The agent starts either way.
    pub(crate) async fn fetch_snapshot(
        &self,
        town: &dyn TownSnapshots,
        id: AgentId,
        rig_id: Option<String>,
        within: Duration,
    ) {
        let Ok(remote) = town.newest(id.clone(), rig_id, within).await else { return };
        let container = Arc::clone(&self.container);
        let compared = tokio::task::spawn_blocking(move || take_over(&container, id, remote));
        // A panic of it was told by the hook.
        let _ = compared.await;
    }
}

fn newest(container: &Container, id: &AgentId) -> Option<TownSnapshot> {
    match container.database.newest_snapshot(id) {
        Ok(Newest::Kept(kept)) => {
            let Snapshot { taken_at, bytes, .. } = kept.snapshot;
            Some(TownSnapshot { taken_at, bytes })
        }
        Ok(Newest::None | Newest::Rotten { .. }) | Err(_) => None,
    }
}

fn take_over(container: &Container, id: AgentId, remote: Option<TownSnapshot>) {
    let database = &container.database;
    let local = newest(container, &id);
    let remote_at = remote.as_ref().map(|remote| remote.taken_at);
    let local_at = local.as_ref().map(|local| local.taken_at);
    if local_at >= remote_at {
        if local_at > remote_at {
            database.snapshot_changed(&id);
        }
        return;
    }
    let Some(TownSnapshot { taken_at, bytes }) = remote else { return };
    if database.is_set_aside(&id, &bytes) {
        tracing::warn!(agent = %id, "the town's snapshot is one that the agent failed with; it is not used");
        return;
    }
    let size = bytes.len();
    let snapshot = Snapshot { agent: id.clone(), incarnation: Incarnation(0), taken_at, bytes };
    match database.keep_snapshot(snapshot) {
        Ok(_) => {
            tracing::info!(agent = %id, bytes = size, %taken_at, "the town's snapshot is newer and is used")
        }
        Err(error) => tracing::warn!(agent = %id, %error, "the town's snapshot was not kept"),
    }
}

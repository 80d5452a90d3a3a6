//! What is reported to the town about the agents, and what it says of them.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_agent::Container;
use bulkhead_api::{RawRow, TownRegistry};
use bulkhead_store::database::{AgentRow, Newest, NotDurable, Snapshot, TownKnows, Wanted};
use bulkhead_types::event::AgentTag;
use bulkhead_types::{AgentId, Event, Incarnation, Timestamp};
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::timeout_at;

use crate::{Inner, Supervisor, order};

/// One desired agent, without a secret.
#[derive(Debug, Clone)]
pub struct RegistryEntry {
    /// Which agent.
    pub agent_id: AgentId,
    /// Its start, without `envVars`.
    pub request: Arc<RawValue>,
    /// The names of its environment.
    pub env: Vec<String>,
}

/// One row of the registry.
#[derive(Debug, Clone)]
pub enum RegistryRow {
    /// A desired agent.
    Agent(RegistryEntry),
    /// A row of the town that goes back as it came.
    AsItCame {
        /// Which agent it is about, if it says so.
        agent_id: Option<AgentId>,
        /// The row.
        row: RawRow,
    },
}

/// What the town says of the agents at boot.
#[derive(Default)]
pub enum TownAnswer {
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

/// What the town has of what one agent remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TownHas {
    /// Nothing.
    Nothing,
    /// A snapshot of ours.
    Ours(TownSnapshot),
    /// Something of another format, which no agent is given and nothing is uploaded over.
    Foreign {
        /// When it was taken, as the town says.
        taken_at: Timestamp,
        /// Its size.
        bytes: usize,
    },
}

/// What the town has of what agents remember.
pub trait TownSnapshots: Send + Sync {
    /// What the town has of an agent, asked for in this time. An error was reported already.
    fn newest(
        &self,
        agent_id: AgentId,
        rig_id: Option<String>,
        within: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<TownHas, ()>> + Send>>;
}

impl Supervisor {
    /// The desired agents: those that run, start, or are restarted, in no order, and then the rows of the
    /// town that go back as they came.
    pub fn registry(&self) -> Vec<RegistryRow> {
        let mut rows = self.0.container.database.agents();
        rows.retain(AgentRow::is_member);
        let kept = self.0.kept_rows.rows(&rows.iter().map(|row| &row.id).collect());
        let are_kept: HashSet<_> = kept.iter().filter_map(|(id, _)| id.as_ref()).collect();
        let ours = rows.iter().filter(|row| !are_kept.contains(&row.id)).filter_map(entry);
        let mut listed: Vec<_> = ours.map(RegistryRow::Agent).collect();
        let kept = kept.into_iter();
        listed.extend(kept.map(|(agent_id, row)| RegistryRow::AsItCame { agent_id, row }));
        listed
    }

    /// The town said what it wants when it was too late to act on it. What this host has not decided about is not
    /// taken from it.
    pub fn town_lists(&self, registry: &TownRegistry) {
        let rows = self.0.container.database.agents();
        let decided: HashSet<_> =
            rows.iter().filter(|row| is_decided(row)).map(|it| &it.id).collect();
        self.0.kept_rows.keep_undecided(registry, |id| decided.contains(id));
    }

    /// Whether an agent is desired: it runs, starts, or is restarted, in this run or in the next.
    pub fn is_wanted(&self, id: &AgentId) -> bool {
        self.0.container.database.member(id).is_some()
    }

    /// Rises when the registry changed.
    pub fn registry_changes(&self) -> watch::Receiver<u64> {
        self.0.container.database.member_changes()
    }

    /// The town is about to be notified that these are desired.
    pub fn notifying_town(&self, agents: &[AgentId]) {
        self.0.container.database.notifying_town(agents);
    }

    /// No notification since its last acknowledgement can have reached the town.
    pub fn town_not_notified(&self) {
        self.0.container.database.town_not_notified();
    }

    /// The town has acknowledged that these are desired.
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
        newest(&self.0.container, id).ok().flatten()
    }
}

impl Inner {
    /// Takes over what the town has of an agent when it is newer than what is here, and has the town notified of it
    /// when it is older. The agent starts either way, after `within` at the latest.
    pub(crate) async fn fetch_snapshot(
        &self,
        town: &dyn TownSnapshots,
        agent: AgentTag,
        rig_id: Option<String>,
        within: Duration,
    ) {
        let until = Instant::now() + within;
        let id = agent.agent_id.clone();
        let Ok(remote) = town.newest(id.clone(), rig_id, within).await else { return };
        let remote = match remote {
            TownHas::Nothing => None,
            TownHas::Ours(snapshot) => Some(snapshot),
            TownHas::Foreign { taken_at, bytes } => {
                let event = Event::SnapshotSetAside {
                    agent,
                    generation: 0,
                    taken_at,
                    bytes,
                    failures: 0,
                    reason: FOREIGN,
                };
                let (name, data) = (event.name(), event.fields());
                match self.registry.get(&id) {
                    Some(agent) => agent.ring.push(name, data),
                    None => self.container.feed.publish_of(&id, name, data),
                };
                self.sink().record(event);
                return;
            }
        };
        let container = Arc::clone(&self.container);
        let compared =
            tokio::task::spawn_blocking(move || take_over_readable(&container, id, remote));
        // A panic of it was reported by the hook. A disk that does not answer holds up no start.
        let _ = timeout_at(until.into(), compared).await;
    }
}

/// Why what the town has is given to nobody.
const FOREIGN: &str = "the town's snapshot is of a foreign format; it stays there as it is";

/// What may be shown of an agent, if its start can be read.
fn entry(row: &AgentRow) -> Option<RegistryEntry> {
    let (request, env) = order::public(row.order.as_deref()?)?;
    Some(RegistryEntry { agent_id: row.id.clone(), request: request.into(), env })
}

/// Whether what this host knows of an agent goes before what the town lists: it is desired, it is in quarantine,
/// or it was stopped after the town knew of it.
fn is_decided(row: &AgentRow) -> bool {
    let was_heard_of = row.town_knows != TownKnows::No;
    row.restarts.quarantine.is_some()
        || match row.wanted {
            Wanted::Running => entry(row).is_some(),
            Wanted::Stopped => was_heard_of,
            Wanted::Failed => false,
        }
}

fn newest(container: &Container, id: &AgentId) -> Result<Option<TownSnapshot>, NotDurable> {
    Ok(match container.database.newest_snapshot(id)? {
        Newest::Kept(kept) => {
            let Snapshot { taken_at, bytes, .. } = kept.snapshot;
            Some(TownSnapshot { taken_at, bytes })
        }
        Newest::None | Newest::Rotten { .. } => None,
    })
}

/// As [`take_over`], where what is here can be read. What cannot may be newer, and is not replaced.
fn take_over_readable(container: &Container, id: AgentId, remote: Option<TownSnapshot>) {
    if let Err(error) = take_over(container, &id, remote) {
        tracing::warn!(agent = %id, %error, "the town's snapshot is not used: that of the database cannot be read");
    }
}

fn take_over(
    container: &Container,
    id: &AgentId,
    remote: Option<TownSnapshot>,
) -> Result<(), NotDurable> {
    let database = &container.database;
    let local = newest(container, id)?;
    let remote_at = remote.as_ref().map(|remote| remote.taken_at);
    let local_at = local.as_ref().map(|local| local.taken_at);
    if local_at >= remote_at {
        if local_at > remote_at {
            database.snapshot_changed(id);
        }
        return Ok(());
    }
    let Some(TownSnapshot { taken_at, bytes }) = remote else { return Ok(()) };
    if database.is_set_aside(id, &bytes)? {
        tracing::warn!(agent = %id, "the town's snapshot is one that the agent failed with; it is not used");
        return Ok(());
    }
    let size = bytes.len();
    let (agent, incarnation) = (id.clone(), Incarnation(0));
    let snapshot = Snapshot { agent, incarnation, taken_at, code: None, bytes };
    match database.keep_snapshot(snapshot) {
        Ok(_) => {
            tracing::info!(agent = %id, bytes = size, %taken_at, "the town's snapshot is newer and is used")
        }
        Err(error) => tracing::warn!(agent = %id, %error, "the town's snapshot was not kept"),
    }
    Ok(())
}

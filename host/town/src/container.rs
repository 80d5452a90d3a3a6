//! What the loops need from below.

use std::sync::Arc;

use bulkhead_api::town_snapshot::Foreign;
use bulkhead_api::{AgentView, EventsPage, NudgeRequest, RawRow, TownRegistry};
use bulkhead_types::{AgentId, Timestamp};
use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::watch;

/// One agent as it is reported to the town.
#[derive(Debug, Clone)]
pub struct AgentReport {
    /// Its state.
    pub view: AgentView,
    /// The name and the time of the last event that it had in this run.
    pub last_event: Option<(Arc<str>, Timestamp)>,
}

/// One row of the registry.
#[derive(Debug, Clone)]
pub enum Listed {
    /// A desired agent, without a secret.
    Agent {
        /// Which agent.
        agent_id: AgentId,
        /// Its start, without `envVars`.
        request: Arc<RawValue>,
        /// The names of its environment.
        env: Vec<String>,
    },
    /// A row that only the town understands, as it came.
    AsItCame {
        /// Which agent it is about, if it says so.
        agent_id: Option<AgentId>,
        /// The row.
        row: RawRow,
    },
}

impl Listed {
    /// Which agent it is about, if it says so.
    pub fn agent_id(&self) -> Option<&AgentId> {
        match self {
            Self::Agent { agent_id, .. } => Some(agent_id),
            Self::AsItCame { agent_id, .. } => agent_id.as_ref(),
        }
    }
}

/// What an agent remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// When it was taken.
    pub taken_at: Timestamp,
    /// The guest's own format.
    pub bytes: Bytes,
}

/// What the town has of what an agent remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TownCopy {
    /// Nothing.
    Nothing,
    /// A snapshot of this program.
    Ours(Remembered),
    /// Something of another format. It is no agent's to read, and nobody's here to overwrite.
    Foreign {
        /// When it was taken, as the town says.
        taken_at: Timestamp,
        /// Its size.
        bytes: usize,
        /// How that is known.
        why: Foreign,
    },
}

/// The supervisor as the loops see it. A trait, so that their own tests need no engine.
///
/// Nothing of it may wait, except where it says so: all of it runs on the only thread of the town's client.
pub trait Container: Send + Sync + 'static {
    /// All agents that are known, those that ended included.
    fn agents(&self) -> Vec<AgentReport>;
    /// One agent.
    fn agent(&self, id: &AgentId) -> Option<AgentView>;
    /// Whether new starts are taken.
    fn is_ready(&self) -> bool;

    /// The desired agents: those that run, start, or are restarted; and what goes back as it came.
    fn registry(&self) -> Vec<Listed>;
    /// Whether an agent is one of them.
    fn is_wanted(&self, id: &AgentId) -> bool;
    /// What the town lists, when it was not read at boot. Nothing is started or stopped for it, and nothing that the
    /// container does not know better is taken from the town.
    fn town_lists(&self, registry: &TownRegistry);
    /// Rises when the registry changed.
    fn registry_changes(&self) -> watch::Receiver<u64>;
    /// The town is about to be notified that these are the desired agents.
    fn notifying(&self, agents: &[AgentId]);
    /// No notification since its last acknowledgement can have reached the town.
    fn not_notified(&self);
    /// The town has acknowledged that these are the desired agents.
    fn acknowledged(&self, agents: &[AgentId]);

    /// An agent's events with an id above `after`.
    fn events_after(&self, id: &AgentId, after: u64) -> EventsPage;
    /// The id of an agent's last event, 0 when there is none.
    fn last_event_id(&self, id: &AgentId) -> u64;

    /// Leaves a nudge. An error says why it was not taken.
    fn nudge(&self, id: &AgentId, request: NudgeRequest) -> Result<(), String>;

    /// Rises when agents have new snapshots.
    fn snapshot_changes(&self) -> watch::Receiver<u64>;
    /// Agents with snapshots that were stored since the last call.
    fn take_changed_snapshots(&self) -> Vec<AgentId>;
    /// The newest snapshot of an agent. Reads the disk: called on a thread that may wait.
    fn newest_snapshot(&self, id: &AgentId) -> Option<Remembered>;
}

//! The supervisor as the container that reports to the town, and the town as a keeper of snapshots.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_api::{AgentView, EventsPage, NudgeRequest, TownRegistry};
use bulkhead_supervisor::{
    RegistryEntry, RegistryRow, Supervisor, TownHas, TownSnapshot, TownSnapshots,
};
use bulkhead_types::AgentId;
use bytes::Bytes;
use tokio::sync::watch;

use crate::container::{AgentReport, Container, Listed, Remembered, TownCopy};
use crate::service::Handle;

impl Container for Supervisor {
    fn agents(&self) -> Vec<AgentReport> {
        let report =
            |view: AgentView| AgentReport { last_event: self.last_event(&view.agent_id), view };
        self.list().into_iter().map(report).collect()
    }

    fn agent(&self, id: &AgentId) -> Option<AgentView> {
        self.status(id)
    }

    fn is_ready(&self) -> bool {
        Supervisor::is_ready(self)
    }

    fn registry(&self) -> Vec<Listed> {
        let listed = |row| match row {
            RegistryRow::Agent(RegistryEntry { agent_id, request, env }) => {
                Listed::Agent { agent_id, request, env }
            }
            RegistryRow::AsItCame { agent_id, row } => Listed::AsItCame { agent_id, row },
        };
        Supervisor::registry(self).into_iter().map(listed).collect()
    }

    fn is_wanted(&self, id: &AgentId) -> bool {
        Supervisor::is_wanted(self, id)
    }

    fn town_lists(&self, registry: &TownRegistry) {
        Supervisor::town_lists(self, registry);
    }

    fn registry_changes(&self) -> watch::Receiver<u64> {
        Supervisor::registry_changes(self)
    }

    fn notifying(&self, agents: &[AgentId]) {
        self.notifying_town(agents);
    }

    fn not_notified(&self) {
        self.town_not_notified();
    }

    fn acknowledged(&self, agents: &[AgentId]) {
        self.town_wants(agents);
    }

    fn events_after(&self, id: &AgentId, after: u64) -> EventsPage {
        Supervisor::events_after(self, id, after)
    }

    fn last_event_id(&self, id: &AgentId) -> u64 {
        Supervisor::last_event_id(self, id)
    }

    fn nudge(&self, id: &AgentId, request: NudgeRequest) -> Result<(), String> {
        Supervisor::nudge(self, id, request).map(|_| ()).map_err(|error| error.to_string())
    }

    fn snapshot_changes(&self) -> watch::Receiver<u64> {
        Supervisor::snapshot_changes(self)
    }

    fn take_changed_snapshots(&self) -> Vec<AgentId> {
        Supervisor::take_changed_snapshots(self)
    }

    fn newest_snapshot(&self, id: &AgentId) -> Option<Remembered> {
        let TownSnapshot { taken_at, bytes } = Supervisor::newest_snapshot(self, id)?;
        Some(Remembered { taken_at, bytes: Bytes::from_owner(bytes) })
    }
}

impl TownSnapshots for Handle {
    fn newest(
        &self,
        agent_id: AgentId,
        rig_id: Option<String>,
        within: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<TownHas, ()>> + Send>> {
        let this = self.clone();
        Box::pin(async move {
            // Many agents start at once: one that waited in vain is enough.
            if !this.figures().reachable {
                return Err(());
            }
            Ok(match this.snapshot(agent_id, rig_id, within).await.map_err(|_| ())? {
                TownCopy::Nothing => TownHas::Nothing,
                TownCopy::Ours(Remembered { taken_at, bytes }) => {
                    TownHas::Ours(TownSnapshot { taken_at, bytes: Arc::from(&bytes[..]) })
                }
                TownCopy::Foreign { taken_at, bytes, .. } => TownHas::Foreign { taken_at, bytes },
            })
        })
    }
}

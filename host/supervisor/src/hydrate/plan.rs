//! What earlier runs left, until it is decided.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use bulkhead_agent::{Agent, SettingsChange, StartError, StartFailure, StartOrder};
use bulkhead_api::{IfRunning, StartRequest, TownAgent, TownRegistry, UnreadableRow};
use bulkhead_store::database::{AgentRow, TownKnows, UnreadableAgent, Wanted};
use bulkhead_tasks::containment::contain;
use bulkhead_types::event::HydrationFailed;
use bulkhead_types::{AgentId, Incarnation, StartPhase};

use super::decide::{Fate, Listing, PlannedStart, Quarantined, TownChange, decide};
use crate::SupervisorConfig;
use crate::earlier::{self, Earlier};
use crate::host_death::Blamed;
use crate::order::{self, Origin};
use crate::registry::Registry;

/// What earlier runs left.
#[derive(Default)]
pub(crate) struct Plan {
    left: Vec<(AgentId, Left)>,
    /// Ends that deaths of the host were, not reported yet.
    pub(super) blamed: Vec<Blamed>,
    /// Why what earlier runs left could not be made a plan of.
    pub(super) broken: Option<HydrationFailed>,
}

/// What they left of one agent.
struct Left {
    fate: Fate,
    /// What the town knows of it.
    knows: TownKnows,
    /// Its highest number.
    number: Incarnation,
    /// Keeps what its slot remembers until it is its turn.
    slot: Option<Arc<Agent>>,
}

/// What was decided about one agent.
pub(super) struct Decided {
    pub id: AgentId,
    pub fate: Fate,
    pub town: Option<TownChange>,
    /// The highest number that is known of it.
    pub number: Incarnation,
    /// Keeps what its slot remembers until it is its turn.
    pub slot: Option<Arc<Agent>>,
}

impl Plan {
    /// Puts what is known of agents into their slots, and yields what has to be done. Whatever is wrong with what
    /// is known, the host comes up.
    pub(crate) fn make(
        earlier: Earlier,
        blamed: Vec<Blamed>,
        config: &SupervisorConfig,
        registry: &Registry,
    ) -> Self {
        let plan = contain(|| Self::of(earlier, config, registry)).unwrap_or_else(|panicked| {
            let action = "start the missing agents by hand, and report the panic";
            let broken = Some(HydrationFailed { error: panicked.to_string(), action });
            Self { broken, ..Self::default() }
        });
        Self { blamed, ..plan }
    }

    fn of(earlier: Earlier, config: &SupervisorConfig, registry: &Registry) -> Self {
        let unreadable = earlier.unreadable.into_iter().map(|UnreadableAgent { id, wanted }| {
            let fate = match wanted {
                Some(Wanted::Stopped) => Fate::Stopped,
                Some(Wanted::Running | Wanted::Failed) | None => {
                    Fate::Unreadable(earlier::unreadable())
                }
            };
            (id, Left { fate, ..Left::default() })
        });
        let rows = earlier.agents.into_iter().map(|row| {
            let (id, knows, number) = (row.id.clone(), row.town_knows, row.incarnation);
            let is_from_elsewhere = earlier.from_elsewhere.contains(&id);
            let (fate, slot) = match row.matters() {
                false if is_from_elsewhere => remember_history(row, registry),
                true => remember(row, config, registry),
                false if row.wanted == Wanted::Stopped => (Fate::Stopped, None),
                false => (Fate::Failed, None),
            };
            (id, Left { fate, knows, number, slot })
        });
        let broken = earlier.unread.map(|reason| HydrationFailed {
            error: format!("the database could not be read: {reason}"),
            action: "repair what the error names, and restart the host: nothing in the database is overwritten until it can be read",
        });
        Self { left: unreadable.chain(rows).collect(), broken, ..Self::default() }
    }

    /// Whom earlier runs left to be started.
    pub(crate) fn ids_to_start(&self) -> impl Iterator<Item = AgentId> {
        let starts = self.left.iter().filter(|(_, left)| matches!(left.fate, Fate::Start(_)));
        starts.map(|(id, _)| id.clone())
    }

    /// Asks the town, if it said something, and the configuration about every agent that one of the three knows.
    pub(super) fn decide(
        self,
        town: Option<TownRegistry>,
        configured: Vec<StartRequest>,
    ) -> Vec<Decided> {
        let mut town = town.map(Town::of);
        let wanted = town.iter().flat_map(|town| town.agents.keys().cloned());
        let wanted = wanted.chain(configured.iter().map(|request| request.agent_id.clone()));
        let mut ids: Vec<_> = self.left.iter().map(|(id, _)| id.clone()).chain(wanted).collect();
        let mut left: HashMap<_, _> = self.left.into_iter().collect();
        let mut configured: HashMap<_, _> =
            configured.into_iter().map(|request| (request.agent_id.clone(), request)).collect();
        let mut seen = HashSet::new();
        ids.retain(|id| seen.insert(id.clone()));
        let one = |id: AgentId| {
            let Left { fate, knows, number, slot } = left.remove(&id).unwrap_or_default();
            let listing = town.as_mut().map_or(Listing::Silent, |town| town.listing(&id));
            let (fate, town) = decide(fate, knows, listing, configured.remove(&id));
            let slot = slot.filter(|_| matches!(fate, Fate::Start(_)));
            Decided { id, fate, town, number, slot }
        };
        ids.into_iter().map(one).collect()
    }
}

impl Default for Left {
    fn default() -> Self {
        let (knows, number) = (TownKnows::default(), Incarnation(0));
        Self { fate: Fate::Unknown, knows, number, slot: None }
    }
}

/// What is known of an agent that ran on another disk: its slot goes on with its history, no matter who wants it here.
fn remember_history(row: AgentRow, registry: &Registry) -> (Fate, Option<Arc<Agent>>) {
    let agent = registry.agent(&row.id);
    agent.remember(Arc::unwrap_or_clone(row.restarts));
    (Fate::History, Some(agent))
}

/// What is to become of an agent that ran, or is in quarantine, with its slot, which remembers its history from here
/// on.
fn remember(
    row: AgentRow,
    config: &SupervisorConfig,
    registry: &Registry,
) -> (Fate, Option<Arc<Agent>>) {
    let agent = registry.agent(&row.id);
    let (restarts, record) = (Arc::unwrap_or_clone(row.restarts), row.order.unwrap_or_default());
    let (request, configured) = match order::read(&record) {
        Ok(read) => read,
        Err(text) => {
            agent.remember(restarts);
            let kind = StartFailure::Host;
            let error = StartError::new(StartPhase::Admission, kind, text);
            return (Fate::Unreadable(error), None);
        }
    };
    if restarts.quarantine.is_none() {
        let planned = PlannedStart {
            request,
            origin: Origin::EarlierRun { configured },
            settings: row.settings.as_deref().and_then(SettingsChange::from_record),
            is_suspect: restarts.host_deaths > 0,
            is_quarantined: false,
        };
        agent.remember(restarts);
        return (Fate::Start(Box::new(planned)), Some(agent));
    }
    let error = match config.catalog.resolve(request.clone()) {
        Ok(resolved) => {
            let order = StartOrder {
                code: resolved.code,
                workspace: resolved.workspace.then(|| config.workspace(&row.id)),
                if_running: IfRunning::Keep,
                force: false,
                record,
                settings: None,
                stays: true,
                resumes: true,
                deadline: Instant::now(),
                patience: resolved.patience,
                prompt_message_id: String::new(),
                trace: None,
                spec: Arc::new(resolved.spec),
            };
            agent.remember_quarantined(order, restarts);
            None
        }
        Err(error) => {
            agent.remember(restarts);
            Some(error)
        }
    };
    (Fate::Quarantined(Box::new(Quarantined { configured, request, error })), None)
}

/// What the town said.
struct Town {
    agents: HashMap<AgentId, TownAgent>,
    unreadable: HashSet<AgentId>,
    /// Rows of it may be of any agent.
    has_nameless: bool,
}

impl Town {
    fn of(registry: TownRegistry) -> Self {
        let TownRegistry { agents, unreadable, nameless } = registry;
        for UnreadableRow { agent_id: agent, problem, .. } in &unreadable {
            tracing::warn!(%agent, problem, "the town's row of an agent cannot be read; it is left as it is");
        }
        if !nameless.is_empty() {
            tracing::warn!(
                nameless = nameless.len(),
                "rows of the town's registry name no agent; nothing is taken out"
            );
        }
        let agents = agents.into_iter().map(|agent| (agent.request.agent_id.clone(), agent));
        let unreadable = unreadable.into_iter().map(|row| row.agent_id);
        Self {
            agents: agents.collect(),
            unreadable: unreadable.collect(),
            has_nameless: !nameless.is_empty(),
        }
    }

    fn listing(&mut self, id: &AgentId) -> Listing {
        match self.agents.remove(id) {
            Some(agent) => Listing::Lists(Box::new(agent)),
            None if self.has_nameless || self.unreadable.contains(id) => Listing::Silent,
            None => Listing::Omits,
        }
    }
}

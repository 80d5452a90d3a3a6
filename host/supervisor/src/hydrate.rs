//! Bringing agents back at boot: what earlier runs left, what the town wants, what the configuration wants.
//!
//! ```text
//!   rows of the database ─▶ Plan::make ── quarantined: shown as such, and not started
//!                               │         history and numbers: in place before the first request
//!                               ▼
//!   the town, if it answers ─▶ decide, one agent at a time ◀─ configuration
//!                               │
//!                               ▼
//!                             mayors ─▶ the others, so many at once ─▶ running | failed | late
//! ```
//!
//! - [`decide`]: what becomes of one agent, a pure function with its tables
//! - [`plan`]: what earlier runs left, until it is decided
//! - [`pending`]: those that have to be started and were not yet
//! - [`report`]: what became of them
//!
//! An agent that was at work when the host died of something that an agent can do comes after all others, and one such
//! agent at a time: [`crate::host_death`].
//!
//! No start waits for this. What is known of an id is in its slot before the control server is there, so a start
//! that comes before it is an agent's turn simply goes first, and one that comes later finds a start under way:
//! an equal one joins it, another one supersedes it, each with its own deadline. A guest that hangs keeps its
//! permit among those that start at once for [`PATIENCE`], and holds up readiness for
//! [`HydrationRules::deadline`] at most.
//!
//! A town that does not answer in its part of the time changes nothing, now or later. A row of the town that
//! cannot be read takes nothing out, and is sent back to the town as it came ([`crate::kept_rows`]). Where the town
//! has only names of an environment, the values are those that the store has for them. Before an agent starts, the
//! newer one of the town's snapshot and the store's is put in place.

mod decide;
mod pending;
mod plan;
mod report;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_agent::{Admission, Agent, AgentHandle, StartError, StartFailure};
use bulkhead_api::{IfRunning, StartRequest, TownRegistry};
use bulkhead_store::database::Change;
use bulkhead_tasks::Spawner;
use bulkhead_types::event::{AgentTag, HydrationFinished, HydrationResult, HydrationStarted};
use bulkhead_types::time::millis;
use bulkhead_types::{AgentId, Event, Incarnation};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};

use self::decide::{Fate, PlannedStart, TownChange};
pub(crate) use self::pending::Pending;
use self::plan::Decided;
pub(crate) use self::plan::Plan;
pub use self::report::HydrationReport;
use self::report::{Outcome, OutcomeSender};
use crate::order::{self, Origin};
use crate::start::{Admitted, MAYOR};
use crate::town::{TownAnswer, TownSnapshots};
use crate::{Inner, Supervisor};

/// How long a start counts among those that are made at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the next suspect waits for the turn of the one before it.
const PROOF: Duration = Duration::from_secs(30);

/// Most starts at once, whatever the configuration says.
const MAX_PARALLEL: usize = 4096;

/// How agents are restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HydrationRules {
    /// Starts at once.
    pub parallel: usize,
    /// How long readiness waits for all of them. Those that take longer go on.
    pub deadline: Duration,
}

/// One agent to be started.
struct Entry {
    planned: PlannedStart,
    /// Keeps what its slot remembers until it is its turn.
    _slot: Option<Arc<Agent>>,
}

/// What was decided about all.
#[derive(Default)]
struct Decisions {
    starts: Vec<Entry>,
    quarantined: Vec<AgentId>,
    failed: Vec<(AgentId, StartError)>,
    /// How many the town wants of those to be started.
    from_town: usize,
}

impl Decisions {
    fn started(&self) -> impl Iterator<Item = &AgentId> {
        self.starts.iter().map(Entry::id)
    }

    /// Whose message in flight is kept. Of a plan that broke nobody knows whom it leaves out: what is kept for them
    /// stays.
    fn resumed(&self, is_whole: bool) -> Option<HashSet<AgentId>> {
        is_whole.then(|| self.started().cloned().collect())
    }
}

impl Entry {
    fn id(&self) -> &AgentId {
        &self.planned.request.agent_id
    }

    fn is_mayor(&self) -> bool {
        self.planned.request.role == MAYOR
    }
}

impl Supervisor {
    /// Brings back what earlier runs left, and starts what the town and the configuration want. Returns when every agent
    /// runs or failed, or at the deadline; never fails as a whole because of one of them. The second call has
    /// nothing to do but the configuration's part.
    pub async fn hydrate(
        &self,
        configured: Vec<StartRequest>,
        town: TownAnswer,
        rules: HydrationRules,
    ) -> HydrationReport {
        let began = Instant::now();
        self.0.upgrades.report();
        let until = began + rules.deadline;
        let mut plan = self.0.take_plan();
        let (from_store, is_whole) = (plan.ids_to_start().count(), plan.broken.is_none());
        self.0.report_plan(&mut plan);
        let (mut source, mut town_error, mut snapshots) = ("store", None, None);
        let registry = match town {
            TownAnswer::NoTown => None,
            TownAnswer::Nothing(error) => {
                town_error = Some(error);
                None
            }
            TownAnswer::Wants(registry, town) => {
                (source, snapshots) = ("town_and_store", Some(Fetching { town, until }));
                Some(registry)
            }
        };
        let decisions = self.0.settle(plan, registry, configured);
        let (agents, quarantined) =
            (decisions.starts.len() + decisions.failed.len(), decisions.quarantined.len());
        self.0.sink().record(Event::HydrationStarted(HydrationStarted {
            agents,
            from_store,
            from_town: decisions.from_town,
            quarantined,
            source,
            town_error,
        }));
        if let Some(resumed) = decisions.resumed(is_whole) {
            self.0.container.journal.keep_only(&resumed);
        }
        let mut report = HydrationReport { agents, quarantined, ..HydrationReport::default() };
        let results = self.carry_out(decisions, rules.parallel, snapshots, until, &mut report);
        let results = results.await;
        let HydrationReport { running, failed, late, overtaken, .. } = report;
        self.0.sink().record(Event::HydrationFinished(HydrationFinished {
            agents,
            running,
            failed,
            late,
            overtaken,
            quarantined,
            source,
            duration_ms: millis(began.elapsed()),
            results,
        }));
        report
    }

    /// Starts those that have to be started, and counts what became of them until then.
    async fn carry_out(
        &self,
        decisions: Decisions,
        parallel: usize,
        snapshots: Option<Fetching>,
        until: Instant,
        report: &mut HydrationReport,
    ) -> Vec<HydrationResult> {
        let mut results = Vec::new();
        let mut waiting: HashSet<_> = decisions.started().cloned().collect();
        for (id, error) in decisions.failed {
            self.0.log_failed(id.clone(), String::new(), &error);
            report.count(id, Some(Outcome::Failed(error)), &mut results);
        }
        // Each reports once.
        let (sender, mut outcomes) = channel(waiting.len().max(1));
        let starts = decisions.starts.into_iter().map(|entry| {
            let outcome = OutcomeSender::new(entry.id().clone(), sender.clone());
            (entry, outcome)
        });
        let spawner = self.0.container.spawner();
        let all = self.clone().start_all(starts.collect(), parallel, snapshots, spawner.clone());
        drop(sender);
        drop(spawner.spawn_infallible("hydration starts", all));
        // What is not through by then goes on without anybody waiting for it.
        while let Some((id, outcome)) = next(&mut outcomes, until).await {
            waiting.remove(&id);
            report.count(id, Some(outcome), &mut results);
        }
        for id in waiting {
            report.count(id, None, &mut results);
        }
        results
    }

    /// Starts all of them, the mayors first and the suspects last.
    async fn start_all(
        self,
        starts: Vec<(Entry, OutcomeSender)>,
        parallel: usize,
        snapshots: Option<Fetching>,
        spawner: Spawner,
    ) {
        let parallel = parallel.clamp(1, MAX_PARALLEL);
        let permits = Arc::new(Semaphore::new(parallel));
        let (mut suspects, others): (Vec<_>, Vec<_>) =
            starts.into_iter().partition(|(entry, _)| entry.planned.is_suspect);
        suspects.sort_by_key(|(entry, _)| !entry.is_mayor());
        let (mayors, others): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|(entry, _)| entry.is_mayor());
        for group in [mayors, others] {
            for (entry, outcome) in group {
                // The semaphore is never closed.
                let permit = Arc::clone(&permits).acquire_owned().await.ok();
                drop(self.start_one(entry, permit, snapshots.clone(), outcome, &spawner));
            }
            // The next ones begin when all of these run, or are late.
            let all = u32::try_from(parallel).unwrap_or(u32::MAX);
            drop(permits.acquire_many(all).await);
        }
        // Alone, so that a host that dies again dies with the one in flight that kills it.
        for (entry, outcome) in suspects {
            let id = entry.id().clone();
            let permit = Arc::clone(&permits).acquire_owned().await.ok();
            let _ = self.start_one(entry, permit, snapshots.clone(), outcome, &spawner).await;
            if let Some(agent) = self.0.registry.get(&id).and_then(|agent| agent.current()) {
                let _ = timeout(PROOF, agent.settled()).await;
            }
        }
    }

    fn start_one(
        &self,
        entry: Entry,
        permit: Option<OwnedSemaphorePermit>,
        snapshots: Option<Fetching>,
        outcome: OutcomeSender,
        spawner: &Spawner,
    ) -> JoinHandle<Option<()>> {
        let supervisor = self.clone();
        let through = Through(self.clone(), entry.id().clone());
        spawner.spawn_infallible(format!("hydrate {}", entry.id()), async move {
            let _through = through;
            if let Some(snapshots) = snapshots {
                supervisor.0.fetch_before(&entry.planned.request, &snapshots).await;
            }
            outcome.send(supervisor.0.restore_agent(entry, permit).await);
        })
    }
}

/// Whatever becomes of the task that starts it, nobody waits for the agent's start any more.
struct Through(Supervisor, AgentId);

impl Drop for Through {
    fn drop(&mut self) {
        self.0.0.pending.remove(&self.1);
    }
}

/// The next outcome, unless there is none any more or it is too late.
async fn next(
    outcomes: &mut Receiver<(AgentId, Outcome)>,
    until: Instant,
) -> Option<(AgentId, Outcome)> {
    timeout_at(until.into(), outcomes.recv()).await.ok().flatten()
}

/// Where snapshots are fetched from, and until when.
#[derive(Clone)]
struct Fetching {
    town: Arc<dyn TownSnapshots>,
    until: Instant,
}

impl Inner {
    fn take_plan(&self) -> Plan {
        std::mem::take(&mut *self.plan.lock())
    }

    /// Reports what kept the plan from being made, and whom earlier deaths of the host counted against.
    fn report_plan(&self, plan: &mut Plan) {
        if let Some(failed) = plan.broken.take() {
            self.sink().record(Event::HydrationFailed(failed));
        }
        for blamed in std::mem::take(&mut plan.blamed) {
            let events = blamed.events(&self.container.context, StartFailure::Quarantined.action());
            events.into_iter().for_each(|event| self.sink().record(event));
        }
    }

    /// Decides about every agent, and writes down what of that a later run has to know.
    fn settle(
        &self,
        plan: Plan,
        registry: Option<TownRegistry>,
        configured: Vec<StartRequest>,
    ) -> Decisions {
        let listed =
            registry.as_ref().map(|registry| registry.lists().cloned().collect::<Vec<_>>());
        if let Some(registry) = &registry {
            self.kept_rows.keep_unreadable(registry);
        }
        let mut decisions = Decisions::default();
        for decided in plan.decide(registry, configured) {
            self.note(&decided);
            decisions.add(decided);
        }
        if let Some(listed) = listed {
            self.container.database.town_wants(&listed);
        }
        let there = decisions.started().chain(&decisions.quarantined).map(|id| (id.clone(), None));
        let failed = decisions.failed.iter();
        let failed = failed.map(|(id, error)| (id.clone(), Some(error.message.clone())));
        self.desired.add(there.chain(failed));
        self.pending.set(decisions.started().cloned());
        decisions
    }

    /// Writes down what the town changed, and whom the configuration wants, whatever becomes of its start: somebody
    /// may stop it before.
    fn note(&self, decided: &Decided) {
        let Decided { id, fate, town, number, .. } = decided;
        let (upto, database) = (*number, &self.container.database);
        if *town == Some(TownChange::TookOut) {
            tracing::info!(agent = %id, "the town took the agent out; it stays down");
            database.note(id, Change::Stopped { upto });
            self.registry.forget_if_nothing(id);
        }
        let Fate::Start(planned) = fate else { return };
        let is_configured = matches!(planned.origin, Origin::Configured { .. });
        // The quarantine of an earlier spec ends with the first incarnation of another.
        if *town == Some(TownChange::WantsNew) || is_configured && !planned.is_quarantined {
            let order = order::record(&planned.request, planned.origin.digest());
            database.note(id, Change::Wanted { upto, order });
        }
    }

    /// Puts the town's snapshot in place when it is the newer one, if the agent's role keeps any.
    async fn fetch_before(&self, request: &StartRequest, snapshots: &Fetching) {
        let resolved = self.config.catalog.resolve(request.clone());
        if !resolved.is_ok_and(|resolved| resolved.spec.snapshots.when.at_the_end()) {
            return;
        }
        // Half of what is left, so that the start itself has some.
        let within = snapshots.until.saturating_duration_since(Instant::now()) / 2;
        if !within.is_zero() {
            let (agent_id, rig_id) = (request.agent_id.clone(), request.rig_id.clone());
            let last = self.registry.get(&agent_id).map_or(Incarnation(0), |agent| agent.last());
            let role = request.role.as_str().into();
            let agent = AgentTag { agent_id, role, incarnation: last };
            self.fetch_snapshot(&*snapshots.town, agent, rig_id, within).await;
        }
    }

    /// Starts one agent. Its permit among those that start at once is free again when it runs, or is late.
    async fn restore_agent(&self, entry: Entry, permit: Option<OwnedSemaphorePermit>) -> Outcome {
        let Entry { planned: PlannedStart { mut request, origin, settings, .. }, _slot } = entry;
        let (id, role) = (request.agent_id.clone(), request.role.clone());
        request.if_running = IfRunning::Keep;
        let admitted = self.admit(request, Instant::now(), origin, settings);
        if let Err(error) = &admitted {
            // Before a stop that waits for this may say that it is not wanted.
            self.desired.add([(id.clone(), Some(error.message.clone()))]);
        }
        self.pending.remove(&id);
        let Admitted { admission, agent, .. } = match admitted {
            Ok(admitted) => admitted,
            Err(error) => {
                self.log_failed(id, role, &error);
                return Outcome::Failed(error);
            }
        };
        if admission == Admission::Kept {
            return Outcome::Overtaken;
        }
        let started = wait(&agent, permit).await;
        match started {
            Ok(()) => {
                self.remember_mayor(&agent);
                Outcome::Running
            }
            Err(error) => Outcome::Failed(error),
        }
    }
}

impl Decisions {
    fn add(&mut self, decided: Decided) {
        let Decided { id, fate, town, slot, .. } = decided;
        self.from_town += usize::from(town.is_some_and(TownChange::wants_agent));
        match fate {
            Fate::Start(planned) => {
                self.starts.push(Entry { planned: *planned, _slot: slot });
            }
            Fate::Quarantined(quarantined) => {
                self.failed.extend(quarantined.error.map(|error| (id.clone(), error)));
                self.quarantined.push(id);
            }
            Fate::Unreadable(error) => self.failed.push((id, error)),
            Fate::Unknown | Fate::History | Fate::Stopped | Fate::Failed => {}
        }
    }
}

async fn wait(agent: &AgentHandle, permit: Option<OwnedSemaphorePermit>) -> Result<(), StartError> {
    let soon = timeout(PATIENCE, agent.started()).await;
    drop(permit);
    match soon {
        Ok(started) => started,
        // It has a deadline of its own.
        Err(_) => agent.started().await,
    }
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_broke_forgets_nobody() {
        assert_eq!(Decisions::default().resumed(true), Some(HashSet::new()));
        assert_eq!(Decisions::default().resumed(false), None);
    }
}

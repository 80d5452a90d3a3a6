//! Bringing agents back at boot: what earlier runs left, and what the configuration wants.
//!
//! ```text
//!   rows of the database ─▶ Plan::make ── quarantined: shown as such, and not started
//!                               │         history and numbers: in place before the first request
//!                               ▼
//!   configuration ─▶ merge ─▶ mayors ─▶ the others, so many at once ─▶ running | failed | late
//! ```
//!
//! No start waits for this. What is known of an id is in its slot before the control server is there, so a start
//! that comes before it is an agent's turn simply goes first, and one that comes later finds a start under way:
//! an equal one joins it, another one supersedes it, each with its own deadline. A guest that hangs keeps its
//! place among those that start at once for [`PATIENCE`], and holds up readiness for
//! [`HydrationRules::deadline`] at most.
//!
//! | the store says | the configuration says | then |
//! | --- | --- | --- |
//! | it runs | nothing, or what it said then | it is started as it last was |
//! | it runs | something else than then | it is started as the configuration says |
//! | stopped, or done | anything | it stays down; a start brings it back |
//! | failed | to start it | it is started: a boot is a new chance |
//! | quarantined | nothing, or what it said then | it stays in quarantine |
//! | quarantined | something else than then | it is started: a new spec is a new chance |
//! | nothing | to start it | it is started |

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bulkhead_agent::{
    Admission, Agent, AgentHandle, SettingsChange, StartError, StartFailure, StartOrder,
};
use bulkhead_api::{IfRunning, StartRequest};
use bulkhead_events::containment::contain;
use bulkhead_model::event::HydrationResult;
use bulkhead_model::time::millis;
use bulkhead_model::{AgentId, Event, StartPhase};
use bulkhead_store::database::{AgentRow, Wanted};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};

use crate::order::{self, Origin};
use crate::registry::Registry;
use crate::start::MAYOR;
use crate::{Inner, Supervisor, SupervisorConfig};

/// How long a start counts among those that are made at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// Most starts at once, whatever the configuration says.
const MAX_PARALLEL: usize = 4096;

/// Results that one line tells.
const MAX_RESULTS: usize = 100;

/// How agents are brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HydrationRules {
    /// Starts at once.
    pub parallel: usize,
    /// How long readiness waits for all of them. Those that take longer go on.
    pub deadline: Duration,
}

/// How it went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HydrationReport {
    /// Agents that were to be started.
    pub agents: usize,
    /// Agents that run.
    pub running: usize,
    /// Agents that do not.
    pub failed: usize,
    /// Agents that are still starting.
    pub late: usize,
    /// Agents for which a start came first.
    pub overtaken: usize,
    /// Agents in quarantine.
    pub quarantined: usize,
}

/// What earlier runs left, as far as it is not in slots.
#[derive(Default)]
pub(crate) struct Plan {
    entries: Vec<Entry>,
    /// What the configuration wanted of those in quarantine.
    quarantined: HashMap<AgentId, Option<String>>,
    down: HashMap<AgentId, Wanted>,
    failed: Vec<(AgentId, StartError)>,
    /// Why what earlier runs left could not be made a plan of.
    broken: Option<String>,
}

/// One agent that is to be started.
struct Entry {
    request: StartRequest,
    origin: Origin,
    settings: Option<SettingsChange>,
    /// Keeps what its slot remembers until it is its turn.
    _agent: Option<Arc<Agent>>,
}

/// What became of those that are through.
#[derive(Default)]
struct Outcomes(Mutex<HashMap<AgentId, Outcome>>);

impl Outcomes {
    fn put(&self, id: AgentId, outcome: Outcome) {
        self.lock().insert(id, outcome);
    }

    fn take(&self, id: &AgentId) -> Option<Outcome> {
        self.lock().remove(id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AgentId, Outcome>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of one.
enum Outcome {
    Running,
    Overtaken,
    Failed(StartError),
}

impl Plan {
    /// Puts what is known of agents into their slots, and yields what is to be done. Whatever is wrong with what
    /// is known, the host comes up.
    pub(crate) fn make(
        rows: Vec<AgentRow>,
        config: &SupervisorConfig,
        registry: &Registry,
    ) -> Self {
        contain(|| Self::of(rows, config, registry)).unwrap_or_else(|panicked| Self {
            broken: Some(panicked.to_string()),
            ..Self::default()
        })
    }

    fn of(rows: Vec<AgentRow>, config: &SupervisorConfig, registry: &Registry) -> Self {
        let mut plan = Self::default();
        for row in rows {
            if row.matters() {
                plan.take(row, config, registry);
            } else {
                plan.down.insert(row.id, row.wanted);
            }
        }
        plan
    }

    fn take(&mut self, row: AgentRow, config: &SupervisorConfig, registry: &Registry) {
        let agent = registry.agent(&row.id);
        let is_quarantined = row.restarts.quarantine.is_some();
        let record = row.order.clone().unwrap_or_default();
        let (request, configured) = match order::read(&record) {
            Ok(read) => read,
            Err(text) => {
                agent.remember(Arc::unwrap_or_clone(row.restarts));
                let kind = StartFailure::Host;
                self.failed.push((row.id, StartError::new(StartPhase::Admission, kind, text)));
                return;
            }
        };
        if !is_quarantined {
            agent.remember(Arc::unwrap_or_clone(row.restarts));
            let settings = row.settings.as_deref().and_then(SettingsChange::from_record);
            let origin = Origin::EarlierRun { configured };
            self.entries.push(Entry { request, origin, settings, _agent: Some(agent) });
            return;
        }
        self.quarantined.insert(row.id.clone(), configured);
        match config.catalog.resolve(request) {
            Ok(resolved) => {
                let order = StartOrder {
                    component: resolved.path,
                    workspace: resolved.workspace.then(|| config.workspace(&row.id)),
                    keep_running: false,
                    force: false,
                    record,
                    settings: None,
                    resumes: true,
                    deadline: Instant::now(),
                    prompt_message_id: String::new(),
                    spec: Arc::new(resolved.spec),
                };
                agent.remember_quarantined(order, Arc::unwrap_or_clone(row.restarts));
            }
            Err(error) => {
                agent.remember(Arc::unwrap_or_clone(row.restarts));
                self.failed.push((row.id, error));
            }
        }
    }

    /// Adds what the configuration wants, by the table above.
    fn merge(&mut self, configured: Vec<StartRequest>) {
        for request in configured {
            let id = &request.agent_id;
            let digest = order::digest(&request);
            let is_known = |known: Option<&str>| known.is_none_or(|known| known == digest);
            if let Some(entry) = self.entries.iter_mut().find(|entry| entry.request.agent_id == *id)
            {
                if !is_known(entry.origin.digest()) {
                    (entry.request, entry.settings) = (request, None);
                    entry.origin = Origin::Configured { digest };
                }
                continue;
            }
            let stays = match self.quarantined.get(id) {
                Some(known) => is_known(known.as_deref()),
                None => self.down.get(id) == Some(&Wanted::Stopped),
            };
            if stays {
                tracing::info!(agent = %id, "a configured agent stays down: it was stopped, is done, or is quarantined");
                continue;
            }
            let origin = Origin::Configured { digest };
            self.entries.push(Entry { request, origin, settings: None, _agent: None });
        }
    }
}

impl Supervisor {
    /// Brings back what earlier runs left, and starts what the configuration wants. Returns when every agent
    /// runs or failed, or at the deadline; never fails as a whole because of one of them. The second call has
    /// nothing to do but the configuration's part.
    pub async fn hydrate(
        &self,
        configured: Vec<StartRequest>,
        rules: HydrationRules,
    ) -> HydrationReport {
        let began = Instant::now();
        let plan = self.0.plan.lock().map(|mut plan| std::mem::take(&mut *plan));
        let mut plan = plan.unwrap_or_else(|poisoned| std::mem::take(&mut *poisoned.into_inner()));
        if let Some(error) = plan.broken.take() {
            let action = "start the missing agents by hand, and report the panic";
            self.0.sink().record(Event::HydrationFailed { error, action });
        }
        let from_store = plan.entries.len();
        plan.merge(configured);
        let mut report = HydrationReport {
            agents: plan.entries.len() + plan.failed.len(),
            quarantined: plan.quarantined.len(),
            ..HydrationReport::default()
        };
        let (agents, quarantined) = (report.agents, report.quarantined);
        self.0.sink().record(Event::HydrationStarted { agents, from_store, quarantined });
        let mut results = Vec::new();
        for (id, error) in plan.failed {
            self.0.tell_failed(id.clone(), String::new(), &error);
            report.count(id, Some(Outcome::Failed(error)), &mut results);
        }
        let ids: Vec<_> = plan.entries.iter().map(|entry| entry.request.agent_id.clone()).collect();
        let outcomes = Arc::new(Outcomes::default());
        let starts = self.clone().start_all(plan.entries, rules.parallel, Arc::clone(&outcomes));
        let starts = self.0.container.spawner().spawn("hydration starts", async move {
            starts.await;
            Ok::<_, Infallible>(())
        });
        // What is not through by then goes on without anybody waiting for it.
        let _ = timeout_at((began + rules.deadline).into(), starts).await;
        for id in ids {
            let outcome = outcomes.take(&id);
            report.count(id, outcome, &mut results);
        }
        let HydrationReport { running, failed, late, overtaken, .. } = report;
        self.0.sink().record(Event::HydrationFinished {
            agents,
            running,
            failed,
            late,
            overtaken,
            quarantined,
            duration_ms: millis(began.elapsed()),
            results,
        });
        report
    }

    /// Starts all of them, the mayors first, and waits for the end of each.
    async fn start_all(self, entries: Vec<Entry>, parallel: usize, outcomes: Arc<Outcomes>) {
        let parallel = parallel.clamp(1, MAX_PARALLEL);
        let permits = Arc::new(Semaphore::new(parallel));
        let is_mayor = |entry: &Entry| entry.request.role == MAYOR;
        let (mayors, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_mayor);
        let mut tasks = Vec::new();
        for group in [mayors, others] {
            for entry in group {
                // The semaphore is never closed.
                let permit = Arc::clone(&permits).acquire_owned().await.ok();
                let id = entry.request.agent_id.clone();
                tasks.push((id, self.start_one(entry, permit, Arc::clone(&outcomes))));
            }
            // The next ones begin when all of these run, or are late.
            let all = u32::try_from(parallel).unwrap_or(u32::MAX);
            drop(permits.acquire_many(all).await);
        }
        for (id, task) in tasks {
            if !matches!(task.await, Ok(Some(()))) {
                outcomes.put(id, lost());
            }
        }
    }

    fn start_one(
        &self,
        entry: Entry,
        permit: Option<OwnedSemaphorePermit>,
        outcomes: Arc<Outcomes>,
    ) -> JoinHandle<Option<()>> {
        let (id, supervisor) = (entry.request.agent_id.clone(), self.clone());
        self.0.container.spawner().spawn(format!("hydrate {id}"), async move {
            let outcome = supervisor.0.bring_back(entry, permit).await;
            outcomes.put(id, outcome);
            Ok::<_, Infallible>(())
        })
    }
}

impl Inner {
    /// Starts one agent. Its place among those that start at once is free again when it runs, or is late.
    async fn bring_back(&self, entry: Entry, permit: Option<OwnedSemaphorePermit>) -> Outcome {
        let Entry { mut request, origin, settings, .. } = entry;
        let (id, role) = (request.agent_id.clone(), request.role.clone());
        request.if_running = IfRunning::Keep;
        let admitted = self.admit(request, Instant::now(), origin, settings);
        let (admission, agent, _) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => {
                self.tell_failed(id, role, &error);
                return Outcome::Failed(error);
            }
        };
        if admission == Admission::Kept {
            return Outcome::Overtaken;
        }
        let started = wait(&agent, permit).await;
        match started {
            Ok(()) => {
                self.note_mayor(&agent);
                Outcome::Running
            }
            Err(error) => Outcome::Failed(error),
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
}

/// Of a task that was lost. The log has its panic.
fn lost() -> Outcome {
    let text = "the task that starts it ended before its time; the log has its panic";
    Outcome::Failed(StartError::new(StartPhase::Admission, StartFailure::Host, text))
}

impl HydrationReport {
    fn count(
        &mut self,
        agent_id: AgentId,
        outcome: Option<Outcome>,
        results: &mut Vec<HydrationResult>,
    ) {
        let (result, error) = match outcome {
            Some(Outcome::Running) => {
                self.running += 1;
                return;
            }
            Some(Outcome::Overtaken) => {
                self.overtaken += 1;
                return;
            }
            Some(Outcome::Failed(error)) => {
                self.failed += 1;
                ("failed", Some(error))
            }
            None => {
                self.late += 1;
                ("late", None)
            }
        };
        if results.len() < MAX_RESULTS {
            let error_type = error.as_ref().map(|error| error.kind.as_str());
            let error = error.map(|error| error.message);
            results.push(HydrationResult { agent_id, result, error_type, error });
        }
    }
}

//! Bringing agents back at boot: what earlier runs left, what the town wants, what the configuration wants.
//!
//! ```text
//!   rows of the database ─▶ Plan::make ── quarantined: shown as such, and not started
//!                               │         history and numbers: in place before the first request
//!                               ▼
//!   the town, if it answers ─▶ merge_town
//!                               ▼
//!   configuration ─▶ merge ─▶ mayors ─▶ the others, so many at once ─▶ running | failed | late
//! ```
//!
//! An agent that was at work when the host died of something that an agent can do comes after all others, and one such
//! agent at a time: [`crate::host_death`].
//!
//! No start waits for this. What is known of an id is in its slot before the control server is there, so a start
//! that comes before it is an agent's turn simply goes first, and one that comes later finds a start under way:
//! an equal one joins it, another one supersedes it, each with its own deadline. A guest that hangs keeps its
//! place among those that start at once for [`PATIENCE`], and holds up readiness for
//! [`HydrationRules::deadline`] at most.
//!
//! First the town. Each row of the store knows whether the last registry that the town acknowledged had the
//! agent (*knows*), or whether the town was told and nobody knows if it heard it (*was told*):
//!
//! | the store says | the town lists it | the town | then |
//! | --- | --- | --- | --- |
//! | nothing, or failed | yes | | it is started as the town says |
//! | it runs | yes | | it is started as the town says; what was changed while it lived counts on when the town asks for what ran |
//! | it runs | no | knows | the town took it out: it stays down and counts as stopped |
//! | it runs | no | was told, or not | a start that the town never heard of: it is started, and the town is told |
//! | stopped, or done | yes | knows, or was told | an end that the town never heard of: it stays down, and the town is told |
//! | stopped, or done | yes | was not told | the town wants it again: it is started |
//! | quarantined | yes | | it stays in quarantine, unless the town asks for something else than it had |
//! | stopped, failed, quarantined | no | | as without a town |
//! | something that cannot be read | yes | | it is started as the town says |
//!
//! A town that does not answer in its part of the time changes nothing, now or later. A row of the town that
//! cannot be read takes nothing out, and is sent back to the town as it came ([`crate::kept_rows`]). Where the town has only names of an environment, the values are those that
//! the store has for them. Before an agent starts, the newer one of the town's snapshot and the store's is put
//! in place.
//!
//! Then the configuration:
//!
//! | the store says | the configuration says | then |
//! | --- | --- | --- |
//! | it runs | nothing, or what it said then | it is started as it last was |
//! | it runs | something else than then | it is started as the configuration says |
//! | stopped, or done | anything | it stays down; a start brings it back |
//! | failed | to start it | it is started: a boot is a new chance |
//! | quarantined | nothing, or what it said then | it stays in quarantine |
//! | quarantined | something else than then | it is started: a new spec is a new chance |
//! | nothing, or something that cannot be read | to start it | it is started |

use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bulkhead_agent::{
    Admission, Agent, AgentHandle, SettingsChange, StartError, StartFailure, StartOrder,
};
use bulkhead_api::{IfRunning, StartRequest, TownAgent, TownEnv, TownRegistry, UnreadableRow};
use bulkhead_events::containment::contain;
use bulkhead_model::event::{AgentTag, HydrationResult};
use bulkhead_model::time::millis;
use bulkhead_model::{AgentId, Event, Incarnation, Secret, StartPhase};
use bulkhead_store::database::{AgentRow, Change, Private, TownKnows, UnreadableAgent, Wanted};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};

use crate::earlier::{self, Earlier};
use crate::host_death::Blamed;
use crate::order::{self, Origin};
use crate::registry::Registry;
use crate::start::{Admitted, MAYOR};
use crate::town::{TownSays, TownSnapshots};
use crate::{Inner, Supervisor, SupervisorConfig};

/// How long a start counts among those that are made at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the next suspect waits for the turn of the one before it.
const PROOF: Duration = Duration::from_secs(30);

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
    quarantined: HashMap<AgentId, Quarantined>,
    down: HashMap<AgentId, Wanted>,
    /// What the town knows of each agent, and its highest number.
    rows: HashMap<AgentId, (TownKnows, Incarnation)>,
    failed: Vec<(AgentId, StartError)>,
    /// Ends that deaths of the host were, not told yet.
    blamed: Vec<Blamed>,
    /// Why what earlier runs left could not be made a plan of.
    broken: Option<String>,
}

/// One agent that is in quarantine.
struct Quarantined {
    /// What the configuration wanted, when it wanted it.
    configured: Option<String>,
    /// What it was started with.
    request: StartRequest,
}

/// What the town changed.
#[derive(Default)]
struct Merged {
    /// Agents that the town wants and that are to be started.
    wanted: usize,
    /// Agents that the town took out, with the numbers that are meant.
    taken_out: Vec<(AgentId, Incarnation)>,
    /// The starts of those that the town wants.
    orders: Vec<(AgentId, Incarnation, Private)>,
}

/// One agent that is to be started.
struct Entry {
    request: StartRequest,
    origin: Origin,
    settings: Option<SettingsChange>,
    /// The host died while it was at work: it comes back alone.
    is_suspect: bool,
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
        earlier: Earlier,
        blamed: Vec<Blamed>,
        config: &SupervisorConfig,
        registry: &Registry,
    ) -> Self {
        let plan = contain(|| Self::of(earlier, config, registry)).unwrap_or_else(|panicked| {
            Self { broken: Some(panicked.to_string()), ..Self::default() }
        });
        Self { blamed, ..plan }
    }

    /// The agents that it starts. Of a plan that broke nobody knows whom it leaves out: what is kept for them stays.
    fn resumed(&self) -> Option<HashSet<AgentId>> {
        let ids = self.entries.iter().map(|entry| entry.request.agent_id.clone());
        self.broken.is_none().then(|| ids.collect())
    }

    fn of(earlier: Earlier, config: &SupervisorConfig, registry: &Registry) -> Self {
        let mut plan = Self::default();
        for UnreadableAgent { id, wanted } in earlier.unreadable {
            match wanted {
                Some(Wanted::Stopped) => _ = plan.down.insert(id, Wanted::Stopped),
                Some(Wanted::Running | Wanted::Failed) | None => {
                    plan.failed.push((id, earlier::unreadable()));
                }
            }
        }
        for row in earlier.agents {
            plan.rows.insert(row.id.clone(), (row.town_knows, row.incarnation));
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
            let is_suspect = row.restarts.host_deaths > 0;
            agent.remember(Arc::unwrap_or_clone(row.restarts));
            let settings = row.settings.as_deref().and_then(SettingsChange::from_record);
            let origin = Origin::EarlierRun { configured };
            let _agent = Some(agent);
            self.entries.push(Entry { request, origin, settings, is_suspect, _agent });
            return;
        }
        let quarantined = Quarantined { configured, request: request.clone() };
        self.quarantined.insert(row.id.clone(), quarantined);
        match config.catalog.resolve(request) {
            Ok(resolved) => {
                let order = StartOrder {
                    component: resolved.path,
                    workspace: resolved.workspace.then(|| config.workspace(&row.id)),
                    if_running: IfRunning::Keep,
                    force: false,
                    record,
                    settings: None,
                    stays: true,
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

    /// Adds what the town wants and takes out what it does not, by the first table above.
    fn merge_town(&mut self, town: TownRegistry) -> Merged {
        let mut merged = Merged::default();
        let TownRegistry { agents, unreadable, nameless } = town;
        for UnreadableRow { agent_id: agent, problem, .. } in &unreadable {
            tracing::warn!(%agent, problem, "the town's row of an agent cannot be read; it is left as it is");
        }
        if !nameless.is_empty() {
            tracing::warn!(
                nameless = nameless.len(),
                "rows of the town's registry name no agent; nothing is taken out"
            );
        }
        let mut listed: HashMap<_, _> =
            agents.into_iter().map(|agent| (agent.request.agent_id.clone(), agent)).collect();
        let unreadable: HashSet<_> = unreadable.into_iter().map(|row| row.agent_id).collect();
        for mut entry in std::mem::take(&mut self.entries) {
            let id = entry.request.agent_id.clone();
            let (knows, number) = self.rows.get(&id).copied().unwrap_or_default();
            match listed.remove(&id) {
                Some(agent) => {
                    let request = with_env(agent, Some(&entry.request));
                    if !order::is_same(&request, &entry.request) {
                        (entry.settings, entry.origin) = (None, OF_THE_TOWN);
                    }
                    entry.request = request;
                    merged.want(&entry.request, &entry.origin, None);
                }
                None if knows == TownKnows::Yes
                    && nameless.is_empty()
                    && !unreadable.contains(&id) =>
                {
                    tracing::info!(agent = %id, "the town took the agent out; it stays down");
                    self.down.insert(id.clone(), Wanted::Stopped);
                    merged.taken_out.push((id, number));
                    continue;
                }
                None => {}
            }
            self.entries.push(entry);
        }
        for (id, agent) in listed {
            let (knows, number) = self.rows.get(&id).copied().unwrap_or_default();
            let quarantined = self.quarantined.get(&id).map(|it| &it.request);
            let request = with_env(agent, quarantined);
            let origin = match quarantined {
                Some(before) if order::is_same(&request, before) => continue,
                // Another spec is another chance.
                Some(_) => Origin::Asked,
                None => OF_THE_TOWN,
            };
            if self.down.get(&id) == Some(&Wanted::Stopped) && knows != TownKnows::No {
                tracing::info!(agent = %id, "the town lists an agent that was stopped; it stays down");
                continue;
            }
            self.quarantined.remove(&id);
            self.down.remove(&id);
            self.failed.retain(|(failed, _)| *failed != id);
            merged.want(&request, &origin, Some(number));
            self.entries.push(Entry::new(request, origin));
        }
        merged
    }

    /// Adds what the configuration wants, by the second table above.
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
                Some(known) => is_known(known.configured.as_deref()),
                None => self.down.get(id) == Some(&Wanted::Stopped),
            };
            if stays {
                tracing::info!(agent = %id, "a configured agent stays down: it was stopped, is done, or is quarantined");
                continue;
            }
            self.failed.retain(|(failed, _)| failed != id);
            let origin = Origin::Configured { digest };
            self.entries.push(Entry::new(request, origin));
        }
    }
}

impl Entry {
    /// One of which earlier runs left nothing.
    fn new(request: StartRequest, origin: Origin) -> Self {
        Self { request, origin, settings: None, is_suspect: false, _agent: None }
    }
}

/// Nobody asked for it in this run: whoever comes first stays.
const OF_THE_TOWN: Origin = Origin::EarlierRun { configured: None };

impl Merged {
    /// `unknown` has the number of an agent whose start the store does not have.
    fn want(&mut self, request: &StartRequest, origin: &Origin, unknown: Option<Incarnation>) {
        self.wanted += 1;
        if let Some(number) = unknown {
            let order = order::record(request, origin.digest());
            self.orders.push((request.agent_id.clone(), number, order));
        }
    }
}

/// The town's request with the values of its environment. Where the town has only names, they are those of the
/// start that is known; a name without a value is told.
fn with_env(agent: TownAgent, known: Option<&StartRequest>) -> StartRequest {
    let TownAgent { mut request, env, .. } = agent;
    let TownEnv::Names(names) = env else { return request };
    for name in names {
        let known = |of: fn(&StartRequest) -> &BTreeMap<String, Secret>| of(known?).get(&name);
        let (secret, value) = (known(|start| &start.secrets), known(|start| &start.env_vars));
        match secret.or(value) {
            Some(value) => {
                let values = match secret.is_some() {
                    true => &mut request.secrets,
                    false => &mut request.env_vars,
                };
                values.entry(name).or_insert_with(|| value.clone());
            }
            None if request.env_vars.contains_key(&name) => {}
            None => {
                let agent = &request.agent_id;
                tracing::warn!(%agent, name, "nobody has a value for a name of the agent's environment");
            }
        }
    }
    request
}

impl Supervisor {
    /// Brings back what earlier runs left, and starts what the town and the configuration want. Returns when every agent
    /// runs or failed, or at the deadline; never fails as a whole because of one of them. The second call has
    /// nothing to do but the configuration's part.
    pub async fn hydrate(
        &self,
        configured: Vec<StartRequest>,
        town: TownSays,
        rules: HydrationRules,
    ) -> HydrationReport {
        let began = Instant::now();
        let plan = self.0.plan.lock().map(|mut plan| std::mem::take(&mut *plan));
        let mut plan = plan.unwrap_or_else(|poisoned| std::mem::take(&mut *poisoned.into_inner()));
        if let Some(error) = plan.broken.clone() {
            let action = "start the missing agents by hand, and report the panic";
            self.0.sink().record(Event::HydrationFailed { error, action });
        }
        for blamed in std::mem::take(&mut plan.blamed) {
            let events =
                blamed.events(&self.0.container.context, StartFailure::Quarantined.action());
            events.into_iter().for_each(|event| self.0.sink().record(event));
        }
        let (from_store, mut from_town, mut town_error) = (plan.entries.len(), 0, None);
        let (source, snapshots) = match town {
            TownSays::NoTown => ("store", None),
            TownSays::Nothing(error) => {
                town_error = Some(error);
                ("store", None)
            }
            TownSays::Wants(registry, snapshots) => {
                let listed: Vec<_> = registry.lists().cloned().collect();
                self.0.kept_rows.keep_unreadable(&registry);
                let merged = plan.merge_town(registry);
                from_town = merged.wanted;
                self.0.note_merged(merged, &listed);
                ("town_and_store", Some(snapshots))
            }
        };
        plan.merge(configured);
        self.0.note_desired(&plan);
        let mut report = HydrationReport {
            agents: plan.entries.len() + plan.failed.len(),
            quarantined: plan.quarantined.len(),
            ..HydrationReport::default()
        };
        let (agents, quarantined) = (report.agents, report.quarantined);
        self.0.sink().record(Event::HydrationStarted {
            agents,
            from_store,
            from_town,
            quarantined,
            source,
            town_error,
        });
        if let Some(resumed) = plan.resumed() {
            self.0.container.journal.keep_only(&resumed);
        }
        let mut results = Vec::new();
        for (id, error) in plan.failed {
            self.0.tell_failed(id.clone(), String::new(), &error);
            report.count(id, Some(Outcome::Failed(error)), &mut results);
        }
        let ids: Vec<_> = plan.entries.iter().map(|entry| entry.request.agent_id.clone()).collect();
        let outcomes = Arc::new(Outcomes::default());
        let snapshots = snapshots.map(|town| Fetching { town, until: began + rules.deadline });
        let all = self.clone().start_all(plan.entries, rules, snapshots, Arc::clone(&outcomes));
        let starts = self.0.container.spawner().spawn("hydration starts", async move {
            all.await;
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
            source,
            duration_ms: millis(began.elapsed()),
            results,
        });
        report
    }

    /// Starts all of them, the mayors first, and waits for the end of each.
    async fn start_all(
        self,
        entries: Vec<Entry>,
        rules: HydrationRules,
        snapshots: Option<Fetching>,
        outcomes: Arc<Outcomes>,
    ) {
        let parallel = rules.parallel.clamp(1, MAX_PARALLEL);
        let permits = Arc::new(Semaphore::new(parallel));
        let is_mayor = |entry: &Entry| entry.request.role == MAYOR;
        let (mut suspects, entries): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.is_suspect);
        suspects.sort_by_key(|entry| !is_mayor(entry));
        let (mayors, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_mayor);
        let mut tasks = Vec::new();
        for group in [mayors, others] {
            for entry in group {
                // The semaphore is never closed.
                let permit = Arc::clone(&permits).acquire_owned().await.ok();
                let id = entry.request.agent_id.clone();
                let (snapshots, outcomes) = (snapshots.clone(), Arc::clone(&outcomes));
                tasks.push((id, self.start_one(entry, permit, snapshots, outcomes)));
            }
            // The next ones begin when all of these run, or are late.
            let all = u32::try_from(parallel).unwrap_or(u32::MAX);
            drop(permits.acquire_many(all).await);
        }
        // Alone, so that a host that dies again dies with the one in flight that kills it.
        for entry in suspects {
            let id = entry.request.agent_id.clone();
            let permit = Arc::clone(&permits).acquire_owned().await.ok();
            let started = self.start_one(entry, permit, snapshots.clone(), Arc::clone(&outcomes));
            if !matches!(started.await, Ok(Some(()))) {
                outcomes.put(id.clone(), lost());
            }
            if let Some(agent) = self.0.registry.get(&id).and_then(|agent| agent.current()) {
                let _ = timeout(PROOF, agent.settled()).await;
            }
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
        snapshots: Option<Fetching>,
        outcomes: Arc<Outcomes>,
    ) -> JoinHandle<Option<()>> {
        let (id, supervisor) = (entry.request.agent_id.clone(), self.clone());
        self.0.container.spawner().spawn(format!("hydrate {id}"), async move {
            if let Some(snapshots) = snapshots {
                supervisor.0.fetch_before(&entry, &snapshots).await;
            }
            let outcome = supervisor.0.bring_back(entry, permit).await;
            outcomes.put(id, outcome);
            Ok::<_, Infallible>(())
        })
    }
}

/// Where snapshots are fetched from, and until when.
#[derive(Clone)]
struct Fetching {
    town: Arc<dyn TownSnapshots>,
    until: Instant,
}

impl Inner {
    /// Takes note of who is to be there, and writes down whom the configuration wants, whatever becomes of its start:
    /// somebody may stop it before.
    fn note_desired(&self, plan: &Plan) {
        let entries = plan.entries.iter().map(|entry| (entry.request.agent_id.clone(), None));
        let quarantined = plan.quarantined.keys().map(|id| (id.clone(), None));
        let failed =
            plan.failed.iter().map(|(id, error)| (id.clone(), Some(error.message.clone())));
        self.desired.add(entries.chain(quarantined).chain(failed));
        for entry in &plan.entries {
            let id = &entry.request.agent_id;
            let is_new = matches!(entry.origin, Origin::Configured { .. });
            // The quarantine of an earlier spec ends with the first incarnation of another.
            if is_new && !plan.quarantined.contains_key(id) {
                let upto = plan.rows.get(id).map_or(Incarnation(0), |(_, number)| *number);
                let order = order::record(&entry.request, entry.origin.digest());
                self.container.database.note(id, Change::Wanted { upto, order });
            }
        }
    }

    /// Writes down what the town changed. `listed` are the agents that it wants.
    fn note_merged(&self, merged: Merged, listed: &[AgentId]) {
        let database = &self.container.database;
        for (id, upto) in merged.taken_out {
            database.note(&id, Change::Stopped { upto });
            self.registry.forget_if_nothing(&id);
        }
        for (id, upto, order) in merged.orders {
            database.note(&id, Change::Wanted { upto, order });
        }
        database.town_wants(listed);
    }

    /// Puts the town's snapshot in place when it is the newer one, if the agent's role keeps any.
    async fn fetch_before(&self, entry: &Entry, snapshots: &Fetching) {
        let request = &entry.request;
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

    /// Starts one agent. Its place among those that start at once is free again when it runs, or is late.
    async fn bring_back(&self, entry: Entry, permit: Option<OwnedSemaphorePermit>) -> Outcome {
        let Entry { mut request, origin, settings, .. } = entry;
        let (id, role) = (request.agent_id.clone(), request.role.clone());
        request.if_running = IfRunning::Keep;
        let admitted = self.admit(request, Instant::now(), origin, settings);
        let Admitted { admission, agent, .. } = match admitted {
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
    .map(drop)
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

#[cfg(test)]
mod tests;

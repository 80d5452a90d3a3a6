//! One upgrade of one role.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_agent::{AgentHandle, Code, Component, NewCode, UpgradeStage};
use bulkhead_api::{UpgradePhase, UpgradeView};
use bulkhead_log::now;
use bulkhead_types::{AgentId, AgentSpec, AgentState, Digest, Event, Timestamp};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::brought::Replacement;
use crate::Inner;

/// Looks for agents of the role that do not have the new code. Those that start meanwhile with the old one are in the
/// next look.
const SWEEPS: usize = 16;

/// How long an agent may take to go back.
const REVERTING: Duration = Duration::from_secs(60);

/// One upgrade of one role.
pub(crate) struct Rollout {
    pub role: Arc<str>,
    /// The file that was brought for it.
    pub brought: Option<Digest>,
    component: Arc<str>,
    code: Code,
    prove: Duration,
    state: Mutex<State>,
    aborted: watch::Sender<bool>,
}

struct State {
    phase: UpgradePhase,
    code_sha256: Option<Digest>,
    /// Agents that have the new code, or are about to.
    moved: BTreeMap<AgentId, Moved>,
    /// Agents of the role that it is about.
    agents: usize,
    waits_for: Option<AgentId>,
    problem: Option<String>,
    /// New starts have the new code.
    is_for_all: bool,
    /// It is about to be the role's.
    is_closed: bool,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
}

/// An agent that has the new code.
#[derive(Clone)]
struct Moved {
    /// What it had.
    before: Option<Arc<dyn Component>>,
    stage: UpgradeStage,
}

/// Why an upgrade does not go on.
enum Stop {
    /// In one sentence.
    Failed(String),
    Aborted,
}

impl Rollout {
    pub(super) fn new(
        role: Arc<str>,
        component: Arc<str>,
        code: Code,
        brought: Option<Digest>,
        prove: Duration,
    ) -> Self {
        let state = State {
            phase: UpgradePhase::Loading,
            code_sha256: None,
            moved: BTreeMap::new(),
            agents: 0,
            waits_for: None,
            problem: None,
            is_for_all: false,
            is_closed: false,
            started_at: now(),
            ended_at: None,
        };
        Self {
            role,
            brought,
            component,
            code,
            prove,
            state: Mutex::new(state),
            aborted: watch::Sender::new(false),
        }
    }

    pub(super) fn phase(&self) -> UpgradePhase {
        self.state.lock().phase
    }

    pub(super) fn view(&self) -> UpgradeView {
        let state = self.state.lock();
        let has_it =
            |moved: &&Moved| matches!(moved.stage, UpgradeStage::OnTrial | UpgradeStage::Done);
        let proven = |moved: &&Moved| moved.stage == UpgradeStage::Done;
        UpgradeView {
            role: self.role.to_string(),
            component: self.component.to_string(),
            code_sha256: state.code_sha256,
            phase: state.phase,
            agents: state.agents,
            upgraded: state.moved.values().filter(has_it).count(),
            proven: state.moved.values().filter(proven).count(),
            waits_for: state.waits_for.clone(),
            problem: state.problem.clone(),
            started_at: state.started_at,
            ended_at: state.ended_at,
        }
    }

    /// Takes it back. `false`: it is over, or about to be.
    pub(super) fn abort(&self) -> bool {
        let state = self.state.lock();
        if state.phase.is_over() || state.is_closed {
            return false;
        }
        self.aborted.send_replace(true);
        true
    }

    /// From now on nobody takes it back. `false`: somebody did.
    fn closes(&self) -> bool {
        let mut state = self.state.lock();
        state.is_closed = !*self.aborted.borrow();
        state.is_closed
    }

    /// The new code, for an agent that has it.
    pub(super) fn code_for(&self, spec: &AgentSpec) -> Option<Code> {
        if spec.component != self.component {
            return None;
        }
        let state = self.state.lock();
        let has_it = match state.phase {
            UpgradePhase::Rolling | UpgradePhase::Proving => {
                state.is_for_all || state.moved.contains_key(&spec.id)
            }
            // What the role has decides.
            _ => false,
        };
        has_it.then(|| self.code.clone())
    }

    /// From loading to the end.
    pub(super) async fn run(&self, inner: &Arc<Inner>, replacement: Option<Replacement>) {
        self.tell(inner);
        let stop = match self.roll_out(inner).await {
            Ok(()) if self.closes() => return self.commit(inner, replacement).await,
            Ok(()) => Stop::Aborted,
            Err(stop) => stop,
        };
        let (phase, problem) = match stop {
            Stop::Failed(why) => (UpgradePhase::Failed, Some(why)),
            Stop::Aborted => (UpgradePhase::Aborted, None),
        };
        self.revert(inner, problem.clone()).await;
        self.ends(phase, problem);
        inner.forget(self.brought).await;
        self.tell(inner);
    }

    async fn commit(&self, inner: &Arc<Inner>, replacement: Option<Replacement>) {
        if let Err(error) = inner.commit_upgrade(self, replacement).await {
            let text = format!("it holds until the host ends: {error}");
            self.state.lock().problem = Some(text);
        }
        self.tell(inner);
    }

    async fn roll_out(&self, inner: &Arc<Inner>) -> Result<(), Stop> {
        let component = self.load(inner).await?;
        self.state.lock().code_sha256 = Some(component.code_digest());
        self.goes_on(UpgradePhase::Rolling);
        self.tell(inner);
        for sweep in 0..SWEEPS {
            let left = self.without_it(inner, component.code_digest());
            if self.looks_done(sweep, left.len()) {
                break;
            }
            fits(&*component, &left)?;
            for agent in left {
                self.move_one(inner, agent, &component).await?;
                // Those before may have failed meanwhile.
                self.look(inner);
                self.check()?;
            }
            if sweep + 1 == SWEEPS {
                return Err(Stop::Failed(
                    "agents start with the code before again and again".into(),
                ));
            }
        }
        self.goes_on(UpgradePhase::Proving);
        self.tell(inner);
        self.prove(inner).await
    }

    /// Reads, checks and compiles the new code.
    async fn load(&self, inner: &Arc<Inner>) -> Result<Arc<dyn Component>, Stop> {
        let load = inner.container.load(Arc::clone(&self.component), self.code.clone());
        self.unless_stopped(inner, load).await?.map_err(Stop::Failed)
    }

    /// Takes note of how many are left. Says whether none is, and none can come: what starts after the first sweep has
    /// the new code.
    fn looks_done(&self, sweep: usize, left: usize) -> bool {
        let mut state = self.state.lock();
        state.agents = state.moved.len() + left;
        let was_for_all = std::mem::replace(&mut state.is_for_all, sweep > 0 || left == 0);
        left == 0 && was_for_all
    }

    /// Agents of the role that have other code, by id.
    fn without_it(&self, inner: &Arc<Inner>, digest: Digest) -> Vec<AgentHandle> {
        let of_role = |agent: &AgentHandle| {
            let spec = agent.spec();
            spec.role == self.role && spec.component == self.component
        };
        let is_there = |agent: &AgentHandle| match agent.publisher().state() {
            AgentState::Starting | AgentState::Running { .. } | AgentState::Backoff => true,
            AgentState::Stopping
            | AgentState::Quarantined
            | AgentState::Exited
            | AgentState::Failed => false,
        };
        let has_other = |agent: &AgentHandle| {
            let made_from = agent.made_from();
            made_from.is_none_or(|component| component.code_digest() != digest)
        };
        // One that refused for being a program has its code at its next start.
        let is_program = |agent: &AgentHandle| agent.is_program();
        let agents = inner.registry.after(None);
        let current = agents.iter().filter_map(|agent| agent.current());
        current
            .filter(|agent| {
                of_role(agent) && is_there(agent) && has_other(agent) && !is_program(agent)
            })
            .collect()
    }

    /// Gives one agent the new code, and waits until it runs with it. The first one has time to come through a turn.
    async fn move_one(
        &self,
        inner: &Arc<Inner>,
        agent: AgentHandle,
        component: &Arc<dyn Component>,
    ) -> Result<(), Stop> {
        let id = agent.spec().id.clone();
        let is_first = {
            let mut state = self.state.lock();
            state.waits_for = Some(id.clone());
            let is_first = state.moved.is_empty();
            let (before, stage) = (agent.made_from(), UpgradeStage::Waits);
            state.moved.insert(id.clone(), Moved { before, stage });
            is_first
        };
        let (code, component) = (self.code.clone(), Arc::clone(component));
        agent.upgrade(NewCode { code, component, on_trial: true });
        let moved = async {
            let stage = agent.upgrade_reaches(|stage| *stage != UpgradeStage::Waits).await;
            if stage != UpgradeStage::OnTrial {
                return stage;
            }
            self.has_it(&id);
            let over = agent.upgrade_reaches(UpgradeStage::is_over);
            if is_first {
                let over = timeout(self.prove, over).await;
                return over.unwrap_or_else(|_| agent.upgrade_stage());
            }
            let runs = async {
                match inner.registry.get(&id).and_then(|agent| agent.current()) {
                    Some(current) => drop(current.started().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                stage = over => stage,
                () = runs => agent.upgrade_stage(),
            }
        };
        let stage = self.unless_stopped(inner, moved).await?;
        match agent.is_program() {
            true => self.note(&id, &UpgradeStage::Gone),
            false => self.note(&id, &stage),
        }
    }

    /// An agent runs on the new code, or is about to.
    fn has_it(&self, id: &AgentId) {
        if let Some(moved) = self.state.lock().moved.get_mut(id) {
            moved.stage = UpgradeStage::OnTrial;
        }
    }

    /// Takes note of how an agent fares.
    fn note(&self, id: &AgentId, stage: &UpgradeStage) -> Result<(), Stop> {
        let mut state = self.state.lock();
        state.waits_for = None;
        match stage {
            UpgradeStage::Gone => {
                // Stopped, done or replaced: its next start is like any other.
                state.moved.remove(id);
            }
            UpgradeStage::RolledBack { why } => {
                state.moved.remove(id);
                return Err(Stop::Failed(format!("agent {id} failed with it: {why}")));
            }
            UpgradeStage::Refused { why } => {
                state.moved.remove(id);
                return Err(Stop::Failed(format!("agent {id} did not take it: {why}")));
            }
            UpgradeStage::Waits | UpgradeStage::OnTrial | UpgradeStage::Done => {
                if let Some(moved) = state.moved.get_mut(id) {
                    moved.stage = stage.clone();
                }
            }
        }
        Ok(())
    }

    /// Waits until all came through a turn, or the time for that is over.
    async fn prove(&self, inner: &Arc<Inner>) -> Result<(), Stop> {
        let until = Instant::now() + self.prove;
        loop {
            self.check()?;
            let Some((id, agent)) = self.look(inner) else { return Ok(()) };
            self.state.lock().waits_for = Some(id.clone());
            // Each is checked within a moment, whichever is over next.
            let over = timeout(LOOK, agent.upgrade_reaches(UpgradeStage::is_over));
            let over = timeout_at(until, over);
            match self.unless_stopped(inner, over).await? {
                Ok(Ok(_) | Err(_)) => {}
                Err(_) => {
                    self.look(inner);
                    return self.check();
                }
            }
        }
    }

    /// Takes note of how all fare that have not come through a turn. Yields one that still has not.
    fn look(&self, inner: &Arc<Inner>) -> Option<(AgentId, AgentHandle)> {
        let ids: Vec<AgentId> = {
            let state = self.state.lock();
            let on_trial = state.moved.iter().filter(|(_, moved)| !moved.stage.is_over());
            on_trial.map(|(id, _)| id.clone()).collect()
        };
        let current = |id: &AgentId| inner.registry.get(id).and_then(|agent| agent.current());
        let mut left = None;
        for id in ids {
            let Some(agent) = current(&id) else { continue };
            let stage = agent.upgrade_stage();
            if let Err(Stop::Failed(why)) = self.note(&id, &stage) {
                self.state.lock().problem.get_or_insert(why);
            }
            if !stage.is_over() {
                left.get_or_insert((id, agent));
            }
        }
        left
    }

    /// Whether it is to go on.
    fn check(&self) -> Result<(), Stop> {
        if *self.aborted.borrow() {
            return Err(Stop::Aborted);
        }
        match self.state.lock().problem.clone() {
            Some(why) => Err(Stop::Failed(why)),
            None => Ok(()),
        }
    }

    /// All that have the new code go back. Nobody else waits for that, and one that does not come to it is left.
    async fn revert(&self, inner: &Arc<Inner>, problem: Option<String>) {
        let moved: Vec<_> = {
            let mut state = self.state.lock();
            (state.problem, state.is_for_all) = (problem, false);
            state.phase = UpgradePhase::Reverting;
            state.moved.iter().map(|(id, moved)| (id.clone(), moved.before.clone())).collect()
        };
        if moved.is_empty() {
            return;
        }
        self.tell(inner);
        for (id, before) in moved {
            if inner.container.is_draining() {
                return;
            }
            self.state.lock().waits_for = Some(id.clone());
            if let Some(agent) = inner.registry.get(&id).and_then(|agent| agent.current()) {
                self.bring_back(inner, &agent, before).await;
            }
            let mut state = self.state.lock();
            state.moved.remove(&id);
            state.waits_for = None;
        }
    }

    async fn bring_back(
        &self,
        inner: &Arc<Inner>,
        agent: &AgentHandle,
        before: Option<Arc<dyn Component>>,
    ) {
        agent.cancel_upgrade("the upgrade of the role was taken back");
        let spec = agent.spec();
        let Some((_, name, configured)) = inner.config.catalog.code_of(&spec.role) else { return };
        let code = inner.upgrades.code_for(spec, configured);
        let before = match before {
            Some(before) => before,
            // It was not loaded when the upgrade came.
            None => match inner.container.load(name, code.clone()).await {
                Ok(component) => component,
                Err(error) => {
                    let agent = &spec.id;
                    tracing::error!(%agent, %error, "the code that the role had does not load: the agent keeps the new one");
                    return;
                }
            },
        };
        let has = agent.made_from().map(|component| component.code_digest());
        if has == Some(before.code_digest()) && agent.upgrade_stage().is_over() {
            return;
        }
        agent.upgrade(NewCode { code, component: before, on_trial: false });
        let over = timeout(REVERTING, agent.upgrade_reaches(UpgradeStage::is_over));
        if over.await.is_err() {
            tracing::warn!(agent = %spec.id, "it has not come to the end of its message: it goes back when it does");
        }
    }

    /// The work, unless somebody takes the upgrade back or the container goes away.
    async fn unless_stopped<T>(
        &self,
        inner: &Arc<Inner>,
        work: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        let mut aborted = self.aborted.subscribe();
        tokio::select! {
            biased;
            _ = aborted.wait_for(|aborted| *aborted) => Err(Stop::Aborted),
            () = inner.container.drains() => Err(Stop::Failed("the container is going away".into())),
            done = work => Ok(done),
        }
    }

    fn goes_on(&self, phase: UpgradePhase) {
        self.state.lock().phase = phase;
    }

    pub(super) fn ends(&self, phase: UpgradePhase, problem: Option<String>) {
        let mut state = self.state.lock();
        (state.phase, state.problem) = (phase, problem);
        // Nobody goes back any more.
        state.moved.values_mut().for_each(|moved| moved.before = None);
        (state.waits_for, state.ended_at) = (None, Some(now()));
    }

    /// One line for each phase.
    fn tell(&self, inner: &Arc<Inner>) {
        let UpgradeView { code_sha256, phase, agents, upgraded, problem, .. } = self.view();
        inner.sink().record(Event::RoleUpgrade {
            role: Arc::clone(&self.role),
            component: Arc::clone(&self.component),
            code_sha256,
            phase: phase.as_str(),
            agents,
            upgraded,
            problem,
        });
    }
}

/// A program in the place of an agent would run to its end, and nobody would have the agent's messages.
fn fits(component: &dyn Component, left: &[AgentHandle]) -> Result<(), Stop> {
    let has_turns =
        |agent: &&AgentHandle| agent.made_from().is_some_and(|component| !component.is_program());
    match left.iter().find(has_turns).filter(|_| component.is_program()) {
        None => Ok(()),
        Some(agent) => {
            let id = &agent.spec().id;
            Err(Stop::Failed(format!(
                "the new code is a program, which runs to its end, and agent {id} takes messages"
            )))
        }
    }
}

/// Between two looks at all agents on trial.
const LOOK: Duration = Duration::from_millis(100);

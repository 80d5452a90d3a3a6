//! The way of a start: the request becomes a spec, the agent's slot decides, the agent's task does the
//! rest.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bulkhead_agent::{
    Admission, AgentHandle, SettingsChange, StartError, StartFailure, StartOrder,
};
use bulkhead_api::{StartAnswer, StartRequest};
use bulkhead_log::now;
use bulkhead_store::database::Private;
use bulkhead_telemetry::TraceContext;
use bulkhead_types::event::AgentTag;
use bulkhead_types::{AgentId, AgentSpec, AgentState, Event, SnapshotPolicy, StartPhase};

use crate::order::{self, Origin};
use crate::{Inner, Supervisor};

/// A start that led to a running agent.
#[derive(Debug)]
pub struct Started {
    /// The answer.
    pub answer: StartAnswer,
    /// False when it was up, or another start was under way: the edge answers 200 and not 201.
    pub created: bool,
}

/// A start that was let in.
pub(crate) struct Admitted {
    pub admission: Admission,
    pub agent: AgentHandle,
    /// When the start has to be through.
    deadline: Instant,
    /// What it asks for.
    spec: Arc<AgentSpec>,
    /// The same, as it is written down.
    record: Private,
}

/// Role whose readiness `GET /health` shows.
pub(crate) const MAYOR: &str = "mayor";

impl Supervisor {
    /// Starts an agent; resolves when it is running. Every failure is told by one line. Dropping the
    /// future does not stop a start that is under way. `trace` is the span that asks for it.
    pub async fn start(
        &self,
        request: StartRequest,
        trace: Option<TraceContext>,
    ) -> Result<Started, StartError> {
        let began = Instant::now();
        let (id, role) = (request.agent_id.clone(), request.role.clone());
        let admitted = match self.0.admit(request, began, Origin::Asked(trace), None) {
            Ok(admitted) => admitted,
            Err(error) => {
                self.0.log_failed(id, role, &error);
                return Err(error);
            }
        };
        if admitted.admission == Admission::Began {
            self.0.decided(&id);
        }
        let (asked, kept) = (Arc::clone(&admitted.spec), admitted.admission == Admission::Kept);
        let started = self.0.wait_for(admitted).await;
        let (agent, created) = started.inspect_err(|_| self.0.registry.forget_if_nothing(&id))?;
        self.0.desired.came_up(&id);
        self.0.remember_mayor(&agent);
        // It was being written while the agent started.
        let durable = self.0.durable(Some(&agent.spec().role)).await.map_err(|reason| {
            let text = format!("the agent runs, and this was not shipped: {reason}");
            StartError::new(StartPhase::Deadline, StartFailure::NotShipped, text)
        })?;
        // Of one that is kept as it is the credentials are not those of the request, whatever else is equal.
        let joined = !created && !kept && agent.spec().is_same_as(&asked);
        let restarts = self.0.registry.get(&id).map(|agent| agent.restarts());
        let agent = self.view_of(&agent, restarts.unwrap_or_default());
        let answer = StartAnswer { agent, joined, durable };
        Ok(Started { answer, created })
    }

    /// Starts an agent with what it was started with last, its secrets included, also out of a quarantine. `None`:
    /// nothing is known of it. A running one is joined.
    pub async fn start_again(
        &self,
        id: &AgentId,
        trace: Option<TraceContext>,
    ) -> Result<Option<Started>, StartError> {
        let Some(last) = self.0.registry.get(id).and_then(|agent| agent.current()) else {
            return Ok(None);
        };
        let (request, _) = order::read(&last.record()).map_err(|error| {
            StartError::new(StartPhase::Admission, StartFailure::InvalidRequest, error)
        })?;
        // A deadline that is shorter than its own time to start was that of its caller.
        let own = last.spec().limits.start;
        let deadline_ms = request.deadline_ms.filter(|ms| Duration::from_millis(*ms) >= own);
        self.start(StartRequest { force: true, deadline_ms, ..request }, trace).await.map(Some)
    }
}

impl Inner {
    /// Turns the request into a spec and lets it in, or says why not.
    pub(crate) fn admit(
        &self,
        request: StartRequest,
        began: Instant,
        origin: Origin,
        settings: Option<SettingsChange>,
    ) -> Result<Admitted, StartError> {
        let (if_running, force) = (request.if_running, request.force);
        if self.container.is_draining() {
            return Err(StartError::draining());
        }
        let record = order::record(&request, origin.digest());
        let resolved = self.config.catalog.resolve(request)?;
        let spec = Arc::new(resolved.spec);
        if matches!(origin, Origin::Asked(_)) {
            self.check_is_read(&spec)?;
        }
        let code = self.upgrades.code_for(&spec, resolved.code);
        // The patience of a caller who is gone since is nobody's.
        let patience = match &origin {
            Origin::EarlierRun { .. } => spec.limits.start,
            Origin::Asked(_) | Origin::Configured { .. } => resolved.patience,
        };
        let deadline = began + patience;
        let order = StartOrder {
            workspace: resolved.workspace.then(|| self.config.workspace(&spec.id)),
            code,
            if_running,
            force,
            record: record.clone(),
            settings,
            stays: !matches!(origin, Origin::Asked(_)),
            resumes: matches!(origin, Origin::EarlierRun { .. }),
            deadline,
            patience,
            prompt_message_id: self.next_message_id(),
            trace: origin.trace().cloned(),
            spec: Arc::clone(&spec),
        };
        let (admission, agent) = self.registry.agent(&spec.id).start(order)?;
        Ok(Admitted { admission, agent, deadline, spec, record })
    }

    /// Refuses an agent whose state may be in a database that could not be read yet. If it failed for that later, this run's
    /// failure would be all that is known of it.
    fn check_is_read(&self, spec: &AgentSpec) -> Result<(), StartError> {
        if spec.snapshots.when == SnapshotPolicy::Off || self.registry.get(&spec.id).is_some() {
            return Ok(());
        }
        let Some(reason) = self.container.database.unread() else { return Ok(()) };
        let text = format!("what earlier runs kept of the agent cannot be read yet: {reason}");
        Err(StartError::new(StartPhase::Admission, StartFailure::Host, text))
    }

    /// Waits for a start, for as long as this caller is willing to. Yields the incarnation that runs, and whether
    /// this start began it.
    async fn wait_for(&self, admitted: Admitted) -> Result<(AgentHandle, bool), StartError> {
        let Admitted { admission, agent, deadline, spec, record } = admitted;
        let mut agent = match admission {
            Admission::Kept => return Ok((agent, false)),
            Admission::Joined => agent,
            Admission::Began => match agent.outcome_by(deadline).await? {
                None => return Ok((agent, true)),
                Some(up) => up,
            },
        };
        let AgentTag { agent_id, role, .. } = agent.tag();
        let incarnation = agent.publisher().incarnation();
        let running = matches!(agent.publisher().state(), AgentState::Running { .. });
        self.sink().record(Event::AgentStartJoined { agent_id, role, incarnation, running });
        loop {
            // Those of a start with an incarnation of its own go over with that one.
            if admission == Admission::Joined {
                agent.take_credentials(&spec, &record);
            }
            match agent.outcome_by(deadline).await? {
                None => return Ok((agent, false)),
                Some(up) => agent = up,
            }
        }
    }

    pub(crate) fn remember_mayor(&self, agent: &AgentHandle) {
        if agent.spec().role.as_ref() == MAYOR {
            let _ = self.mayor_ready_ms.compare_exchange(0, now().0, Relaxed, Relaxed);
        }
    }

    pub(crate) fn log_failed(&self, agent_id: AgentId, role: String, error: &StartError) {
        self.sink().record(Event::AgentStartFailed {
            agent_id,
            role,
            incarnation: None,
            phase: error.phase,
            error_type: error.kind.as_str().to_owned(),
            error: error.message.clone(),
            action: error.kind.action().to_owned(),
        });
    }
}

//! The way of a start: everything that can fail without touching the agent comes first.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Instant;

use bulkhead_agent::{AgentHandle, LiveSettings, Setup, StartError, StartFailure};
use bulkhead_api::{StartAnswer, StartRequest};
use bulkhead_events::now;
use bulkhead_model::event::StartTimings;
use bulkhead_model::time::micros;
use bulkhead_model::{AgentId, AgentSpec, Event, StartPhase};
use bulkhead_runtime::{LoadError, Loaded};
use tokio::time::timeout_at;

use crate::catalog::Resolved;
use crate::registry::Decision;
use crate::{Inner, Supervisor};

/// A start that led to a running agent.
#[derive(Debug)]
pub struct Started {
    /// The answer.
    pub answer: StartAnswer,
    /// False when a live agent was kept (`ifRunning: "keep"`): the edge answers 200 and not 201.
    pub created: bool,
}

/// Role whose readiness `GET /health` shows.
const MAYOR: &str = "mayor";

impl Supervisor {
    /// Starts an agent; resolves when it is running. Every failure is told by one line. Dropping the
    /// future does not stop a start that is under way.
    pub async fn start(&self, request: StartRequest) -> Result<Started, StartError> {
        let began = Instant::now();
        let (id, role) = (request.agent_id.clone(), request.role.clone());
        let if_running = request.if_running;
        let (resolved, loaded, deadline) = match self.0.prepare(request, began).await {
            Ok(prepared) => prepared,
            Err(error) => {
                self.0.tell_failed(id, role, &error);
                return Err(error);
            }
        };
        let compile_us = micros(began.elapsed());
        let timings = StartTimings { compile_us, ..StartTimings::default() };
        let spec = Arc::new(resolved.spec);
        let entry = self.0.registry.entry(&id);
        let may_begin = || self.0.admit();
        let admitted = entry.admit(&spec, if_running, may_begin, |incarnation, predecessor| {
            let workspace = resolved.workspace.then(|| self.0.workspace(&spec));
            let setup = Setup {
                spec: Arc::clone(&spec),
                incarnation,
                loaded,
                deadline,
                timings,
                workspace,
                predecessor,
                places: Arc::clone(&self.0.places),
                runtime: Arc::clone(&self.0.runtime),
                peers: Arc::new(self.0.peers.clone()),
                sink: Arc::clone(&self.0.sink),
                ring: Arc::clone(&entry.ring),
                context: Arc::clone(&self.0.context),
                prompt_message_id: self.0.next_message_id(),
                settings: Arc::new(LiveSettings::new(&spec, Arc::clone(&self.0.surroundings))),
            };
            setup.spawn(&self.0.spawner())
        });
        let (decision, agent) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => {
                self.0.tell_failed(id, role, &error);
                return Err(error);
            }
        };
        let joined = decision == Decision::Join;
        if decision != Decision::Keep {
            self.0.wait_for(&agent, joined, deadline).await?;
        }
        self.0.note_mayor(&agent);
        let answer = StartAnswer { agent: agent.view(), joined };
        Ok(Started { answer, created: decision != Decision::Keep })
    }
}

impl Inner {
    /// Everything that can fail without touching the agent.
    async fn prepare(
        &self,
        request: StartRequest,
        began: Instant,
    ) -> Result<(Resolved, Arc<Loaded>, Instant), StartError> {
        self.admit()?;
        let resolved = self.config.catalog.resolve(request)?;
        let deadline = began + resolved.spec.limits.start;
        let loaded = self.load(&resolved, deadline).await?;
        Ok((resolved, loaded, deadline))
    }

    /// Waits for a start, for as long as this caller is willing to. The one who began it has the
    /// agent's own deadline; one who joined may be less patient.
    async fn wait_for(
        &self,
        agent: &AgentHandle,
        joined: bool,
        deadline: Instant,
    ) -> Result<(), StartError> {
        if !joined {
            return agent.started().await;
        }
        self.sink.record(Event::AgentStartJoined { agent: agent.tag() });
        match timeout_at(deadline.into(), agent.started()).await {
            Ok(answer) => answer,
            Err(_) => {
                let text = format!("agent {} is still starting", agent.spec().id);
                Err(StartError::new(StartPhase::Deadline, StartFailure::Deadline, text))
            }
        }
    }

    fn workspace(&self, spec: &AgentSpec) -> PathBuf {
        self.config.workspaces_dir.join(spec.id.as_str())
    }

    fn note_mayor(&self, agent: &AgentHandle) {
        if agent.spec().role.as_ref() == MAYOR {
            let _ = self.mayor_ready_ms.compare_exchange(0, now().0, Relaxed, Relaxed);
        }
    }

    fn tell_failed(&self, agent_id: AgentId, role: String, error: &StartError) {
        self.sink.record(Event::AgentStartFailed {
            agent_id,
            role,
            incarnation: None,
            phase: error.phase,
            error_type: error.kind.as_str().to_owned(),
            error: error.message.clone(),
            action: error.kind.action().to_owned(),
        });
    }

    fn admit(&self) -> Result<(), StartError> {
        if self.draining.load(SeqCst) {
            let text = "the container is going away and takes no starts";
            return Err(StartError::new(StartPhase::Admission, StartFailure::Draining, text));
        }
        Ok(())
    }

    /// Loads the component and checks that the agent may have the memory that it is born with.
    async fn load(
        &self,
        resolved: &Resolved,
        deadline: Instant,
    ) -> Result<Arc<Loaded>, StartError> {
        let spec = &resolved.spec;
        let loading = self.runtime.load(&spec.component, &resolved.path);
        let loaded = match timeout_at(deadline.into(), loading).await {
            Ok(loaded) => loaded.map_err(load_failed)?,
            Err(_) => {
                let text =
                    format!("component {} was not compiled within the deadline", spec.component);
                return Err(StartError::new(StartPhase::Deadline, StartFailure::Deadline, text));
            }
        };
        let (born, limit) = (loaded.initial_memory_bytes, spec.limits.memory_bytes);
        if born > limit {
            let text = format!(
                "component {} has {born} bytes of memory at birth, the limit is {limit}",
                spec.component
            );
            return Err(StartError::new(StartPhase::Admission, StartFailure::MemoryMinimum, text));
        }
        Ok(loaded)
    }
}

fn load_failed(error: LoadError) -> StartError {
    let (phase, kind) = match &error {
        LoadError::Unreadable { .. } => (StartPhase::Component, StartFailure::ComponentUnreadable),
        LoadError::TooLarge { .. } => (StartPhase::Component, StartFailure::ComponentTooLarge),
        LoadError::WrongWorld { .. } => (StartPhase::Component, StartFailure::WrongWorld),
        LoadError::Invalid { .. } => (StartPhase::Compile, StartFailure::ComponentInvalid),
        LoadError::Host { .. } => (StartPhase::Compile, StartFailure::Host),
    };
    StartError::new(phase, kind, error.to_string())
}

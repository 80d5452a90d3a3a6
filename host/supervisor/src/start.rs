//! The way of a start: everything that can fail without touching the agent comes first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_agent::{AgentHandle, Setup, StartError, StartFailure};
use bulkhead_api::{IfRunning, StartAnswer, StartRequest};
use bulkhead_events::now;
use bulkhead_model::event::StartTimings;
use bulkhead_model::{AgentSpec, Event, Incarnation, StartPhase};
use bulkhead_runtime::{LoadError, Loaded, ShutdownReason};
use tokio::time::timeout_at;

use crate::catalog::Resolved;
use crate::registry::Entry;
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
    /// Starts an agent; resolves when it is running. Every failure is told by one
    /// `agent.start_failed` line.
    pub async fn start(&self, request: StartRequest) -> Result<Started, StartError> {
        let (id, role) = (request.agent_id.clone(), request.role.clone());
        let mut incarnation = None;
        let result = self.0.start(request, &mut incarnation).await;
        if let Err(error) = &result {
            self.0.registry.forget_if_empty(&id);
            self.0.sink.record(Event::AgentStartFailed {
                agent_id: id,
                role,
                incarnation,
                phase: error.phase,
                error_type: error.kind.as_str().to_owned(),
                error: error.message.clone(),
                action: error.kind.action().to_owned(),
            });
        }
        result
    }
}

impl Inner {
    async fn start(
        &self,
        request: StartRequest,
        incarnation: &mut Option<Incarnation>,
    ) -> Result<Started, StartError> {
        let began = Instant::now();
        self.admit()?;
        let (if_running, id) = (request.if_running, request.agent_id.clone());
        let resolved = self.config.catalog.resolve(request)?;
        let deadline = began + resolved.spec.limits.start;
        let loaded = self.load(&resolved, deadline).await?;
        let compile_us = micros(began.elapsed());

        let entry = self.registry.entry(&id);
        let slot = timeout_at(deadline.into(), entry.slot.lock()).await;
        let _slot = slot.map_err(|_| late(&resolved.spec, "another start of this agent"))?;
        if let Some(kept) = kept(&entry, if_running) {
            return Ok(Started { answer: kept, created: false });
        }
        self.clear(&entry, &resolved.spec, deadline).await?;
        // The container may have begun to drain while this waited.
        self.admit()?;
        let wait_us = micros(began.elapsed()) - compile_us;
        let timings = StartTimings { wait_us, compile_us, ..StartTimings::default() };
        let number = entry.next_incarnation();
        *incarnation = Some(number);
        let agent = self.spawn(&entry, resolved, loaded, number, deadline, timings).await?;
        if agent.spec().role.as_ref() == MAYOR {
            let _ = self.mayor_ready_ms.compare_exchange(
                0,
                now().0,
                std::sync::atomic::Ordering::Relaxed,
                std::sync::atomic::Ordering::Relaxed,
            );
        }
        Ok(Started { answer: StartAnswer { agent: agent.view(), joined: false }, created: true })
    }

    fn admit(&self) -> Result<(), StartError> {
        if self.draining.load(std::sync::atomic::Ordering::Relaxed) {
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

    /// Ends what lives in the slot, and waits until it is gone.
    async fn clear(
        &self,
        entry: &Entry,
        spec: &AgentSpec,
        deadline: Instant,
    ) -> Result<(), StartError> {
        let Some(agent) = entry.current().filter(AgentHandle::is_live) else { return Ok(()) };
        agent.stop(ShutdownReason::Superseded, "start");
        timeout_at(deadline.into(), agent.ended())
            .await
            .map_err(|_| late(spec, "the end of the incarnation before"))?;
        Ok(())
    }

    async fn spawn(
        &self,
        entry: &Entry,
        resolved: Resolved,
        loaded: Arc<Loaded>,
        incarnation: Incarnation,
        deadline: Instant,
        timings: StartTimings,
    ) -> Result<AgentHandle, StartError> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let text = format!(
                "{} agents live, and the container holds {}",
                self.context.active_agents(),
                self.runtime.capacity().max_agents
            );
            return Err(StartError::new(StartPhase::Admission, StartFailure::Capacity, text));
        };
        let spec = Arc::new(resolved.spec);
        let workspace =
            resolved.workspace.then(|| self.config.workspaces_dir.join(spec.id.as_str()));
        let setup = Setup {
            spec,
            incarnation,
            loaded,
            deadline,
            timings,
            workspace,
            place,
            runtime: Arc::clone(&self.runtime),
            peers: Arc::new(self.peers.clone()),
            sink: Arc::clone(&self.sink),
            ring: Arc::clone(&entry.ring),
            context: Arc::clone(&self.context),
            prompt_message_id: self.next_message_id(),
        };
        let start = setup.spawn(&self.spawner);
        entry.set_current(start.handle.clone());
        start.running.await.unwrap_or_else(|_| {
            let text = "the agent's task ended without an answer; the log has its panic";
            Err(StartError::new(StartPhase::Instantiate, StartFailure::Host, text))
        })?;
        Ok(start.handle)
    }
}

/// The live agent, when the caller wants to keep it.
fn kept(entry: &Entry, if_running: IfRunning) -> Option<StartAnswer> {
    let agent = entry.current().filter(AgentHandle::is_live)?;
    let keep = if_running == IfRunning::Keep && agent.board().state().accepts_messages();
    keep.then(|| StartAnswer { agent: agent.view(), joined: false })
}

fn late(spec: &AgentSpec, waited_for: &str) -> StartError {
    let limit = spec.limits.start.as_millis();
    let text = format!("agent {} waited {limit} ms for {waited_for}", spec.id);
    StartError::new(StartPhase::Deadline, StartFailure::Deadline, text)
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

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

//! From a reservation to the turn: loading the component and checking what is asked of the workspace, which touches nobody,
//! then waiting until the incarnation before is gone. An incarnation that is up and is what the start asks for is joined
//! instead.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bulkhead_log::now;
use bulkhead_runtime::{LoadError, ShutdownReason};
use bulkhead_types::StartPhase;
use bulkhead_types::time::micros;
use tokio::time::{Instant, sleep, sleep_until};

use super::base::Actor;
use super::drive::stop_ordered;
use crate::admission::Commitment;
use crate::engine::{Code, Component};
use crate::handle::AgentHandle;
use crate::refusal::{StartError, StartFailure};
use crate::slot::{Acquired, Before, NotReady, Ticket};
use crate::state_publisher::AfterEnd;

/// Why a reservation does not come to its turn.
enum GivenUp {
    /// This one is up, and what the start asks for.
    Joined(AgentHandle),
    Failed(StartError),
}

impl From<StartError> for GivenUp {
    fn from(error: StartError) -> Self {
        Self::Failed(error)
    }
}

/// The part of a start that comes before there is an instance: read, check and compile.
const LOADING: &str = "load";

/// What became of a reservation.
pub(super) enum Reserved {
    /// It has its turn.
    Ready(Arc<dyn Component>, Commitment),
    /// It was given up, and everyone is answered.
    Over,
    /// The same, and it is made again then.
    Again(Instant),
}

impl Actor<'_> {
    /// Gets the reservation to its turn, after so many `failures` in a row. One that fails was no
    /// incarnation, so there is no exit; the log has the failed or superseded start.
    pub(super) async fn reserve(&mut self, code: &Code, failures: u32) -> Reserved {
        let error = match self.load_and_acquire_slot(code).await {
            Ok((loaded, commitment)) => return Reserved::Ready(loaded, commitment),
            Err(GivenUp::Joined(up)) => {
                self.guard.withdraw(false);
                // Before anybody is answered.
                up.take_credentials_of(&self.state.start.credentials);
                self.state.answer(Ok(Some(up.state)));
                return Reserved::Over;
            }
            Err(GivenUp::Failed(error)) => error,
        };
        if self.displaces && error.kind != StartFailure::Superseded {
            // The previous incarnation was asked to end for it, and no other one replaces it.
            self.state.persist_stop();
        }
        // Logged before the reservation is given up: a drain does not wait for more than that.
        self.reporter.not_started(&error);
        let reserved = self.give_up(&error, failures);
        self.state.answer(Err(error));
        reserved
    }

    /// Gives the reservation up. A start that the host is to make, or that goes on after its caller has left, shows
    /// what became of it and is made again as its restart policy says; of any other the caller knows.
    fn give_up(&mut self, error: &StartError, failures: u32) -> Reserved {
        let is_missed = self.state.closes() || self.task.stays;
        let has_failed = error.kind.is_its_own() && !self.displaces;
        if !is_missed || !has_failed || self.container.is_draining() {
            let ends_for_nothing = self.displaces && self.state.stop_order().is_none();
            let leaves_mail = ends_for_nothing && !self.container.is_draining();
            self.guard.withdraw(leaves_mail || self.state.is_replaced());
            return Reserved::Over;
        }
        let rules = &self.state.start.spec.restart;
        let backoff = match error.kind.may_pass() {
            true => rules.after_failed_start(failures, fastrand::f64()),
            false => None,
        };
        let at = backoff.map(|backoff| now().after(backoff));
        let backs_off = self.guard.fail(error, at.map_or(AfterEnd::Stay, AfterEnd::Backoff));
        match (at, backoff) {
            (Some(at), Some(backoff)) if backs_off => {
                self.reporter.start_scheduled(at, backoff, &self.task.slot.restarts());
                Reserved::Again(Instant::now() + backoff)
            }
            _ => Reserved::Over,
        }
    }

    async fn load_and_acquire_slot(
        &mut self,
        code: &Code,
    ) -> Result<(Arc<dyn Component>, Commitment), GivenUp> {
        // Compiling takes memory as well.
        self.check_held()?;
        self.mark_in_flight(LOADING, None);
        let loaded = self.load(code).await;
        self.clear_in_flight();
        let loaded = loaded?;
        // It may have changed since the last try.
        self.state.start.set_code(loaded.code_digest());
        let Some(ticket) = self.guard.ticket() else { return Err(superseded().into()) };
        // Before it is asked whether there is memory for it.
        if let Some(up) = self.task.slot.join(ticket) {
            return Err(GivenUp::Joined(up));
        }
        let (mut stop, deadline) = (self.stop.clone(), self.deadline);
        tokio::select! {
            biased;
            checked = self.check_workspace() => checked?,
            _ = stop_ordered(&mut stop) => return Err(superseded().into()),
            () = sleep_until(deadline) => return Err(self.too_late().into()),
        }
        self.check_held()?;
        let commitment = self.commit()?;
        self.acquire_slot(ticket).await?;
        Ok((loaded, commitment))
    }

    fn check_held(&self) -> Result<(), StartError> {
        let occupant = self.task.slot.occupant();
        self.container.check_held(occupant.is_some_and(|agent| agent.keeps_its_memory()))
    }

    /// Makes sure that there is memory for it.
    fn commit(&self) -> Result<Commitment, StartError> {
        let own = self.state.start.spec.limits.memory_bytes;
        let replaced =
            self.task.slot.occupant().map_or(0, |occupant| occupant.spec().limits.memory_bytes);
        self.container.commit(own, replaced)
    }

    /// Loads the component, and checks that the agent may have the memory that it starts with.
    async fn load(&mut self, code: &Code) -> Result<Arc<dyn Component>, StartError> {
        let began = Instant::now();
        let spec = &self.state.start.spec;
        let engine = Arc::clone(&self.container.engine);
        let compile_limit = self.container.engine_facts.compile_limit;
        self.state.progress().loads(code.component.clone());
        let loaded = tokio::select! {
            biased;
            _ = stop_ordered(&mut self.stop) => Err(superseded()),
            loaded = engine.load(Arc::clone(&spec.component), code.clone()) => loaded.map_err(load_failed),
            () = sleep(compile_limit) => Err(self.not_compiled()),
        };
        // Compiling is not starting: the deadline counts on from here.
        self.deadline += began.elapsed();
        self.state.progress().loaded(self.deadline.into_std());
        let loaded = loaded?;
        self.timings.compile_us = micros(began.elapsed());
        let (initial, limit) = (loaded.initial_memory_bytes(), spec.limits.memory_bytes);
        let max = self.container.engine_facts.max_agent_memory_bytes;
        if initial > limit {
            let text = format!(
                "component {} has {initial} bytes of initial memory, the agent's limit is {limit}, and the \
                 container gives one agent at most {max}",
                spec.component
            );
            return Err(StartError::new(StartPhase::Admission, StartFailure::MemoryMinimum, text));
        }
        Ok(loaded)
    }

    fn not_compiled(&self) -> StartError {
        let limit_ms = self.container.engine_facts.compile_limit.as_millis();
        let component = &self.state.start.spec.component;
        let text = format!(
            "component {component} was not compiled within {limit_ms} ms; a later start compiles it again"
        );
        StartError::new(StartPhase::Compile, StartFailure::CompileDeadline, text)
    }

    /// Asks whatever is there to end, and waits until it is gone.
    async fn acquire_slot(&mut self, ticket: Ticket) -> Result<(), GivenUp> {
        let began = Instant::now();
        let slot = &self.task.slot;
        let Before { holder, backoff } = match slot.ready(ticket) {
            Ok(before) => before,
            Err(NotReady::Joined(up)) => return Err(GivenUp::Joined(up)),
            Err(NotReady::Gone) => return Err(self.taken_over().await.into()),
            Err(NotReady::Quarantined(restarts)) => return Err(StartError::from(*restarts).into()),
        };
        self.displaces = holder.is_some() || backoff.is_some();
        self.state.start.inherits.fetch_or(self.displaces, Relaxed);
        if let Some(holder) = holder {
            holder.stop(ShutdownReason::Superseded, "start");
        }
        if let Some(backoff) = &backoff {
            // What was sent to it is for this agent as well.
            self.adopt_mail(&backoff.state.start);
            backoff.stop(ShutdownReason::Superseded, "start");
        }
        let permits = &self.container.permits;
        let acquire = || Arc::clone(permits).try_acquire_owned().ok();
        let turn = async {
            if let Some(backoff) = backoff {
                // It reports its own end first.
                backoff.down().await;
            }
            slot.acquire(ticket, acquire).await
        };
        let turn = tokio::select! {
            biased;
            turn = turn => turn,
            _ = stop_ordered(&mut self.stop) => return Err(superseded().into()),
            () = sleep_until(self.deadline) => return Err(self.too_late().into()),
        };
        self.timings.wait_us = micros(began.elapsed());
        match turn {
            Acquired::Holder => {
                self.guard.begins();
                self.adopt_left_mail();
                self.take_journal();
                // Written while the instance is made.
                self.state.persist_start(self.task.slot.restarts().into());
                Ok(())
            }
            Acquired::Gone => Err(self.taken_over().await.into()),
            Acquired::Full => Err(self.full().into()),
        }
    }

    /// The reservation is gone. The start that took it orders the stop right after, and the log names it.
    async fn taken_over(&mut self) -> StartError {
        stop_ordered(&mut self.stop).await;
        superseded()
    }

    fn too_late(&self) -> StartError {
        let limit_ms = self.patience.as_millis();
        let text = format!("waited {limit_ms} ms for the end of the incarnation before");
        StartError::new(StartPhase::Deadline, StartFailure::Deadline, text)
    }

    fn full(&self) -> StartError {
        let max = self.container.engine_facts.max_agents;
        let taken = max.saturating_sub(self.container.permits.available_permits());
        let text = format!(
            "{taken} agents run or are about to be restarted, and the container holds {max}"
        );
        StartError::new(StartPhase::Admission, StartFailure::Capacity, text)
    }
}

fn superseded() -> StartError {
    let text = "was stopped before it was running";
    StartError::new(StartPhase::Superseded, StartFailure::Superseded, text)
}

fn load_failed(error: LoadError) -> StartError {
    let (phase, kind) = match &error {
        LoadError::Unreadable { .. } | LoadError::NotThere { .. } => {
            (StartPhase::Component, StartFailure::ComponentUnreadable)
        }
        LoadError::WrongDigest { .. } => (StartPhase::Component, StartFailure::ComponentInvalid),
        LoadError::TooLarge { .. } => (StartPhase::Component, StartFailure::ComponentTooLarge),
        LoadError::WrongWorld { .. } => (StartPhase::Component, StartFailure::WrongWorld),
        LoadError::Unsupported { .. } => (StartPhase::Compile, StartFailure::ComponentUnsupported),
        LoadError::DoesNotFit { .. } => (StartPhase::Admission, StartFailure::ComponentDoesNotFit),
        LoadError::Invalid { .. } => (StartPhase::Compile, StartFailure::ComponentInvalid),
        LoadError::TooComplex { .. } => (StartPhase::Component, StartFailure::ComponentTooComplex),
        LoadError::CompileMemory { .. } => (StartPhase::Compile, StartFailure::CompileMemory),
        LoadError::CompileTime { .. } => (StartPhase::Compile, StartFailure::CompileTime),
        LoadError::CompilerCrashed { .. } => (StartPhase::Compile, StartFailure::CompilerCrashed),
        LoadError::CompilerKilled { .. } => (StartPhase::Compile, StartFailure::CompilerKilled),
        LoadError::Source(_) => (StartPhase::Component, StartFailure::SourceInvalid),
        LoadError::NoProcess { .. } => (StartPhase::Admission, StartFailure::NoProcess),
        LoadError::Draining { .. } => (StartPhase::Admission, StartFailure::Draining),
        LoadError::MemoryShort { .. } => (StartPhase::Admission, StartFailure::Memory),
        LoadError::Host { .. } => (StartPhase::Compile, StartFailure::Host),
    };
    StartError::new(phase, kind, error.to_string())
}

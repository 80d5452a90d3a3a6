//! The end of an incarnation, also when its task could not tell it.

use std::sync::Arc;

use bulkhead_events::RunContext;
use bulkhead_model::{Exit, ExitReason, Input, Phase, StartPhase};
use tokio::sync::OwnedSemaphorePermit;

use super::{Actor, Ended, answer};
use crate::handle::Shared;
use crate::refusal::{StartError, StartFailure, TurnReport};
use crate::report::{Reporter, start_error};

/// Counts the agent among the live ones, and publishes an end that the task itself could not: a panic
/// of the host in it, or a task that never ran.
pub(super) struct EndGuard {
    shared: Arc<Shared>,
    reporter: Arc<Reporter>,
    context: Arc<RunContext>,
    counted: Option<Counted>,
}

/// One live agent, and its place among all.
struct Counted {
    context: Arc<RunContext>,
    place: Option<OwnedSemaphorePermit>,
}

impl Actor {
    /// Writes the record, publishes the end, and answers everyone who still waits.
    pub(super) fn finish(&mut self, ended: Ended) {
        let Ended { exit, in_flight } = ended;
        let by = self.stop.borrow().as_ref().map(|order| order.by.clone());
        let message_id = in_flight.as_ref().map(|envelope| envelope.message.id.clone());
        let crash_id = self.guard.publish(&exit, by, message_id);
        // Told after the record is written, so that whoever asked can read it.
        if !self.shared.slot.is_answered() {
            self.refuse(start_error(&exit, self.deadline, crash_id.clone()));
        }
        if let Some(mut envelope) = in_flight {
            let (reason, message) = (exit.reason, exit.message.clone());
            answer(&mut envelope, TurnReport::Ended { reason, message, crash_id });
        }
    }
}

impl EndGuard {
    pub(super) fn new(
        shared: Arc<Shared>,
        reporter: Arc<Reporter>,
        context: Arc<RunContext>,
    ) -> Self {
        Self { shared, reporter, context, counted: None }
    }

    /// From now on the agent counts as live.
    pub(super) fn count(&mut self, place: OwnedSemaphorePermit) {
        self.context.agent_began();
        self.counted = Some(Counted { context: Arc::clone(&self.context), place: Some(place) });
    }

    /// Tells the end and makes it visible. The place goes to the successor, or back to all.
    fn publish(
        &mut self,
        exit: &Exit,
        by: Option<String>,
        message_id: Option<String>,
    ) -> Option<String> {
        let shared = &self.shared;
        let crash_id = self.reporter.ended(exit, by, message_id, self.context.active_agents());
        let waiting = shared.mailbox.close();
        // Before the end is visible: whoever waits for it may start at once. One that gave up at its
        // gate was never counted and may have inherited a place all the same.
        let place = self.counted.take().and_then(|mut counted| counted.place.take());
        if let Some(place) = place.or_else(|| shared.slot.take_inheritance()) {
            shared.slot.bequeath(place);
        }
        shared.board.transition(Input::Ended { normal: exit.reason.is_normal() });
        for mut envelope in waiting {
            let (reason, message) = (exit.reason, exit.message.clone());
            answer(
                &mut envelope,
                TurnReport::Ended { reason, message, crash_id: crash_id.clone() },
            );
        }
        crash_id
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.context.agent_ended();
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        if self.shared.board.state().is_live() {
            let text = "the agent's task ended before its agent; the log has its panic";
            self.publish(&Exit::new(ExitReason::HostError, Phase::Idle, text), None, None);
            let error = StartError::new(StartPhase::GuestStart, StartFailure::Host, text);
            if self.shared.slot.answer(Err(error.clone())) {
                self.reporter.not_started(&error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use bulkhead_events::{Ring, SharedSink, Sink};
    use bulkhead_model::event::AgentTag;
    use bulkhead_model::{
        AgentId, AgentSpec, Body, Digest, Event, HttpPolicy, Incarnation, Limits, RestartPolicy,
        Sender,
    };
    use bulkhead_runtime::Birth;
    use tokio::sync::{Semaphore, watch};

    use super::*;
    use crate::board::Board;
    use crate::mailbox::{Envelope, Mailbox};
    use crate::port::{AgentPort, Peers};
    use crate::refusal::SendError;
    use crate::settings::LiveSettings;
    use crate::slot::Slot;
    use crate::surroundings::Surroundings;

    #[derive(Default)]
    struct Kept(Mutex<Vec<Event>>);

    impl Sink for Kept {
        fn record(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }

    struct Nobody;

    impl Peers for Nobody {
        fn send(&self, to: &AgentId, _: Sender, _: Body) -> Result<String, SendError> {
            Err(SendError::NoSuchAgent(to.clone()))
        }
    }

    fn spec() -> Arc<AgentSpec> {
        Arc::new(AgentSpec {
            id: AgentId::parse("a").unwrap(),
            role: "r".into(),
            component: "c".into(),
            name: "a".into(),
            town_id: None,
            rig_id: None,
            prompt: String::new(),
            system_prompt: None,
            model: None,
            small_model: None,
            config: BTreeMap::new(),
            env: BTreeMap::new(),
            limits: Limits::default(),
            http: HttpPolicy::default(),
            restart: RestartPolicy::Temporary,
            fault_injection: false,
        })
    }

    /// An agent in `starting`, without a task.
    fn starting(sink: SharedSink, context: &Arc<RunContext>) -> (Arc<Shared>, EndGuard) {
        let spec = spec();
        let incarnation = Incarnation(1);
        let tag = AgentTag { agent_id: spec.id.clone(), role: Arc::clone(&spec.role), incarnation };
        let (board, ring) = (Arc::new(Board::new()), Arc::new(Ring::default()));
        let settings = Arc::new(LiveSettings::new(&spec, Arc::new(Surroundings::default())));
        let port = AgentPort::new(
            tag.clone(),
            Arc::clone(&board),
            Arc::clone(&ring),
            Arc::clone(&sink),
            Arc::new(Nobody),
            Arc::clone(&settings),
        );
        let birth = Arc::new(Birth::new(Arc::clone(&spec), Arc::new(port), None));
        let shared = Arc::new(Shared {
            tag,
            spec,
            mailbox: Mailbox::new(8, 1024),
            board,
            meter: Arc::clone(&birth.meter),
            stop: watch::Sender::new(None),
            slot: Slot::new(None),
            sink,
            ring,
            settings,
        });
        let reporter = Arc::new(Reporter::new(Arc::clone(&shared), birth, Digest([0; 32])));
        let guard = EndGuard::new(Arc::clone(&shared), reporter, Arc::clone(context));
        (shared, guard)
    }

    #[tokio::test]
    async fn a_task_that_is_lost_answers_everyone_leaves_its_records_and_gives_its_place_back() {
        let kept = Arc::new(Kept::default());
        let context = Arc::new(RunContext::new("run".into(), None));
        let places = Arc::new(Semaphore::new(1));
        let (shared, mut guard) = starting(Arc::clone(&kept) as SharedSink, &context);
        guard.count(Arc::clone(&places).try_acquire_owned().unwrap());
        let (report, sender) = tokio::sync::oneshot::channel();
        let message =
            bulkhead_model::Message { id: "m".into(), sender: Sender::Operator, body: "hi".into() };
        shared.mailbox.push(Envelope { message, report: Some(report) }).unwrap();
        assert_eq!((context.active_agents(), places.available_permits()), (1, 0));

        drop(guard);

        assert!(!shared.board.state().is_live());
        assert_eq!((context.active_agents(), places.available_permits()), (0, 1));
        assert!(shared.slot.is_answered(), "whoever waits for the start waits for ever");
        let error = shared.slot.answered().await.unwrap_err();
        assert_eq!(error.kind, StartFailure::Host);
        assert!(matches!(
            sender.await.unwrap(),
            TurnReport::Ended { reason: ExitReason::HostError, crash_id: Some(_), .. }
        ));
        let told = kept.0.lock().unwrap();
        let exits = told.iter().filter(|event| matches!(event, Event::AgentExit { .. })).count();
        let crashes = told.iter().filter(|event| matches!(event, Event::AgentCrash(_))).count();
        assert_eq!((exits, crashes), (1, 1));
    }
}

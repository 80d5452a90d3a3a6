//! The calls into an incarnation: `lifecycle` of `wit/agent.wit`, and `wasi:cli/run`.

use crate::bindings::bulkhead::agent::agent_types;
use crate::call::Call;
use crate::exit::reason_of_a_denial;
use crate::guest_instance::Finished;
use crate::guest_instance::Running;
use crate::guest_instance::{AgentFailure, Guest, GuestInstance, Thrown};
use crate::incarnation::{Incarnation, ShutdownReason, Snapshot, StartInfo};
use crate::interfaces::exceptions;
use crate::meter::CallLimits;
use bulkhead_types::{Message, Next, Outcome, Phase, Sender};
use std::sync::Arc;

/// Longest reply; more is cut, as `wit/agent.wit` says.
const MAX_REPLY_BYTES: usize = bulkhead_types::message::MAX_BODY_BYTES;

/// Longest error code and message of a guest.
const MAX_ERROR_BYTES: usize = 4 * 1024;

impl Incarnation {
    /// Calls `lifecycle.start`, with the settings of this moment. A stock component has none and is
    /// ready at once.
    pub fn start(self, info: StartInfo, limits: CallLimits) -> Call<()> {
        let spec = Arc::clone(&self.context.spec);
        let settings = self.context.port.settings();
        self.call(Phase::Start, limits, false, move |mut instance| async move {
            let Guest::Agent(agent) = &instance.guest else {
                return Finished { instance: Some(instance), result: Ok(Ok(())) };
            };
            let town_id = spec.town_id.clone().or(info.town_id);
            let request = agent_types::StartRequest {
                agent_id: spec.id.as_str(),
                role: &spec.role,
                name: &spec.name,
                town_id: town_id.as_deref(),
                rig_id: spec.rig_id.as_deref(),
                incarnation: info.incarnation,
                prompt: &spec.prompt,
                system_prompt: settings.system_prompt.as_deref(),
                model: settings.model.as_deref(),
                small_model: settings.small_model.as_deref(),
                restored: info.restored,
            };
            let result =
                agent.bulkhead_agent_lifecycle().call_start(&mut instance.store, request).await;
            instance.finished(result, |()| ())
        })
    }

    /// Calls `lifecycle.handle`: a turn.
    pub fn handle(self, message: &Message, limits: CallLimits) -> Call<Outcome> {
        // Its text is shared and not copied.
        let message = message.clone();
        let continues = message.sender == Sender::Continuation;
        self.call(Phase::Handle, limits, continues, move |mut instance| async move {
            let Guest::Agent(agent) = &instance.guest else { return instance.no_agent() };
            let message = agent_types::Message {
                id: &message.id,
                sender: sender(&message.sender),
                body: &message.body,
                attempt: message.attempt,
            };
            let result =
                agent.bulkhead_agent_lifecycle().call_handle(&mut instance.store, message).await;
            instance.finished(result, outcome)
        })
    }

    /// Calls `lifecycle.snapshot`. A snapshot that the agent's account has no room for is a failure
    /// that the agent survives.
    pub fn snapshot(self, limits: CallLimits) -> Call<Snapshot> {
        self.call(Phase::Snapshot, limits, false, move |mut instance| async move {
            let Guest::Agent(agent) = &instance.guest else { return instance.no_agent() };
            let result = agent.bulkhead_agent_lifecycle().call_snapshot(&mut instance.store).await;
            let account = Arc::clone(instance.store.data().meter.memory().account());
            let Finished { instance, result } = instance.finished(result, |bytes| bytes);
            let hold = |bytes: Vec<u8>| Snapshot::hold(bytes, &account);
            Finished { instance, result: result.map(|result| result.and_then(hold)) }
        })
    }

    /// Calls `lifecycle.restore`.
    pub fn restore(self, snapshot: Vec<u8>, limits: CallLimits) -> Call<()> {
        self.call(Phase::Restore, limits, false, move |mut instance| async move {
            let Guest::Agent(agent) = &instance.guest else { return instance.no_agent() };
            let result =
                agent.bulkhead_agent_lifecycle().call_restore(&mut instance.store, &snapshot).await;
            instance.finished(result, |()| ())
        })
    }

    /// Calls `lifecycle.shutdown`.
    pub fn shutdown(self, reason: ShutdownReason, limits: CallLimits) -> Call<()> {
        let reason = match reason {
            ShutdownReason::Stopped => agent_types::ShutdownReason::Stopped,
            ShutdownReason::Drained => agent_types::ShutdownReason::Drained,
            ShutdownReason::Superseded => agent_types::ShutdownReason::Superseded,
            ShutdownReason::Evicted => agent_types::ShutdownReason::Evicted,
            ShutdownReason::Idle => agent_types::ShutdownReason::Idle,
        };
        self.call(Phase::Shutdown, limits, false, move |mut instance| async move {
            let Guest::Agent(agent) = &instance.guest else {
                return Finished { instance: Some(instance), result: Ok(Ok(())) };
            };
            let result =
                agent.bulkhead_agent_lifecycle().call_shutdown(&mut instance.store, reason).await;
            instance.finished(result, |()| ())
        })
    }

    /// Runs a stock component: `wasi:cli/run`, its whole incarnation.
    pub fn run(self, limits: CallLimits) -> Call<()> {
        self.call(Phase::Run, limits, false, move |mut instance| async move {
            let Guest::Command(command) = &instance.guest else { return instance.no_agent() };
            let result = command.wasi_cli_run().call_run(&mut instance.store).await;
            let result = result.map(|status| {
                status.map_err(|()| AgentFailure {
                    code: "exit-failure".into(),
                    message: "wasi:cli/run returned an error".into(),
                    fatal: true,
                    thrown: None,
                })
            });
            Finished { instance: Some(instance), result }
        })
    }

    fn call<T, F>(
        self,
        phase: Phase,
        limits: CallLimits,
        continues: bool,
        body: impl FnOnce(GuestInstance) -> F + Send + 'static,
    ) -> Call<T>
    where
        T: Send + 'static,
        F: Future<Output = Finished<T>> + Send + 'static,
    {
        let Self { mut instance, context, executor } = self;
        // The first tick after this point makes the guest look up, or its first step where all was used before.
        let ticks = u64::from(!(continues && context.meter.is_message_over()));
        instance.store.set_epoch_deadline(ticks);
        let future: Running<T> = Box::pin(async move {
            let finished = body(instance).await;
            if let Some(instance) = &finished.instance {
                instance.store.data().give_back_descriptors();
            }
            finished
        });
        Call::new(future, phase, limits, continues, context, executor)
    }
}

impl GuestInstance {
    fn finished<R, T>(
        self,
        result: wasmtime::Result<Result<R, agent_types::AgentError>>,
        map: impl FnOnce(R) -> T,
    ) -> Finished<T> {
        let meter = &self.store.data().meter;
        let failed = |error| {
            let mut failure = AgentFailure::from(error);
            // The words alone are no evidence: anybody can throw them.
            let ran_out = |it: &&mut Box<Thrown>| {
                it.exceptions.iter().any(bulkhead_exception::is_out_of_memory)
            };
            if let Some(thrown) = failure.thrown.as_mut().filter(ran_out) {
                let denied = meter.memory().denied_bytes();
                thrown.denied = denied.map(|bytes| (reason_of_a_denial(meter), bytes));
            }
            failure
        };
        let result = result.map(|result| result.map(map).map_err(failed));
        Finished { instance: Some(self), result }
    }

    /// A call that makes no sense for a stock component: a bug of the caller, reported as a failure.
    fn no_agent<T>(self) -> Finished<T> {
        let failure = AgentFailure {
            code: "wrong-world".into(),
            message: "the component has another world than the call".into(),
            fatal: true,
            thrown: None,
        };
        Finished { instance: Some(self), result: Ok(Err(failure)) }
    }
}

impl From<agent_types::AgentError> for AgentFailure {
    fn from(error: agent_types::AgentError) -> Self {
        let cut = |text: String| text[..text.floor_char_boundary(MAX_ERROR_BYTES)].to_owned();
        let exceptions = exceptions::lifted(error.exceptions);
        let is_thrown = !exceptions.is_empty();
        let thrown = || Box::new(Thrown { exceptions, denied: None });
        Self {
            code: cut(error.code),
            message: cut(error.message),
            fatal: error.fatal,
            thrown: is_thrown.then(thrown),
        }
    }
}

fn sender(sender: &Sender) -> agent_types::Sender<'_> {
    match sender {
        Sender::Operator => agent_types::Sender::Operator,
        Sender::Agent(id) => agent_types::Sender::Agent(id.as_str()),
        Sender::Prompt => agent_types::Sender::Prompt,
        Sender::Nudge(id) => agent_types::Sender::Nudge(id),
        Sender::Continuation => agent_types::Sender::Continuation,
    }
}

fn outcome(outcome: agent_types::Outcome) -> Outcome {
    let next = match outcome.next {
        agent_types::Next::Idle => Next::Idle,
        agent_types::Next::Continue => Next::Continue,
        agent_types::Next::Done => Next::Done,
    };
    let mut reply_cut = false;
    // Copied: what was truncated must not stay allocated.
    let reply = outcome.reply.map(|reply| match reply.floor_char_boundary(MAX_REPLY_BYTES) {
        at if at < reply.len() => {
            reply_cut = true;
            reply[..at].to_owned()
        }
        _ => reply,
    });
    Outcome { reply, reply_cut, next }
}

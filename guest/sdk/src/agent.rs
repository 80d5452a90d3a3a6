//! The trait that an agent implements, and the macro that makes a component of it.

use std::cell::RefCell;

use crate::host::{copied_less_than, cut_reply};
use crate::{AgentError, Message, Next, Outcome, ShutdownReason, StartRequest};

/// An agent's logic. Only [`handle`](Agent::handle) is required.
///
/// The host creates one value per incarnation with [`Default`] and calls, in this order:
/// [`restore`](Agent::restore) if there is a snapshot, [`start`](Agent::start), then any number of
/// [`handle`](Agent::handle) and [`snapshot`](Agent::snapshot), then
/// [`shutdown`](Agent::shutdown). One call runs at a time. Each has limits on CPU time and on wall
/// time, and a call that exceeds one ends the incarnation; see [`host::deadline`](crate::host::deadline).
///
/// A panic ends the incarnation too, and the host records it with its message and place. The value
/// is gone then: what must outlive it belongs into a snapshot.
pub trait Agent: Default {
    /// Makes the agent ready. Keep it short, the caller of `POST /agents/start` waits for it; the
    /// prompt comes again as the first message. An error always ends the incarnation.
    fn start(&mut self, request: StartRequest) -> Result<(), AgentError> {
        let _ = request;
        Ok(())
    }

    /// Works on one message: a turn.
    ///
    /// An error with `fatal: false` fails this turn only; the agent must then be able to take the
    /// next message.
    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError>;

    /// Returns what the next incarnation needs to go on; empty means that there is nothing to keep.
    /// [`state::save`](crate::state::save) makes one from any serializable value.
    fn snapshot(&mut self) -> Result<Vec<u8>, AgentError> {
        Ok(Vec::new())
    }

    /// Takes over what an earlier incarnation, maybe of an older version, returned from
    /// [`snapshot`](Agent::snapshot). An error always ends the incarnation.
    ///
    /// The default refuses, because to drop somebody's state should be a decision.
    fn restore(&mut self, snapshot: Vec<u8>) -> Result<(), AgentError> {
        Err(AgentError::fatal(
            "restore-unsupported",
            format!(
                "a snapshot of {} bytes was offered to an agent that keeps no state",
                snapshot.len()
            ),
        ))
    }

    /// The last call. A snapshot was taken before, where the role keeps any.
    fn shutdown(&mut self, reason: ShutdownReason) -> Result<(), AgentError> {
        let _ = reason;
        Ok(())
    }
}

/// Holds the one agent of an instance. For [`export!`](crate::export) only.
#[doc(hidden)]
pub struct Slot<A>(RefCell<A>);

impl<A: Default> Default for Slot<A> {
    fn default() -> Self {
        Self(RefCell::new(A::default()))
    }
}

impl<A> Slot<A> {
    /// Runs one lifecycle call. The component model never enters an instance twice at once, so the
    /// borrow cannot fail.
    pub fn with<R>(&self, call: impl FnOnce(&mut A) -> R) -> R {
        call(&mut self.0.borrow_mut())
    }
}

impl<A: Agent> Slot<A> {
    /// A turn, with as much of the reply as a call can copy.
    pub fn handle(agent: &mut A, message: Message) -> Result<Outcome, AgentError> {
        let mut outcome = agent.handle(message)?;
        if let Some(reply) = &mut outcome.reply {
            cut_reply(reply);
        }
        Ok(outcome)
    }

    /// A snapshot, if a call can copy it.
    pub fn snapshot(agent: &mut A) -> Result<Vec<u8>, AgentError> {
        let snapshot = agent.snapshot()?;
        let bytes = snapshot.len();
        match copied_less_than(bytes) {
            Some(most) => Err(AgentError::failed(
                "snapshot-failed",
                format!("the snapshot has {bytes} bytes, and a call copies at most {most}"),
            )),
            None => Ok(snapshot),
        }
    }
}

/// Makes a type that implements [`Agent`](crate::Agent) the component's `lifecycle`.
///
/// Use it once, at the top level of a crate with `crate-type = ["cdylib"]`.
#[macro_export]
macro_rules! export {
    ($agent:ty) => {
        const _: () = {
            struct Component;

            ::std::thread_local! {
                static SLOT: $crate::Slot<$agent> = ::std::default::Default::default();
            }

            impl $crate::bindings::exports::bulkhead::agent::lifecycle::Guest for Component {
                fn start(
                    request: $crate::StartRequest,
                ) -> ::std::result::Result<(), $crate::AgentError> {
                    SLOT.with(|slot| slot.with(|agent| $crate::Agent::start(agent, request)))
                }

                fn handle(
                    message: $crate::Message,
                ) -> ::std::result::Result<$crate::Outcome, $crate::AgentError> {
                    SLOT.with(|slot| slot.with(|agent| $crate::Slot::handle(agent, message)))
                }

                fn snapshot() -> ::std::result::Result<::std::vec::Vec<u8>, $crate::AgentError> {
                    SLOT.with(|slot| slot.with($crate::Slot::snapshot))
                }

                fn restore(
                    snapshot: ::std::vec::Vec<u8>,
                ) -> ::std::result::Result<(), $crate::AgentError> {
                    SLOT.with(|slot| slot.with(|agent| $crate::Agent::restore(agent, snapshot)))
                }

                fn shutdown(
                    reason: $crate::ShutdownReason,
                ) -> ::std::result::Result<(), $crate::AgentError> {
                    SLOT.with(|slot| slot.with(|agent| $crate::Agent::shutdown(agent, reason)))
                }
            }

    $crate::bindings::export_component!(Component with_types_in $crate::bindings);
        };
    };
}

impl Outcome {
    /// No answer; wait for the next message.
    pub fn idle() -> Self {
        Self { reply: None, next: Next::Idle }
    }

    /// An answer; wait for the next message.
    pub fn reply(text: impl Into<String>) -> Self {
        Self { reply: Some(text.into()), next: Next::Idle }
    }

    /// No answer yet: another turn at once, for the same message.
    pub fn proceed() -> Self {
        Self { reply: None, next: Next::Continue }
    }

    /// A last answer: the incarnation ends as `completed`, and its snapshots are removed.
    pub fn done(text: impl Into<String>) -> Self {
        Self { reply: Some(text.into()), next: Next::Done }
    }
}

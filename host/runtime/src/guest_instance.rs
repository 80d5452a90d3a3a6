//! A component that was instantiated, and one poll of it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bulkhead_log::Counted;
use bulkhead_tasks::containment::contain;
use bulkhead_types::{Exception, ExitReason};
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;

use crate::bindings::RunnerAgent;
use crate::executor::Executor;
use crate::instance_context::InstanceContext;
use crate::state::State;

/// The store and what is exported from it.
pub(crate) struct GuestInstance {
    pub store: Store<State>,
    pub guest: Guest,
    /// Last: fields are dropped in order, and the store counts until it is gone.
    pub _counted: Counted,
}

pub(crate) enum Guest {
    /// A component of the world `agent`.
    Agent(RunnerAgent),
    /// A stock component that exports `wasi:cli/run`.
    Command(wasmtime_wasi::p2::bindings::Command),
}

/// A failure that the agent reports about itself. `record agent-error` in `wit/agent.wit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFailure {
    /// Kebab case, chosen by the agent.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// Ends the incarnation.
    pub fatal: bool,
    /// The exception that left its code, if one did.
    pub thrown: Option<Box<Thrown>>,
}

/// An exception that left an agent's code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thrown {
    /// It, then what caused it, and what caused that. At least one. Bounded.
    pub exceptions: Vec<Exception>,
    /// It is for want of memory: whose want, and the bytes of a growth that was denied in this call.
    pub denied: Option<(ExitReason, u64)>,
}

/// What the future of a call yields: the store is returned only when the engine says it may.
pub(crate) struct Finished<T> {
    pub instance: Option<GuestInstance>,
    pub result: wasmtime::Result<Result<T, AgentFailure>>,
}

pub(crate) type Running<T> = Pin<Box<dyn Future<Output = Finished<T>> + Send>>;

/// What one poll of a call came to.
pub(crate) enum Polled<T> {
    Finished(Finished<T>),
    Panicked(String),
    Yielded,
    Waits,
    /// It is about to block its thread.
    ToBlock(OwnedSemaphorePermit),
}

/// One poll of a guest: measured, with the ticker awake, and with host panics contained.
pub(crate) fn poll_guest<T>(
    future: &mut Running<T>,
    cx: &mut Context<'_>,
    context: &InstanceContext,
    executor: &Executor,
) -> Polled<T> {
    let running = executor.ticker().enter();
    context.meter.begin_poll();
    let polled = contain(|| future.as_mut().poll(cx));
    context.meter.end_poll();
    drop(running);
    let to_block = context.meter.take_to_block();
    match polled {
        Ok(Poll::Ready(finished)) => Polled::Finished(finished),
        Ok(Poll::Pending) => match to_block {
            Some(permit) => Polled::ToBlock(permit),
            None if context.meter.take_yielded() => Polled::Yielded,
            None => Polled::Waits,
        },
        Err(panicked) => Polled::Panicked(panicked.to_string()),
    }
}

//! The way from one agent to another.

use bulkhead_telemetry::TraceContext;
use bulkhead_types::{AgentId, Body, Sender};

use crate::refusal::SendError;

/// The other agents, as a guest may reach them. The supervisor implements it.
pub trait Peers: Send + Sync + 'static {
    /// Puts a message into an agent's mailbox and returns its id. Does not wait. `trace` is the span that caused it.
    fn send(
        &self,
        to: &AgentId,
        sender: Sender,
        body: Body,
        trace: Option<TraceContext>,
    ) -> Result<String, SendError>;
}

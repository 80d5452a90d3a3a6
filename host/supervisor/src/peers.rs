//! The other agents, as a guest reaches them.

use std::sync::Weak;

use bulkhead_agent::{Peers, SendError};
use bulkhead_telemetry::TraceContext;
use bulkhead_types::{AgentId, Body, Sender};

use crate::Inner;

/// The way back from an agent to the supervisor. Weak, because the supervisor owns the agents.
#[derive(Clone)]
pub(crate) struct Local(Weak<Inner>);

impl Local {
    pub(crate) fn new(inner: Weak<Inner>) -> Self {
        Self(inner)
    }
}

impl Peers for Local {
    fn send(
        &self,
        to: &AgentId,
        sender: Sender,
        body: Body,
        trace: Option<TraceContext>,
    ) -> Result<String, SendError> {
        let inner = self.0.upgrade().ok_or_else(|| SendError::NoSuchAgent(to.clone()))?;
        inner.send(to, sender, body, trace).map(|delivery| delivery.message_id)
    }
}

//! What is kept of an agent's events.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::time::Timestamp;

/// One event of an agent.
#[derive(Debug, Clone)]
pub struct RingEvent {
    /// Rises by one with each event of this agent in this run.
    pub id: u64,
    /// For example `agent.turn`, or a name the guest chose.
    pub event: Arc<str>,
    /// Any JSON value.
    pub data: Arc<RawValue>,
    /// When.
    pub timestamp: Timestamp,
}

/// Events of an agent after some id, oldest first.
#[derive(Debug, Clone, Default)]
pub struct RingPage {
    /// What is kept of them.
    pub events: Vec<RingEvent>,
    /// Events that were dropped before they could be read end before this id.
    pub dropped_before: Option<u64>,
}

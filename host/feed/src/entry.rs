//! An event in the order of all.

use bulkhead_types::{AgentId, RingEvent};

/// An event, and whose it is.
#[derive(Debug, Clone)]
pub struct Entry {
    /// `None`: the container's.
    pub agent: Option<AgentId>,
    /// The event.
    pub event: RingEvent,
}

//! Why and by whom an agent is asked to end.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_runtime::ShutdownReason;
use bulkhead_types::ExitReason;
use bulkhead_types::memory::Eviction;

/// Why and by whom an agent is asked to end. The first order counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StopOrder {
    pub reason: ShutdownReason,
    pub by: String,
    pub grace: Duration,
    /// There is no grace left. Comes over an earlier order.
    pub now: bool,
    /// Why this agent, when it is ended for want of memory.
    pub eviction: Option<Arc<Eviction>>,
    /// Which bound of its role it ran into, when it is ended for that.
    pub halt: Option<Arc<Halt>>,
}

/// An end that a role wants when one of its bounds is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Halt {
    pub reason: ExitReason,
    /// Names the bound.
    pub message: String,
}

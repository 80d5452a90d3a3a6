//! One incarnation at work: what its steps share.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_blackbox::{Marker, Work};
use bulkhead_types::Incarnation;
use bulkhead_types::event::StartTimings;
use tokio::time::Instant;

use super::drive::StopOrders;
use super::slot_guard::SlotGuard;
use super::snapshot::state::Snapshots;
use super::task::StartTask;
use crate::container::Container;
use crate::handle::AgentHandle;
use crate::incarnation::IncarnationState;
use crate::report::Reporter;
use crate::workspace_use::InUse;

/// One incarnation at work.
pub(super) struct Actor<'a> {
    pub task: &'a StartTask,
    pub container: &'a Container,
    pub state: Arc<IncarnationState>,
    pub reporter: Reporter,
    pub deadline: Instant,
    /// How long the start has until then, compiling aside.
    pub patience: Duration,
    pub timings: StartTimings,
    pub stop: StopOrders,
    /// It is at its workspace, which nobody takes away meanwhile.
    pub workspace_use: Option<InUse>,
    /// Its workspace is on this disk as it was shipped last, or newer.
    pub workspace_is_here: bool,
    /// Its workspace is the repository of its spec.
    pub has_repository: bool,
    /// Something was asked to end for this start.
    pub displaces: bool,
    pub snapshots: Snapshots,
    pub guard: SlotGuard,
    /// Says in the black box that this was under way, should the process end now.
    pub in_flight_marker: Option<Marker>,
}

impl<'a> Actor<'a> {
    pub(super) fn new(
        task: &'a StartTask,
        agent: AgentHandle,
        deadline: Instant,
        guard: SlotGuard,
    ) -> Self {
        let state = agent.state;
        Self {
            task,
            container: &task.start.container,
            reporter: Reporter::new(Arc::clone(&state)),
            deadline,
            patience: task.start.spec.limits.start,
            timings: StartTimings::default(),
            stop: state.stop.subscribe(),
            workspace_use: None,
            workspace_is_here: false,
            has_repository: false,
            displaces: false,
            snapshots: Snapshots::default(),
            guard,
            in_flight_marker: None,
            state,
        }
    }

    /// Writes down what is begun now, until something else is begun or [`Self::clear_in_flight`] is called.
    pub(super) fn mark_in_flight(&mut self, phase: &str, message_id: Option<&str>) {
        // First of all: what was before it ended.
        self.in_flight_marker = None;
        let work = Work {
            agent_id: self.state.id().as_str().into(),
            incarnation: self.number().0,
            phase: phase.into(),
            message_id: message_id.map(Into::into),
        };
        self.in_flight_marker = Some(self.container.in_flight.begin(&work));
    }

    pub(super) fn clear_in_flight(&mut self) {
        self.in_flight_marker = None;
    }

    pub(super) fn number(&self) -> Incarnation {
        self.state.incarnation()
    }
}

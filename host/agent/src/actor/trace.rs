//! The span of a turn.

use bulkhead_telemetry::{Delivery, TraceContext, Turn, TurnSpan};
use bulkhead_types::{Message, Next};

use super::base::Actor;

impl Actor<'_> {
    /// A turn begins. Its span is empty if nothing is recorded.
    pub(super) fn begin_span(
        &self,
        message: Option<&Message>,
        parent: Option<&TraceContext>,
    ) -> TurnSpan {
        let start = &self.state.start;
        let Some(telemetry) = &start.container.telemetry else { return TurnSpan::default() };
        let span = telemetry.turn(Turn {
            agent: start.spec.id.as_str(),
            role: &start.spec.role,
            incarnation: self.state.incarnation().0,
            message: message.map(|Message { id, attempt, .. }| Delivery { id, attempt: *attempt }),
            parent,
        });
        self.state.instance_context.turn.set(span.scope());
        span
    }

    /// It is over: with what the agent wants next, or with a kind of error.
    pub(super) fn end_span(&self, span: TurnSpan, ended: Result<Next, &str>) {
        if self.state.start.container.telemetry.is_none() {
            return;
        }
        self.state.instance_context.turn.clear();
        match ended {
            Ok(Next::Idle) => span.returned("idle"),
            Ok(Next::Continue) => span.returned("continue"),
            Ok(Next::Done) => span.returned("done"),
            Err(error) => span.failed(error),
        }
    }
}

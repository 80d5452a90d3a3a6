//! What the steps of an actor hand each other.

use bulkhead_runtime::{AgentFailure, ShutdownReason, TrappedStore};
use bulkhead_types::{Exit, ExitReason, Phase};

use crate::engine::BoxInstance;
use crate::mailbox::Envelope;
use crate::refusal::TurnReport;

/// What a step leaves: an instance to go on with, or the end.
pub(super) type Step<T> = Result<(BoxInstance, T), IncarnationEnd>;

/// An end, with the message whose turn it was.
pub(super) struct IncarnationEnd {
    pub exit: Box<Exit>,
    pub in_flight: Option<Envelope>,
    /// The store, when its role wants a core dump of it.
    pub remains: Option<Box<TrappedStore>>,
}

impl From<Exit> for IncarnationEnd {
    fn from(exit: Exit) -> Self {
        Self { exit: Box::new(exit), in_flight: None, remains: None }
    }
}

impl From<(Exit, Option<Box<TrappedStore>>)> for IncarnationEnd {
    fn from((exit, remains): (Exit, Option<Box<TrappedStore>>)) -> Self {
        Self { remains, ..exit.into() }
    }
}

pub(super) fn answer(envelope: &mut Envelope, report: TurnReport) {
    if let Some(waiting) = envelope.report.take() {
        let _ = waiting.send(report);
    }
}

pub(super) fn failed(failure: AgentFailure, phase: Phase) -> Exit {
    let AgentFailure { code, message, thrown, .. } = failure;
    let mut exit = match thrown {
        Some(thrown) => {
            let mut exit = Exit::thrown(thrown.exceptions, phase);
            if let Some((reason, bytes)) = thrown.denied {
                (exit.reason, exit.requested_bytes) = (reason, Some(bytes));
            }
            exit
        }
        None => Exit::new(ExitReason::GuestError, phase, message),
    };
    exit.code = Some(code);
    exit
}

pub(super) fn exit_reason(reason: ShutdownReason) -> ExitReason {
    match reason {
        ShutdownReason::Stopped => ExitReason::Stopped,
        ShutdownReason::Drained => ExitReason::Drained,
        ShutdownReason::Superseded => ExitReason::Superseded,
        ShutdownReason::Evicted => ExitReason::EvictedMemoryPressure,
        ShutdownReason::Idle => ExitReason::Completed,
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_runtime::Thrown;
    use bulkhead_types::Exception;

    use super::*;

    fn thrown(denied: Option<(ExitReason, u64)>) -> Exit {
        let exception = Exception { kind: "MemoryError".into(), ..Exception::default() };
        let thrown = Box::new(Thrown { exceptions: vec![exception], denied });
        let (code, message) = ("exception".into(), "the runner's words".into());
        failed(AgentFailure { code, message, fatal: true, thrown: Some(thrown) }, Phase::Handle)
    }

    #[test]
    fn an_exception_is_the_reason_unless_a_growth_was_denied() {
        let exit = thrown(None);
        assert_eq!((exit.reason, &*exit.message), (ExitReason::Exception, "MemoryError"));
        for reason in [ExitReason::MemoryLimit, ExitReason::EvictedMemoryPressure] {
            let exit = thrown(Some((reason, 7)));
            assert_eq!((exit.reason, exit.requested_bytes), (reason, Some(7)));
            assert_eq!(exit.exceptions.len(), 1, "what was thrown stays known");
        }
    }
}

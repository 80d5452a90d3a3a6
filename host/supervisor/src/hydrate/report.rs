//! What became of the agents that were restored.

use bulkhead_agent::{StartError, StartFailure};
use bulkhead_types::event::HydrationResult;
use bulkhead_types::{AgentId, StartPhase};
use tokio::sync::mpsc::Sender;

/// Results in one log line.
const MAX_RESULTS: usize = 100;

/// How it went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HydrationReport {
    /// Agents that were to be started.
    pub agents: usize,
    /// Agents that run.
    pub running: usize,
    /// Agents that do not.
    pub failed: usize,
    /// Agents that are still starting.
    pub late: usize,
    /// Agents for which a start came first.
    pub overtaken: usize,
    /// Agents in quarantine.
    pub quarantined: usize,
}

/// What became of one.
pub(super) enum Outcome {
    Running,
    Overtaken,
    Failed(StartError),
}

/// Sends what became of one agent, also when the task that starts it is lost.
pub(super) struct OutcomeSender {
    agent: Option<AgentId>,
    to: Sender<(AgentId, Outcome)>,
}

impl OutcomeSender {
    pub(super) fn new(agent: AgentId, to: Sender<(AgentId, Outcome)>) -> Self {
        Self { agent: Some(agent), to }
    }

    pub(super) fn send(mut self, outcome: Outcome) {
        self.send_once(outcome);
    }

    /// There is room for all. The receiver may be gone: the deadline is over.
    fn send_once(&mut self, outcome: Outcome) {
        if let Some(agent) = self.agent.take() {
            let _ = self.to.try_send((agent, outcome));
        }
    }
}

impl Drop for OutcomeSender {
    fn drop(&mut self) {
        let text = "the task that starts it ended before its time; the log has its panic";
        let lost = StartError::new(StartPhase::Admission, StartFailure::Host, text);
        self.send_once(Outcome::Failed(lost));
    }
}

impl HydrationReport {
    /// Counts one, and says what the log says of it. Without an outcome it is late.
    pub(super) fn count(
        &mut self,
        agent_id: AgentId,
        outcome: Option<Outcome>,
        results: &mut Vec<HydrationResult>,
    ) {
        let (result, error) = match outcome {
            Some(Outcome::Running) => {
                self.running += 1;
                return;
            }
            Some(Outcome::Overtaken) => {
                self.overtaken += 1;
                return;
            }
            Some(Outcome::Failed(error)) => {
                self.failed += 1;
                ("failed", Some(error))
            }
            None => {
                self.late += 1;
                ("late", None)
            }
        };
        if results.len() < MAX_RESULTS {
            let error_type = error.as_ref().map(|error| error.kind.as_str());
            let error = error.map(|error| error.message);
            results.push(HydrationResult { agent_id, result, error_type, error });
        }
    }
}

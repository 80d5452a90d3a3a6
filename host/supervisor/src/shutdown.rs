//! The end of all agents.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bulkhead_runtime::ShutdownReason;
use tokio::time::timeout_at;

use crate::Supervisor;

/// Time for killed agents to write their records. A computing guest ends at its next epoch tick, a
/// waiting one at once.
const KILLING: Duration = Duration::from_millis(500);

/// How the agents ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Agents that ended as asked.
    pub stopped: usize,
    /// Agents that were killed, that died on the way, or that did not end in time.
    pub killed: usize,
    /// The whole of it.
    pub duration: Duration,
}

impl Supervisor {
    /// Takes no starts any more, asks every agent to end, and waits for them, for `patience` at most.
    /// Each agent has its role's grace; all of them run at the same time.
    pub async fn shut_down(&self, by: &str, patience: Duration) -> ShutdownReport {
        let began = Instant::now();
        self.0.draining.store(true, Ordering::SeqCst);
        let deadline = began + patience;
        let (mut stopped, mut all) = (0, 0);
        // A start that was let in just before may come after the first look.
        loop {
            let agents: Vec<_> =
                self.0.registry.all().into_iter().filter(|agent| agent.is_live()).collect();
            if agents.is_empty() || Instant::now() >= deadline {
                break;
            }
            for agent in &agents {
                agent.stop(ShutdownReason::Drained, by);
            }
            all += agents.len();
            for agent in &agents {
                let ended = timeout_at(deadline.into(), agent.ended()).await;
                let as_asked = |exit: bulkhead_api::ExitView| exit.crash_id.is_none();
                stopped += usize::from(ended.is_ok_and(|ended| ended.exit.is_some_and(as_asked)));
            }
        }
        self.kill_all(by).await;
        ShutdownReport { stopped, killed: all - stopped, duration: began.elapsed() }
    }

    /// Ends what still lives without grace. Their records are written all the same.
    pub async fn kill_all(&self, by: &str) {
        self.0.draining.store(true, Ordering::SeqCst);
        let live: Vec<_> =
            self.0.registry.all().into_iter().filter(|agent| agent.is_live()).collect();
        for agent in &live {
            agent.kill(by);
        }
        let deadline = (Instant::now() + KILLING).into();
        for agent in &live {
            let _ = timeout_at(deadline, agent.ended()).await;
        }
    }
}

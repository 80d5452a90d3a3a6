//! The end of all agents.
//!
//! ```text
//!   drain ─▶ settling: turns and mail are worked off ─▶ stopping: every agent is asked to end ─▶ killing
//!                nothing left to do, or no time            all gone, or no time
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_agent::{Agent, AgentHandle};
use bulkhead_model::Event;
use bulkhead_model::event::{DrainPhase, DrainPhaseReport};
use bulkhead_model::time::millis;
use bulkhead_runtime::ShutdownReason;
use tokio::time::timeout_at;

use crate::Supervisor;

/// Time for killed agents to write their records. A computing guest ends at its next epoch tick, a
/// waiting one at once.
const KILLING: Duration = Duration::from_millis(500);

/// How much time the parts of a drain have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainPlan {
    /// For turns under way and mail that waits. Zero: none, agents are asked to end at once.
    pub settle: Duration,
    /// For agents to end after they were asked to. Each has its role's grace, all at the same time.
    pub stop: Duration,
}

/// How the agents ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// What each part came to, in order.
    pub phases: Vec<DrainPhaseReport>,
    /// The whole of it.
    pub duration: Duration,
}

impl DrainReport {
    /// Agents that ended as intended.
    pub fn stopped(&self) -> usize {
        self.phases.iter().map(|phase| phase.stopped).sum()
    }

    /// Agents that were killed, that died on the way, or that did not end in time.
    pub fn killed(&self) -> usize {
        self.phases.iter().map(|phase| phase.killed).sum()
    }
}

impl Supervisor {
    /// Ends all agents. From the first moment on nothing starts, nothing comes back, and the container is
    /// not ready. Each part is told when it begins, and all of them at the end.
    pub async fn drain(&self, by: &str, plan: DrainPlan) -> DrainReport {
        let began = Instant::now();
        self.0.container.drain();
        let mut phases = Vec::new();
        if !plan.settle.is_zero() {
            phases.push(self.phase(DrainPhase::Settling, by, plan.settle).await);
        }
        phases.push(self.phase(DrainPhase::Stopping, by, plan.stop).await);
        if !self.live().is_empty() {
            phases.push(self.phase(DrainPhase::Killing, by, KILLING).await);
        }
        self.drained(phases, began)
    }

    /// Ends what still lives without grace. Their records are written all the same.
    pub async fn kill_all(&self, by: &str) -> DrainReport {
        let began = Instant::now();
        self.0.container.drain();
        let phases = vec![self.phase(DrainPhase::Killing, by, KILLING).await];
        self.drained(phases, began)
    }

    fn drained(&self, phases: Vec<DrainPhaseReport>, began: Instant) -> DrainReport {
        let report = DrainReport { phases, duration: began.elapsed() };
        let (phases, duration_ms) = (report.phases.clone(), millis(report.duration));
        self.0.sink().record(Event::Drained { phases, duration_ms });
        report
    }

    async fn phase(&self, phase: DrainPhase, by: &str, limit: Duration) -> DrainPhaseReport {
        let began = Instant::now();
        let deadline = began + limit;
        let there = self.live();
        let busy = there.iter().filter(|agent| !agent.is_settled()).count();
        let (agents, limit_ms) = (there.len(), millis(limit));
        self.0.sink().record(Event::Draining { phase, agents, busy, limit_ms });
        let late = match phase {
            DrainPhase::Settling => self.settle_by(deadline).await,
            DrainPhase::Stopping => {
                self.end_by(deadline, |agent| agent.order_stop(ShutdownReason::Drained, by)).await
            }
            DrainPhase::Killing => self.end_by(deadline, |agent| agent.kill(by)).await,
        };
        let ended = there.iter().chain(&late).filter(|agent| !agent.is_live());
        let (mut stopped, mut killed) = (0, 0);
        for agent in ended {
            let as_intended = agent.board().published().exit.is_some_and(|e| e.crash_id.is_none());
            *(if as_intended { &mut stopped } else { &mut killed }) += 1;
        }
        if phase == DrainPhase::Killing {
            // Nobody will see the end of what is still there.
            killed += self.live().len();
        }
        DrainPhaseReport { phase, agents, stopped, killed, duration_ms: millis(began.elapsed()) }
    }

    /// Waits until no agent has a turn or mail. One may send another something, so all of them have to be
    /// seen without work in one look.
    async fn settle_by(&self, deadline: Instant) -> Vec<AgentHandle> {
        loop {
            let mut working = self.live().into_iter().filter(|agent| !agent.is_settled());
            let Some(agent) = working.next() else { return Vec::new() };
            if timeout_at(deadline.into(), agent.settled()).await.is_err() {
                return Vec::new();
            }
        }
    }

    /// Orders every agent to end and waits for them. Returns those that were not there at first: a start
    /// that was let in just before may come after the first look.
    async fn end_by(
        &self,
        deadline: Instant,
        order: impl Fn(&Agent) -> bulkhead_model::Incarnation,
    ) -> Vec<AgentHandle> {
        let mut late = Vec::new();
        for round in 0.. {
            let agents: Vec<_> =
                self.0.registry.all().into_iter().filter(|agent| !agent.is_vacant()).collect();
            if agents.is_empty() || (round > 0 && Instant::now() >= deadline) {
                break;
            }
            if round > 0 {
                late.extend(agents.iter().filter_map(|agent| agent.current()));
            }
            let ordered: Vec<_> = agents.iter().map(|agent| (agent, order(agent))).collect();
            for (agent, upto) in ordered {
                let _ = timeout_at(deadline.into(), agent.gone(upto)).await;
            }
        }
        late
    }

    fn live(&self) -> Vec<AgentHandle> {
        let current =
            self.0.registry.all().into_iter().filter_map(|agent: Arc<Agent>| agent.current());
        current.filter(AgentHandle::is_live).collect()
    }
}

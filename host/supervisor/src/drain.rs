//! The end of all agents.
//!
//! ```text
//!   drain ─▶ settling: turns and mail are worked off ─▶ stopping: every agent is asked to end ─▶ killing
//!                nothing left to do, or no time            all gone, or no time          ▲
//!                                    └──────────── somebody waits no longer ───────────┘
//! ```

use std::collections::HashSet;
use std::future::pending;
use std::pin::pin;
use std::time::{Duration, Instant};

use bulkhead_agent::{Agent, AgentHandle, Ending};
use bulkhead_runtime::ShutdownReason;
use bulkhead_types::Event;
use bulkhead_types::event::{DrainPhase, DrainPhaseReport, Drained, Draining};
use bulkhead_types::time::millis;
use tokio::time::{timeout, timeout_at};

use crate::Supervisor;

/// Time for killed agents to write their records. A computing guest ends at its next epoch tick, a
/// waiting one at once; but that takes a thread of low priority, which a busy machine can starve for
/// seconds, and a record that is not written is lost.
const KILLING: Duration = Duration::from_secs(5);

/// Time for files, lines and core dumps of the last crashes.
const AFTERMATHS: Duration = Duration::from_secs(2);

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
    /// Somebody did not wait for it.
    pub cut: bool,
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
    /// Ends all agents. From the first moment on nothing starts or restarts, and the container is
    /// not ready. Each part is logged when it begins, and all of them at the end. When `cut` resolves, with who wants
    /// it, what is still active is ended without grace; its records are written all the same.
    pub async fn drain(
        &self,
        by: &str,
        plan: DrainPlan,
        cut: impl Future<Output = String>,
    ) -> DrainReport {
        let mut drain = Drain::begin(self, by);
        drain.run(plan, cut).await;
        drain.end().await
    }
}

/// A drain under way.
struct Drain<'a> {
    by: String,
    began: Instant,
    /// Who is there: everyone that was seen and is not in a report yet.
    roll: Vec<AgentHandle>,
    phases: Vec<DrainPhaseReport>,
    cut: bool,
    supervisor: &'a Supervisor,
}

impl<'a> Drain<'a> {
    fn begin(supervisor: &'a Supervisor, by: &str) -> Self {
        supervisor.0.container.drain();
        supervisor.0.runtime.stop_compiling();
        let (by, began) = (by.to_owned(), Instant::now());
        Self { by, began, roll: Vec::new(), phases: Vec::new(), cut: false, supervisor }
    }

    async fn run(&mut self, plan: DrainPlan, cut: impl Future<Output = String>) {
        let mut cut = pin!(cut);
        let parts = [(DrainPhase::Settling, plan.settle), (DrainPhase::Stopping, plan.stop)];
        let settles = !plan.settle.is_zero();
        for (phase, limit) in parts.into_iter().skip(usize::from(!settles)) {
            if let Some(by) = self.phase(phase, limit, cut.as_mut()).await {
                (self.by, self.cut) = (by, true);
                break;
            }
        }
        if self.cut || self.is_anyone_left() {
            // Nobody waits less than this.
            self.phase(DrainPhase::Killing, KILLING, pending()).await;
        }
    }

    async fn end(self) -> DrainReport {
        // The records of crashes come before the last lines. A disk that does not answer holds up nobody.
        let container = &self.supervisor.0.container;
        let _ = timeout(AFTERMATHS, container.crash_follow_ups_are_done()).await;
        let (phases, cut) = (self.phases, self.cut);
        let report = DrainReport { phases, duration: self.began.elapsed(), cut };
        let (phases, duration_ms) = (report.phases.clone(), millis(report.duration));
        self.supervisor.0.sink().record(Event::Drained(Drained { phases, duration_ms }));
        report
    }

    /// One part of it. Yields who cut it short, if anybody did; what ended until then is in its report.
    async fn phase(
        &mut self,
        phase: DrainPhase,
        limit: Duration,
        cut: impl Future<Output = String>,
    ) -> Option<String> {
        let began = Instant::now();
        let (deadline, limit_ms) = (began + limit, millis(limit));
        self.call_the_roll();
        let busy = self.roll.iter().filter(|agent| !agent.is_settled()).count();
        let agents = self.roll.len();
        self.supervisor.0.sink().record(Event::Draining(Draining {
            phase,
            agents,
            busy,
            limit_ms,
        }));
        let by = self.by.clone();
        let all = async {
            let stops = |agent: &Agent| agent.order_stop(ShutdownReason::Drained, &by);
            match phase {
                DrainPhase::Settling => self.settle_by(deadline).await,
                DrainPhase::Stopping => self.end_by(deadline, stops).await,
                DrainPhase::Killing => self.end_by(deadline, |agent| agent.kill(&by)).await,
            }
        };
        let cut = tokio::select! {
            biased;
            () = all => None,
            by = cut => Some(by),
        };
        let (stopped, mut killed) = self.count_the_ended();
        if phase == DrainPhase::Killing {
            // Nobody will see the end of what is still there. It is logged all the same, and once.
            self.roll.iter().for_each(|agent| agent.abandon(began.elapsed()));
            killed += self.roll.len();
        }
        let duration_ms = millis(began.elapsed());
        self.phases.push(DrainPhaseReport { phase, agents, stopped, killed, duration_ms });
        cut
    }

    fn is_anyone_left(&mut self) -> bool {
        self.call_the_roll();
        !self.roll.is_empty()
    }

    /// Adds agents that are active and not on the roll: all at first, later those whose restart was due at the very
    /// moment at which the drain began. One whose end was reported before is none of them, although its core dump may
    /// still be copied: the drain waits for it, and does not count it.
    fn call_the_roll(&mut self) {
        let known: HashSet<_> = self.roll.iter().map(AgentHandle::identity).collect();
        let agents = self.supervisor.0.registry.all();
        let is_on = |agent: &AgentHandle| agent.is_live() && !agent.is_end_reported();
        let there = agents.iter().flat_map(|agent| agent.present()).filter(is_on);
        self.roll.extend(there.filter(|agent| !known.contains(&agent.identity())));
    }

    /// Takes who ended off the roll. Yields how many ended as intended, and how many otherwise.
    fn count_the_ended(&mut self) -> (usize, usize) {
        self.call_the_roll();
        let (mut stopped, mut killed) = (0, 0);
        self.roll.retain(|agent| {
            if agent.is_live() {
                return true;
            }
            // One without an exit never had its turn.
            let crashed =
                agent.publisher().published().exit.is_some_and(|exit| exit.crash_id.is_some());
            *(if crashed { &mut killed } else { &mut stopped }) += 1;
            false
        });
        (stopped, killed)
    }

    /// Waits until no agent has a turn or mail. One may send another something, so all of them have to be
    /// seen without work in one check.
    async fn settle_by(&mut self, deadline: Instant) {
        loop {
            self.call_the_roll();
            let Some(agent) = self.roll.iter().find(|agent| !agent.is_settled()) else { return };
            if timeout_at(deadline.into(), agent.settled()).await.is_err() {
                return;
            }
        }
    }

    /// Orders every agent to end and waits for them, again and again until nobody is left.
    async fn end_by(&mut self, deadline: Instant, order: impl Fn(&Agent) -> Ending) {
        for round in 0.. {
            let agents: Vec<_> = self.supervisor.0.registry.all();
            let (vacant, agents): (Vec<_>, Vec<_>) =
                agents.into_iter().partition(|agent| agent.is_vacant());
            vacant.iter().for_each(|agent| agent.give_up_left_mail());
            if agents.is_empty() || (round > 0 && Instant::now() >= deadline) {
                break;
            }
            self.call_the_roll();
            let ordered: Vec<_> = agents.iter().map(|agent| (agent, order(agent))).collect();
            for (agent, ending) in ordered {
                let _ = timeout_at(deadline.into(), agent.gone(&ending)).await;
            }
        }
    }
}

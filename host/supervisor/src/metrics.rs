//! All agents in numbers, for `GET /metrics`.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_agent::Container;
pub use bulkhead_agent::ToolFigures;
use bulkhead_api::Stuck;
use bulkhead_log::Counts;
pub use bulkhead_log::{DurationFigures, RoleFigures};
use bulkhead_runtime::CoreDumps;
pub use bulkhead_runtime::{CoreDumpFigures, DiskFigures, SymbolizerFigures};
use bulkhead_ship::{ArchiveFigures, Archives};
pub use bulkhead_store::crashes::{SinkStats, Stats as CrashStats};
use bulkhead_store::database::{Durability, FollowerFigures};
pub use bulkhead_telemetry::Figures as SpanFigures;
use bulkhead_types::time::millis;
use bulkhead_types::{AgentState, Cause, Confidence, Timestamp};
pub use bulkhead_usage::{EndpointFigures, ModelFigures};
use tokio::sync::Semaphore;

use crate::{Inner, Supervisor};

/// The figures of the container at one moment. Plain numbers; how they are shown is the edge's matter.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// Facts of this run by the name of their line, every name.
    pub events: Vec<(&'static str, u64)>,
    /// Ends of agents in this run by reason, every reason. Those with the host before are among them.
    pub exits: Vec<(&'static str, u64)>,
    /// How long starts took that got to running.
    pub starts: DurationFigures,
    /// How long turns took that returned.
    pub turns: DurationFigures,
    /// The same agents and facts by role, every role of the configuration.
    pub roles: Vec<RoleMetrics>,
    /// Log lines that were lost in this run by level, every level.
    pub dropped_lines: Vec<(&'static str, u64)>,
    /// Agents that are known, by state, every state. The last that ended are among them.
    pub agents: Vec<(&'static str, u64)>,
    /// Desired agents that are missing, by the state that they are missing in.
    pub missing: Vec<(&'static str, u64)>,
    /// Stores of the engine that exist.
    pub stores: usize,
    /// Named tasks of the host that run.
    pub tasks: usize,
    /// Agent slots that are taken. An agent keeps its slot until its store is gone and nothing will follow it.
    pub slots_used: usize,
    /// The largest number of live agents.
    pub slots_max: usize,
    /// Messages that wait, over all mailboxes.
    pub mailbox_messages: usize,
    /// Their bytes.
    pub mailbox_bytes: usize,
    /// Linear memories and tables of all guests.
    pub guest_memory_bytes: u64,
    /// What all agents may take together if each goes to its limit.
    pub committed_bytes: u64,
    /// The container's memory.
    pub memory: bulkhead_memory::Snapshot,
    /// What the host holds for agents beside that.
    pub agent_host_bytes: u64,
    /// Of those who look up files and lines for the frames of crashes.
    pub symbolizer: SymbolizerFigures,
    /// Crash records that are kept, and what was lost of them.
    pub crashes: CrashStats,
    /// What became of core dumps.
    pub core_dumps: CoreDumpFigures,
    /// Writes of agents that found no room in their workspaces.
    pub disk: DiskFigures,
    /// Starts and turns that the black box had no room for.
    pub untracked_work: u64,
    /// Messages that were delivered without a record in the journal.
    pub untracked_messages: u64,
    /// What is acknowledged is there after the end of the process.
    pub durable: bool,
    /// What is shipped of the state, where it is.
    pub ship: Option<FollowerFigures>,
    /// What is shipped of workspaces, where they are.
    pub archives: Option<ArchiveFigures>,
    /// Why the run before this one ended, and how sure that is.
    pub previous_run: Option<(Cause, Confidence)>,
    /// How long this run has lasted.
    pub uptime: Duration,
    /// When it began.
    pub started_at: Timestamp,
    /// New starts are taken.
    pub ready: bool,
    /// The container is going away.
    pub draining: bool,
    /// Calls of language models by endpoint.
    pub models: Vec<(Arc<str>, EndpointFigures)>,
    /// Calls and entries of them that have no entry of their own.
    pub merged_usage: u64,
    /// Native programs of agents.
    pub tools: ToolFigures,
    /// What became of spans. Nothing while telemetry is off.
    pub spans: SpanFigures,
    /// Of this program.
    pub version: &'static str,
}

/// The figures of one role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleMetrics {
    /// Its name in the configuration.
    pub role: Arc<str>,
    /// Its agents that are known, by state, every state.
    pub agents: Vec<(&'static str, u64)>,
    /// What happened to them in this run.
    pub figures: RoleFigures,
}

/// No agent in any state.
fn in_no_state() -> Vec<(&'static str, u64)> {
    AgentState::NAMES.iter().map(|name| (*name, 0)).collect()
}

fn roles(counts: &Counts) -> Vec<RoleMetrics> {
    let role = |(role, figures): (&Arc<str>, RoleFigures)| RoleMetrics {
        role: Arc::clone(role),
        agents: in_no_state(),
        figures,
    };
    counts.roles().map(role).collect()
}

/// What should leave the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Some role has `durable = "fleet"`.
    pub is_promised: bool,
    /// The state of the town is not shipped: the last try failed, it takes long, or what is promised was not begun.
    pub ship: Option<Stuck>,
    /// The evidence sink takes nothing.
    pub evidence: Option<Stuck>,
}

/// A commit that waits so long to be shipped is stuck, whatever the reason: a call may hang without an error.
const SHIP_LAG: Duration = Duration::from_secs(30);

fn stuck(of: FollowerFigures, is_promised: bool) -> Option<Stuck> {
    let FollowerFigures { lag, is_first_due, failing, .. } = of;
    let is_stuck = failing.is_some() || lag > SHIP_LAG || (is_first_due && is_promised);
    is_stuck.then(|| Stuck { for_ms: millis(lag), error: failing.as_deref().map(str::to_owned) })
}

impl Supervisor {
    /// What should leave the machine, and how it does.
    pub fn outgoing(&self) -> Outgoing {
        let Inner { container, config, .. } = &*self.0;
        let ship = container.database.follower().map(|follower| follower.figures());
        let is_promised = config.catalog.roles.values().any(|role| role.durable_in_fleet);
        let sink = container.crashes.stats().sink.and_then(|sink| sink.failing);
        Outgoing {
            is_promised,
            ship: ship.and_then(|of| stuck(of, is_promised)),
            evidence: sink.map(|since| Stuck { for_ms: millis(since), error: None }),
        }
    }

    /// Reads the figures. Each is right by itself; together they are of nearly one moment. Waits for no
    /// guest and no start: every lock on the way is held for a few instructions.
    pub fn metrics(&self) -> Metrics {
        let runtime = &self.0.runtime;
        let Container { context, permits, memory, crashes, in_flight, journal, .. } =
            &*self.0.container;
        let counts = context.counts();
        let (models, merged_usage) = {
            let ledger = self.0.container.ledger();
            let by_endpoint = ledger.endpoints().iter();
            let models = by_endpoint.map(|(name, figures)| (Arc::clone(name), figures.clone()));
            (models.collect(), ledger.merged())
        };
        let slots_max = runtime.capacity().max_agents.min(Semaphore::MAX_PERMITS);
        let mut metrics = Metrics {
            events: counts.events().collect(),
            exits: counts.exits().collect(),
            starts: counts.starts(),
            turns: counts.turns(),
            roles: roles(counts),
            dropped_lines: counts.dropped_lines_by_level().collect(),
            agents: in_no_state(),
            missing: self.missing_by_state(),
            stores: runtime.stores(),
            tasks: context.tasks().now(),
            slots_used: slots_max.saturating_sub(permits.available_permits()),
            slots_max,
            mailbox_messages: 0,
            mailbox_bytes: 0,
            guest_memory_bytes: 0,
            committed_bytes: self.0.container.committed_bytes(),
            memory: memory.snapshot(),
            agent_host_bytes: 0,
            symbolizer: runtime.symbolizer().figures(),
            crashes: crashes.stats(),
            core_dumps: runtime.core_dumps().map(CoreDumps::figures).unwrap_or_default(),
            disk: runtime.disk(),
            untracked_work: in_flight.untracked(),
            untracked_messages: journal.untracked(),
            durable: self.0.container.database.durability() == Durability::Kept,
            ship: self.0.container.database.follower().map(|follower| follower.figures()),
            archives: self.0.container.archives.as_ref().map(Archives::figures),
            previous_run: counts.previous_run(),
            uptime: context.uptime(),
            started_at: context.started_at(),
            ready: self.is_ready(),
            draining: self.0.container.is_draining(),
            models,
            merged_usage,
            tools: self.0.container.tools.figures(),
            spans: self.0.container.spans(),
            version: env!("CARGO_PKG_VERSION"),
        };
        for agent in self.0.registry.all().iter().filter_map(|agent| agent.current()) {
            let figures = agent.figures();
            let state = figures.state.name_index();
            metrics.agents[state].1 += 1;
            // They are in the order of their names.
            let role = &agent.spec().role;
            if let Ok(place) = metrics.roles.binary_search_by(|it| it.role.cmp(role)) {
                metrics.roles[place].agents[state].1 += 1;
            }
            metrics.mailbox_messages += figures.mailbox_messages;
            metrics.mailbox_bytes += figures.mailbox_bytes;
            metrics.guest_memory_bytes += figures.memory_bytes;
            metrics.agent_host_bytes += figures.host_bytes;
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_is_stuck_until_its_first_copy_and_all_that_waits_for_long() {
        let of = |is_first_due, seconds, failing: Option<&str>| FollowerFigures {
            is_first_due,
            lag: Duration::from_secs(seconds),
            failing: failing.map(Arc::from),
            ..FollowerFigures::default()
        };
        let is_stuck = |figures: FollowerFigures| {
            [false, true].map(|promised| stuck(figures.clone(), promised).is_some())
        };
        assert_eq!(is_stuck(of(false, 30, None)), [false, false]);
        assert_eq!(is_stuck(of(false, 31, None)), [true, true]);
        assert_eq!(is_stuck(of(true, 1, None)), [false, true]);
        assert_eq!(is_stuck(of(false, 1, Some("403"))), [true, true]);
    }
}

//! What is done when memory is short: the way from the thread that watches over it to the agents.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bulkhead_agent::{AgentHandle, ToolInUse};
use bulkhead_memory::{Candidate, Heap, Relief};
use bulkhead_types::memory::Eviction;
use bulkhead_types::{AgentId, AgentState, Incarnation};
use parking_lot::Mutex;

use crate::start::MAYOR;
use crate::{Inner, Supervisor};

impl Supervisor {
    /// The agents, as the one who watches over memory acts on them. `alarm` is called when guests
    /// have taken much of the room and when one begins to wait for some, and must return at once. Does not keep the supervisor.
    pub fn relief<A: Fn() + Send + Sync + 'static>(&self, alarm: A) -> impl Relief + use<A> {
        self.0.runtime.growth_budget().on_shortage(alarm);
        Agents { inner: Arc::downgrade(&self.0), tools: Mutex::default() }
    }
}

/// The agents, as long as there is a supervisor.
struct Agents {
    inner: Weak<Inner>,
    tools: Mutex<Leaving>,
}

/// Tools that go for their memory.
#[derive(Default)]
struct Leaving {
    /// Those that were evicted, and when.
    evicted: HashMap<u64, Instant>,
    /// When one of them was gone last.
    left: Option<Instant>,
    /// Since when the memory of some tool was not known at each look.
    waiting: Option<Instant>,
}

/// The memory of a tool is known after a tenth of a second, on a machine that has time. Where tools come and go without a
/// pause, there is always one that is new.
const UNKNOWN: Duration = Duration::from_secs(2);

/// What a tool had is free a moment after it is gone, and seen a moment later.
const SETTLING: Duration = Duration::from_millis(500);

/// A tool with less memory than this is no help.
const LARGE_TOOL: u64 = 8 * 1024 * 1024;

/// How long a tool that was told to go is waited for before the next one has to go: the kernel kills it, and its figures
/// are a second old.
const TOOL_PATIENCE: Duration = Duration::from_secs(2);

impl Agents {
    fn active(&self, agent_id: &AgentId, incarnation: Incarnation) -> Option<AgentHandle> {
        let agent = self.inner.upgrade()?.registry.get(agent_id)?.occupant()?;
        (agent.tag().incarnation == incarnation && agent.is_live()).then_some(agent)
    }
}

impl Relief for Agents {
    fn give_room(&self, bytes: Option<u64>) {
        if let Some(inner) = self.inner.upgrade() {
            inner.runtime.give_room(bytes);
        }
    }

    fn wanted(&self) -> Option<u64> {
        self.inner.upgrade()?.runtime.growth_budget().wanted()
    }

    fn deny_growths(&self, above: u64) {
        if let Some(inner) = self.inner.upgrade() {
            inner.runtime.growth_budget().deny_above(above);
        }
    }

    fn is_alive(&self, agent_id: &AgentId, incarnation: Incarnation) -> bool {
        self.active(agent_id, incarnation).is_some()
    }

    fn candidates(&self) -> Vec<Candidate> {
        let Some(inner) = self.inner.upgrade() else { return Vec::new() };
        let agents = inner.registry.all();
        agents.iter().filter_map(|agent| candidate(&agent.occupant()?)).collect()
    }

    fn evict_tools(&self, bytes: u64) -> bool {
        let Some(inner) = self.inner.upgrade() else { return false };
        let agents = inner.registry.all();
        let occupants = agents.iter().filter_map(|agent| agent.occupant());
        let tools: Vec<_> = occupants.flat_map(|agent| agent.publisher().tools_in_use()).collect();
        self.tools.lock().evict(&tools, bytes)
    }

    fn evict(
        &self,
        agent_id: &AgentId,
        incarnation: Incarnation,
        eviction: Eviction,
        grace: Duration,
    ) {
        if let Some(agent) = self.active(agent_id, incarnation) {
            agent.evict(eviction, grace);
        }
    }

    fn tidy(&self) -> u64 {
        let Some(inner) = self.inner.upgrade() else { return 0 };
        inner.registry.forget_excess();
        inner.runtime.sweep_pool();
        inner.runtime.kept_bytes()
    }

    fn release(&self) {
        let Some(inner) = self.inner.upgrade() else { return };
        // A start that can be made again goes before an active agent.
        inner.runtime.shed_compiling();
        inner.container.ended.drop_events();
        inner.registry.forget_excess();
        inner.runtime.sweep_pool();
        Heap::give_back();
    }

    fn hold_starts(&self, held: bool) {
        if let Some(inner) = self.inner.upgrade() {
            inner.container.hold_starts(held);
        }
    }
}

impl Leaving {
    /// Ends the largest tools, so many that with those that leave already so many bytes become free. Whether there is
    /// something to wait for.
    fn evict(&mut self, tools: &[ToolInUse], bytes: u64) -> bool {
        let before = self.evicted.len();
        self.evicted.retain(|evicted, since| {
            since.elapsed() < TOOL_PATIENCE && tools.iter().any(|tool| tool.tool == *evicted)
        });
        if self.evicted.len() < before {
            self.left = Some(Instant::now());
        }
        for tool in self.choose(tools, bytes) {
            self.evicted.insert(tool.tool, Instant::now());
            tool.process.evict();
        }
        let settles = self.left.is_some_and(|left| left.elapsed() < SETTLING);
        !self.evicted.is_empty() || settles || self.waits_for_figures(tools)
    }

    fn choose<'a>(&self, tools: &'a [ToolInUse], bytes: u64) -> Vec<&'a ToolInUse> {
        let size = |tool: &&ToolInUse| tool.bytes.unwrap_or(0);
        let (go, mut stay): (Vec<_>, Vec<_>) =
            tools.iter().partition(|tool| self.evicted.contains_key(&tool.tool));
        let mut free: u64 = go.iter().map(size).sum();
        stay.retain(|tool| size(tool) >= LARGE_TOOL);
        stay.sort_by_key(|tool| Reverse(size(tool)));
        let is_needed = |tool: &&ToolInUse| {
            let is_needed = free < bytes;
            free = free.saturating_add(size(tool));
            is_needed
        };
        stay.into_iter().take_while(is_needed).collect()
    }

    fn waits_for_figures(&mut self, tools: &[ToolInUse]) -> bool {
        if tools.iter().all(|tool| tool.bytes.is_some()) {
            self.waiting = None;
            return false;
        }
        self.waiting.get_or_insert_with(Instant::now).elapsed() < UNKNOWN
    }
}

/// The agent as one that could go. `None` for one that is going, or holds nothing.
fn candidate(agent: &AgentHandle) -> Option<Candidate> {
    let probe = agent.memory_probe();
    let memory = probe.read();
    let used_bytes = memory.used_bytes.filter(|bytes| *bytes > 0)?;
    if agent.is_asked_to_end() {
        return None;
    }
    let idle = match agent.publisher().state() {
        AgentState::Starting => false,
        AgentState::Running { busy } => !busy,
        AgentState::Stopping
        | AgentState::Backoff
        | AgentState::Quarantined
        | AgentState::Exited
        | AgentState::Failed => return None,
    };
    let spec = agent.spec();
    Some(Candidate {
        agent_id: spec.id.clone(),
        incarnation: memory.incarnation,
        used_bytes,
        limit_bytes: memory.limit_bytes,
        weight: f64::from(spec.eviction_weight_percent) / 100.0,
        idle,
        mayor: spec.role.as_ref() == MAYOR,
    })
}

#[cfg(test)]
mod tests {
    use bulkhead_runtime::ToolProcess;

    use super::*;

    struct Process;

    impl ToolProcess for Process {
        fn memory_bytes(&self) -> Option<u64> {
            None
        }
        fn evict(&self) {}
        fn cancel(&self) {}
    }

    fn tool(tool: u64, mib: Option<u64>) -> ToolInUse {
        ToolInUse { tool, bytes: mib.map(|mib| mib << 20), process: Arc::new(Process) }
    }

    #[test]
    fn so_many_tools_go_as_are_needed_the_largest_first() {
        let tools = [10, 100, 7, 50].into_iter().zip(1..).map(|(mib, n)| tool(n, Some(mib)));
        let tools: Vec<_> = tools.collect();
        let chosen = |evicted: &[u64], mib: u64| -> Vec<u64> {
            let evicted = evicted.iter().map(|tool| (*tool, Instant::now())).collect();
            let leaving = Leaving { evicted, ..Leaving::default() };
            leaving.choose(&tools, mib << 20).iter().map(|tool| tool.tool).collect()
        };
        assert_eq!(chosen(&[], 1), [2]);
        assert_eq!(chosen(&[], 100), [2]);
        assert_eq!(chosen(&[], 101), [2, 4]);
        assert_eq!(chosen(&[2], 100), [0; 0], "that is on its way");
        assert_eq!(chosen(&[2], 120), [4]);
        assert_eq!(chosen(&[], 1000), [2, 4, 1], "one of 7 MiB is no help");
    }

    #[test]
    fn nobody_else_goes_while_a_tool_leaves_or_is_not_known_yet() {
        let small = || tool(1, Some(1));
        assert!(!Leaving::default().evict(&[small()], 1));
        let mut leaving = Leaving::default();
        assert!(leaving.evict(&[tool(2, Some(100)), small()], 1), "it is told to go");
        assert!(leaving.evict(&[tool(2, Some(100))], 1), "and goes");
        assert!(leaving.evict(&[small()], 1), "and its memory with it");
        let mut leaving = Leaving::default();
        assert!(leaving.evict(&[tool(3, None)], 1), "it may have taken all of it");
        leaving.waiting = Instant::now().checked_sub(UNKNOWN);
        assert!(!leaving.evict(&[tool(4, None)], 1), "not for ever");
        assert!(!leaving.evict(&[small()], 1));
        assert_eq!(leaving.waiting, None);
    }
}

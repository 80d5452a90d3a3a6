//! The native programs of agents: those that run, and counts of those that have ended.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhead_runtime::ToolProcess;
use bulkhead_types::time::micros;
use bulkhead_types::{EndedTool, RunningTool, ToolEnd};

/// The programs that one incarnation runs.
#[derive(Default)]
pub(crate) struct ToolsInUse(Mutex<Held>);

/// A program with much memory.
pub struct LargeTool {
    /// Names it among all tools of the run.
    pub tool: u64,
    /// Its memory.
    pub bytes: u64,
    /// Itself.
    pub process: Arc<dyn ToolProcess>,
}

#[derive(Default)]
struct Held {
    running: Vec<(RunningTool, Arc<dyn ToolProcess>)>,
    /// Those that ran when the incarnation ended, as they were then.
    abandoned: Option<Vec<RunningTool>>,
}

impl ToolsInUse {
    pub(crate) fn started(&self, tool: RunningTool, process: Arc<dyn ToolProcess>) {
        self.lock().running.push((tool, process));
    }

    pub(crate) fn ended(&self, tool: u64) {
        self.lock().running.retain(|(running, _)| running.tool != tool);
    }

    /// The incarnation ends, and kills them.
    pub(crate) fn abandon(&self) {
        let mut held = self.lock();
        if held.abandoned.is_none() {
            held.abandoned = Some(held.seen());
        }
    }

    /// Those that run.
    pub(crate) fn running(&self) -> Vec<RunningTool> {
        self.lock().seen()
    }

    /// Those that run, or ran when the incarnation ended.
    pub(crate) fn in_flight(&self) -> Vec<RunningTool> {
        let held = self.lock();
        held.abandoned.clone().unwrap_or_else(|| held.seen())
    }

    /// Memory of all that run.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.lock().running.iter().map(|(_, process)| process.memory_bytes()).sum()
    }

    /// The one with the most memory.
    pub(crate) fn largest(&self) -> Option<LargeTool> {
        let held = self.lock();
        let with_bytes = held.running.iter().map(|(tool, process)| LargeTool {
            tool: tool.tool,
            bytes: process.memory_bytes(),
            process: Arc::clone(process),
        });
        with_bytes.max_by_key(|tool| tool.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn seen(&self) -> Vec<RunningTool> {
        let see = |(tool, process): &(RunningTool, Arc<dyn ToolProcess>)| RunningTool {
            memory_bytes: process.memory_bytes(),
            ..tool.clone()
        };
        self.running.iter().map(see).collect()
    }
}

/// Programs of all agents that have ended in this run.
#[derive(Debug, Default)]
pub struct ToolCounts {
    ends: [AtomicU64; ToolEnd::ALL.len()],
    cpu_us: AtomicU64,
    started: AtomicU64,
}

/// The same at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolFigures {
    /// By how they ended, every way.
    pub ends: Vec<(&'static str, u64)>,
    /// Those that run.
    pub running: u64,
    /// CPU time of those that ended.
    pub cpu_us: u64,
}

impl ToolCounts {
    pub(crate) fn started(&self) {
        self.started.fetch_add(1, Relaxed);
    }

    pub(crate) fn ended(&self, tool: &EndedTool) {
        self.ends[tool.end as usize].fetch_add(1, Relaxed);
        self.cpu_us.fetch_add(micros(tool.cpu), Relaxed);
    }

    /// Reads them.
    pub fn figures(&self) -> ToolFigures {
        let ends = ToolEnd::ALL.map(|end| (end.as_str(), self.ends[end as usize].load(Relaxed)));
        let ended: u64 = ends.iter().map(|(_, count)| count).sum();
        ToolFigures {
            ends: ends.into(),
            running: self.started.load(Relaxed).saturating_sub(ended),
            cpu_us: self.cpu_us.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bulkhead_types::Timestamp;

    use super::*;

    struct Process(u64);

    impl ToolProcess for Process {
        fn memory_bytes(&self) -> u64 {
            self.0
        }
        fn evict(&self) {}
    }

    fn tool(number: u64) -> RunningTool {
        RunningTool {
            tool: number,
            program: "git".into(),
            arguments: Vec::new(),
            started_at: Timestamp(0),
            memory_bytes: 0,
        }
    }

    #[test]
    fn what_runs_is_known_with_its_memory_and_what_was_abandoned_stays_known() {
        let tools = ToolsInUse::default();
        assert!(tools.largest().is_none());
        tools.started(tool(1), Arc::new(Process(10)));
        tools.started(tool(2), Arc::new(Process(30)));
        assert_eq!(tools.memory_bytes(), 40);
        assert_eq!(tools.largest().map(|tool| tool.bytes), Some(30));
        let expected = [(1, 10), (2, 30)];
        let shown = |tools: Vec<RunningTool>| -> Vec<_> {
            tools.iter().map(|tool| (tool.tool, tool.memory_bytes)).collect()
        };
        assert_eq!(shown(tools.running()), expected);
        tools.abandon();
        tools.ended(1);
        tools.abandon();
        assert_eq!(shown(tools.running()), [(2, 30)]);
        assert_eq!(shown(tools.in_flight()), expected);
    }

    #[test]
    fn ends_are_counted_by_how() {
        let counts = ToolCounts::default();
        counts.started();
        counts.started();
        counts.ended(&EndedTool {
            tool: 1,
            program: "x".into(),
            end: ToolEnd::MemoryLimit,
            code: None,
            signal: None,
            wall: Duration::ZERO,
            cpu: Duration::from_micros(7),
            peak_memory_bytes: 0,
            output_bytes: 0,
        });
        let figures = counts.figures();
        assert_eq!((figures.running, figures.cpu_us), (1, 7));
        let counted: Vec<_> = figures.ends.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [&("memory_limit", 1)]);
    }
}

//! The native programs of agents: those that run, and counts of those that have ended.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bulkhead_runtime::ToolProcess;
use bulkhead_types::time::micros;
use bulkhead_types::{EndedTool, RunningTool, ToolEnd};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The programs that one incarnation runs.
#[derive(Default)]
pub(crate) struct ToolsInUse {
    held: Mutex<Held>,
    /// One of them ended.
    ended: Notify,
}

/// A program as one that could go for its memory.
pub struct ToolInUse {
    /// Names it among all tools of the run.
    pub tool: u64,
    /// Its memory; none before it is known.
    pub bytes: Option<u64>,
    /// Itself.
    pub process: Arc<dyn ToolProcess>,
}

#[derive(Default)]
struct Held {
    running: Vec<(RunningTool, Arc<dyn ToolProcess>)>,
    /// Those that ran when the incarnation ended, as they were then.
    at_end: Option<Vec<RunningTool>>,
}

impl ToolsInUse {
    pub(crate) fn started(&self, tool: RunningTool, process: Arc<dyn ToolProcess>) {
        let mut held = self.held.lock();
        if held.at_end.is_some() {
            // Somebody outside asked for it at the last moment.
            process.cancel();
        }
        held.running.push((tool, process));
    }

    pub(crate) fn ended(&self, tool: u64) {
        self.held.lock().running.retain(|(running, _)| running.tool != tool);
        self.ended.notify_waiters();
    }

    /// Kills those that run, and those that come after this.
    pub(crate) fn end_all(&self) {
        self.close();
        let held = self.held.lock();
        held.running.iter().for_each(|(_, process)| process.cancel());
    }

    /// Resolves when none runs.
    pub(crate) async fn all_ended(&self) {
        loop {
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.held.lock().running.is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// The incarnation ends, and kills them.
    pub(crate) fn close(&self) {
        let mut held = self.held.lock();
        if held.at_end.is_none() {
            held.at_end = Some(held.seen());
        }
    }

    /// Those that run.
    pub(crate) fn running(&self) -> Vec<RunningTool> {
        self.held.lock().seen()
    }

    /// Those that run, or ran when the incarnation ended.
    pub(crate) fn in_flight(&self) -> Vec<RunningTool> {
        let held = self.held.lock();
        held.at_end.clone().unwrap_or_else(|| held.seen())
    }

    /// Memory of all that run.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.held
            .lock()
            .running
            .iter()
            .map(|(_, process)| process.memory_bytes().unwrap_or(0))
            .sum()
    }

    /// Those that run, with their memory.
    pub(crate) fn all(&self) -> Vec<ToolInUse> {
        let held = self.held.lock();
        let tools = held.running.iter().map(|(tool, process)| ToolInUse {
            tool: tool.tool,
            bytes: process.memory_bytes(),
            process: Arc::clone(process),
        });
        tools.collect()
    }
}

impl Held {
    fn seen(&self) -> Vec<RunningTool> {
        let see = |(tool, process): &(RunningTool, Arc<dyn ToolProcess>)| RunningTool {
            memory_bytes: process.memory_bytes().unwrap_or(0),
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
    use futures_util::FutureExt;

    use super::*;

    struct Process(u64);

    impl ToolProcess for Process {
        fn memory_bytes(&self) -> Option<u64> {
            Some(self.0)
        }
        fn evict(&self) {}
        fn cancel(&self) {}
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
    fn what_runs_is_known_with_its_memory_and_what_ran_at_the_end_stays_known() {
        let tools = ToolsInUse::default();
        tools.started(tool(1), Arc::new(Process(10)));
        tools.started(tool(2), Arc::new(Process(30)));
        assert_eq!(tools.memory_bytes(), 40);
        assert_eq!(
            tools.all().iter().map(|tool| tool.bytes).collect::<Vec<_>>(),
            [Some(10), Some(30)]
        );
        let expected = [(1, 10), (2, 30)];
        let shown = |tools: Vec<RunningTool>| -> Vec<_> {
            tools.iter().map(|tool| (tool.tool, tool.memory_bytes)).collect()
        };
        assert_eq!(shown(tools.running()), expected);
        tools.close();
        tools.ended(1);
        tools.close();
        assert_eq!(shown(tools.running()), [(2, 30)]);
        assert_eq!(shown(tools.in_flight()), expected);
        assert!(tools.all_ended().now_or_never().is_none());
        let mut ended = pin!(tools.all_ended());
        assert!(ended.as_mut().now_or_never().is_none());
        tools.ended(2);
        assert!(ended.now_or_never().is_some());
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
